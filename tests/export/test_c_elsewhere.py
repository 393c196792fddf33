"""Models as C under sanitizers, a static checker, and on other machines, emulated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_by_hand import random_model
from test_block_variants import model_of

import s4edge
from s4edge.export.lowering.lower import lower
from s4edge.export.lowering.reference import run
from s4edge.model.sequence_model import SequenceModel

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")

SAMPLES = 37
MODELS: dict[str, tuple[SequenceModel, str]] = {
    "mean": (random_model(0), "fp32"),
    "first, 20 wide, bytes": (random_model(1, d_model=20, pooling="first"), "int8"),
    "sum, standardize": (random_model(2, pooling="sum", final_norm="standardize"), "fp32"),
    "tokens": (model_of("plain", encoder="embedding", d_input=11), "fp32"),
    "heads, gate": (model_of("gate"), "int8"),
}
# Compiler, emulator, Debian's package.
MACHINES = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64-static", "gcc-aarch64-linux-gnu"),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm-static", "gcc-arm-linux-gnueabihf"),
    "s390x, big-endian": ("s390x-linux-gnu-gcc", "qemu-s390x-static", "gcc-s390x-linux-gnu"),
}

# Steps over some samples, then a chunk over all of them anew; outputs as text.
MAIN = """#include <stdio.h>
#include <stdlib.h>
#include "m.h"
int main(void) {{
    static const float x[] = {{{x}}};
    float *y = malloc(sizeof(float) * {samples} * M_OUTPUTS);
    m_state *s = malloc(sizeof *s);
    m_init(s);
    for (int t = 0; t < 5; t++) m_step(s, x + t * M_INPUTS, y);
    m_init(s);
    m_chunk(s, x, y, {samples});
    for (int i = 0; i < {samples} * M_OUTPUTS; i++) printf("%.9g\\n", (double)y[i]);
    free(s);
    free(y);
    return m_selftest();
}}
"""


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc -O0")


def program(name: str, folder: Path) -> np.ndarray[Any, Any]:
    """Write ``m.c``, ``m.h`` and ``main.c``; what it is to print, from the float64 reference."""
    model, precision = MODELS[name]
    s4edge.export_c(model, folder / "m.c", precision=precision)
    lowered = lower(model)
    rng = np.random.default_rng(0)
    if lowered.tokens:
        x = rng.integers(0, lowered.tokens, (SAMPLES, 1)).astype(np.float32)
    else:
        x = rng.standard_normal((SAMPLES, lowered.d_input)).astype(np.float32)
    text = MAIN.format(x=", ".join(f"{v:.9g}" for v in x.reshape(-1)), samples=SAMPLES)
    (folder / "main.c").write_text(text)
    return run(lowered, x)[0]


def check(name: str, folder: Path, command: list[str], emulator: tuple[str, ...] = ()) -> None:
    expected = program(name, folder)
    command = [*command, "m.c", "main.c", "-o", "main", "-lm"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "cannot find" in made.stderr:
        pytest.skip(f"{command[0]} lacks a library: {made.stderr.splitlines()[0]}")
    assert made.returncode == 0, made.stderr[:2000]
    ran = subprocess.run(
        [*emulator, str(folder / "main")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[:2000]
    got = np.array(ran.stdout.split(), float).reshape(expected.shape)
    loss = 0.3 if MODELS[name][1] == "int8" else 1e-5
    assert np.abs(got - expected).max() < loss * np.abs(expected).max()


@pytest.mark.parametrize("compiler", ["gcc", "gcc -mavx2 -mfma", "clang"])
@pytest.mark.parametrize("name", MODELS)
def test_sanitizers_find_nothing(name: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"no {compiler} here")
    if "avx2" in compiler and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    sanitizers = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    check(name, tmp_path, [*compiler.split(), *sanitizers])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_other_machines_give_the_same(name: str, machine: str, tmp_path: Path) -> None:
    compiler, emulator, package = MACHINES[machine]
    if shutil.which(compiler) is None or shutil.which(emulator) is None:
        pytest.skip(f"no {compiler} or {emulator} here (apt install {package} qemu-user-static)")
    check(name, tmp_path, [compiler, "-O2", "-static"], (emulator,))


@pytest.mark.parametrize("name", MODELS)
def test_a_static_checker_finds_nothing(name: str, tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("no cppcheck here (apt install cppcheck)")
    program(name, tmp_path)
    command = ["cppcheck", "--enable=warning,performance,portability", "--error-exitcode=3",
               "--quiet", "--std=c99", "--max-configs=4", "m.c"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
