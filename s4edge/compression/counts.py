"""Numbers that steps of compression are asked for."""

from __future__ import annotations

import numpy as np


def is_count(value: object) -> bool:
    """Whether it is a whole number from 1 up, of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return int(value) >= 1
