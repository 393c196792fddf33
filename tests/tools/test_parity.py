from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import parity
import pytest


def test_largest_difference_by_words() -> None:
    errors = {"a-step-fp32": 1e-7, "a-chunk-fp32": 3e-7, "a-step-int8": 2e-2}
    assert parity.worst(errors, "fp32") == 3e-7
    assert parity.worst(errors, "step", "fp32") == 1e-7
    assert parity.worst(errors, "fp16") is None
    assert math.isnan(parity.worst(errors | {"b-step-fp32": math.nan}, "step") or 0)


def test_what_is_too_far() -> None:
    near = {"a-step-fp32": 9e-5, "a-step-int8": 0.09}
    assert parity.too_far(near) == []
    far = {"a-step-fp32": 2e-4, "b-step-fp16": math.nan, "a-step-int8": 0.11}
    assert set(parity.too_far(near | far)) == set(far)


@pytest.mark.parametrize("mode", parity.MODES)
def test_graphs_agree_with_themselves_and_a_changed_output_is_seen(
    mode: str, tmp_path: Path
) -> None:
    """The check that runs elsewhere, run here."""
    model = parity.s4edge.load(parity.EXAMPLES / "digits" / "model.pt")
    parity.write_graphs(tmp_path, {"a": model}, [mode], ["fp32"])
    name = f"a-{mode}-fp32"

    def errors() -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", parity.CHECK, tmp_path], capture_output=True, check=True
        )
        return json.loads(done.stdout)[1]

    assert errors() == {name: 0.0}
    with np.load(tmp_path / f"{name}.npz") as held:
        x, y = held["x"], held["y"]
    y.ravel()[-1] += 0.01 * np.abs(y).max()
    np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    assert parity.too_far(errors()) == [name]
