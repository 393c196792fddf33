"""Whole models as C at the ends of the floats: tiny, huge, infinite, no numbers; long streams."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from models_by_hand import random_model

import s4edge
from s4edge.export.lowering.lower import lower
from s4edge.export.lowering.reference import run
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime.backends.c.library import CLibrary, open_library

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")

MODELS = {
    "every sample": random_model(3, pooling="none"),
    "mean": random_model(0),
    "standardize": random_model(2, pooling="sum", final_norm="standardize"),
}
COMPILERS = ("gcc -O0", "gcc -O3")


@pytest.fixture(params=COMPILERS)
def compiler(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def library_of(model: SequenceModel, folder: Path, compiler: str) -> CLibrary:
    library = s4edge.export_c(model, folder / "m.c", compiler=compiler, compiled=True).library
    assert library is not None
    return open_library(library)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)


def streamed(library: CLibrary, x: np.ndarray) -> np.ndarray:
    """Half of it sample by sample, the rest in one chunk."""
    state, half = library.start(), len(x) // 2
    steps = [library.run(state, x[t : t + 1]) for t in range(half)]
    return np.concatenate([*steps, library.run(state, x[half:])])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [1e-45, 1e-41, 1e-38, 1e-20])
def test_numbers_below_the_normal_ones(
    name: str, scale: float, compiler: str, tmp_path: Path
) -> None:
    """Inputs of few digits: the answer is hardly theirs."""
    model = MODELS[name]
    x = (noise(200) * np.float32(scale)).astype(np.float32)
    assert (x != 0).any()
    wanted = run(lower(model), x.astype(np.float64))[0]
    got = streamed(library_of(model, tmp_path, compiler), x)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_states_that_die_away_through_denormals(compiler: str, tmp_path: Path) -> None:
    """A burst, then silence until every state is below the least float."""
    model = MODELS["every sample"]
    x = np.zeros((30_000, 2), np.float32)
    x[:50] = noise(50)
    wanted = run(lower(model), x.astype(np.float64))[0]
    library = library_of(model, tmp_path, compiler)
    got = streamed(library, x)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [1e4, 1e9, 1e15])
def test_huge_inputs_saturate(name: str, scale: float, compiler: str, tmp_path: Path) -> None:
    """Gates and norms saturate as in double precision, where squares are still numbers."""
    model = MODELS[name]
    x = noise(100) * np.float32(scale)
    wanted = run(lower(model), x.astype(np.float64))[0]
    got = streamed(library_of(model, tmp_path, compiler), x)
    assert np.isfinite(got).all()
    assert np.abs(got - wanted).max() < 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
def test_a_new_start_forgets_anything(name: str, bad: float, compiler: str, tmp_path: Path) -> None:
    library = library_of(MODELS[name], tmp_path, compiler)
    x = noise(100)
    before = streamed(library, x)
    state = library.start()
    first = library.run(state, np.full((1, 2), bad, np.float32))
    library.run(state, x)
    assert np.isnan(first).all() or bad == bad
    after = library.run(library.start(state), x)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6 * np.abs(before).max())


# An input of period 1000, and each answer against that of one period at the start.
_DRIFT = """#include <math.h>
#include <stdio.h>
#include "m.h"
static m_state s;
static float x[1000 * M_INPUTS], y[1000 * M_OUTPUTS], first[1000 * M_OUTPUTS];
int main(void) {
    unsigned random = 1;
    for (int i = 0; i < 1000 * M_INPUTS; i++) {
        random = random * 1664525u + 1013904223u;
        x[i] = (float)(random >> 8) / 8388608.0f - 1.0f;
    }
    m_init(&s);
    double worst = 0, largest = 0;
    for (int turn = 0; turn < 100000; turn++) {
        m_chunk(&s, x, y, 1000);
        for (int i = 0; i < 1000 * M_OUTPUTS; i++) {
            if (turn == 20) first[i] = y[i];
            const double off = fabs((double)y[i] - first[i]), size = fabs((double)y[i]);
            if (turn > 20 && !(off <= worst)) worst = off;
            if (size > largest) largest = size;
        }
    }
    printf("%g", worst / largest);
    return 0;
}
"""


@pytest.mark.slow
def test_a_hundred_million_samples_without_drift(tmp_path: Path) -> None:
    """What a stream gives for a period of its input is the same at its end as near its start."""
    s4edge.export_c(random_model(3, pooling="none"), tmp_path / "m.c", compiler="gcc -O0")
    (tmp_path / "main.c").write_text(_DRIFT)
    command = ["gcc", "-O2", "m.c", "main.c", "-o", "main", "-lm"]
    subprocess.run(command, check=True, cwd=tmp_path)
    ran = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    print(f"100,000,000 samples, largest change: {ran.stdout} of the largest output")
    assert float(ran.stdout) < 1e-5
