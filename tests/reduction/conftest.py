from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    """As `compress_model` has it: threads on matrices this small wait for each other."""
    with threadpool_limits(1):
        yield
