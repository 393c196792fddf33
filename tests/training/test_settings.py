"""Ranges of training's settings, as the documentation of each says."""

from __future__ import annotations

import dataclasses
import re

import pytest

from s4edge.errors import S4EdgeError
from s4edge.training.settings import TrainingSettings

PLAIN = TrainingSettings(epochs=10)
SHARES = {"warmup": 1, "dropout": 0.95, "validation": 0.9, "distill": 1}
RATES = {"rate": 10, "pole_rate": 10, "step_rate": 10, "weight_decay": 10}
FACTORS = {
    "clip": 1e9, "temperature": 1000, "match_layers": 1e6, "hankel": 1e6, "patience": 10**6,
    "seed": 2**31,
}  # fmt: skip
FROM_0 = SHARES | RATES | FACTORS


@pytest.mark.parametrize("name", [*FROM_0, "epochs", "batch"])
def test_both_ends_are_allowed_and_nothing_beyond(name: str) -> None:
    counts = name in ("epochs", "batch")
    least, most = (1, 10**6) if counts else (0, FROM_0[name])
    says = f"{name} must be from {least:g} to {most:g}"
    beyond = 1 if isinstance(most, int) and most > 10 else 1e-6 * most
    for value in (least, most):
        assert dataclasses.replace(PLAIN, **{name: value}).check()
    for value in (least - 1e-3, most + beyond):
        with pytest.raises(S4EdgeError, match=re.escape(says)):
            dataclasses.replace(PLAIN, **{name: value}).check()
