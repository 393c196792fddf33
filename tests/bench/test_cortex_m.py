"""C on emulated microcontrollers, where the compiler and the emulator are here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from models_by_hand import random_model
from test_block_variants import model_of

import s4edge
from s4edge import S4EdgeError
from s4edge.bench.cortex_m import TARGETS, find_target, measure
from s4edge.bench.cortex_m.emulate import inputs
from s4edge.compression.rates.slowing import Strides, slowed
from s4edge.export.lowering.lower import lower
from s4edge.export.lowering.reference import run
from s4edge.model.sequence_model import SequenceModel

NEEDED = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
missing = [program for program in NEEDED if shutil.which(program) is None]
emulated = pytest.mark.skipif(bool(missing), reason=f"not here: {', '.join(missing)}")


def written(model: SequenceModel, folder: Path, precision: str = "fp32") -> Path:
    return s4edge.export_c(model, folder / "m.c", precision=precision).output


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc -O0")


@emulated
@pytest.mark.parametrize("target", TARGETS)
def test_outputs_are_the_models(target: str, tmp_path: Path) -> None:
    model = random_model()
    figures = measure(written(model, tmp_path), TARGETS[target])
    x = inputs(figures.samples, 2, None)
    expected, _ = run(lower(model), x)
    assert figures.samples == 16
    assert np.abs(figures.y - expected).max() < 1e-5 * np.abs(expected).max()
    assert figures.selftest == 0


@emulated
def test_layers_that_run_once_for_several_samples(tmp_path: Path) -> None:
    model = slowed(random_model(), Strides(2, (3, 4)))
    figures = measure(written(model, tmp_path), TARGETS["cortex-m4"])
    assert figures.samples == 24
    expected, _ = run(lower(model), inputs(figures.samples, 2, None))
    assert np.abs(figures.y - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(expected[-1]).max() > 0
    assert figures.selftest == 0
    whole = measure(written(random_model(), tmp_path), TARGETS["cortex-m4"])
    assert figures.instructions_per_sample < 0.6 * whole.instructions_per_sample


@emulated
def test_tokens_and_bytes(tmp_path: Path) -> None:
    model = model_of("plain", encoder="embedding", d_input=11)
    figures = measure(written(model, tmp_path), TARGETS["cortex-m4"])
    x = inputs(figures.samples, 1, 11)
    assert set(np.unique(x)) <= set(range(11))
    expected, _ = run(lower(model), x)
    assert np.abs(figures.y - expected).max() < 1e-5 * np.abs(expected).max()
    for target in ("cortex-m3", "cortex-m4", "cortex-m55"):
        path = written(random_model(d_model=20), tmp_path, "int8")
        assert measure(path, TARGETS[target]).selftest == 0


@emulated
def test_figures_repeat_and_are_of_their_size(tmp_path: Path, digits: Path) -> None:
    small = s4edge.compress(s4edge.load(digits / "model.pt"), 8)
    exported = s4edge.export_c(small, tmp_path / "digits.c")
    first, again = (measure(exported.output, TARGETS["cortex-m4"]) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert 1.5 < first.instructions_per_sample / exported.multiply_adds < 2.7
    assert first.chunk_instructions_per_sample < first.instructions_per_sample
    assert first.code_bytes < 6144
    assert exported.weight_bytes < first.flash_bytes < exported.weight_bytes + 6144 + 512
    assert exported.state_bytes < first.ram_bytes < exported.state_bytes + 1024
    scratch = exported.step_scratch_bytes
    assert scratch < first.step_stack_bytes < scratch + 300
    scratch = exported.chunk_scratch_bytes
    assert scratch < first.chunk_stack_bytes < scratch + 300


@emulated
def test_what_cannot_be_measured(tmp_path: Path) -> None:
    target = TARGETS["cortex-m4"]
    with pytest.raises(S4EdgeError, match=r"m\.c does not exist"):
        measure(tmp_path / "m.c", target)
    (tmp_path / "m.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(S4EdgeError, match="was not written by s4edge"):
        measure(tmp_path / "m.c", target)
    path = written(random_model(), tmp_path)
    text = path.read_text()
    path.write_text(text.replace("void m_step(", "void m_stop("))
    with pytest.raises(S4EdgeError, match=r"cannot compile m\.c"):
        measure(path, target)
    path.write_text(text.replace("run(s, x, y, 1, scratch);", "((void (*)(void))0xfffffff1)();"))
    with pytest.raises(S4EdgeError, match="ends in the middle"):
        measure(path, target)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(random_model(), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(S4EdgeError, match="apt install gcc-arm-none-eabi"):
        measure(path, TARGETS["cortex-m4"])
    with pytest.raises(S4EdgeError, match="'cortex-m9' is unknown; known: cortex-m0plus"):
        find_target("cortex-m9")
