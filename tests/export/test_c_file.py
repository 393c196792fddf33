"""Models as C: compiled, run, and compared with the model; and what the text is like."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from model_properties import SINGLE, assert_close, reference
from model_strategies import RandomModel, random_models
from models_by_hand import random_model
from test_block_variants import BLOCKS, model_of

import s4edge
from s4edge import S4EdgeError
from s4edge.export.c.systems import arrange
from s4edge.export.c.weights import rounded_to_bytes
from s4edge.export.lowering.lower import lower
from s4edge.export.lowering.program import Constant, Program, Recurrence, Stage
from s4edge.export.lowering.reference import run
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.runtime.backends.c.library import CLibrary, open_library, read_library_info
from s4edge.runtime.backends.c.source import read_c_description
from s4edge.systems.modes import Modes

GCC, CLANG = shutil.which("gcc"), shutil.which("clang")
pytestmark = pytest.mark.skipif(GCC is None, reason="no gcc here (apt install gcc)")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the C is checked with where nothing else is said."""
    monkeypatch.setenv("CC", "gcc -O0")


def library_of(model: SequenceModel, folder: Path, **options: Any) -> CLibrary:
    """Compiled quickly."""
    options = {"compiled": True, **options}
    return open_library(s4edge.export_c(model, folder / "m.c", **options).library)  # type: ignore[arg-type]


def compiles(source: Path, *command: str) -> None:
    made = subprocess.run(
        [*command, *STRICT, "-c", str(source), "-o", "/dev/null"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[:3000]
    assert not made.stderr


@pytest.mark.parametrize("name", [n for n in BLOCKS if model_of(n).config.streams])
def test_every_kind_of_block(name: str, tmp_path: Path) -> None:
    exported = s4edge.export_c(model_of(name), tmp_path / "m.c")
    assert exported.max_abs_error is not None
    assert exported.max_abs_error < 1e-5 * exported.max_abs_output


@pytest.mark.parametrize("pooling", ["none", "mean", "sum", "last", "first"])
def test_poolings(pooling: str, tmp_path: Path) -> None:
    exported = s4edge.export_c(model_of("plain", pooling=pooling), tmp_path / "m.c")
    assert exported.max_abs_error is not None
    assert exported.max_abs_error < 1e-5 * exported.max_abs_output


@pytest.mark.parametrize("width", [4, 6, 8, 20, 33])
def test_every_width_compiles_in_silence(width: int, tmp_path: Path) -> None:
    model = random_model(1, d_model=width)
    for precision in ("fp32", "int8"):
        exported = s4edge.export_c(model, tmp_path / "m.c", precision=precision)
        assert exported.max_abs_error is not None
        assert exported.max_abs_error < (1e-5, 0.2)[precision == "int8"] * exported.max_abs_output
        compiles(exported.output, "gcc", "-std=c99", "-O2")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models with all kernels between them."""
    folder = tmp_path_factory.mktemp("sources")
    written = []
    changes: list[dict[str, Any]] = [
        {}, {"pooling": "sum"}, {"pooling": "first"}, {"final_norm": "standardize"},
    ]  # fmt: skip
    models = [random_model(seed, **each) for seed, each in enumerate(changes)]
    models.append(model_of("plain", encoder="embedding", d_input=11))
    for index, model in enumerate(models):
        for precision in ("fp32", "int8"):
            path = folder / f"m{index}_{precision}.c"
            written.append(s4edge.export_c(model, path, precision=precision).output)
    return written


@pytest.mark.parametrize("command", [
    "gcc -std=c99 -O2", "gcc -std=c99 -O2 -DS4EDGE_LIBRARY", "gcc -std=c99 -O3 -march=native",
    "gcc -std=c99 -O1 -DS4EDGE_LIBM", "g++ -std=c++17 -O2 -x c++", "clang -std=c99 -O2",
    "clang -std=c99 -O3 -march=native", "clang++ -std=c++17 -O2 -x c++",
])  # fmt: skip
def test_compilers_say_nothing(command: str, sources: list[Path]) -> None:
    program, *options = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    for source in sources:
        compiles(source, program, *options)


@pytest.mark.parametrize("compiler", ["gcc -O2", "gcc -O3 -mno-avx", "clang -O2 -mno-avx", "clang"])
def test_compilers_agree(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"no {compiler.split()[0]} here")
    for seed in range(2):
        model = random_model(seed)
        exported = s4edge.export_c(model, tmp_path / "m.c", compiler=compiler, compiled=True)
        assert exported.max_abs_error is not None
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output
        assert exported.compiler == compiler


def test_plain_c_gives_the_same(tmp_path: Path) -> None:
    """Without registers of several numbers, as a microcontroller runs it."""
    library = library_of(random_model(), tmp_path)
    source = tmp_path / "m.c"
    options = ["-O2", "-shared", "-fPIC", "-DS4EDGE_LIBRARY", "-DS4EDGE_PLAIN"]
    made = tmp_path / "plain.so"
    subprocess.run(["gcc", *options, source, "-o", made, "-lm"], check=True)
    plain = open_library(made)
    x = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    one, other = (each.run(each.start(), x) for each in (library, plain))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert plain.selftest() == 0


def test_random_models(tmp_path: Path) -> None:
    @settings(
        max_examples=30, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(random_models(streams=True))
    def holds(drawn: RandomModel) -> None:
        model, config = drawn.build(), drawn.config
        assume(config.streams)
        x = drawn.inputs(min(drawn.samples, config.exact_samples or drawn.samples))
        naive = reference(model, x)
        try:
            library = library_of(model, tmp_path)
        except S4EdgeError as error:
            assume("too slow or too large for float32" not in str(error))
            raise
        for row, wanted in zip(x, naive.running(x), strict=True):
            into = np.ascontiguousarray(row.reshape(len(row), -1), np.float32)
            got = library.run(library.start(), into)
            assert_close(got, wanted, naive.tolerance(x, 20 * SINGLE))

    holds()


def test_steps_and_chunks_of_any_length_are_one_stream(tmp_path: Path) -> None:
    library = library_of(random_model(), tmp_path, chunk=5)
    x = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)
    whole = library.run(library.start(), x)
    state = library.start()
    cuts = [0, 1, 2, 4, 7, 12, 18, 40, 60]
    parts = [library.run(state, x[a:b]) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-6)
    again = library.run(library.start(state), x)
    assert np.array_equal(again, whole)  # init starts anew


def test_tokens_outside_count_as_the_first(tmp_path: Path) -> None:
    model = model_of("plain", encoder="embedding", d_input=11)
    for precision in ("fp32", "int8"):
        library = library_of(model, tmp_path, precision=precision)
        tokens = np.random.default_rng(0).integers(0, 11, (30, 1)).astype(np.float32)
        program = lower(model)
        if precision == "int8":
            program = program.rounded(rounded_to_bytes)
        got = library.run(library.start(), tokens)
        np.testing.assert_allclose(got, run(program, tokens)[0], rtol=1e-3, atol=1e-4)
        zero = library.run(library.start(), np.zeros((1, 1), np.float32))
        for wrong in (-1, 11, 1e30, np.nan, np.inf):
            one = library.run(library.start(), np.full((1, 1), wrong, np.float32))
            assert np.array_equal(one, zero)


def test_bytes_are_what_their_reference_says(tmp_path: Path) -> None:
    model = random_model(2, d_model=20)
    library = library_of(model, tmp_path, precision="int8")
    x = np.random.default_rng(0).standard_normal((80, 2)).astype(np.float32)
    exact, _ = run(lower(model).rounded(rounded_to_bytes), x)
    plain, _ = run(lower(model), x)
    got = library.run(library.start(), x)
    assert np.abs(got - exact).max() < 1e-4 * np.abs(exact).max()
    assert np.abs(plain - exact).max() > 1e-3 * np.abs(exact).max()
    assert library.info.extra["precision"] == "int8"


def test_the_self_test_notices_what_is_wrong(tmp_path: Path) -> None:
    exported = s4edge.export_c(random_model(), tmp_path / "m.c")
    good = exported.output.read_text()
    assert _selftest(tmp_path, good) == 0
    for array in ("block_0_mixing_weight", "block_1_systems", "decoder_bias", "block_0_norm_bias"):
        found = re.search(rf"float {array}\[\d+\] ALIGNED = {{\n    ([-\d.e]+)f", good)
        assert found
        wrong = good[: found.start(1)] + "3.25" + good[found.end(1) :]
        assert _selftest(tmp_path, wrong) > 0, array


def _selftest(folder: Path, text: str) -> int:
    (folder / "m.c").write_text(text)
    main = '#include "m.h"\nint main(void) { return m_selftest(); }\n'
    (folder / "main.c").write_text(main)
    command = ["gcc", "-O1", "main.c", "m.c", "-o", "main", "-lm"]
    subprocess.run(command, check=True, cwd=folder)
    return subprocess.run([folder / "main"], check=False).returncode


def test_nan_passes_and_a_new_start_forgets_it(tmp_path: Path) -> None:
    library = library_of(random_model(), tmp_path)
    x = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    before = library.run(library.start(), x)
    state = library.start()
    assert np.isnan(library.run(state, np.full((1, 2), np.nan, np.float32))).all()
    assert np.isnan(library.run(state, x)).all()
    assert np.array_equal(library.run(library.start(state), x), before)


def test_sizes_are_told(tmp_path: Path, digits: Path) -> None:
    small = s4edge.compress(s4edge.load(digits / "model.pt"), 8)
    exported = s4edge.export_c(small, tmp_path / "digits.c", chunk=4)
    header = exported.header.read_text()
    told = {k: int(v) for k, v in re.findall(r"#define DIGITS_(\w+) (\d+)", header)}
    assert told["STATE_BYTES"] == exported.state_bytes
    assert told["WEIGHT_BYTES"] == exported.weight_bytes
    assert told["CHUNK"] == exported.chunk == 4
    main = f"""#include <stdio.h>
#include "digits.h"
int main(void) {{
    printf("%zu ", sizeof(digits_state));
    printf("%d %d", DIGITS_STEP_SCRATCH_BYTES, DIGITS_CHUNK_SCRATCH_BYTES);
    return {told["INPUTS"]} - DIGITS_INPUTS;
}}"""
    (tmp_path / "main.c").write_text(main)
    subprocess.run(["gcc", "main.c", "-o", "main"], check=True, cwd=tmp_path)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    assert [int(word) for word in printed.stdout.split()] == [
        exported.state_bytes, exported.step_scratch_bytes, exported.chunk_scratch_bytes
    ]  # fmt: skip
    # The states, the pool and its count, and at most 1 kB that fills up.
    states = 4 * (lower(small).layout()[-1].offset + 1)
    assert states <= exported.state_bytes <= states + 1024
    assert exported.multiply_adds == lower(small).multiply_adds
    # Constants and what fills them up.
    assert exported.weight_bytes < 4.4 * small.parameter_count() + 1024


def test_allocated_orders_cost_what_they_are() -> None:
    program = lower(random_model(d_model=64))  # pairs 0 to 5, real poles 0 to 3
    arranged = arrange(program)
    held = sum(int(systems.modes.real_states.sum()) for _, systems in program.systems)
    assert held <= sum(each.states for each in arranged.values()) <= held + 256
    for stage, systems in program.systems:
        found = arranged[stage.name]
        assert found.order is not None
        assert set(found.order) == set(range(systems.modes.channels))
        # Hardly more groups than full ones would be.
        pairs = int((~systems.modes.is_real).sum()) + int(systems.modes.is_real.sum()) / 2
        rows = found.counts[::2].sum() + found.counts[1::2].sum() / 2
        assert rows < 1.3 * pairs / 8


def test_uniform_orders_need_no_order() -> None:
    modes = Modes.from_rows(np.full((16, 4), -0.1 + 0.5j), np.ones((16, 4), complex))
    constant = Constant("D", "feedthrough", np.ones(16))
    stage = Stage("systems", "block", Recurrence(modes, constant), ("x",), 16)
    found = arrange(Program(16, None, (stage,), "systems", 16))["systems"]
    assert found.order is None
    assert found.states == 16 * 8
    assert found.counts.tolist() == [4, 0, 4, 0]


def test_nothing_of_the_c_library_but_mathematics_and_memory(tmp_path: Path) -> None:
    exported = s4edge.export_c(random_model(), tmp_path / "m.c")
    included = re.findall(r"#include <(.*)>", exported.output.read_text())
    # Besides, the clock of a library and the compiler's own headers of vectors.
    vectors = {"immintrin.h", "emmintrin.h", "arm_mve.h"}
    assert set(included) == {"math.h", "string.h", "time.h"} | vectors
    made = tmp_path / "m.o"
    subprocess.run(["gcc", "-O2", "-c", exported.output, "-o", made], check=True)
    listed = subprocess.run(["nm", made], check=True, capture_output=True, text=True).stdout
    symbols = [line.split()[-2:] for line in listed.splitlines()]
    assert {name for kind, name in symbols if kind == "U"} <= {
        "memcpy", "memset", "fabsf", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail",
    }  # fmt: skip
    assert not [name for kind, name in symbols if kind in "dDbBC"]  # nothing that changes
    public = {name for kind, name in symbols if kind in "TR"}
    assert public == {"m_init", "m_step", "m_chunk", "m_selftest", "m_description"}


def test_two_models_in_one_program(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        s4edge.export_c(random_model(seed), tmp_path / f"{name}.c")
    main = """#include "one.h"
#include "two.h"
int main(void) { return one_selftest() | two_selftest(); }"""
    (tmp_path / "main.c").write_text(main)
    command = ["gcc", "-O1", "main.c", "one.c", "two.c", "-o", "main", "-lm"]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    model = random_model()
    model.provenance.source = 'a "strange" */ name??/ \\ of\na file.pt'
    library = library_of(model, tmp_path, rate=4000)
    told = library.info
    assert told.source == model.provenance.source
    assert (told.mode, told.d_input, told.d_output, told.rate) == ("step", 2, 3, 4000)
    assert (told.pooling, told.tokens, told.extra["name"]) == ("mean", None, "m")
    for path, read in ((tmp_path / "m.c", read_c_description), (told.path, read_library_info)):
        again = read(path)
        assert (again.source, again.state_floats, again.extra) == (
            told.source, told.state_floats, told.extra
        )  # fmt: skip
    compiles(tmp_path / "m.c", "gcc", "-std=c99", "-trigraphs")
    found = ctypes.c_char_p.in_dll(library._library, "m_description")
    assert json.loads(ctypes.string_at(ctypes.addressof(found)))["format"] == 1


def test_arguments_that_are_wrong(tmp_path: Path) -> None:
    model = random_model()
    for options, says in (
        ({"precision": "fp16"}, "'fp16' is unknown in C"),
        ({"chunk": 0}, "chunk must be from 1"),
        ({"rate": -1.0}, "rate must be a positive"),
        ({"compiled": True, "compiler": "no-such-cc"}, "the compiler no-such-cc is not here"),
        ({"compiled": True, "compiler": "false"}, "false"),
    ):
        with pytest.raises(S4EdgeError, match=says):
            s4edge.export_c(model, tmp_path / "m.c", **options)  # type: ignore[arg-type]
    with pytest.raises(S4EdgeError, match="no C can be written: block: it is bidirectional"):
        s4edge.export_c(model_of("backward"), tmp_path / "m.c")
    for name, says in (
        ("3d.c", "no C identifier"), ("mödel.c", "no C identifier"), ("m.txt", "name a .c file"),
        ("_m.c", "no C identifier"), ("a+b.c", "no C identifier"),
    ):  # fmt: skip
        with pytest.raises(S4EdgeError, match=says):
            s4edge.export_c(model, tmp_path / name)
    assert not list(tmp_path.iterdir())
    exported = s4edge.export_c(model, tmp_path / "my-model s16.c")
    compiles(exported.output, "gcc", "-std=c99")
    assert "void my_model_s16_step(" in (tmp_path / "my-model s16.h").read_text()


def test_numbers_too_large_for_single_precision(tmp_path: Path) -> None:
    model = random_model().double()
    with torch.no_grad():
        model.blocks[0].mixing.weight[0, 0] = 1e39
    with pytest.raises(S4EdgeError, match=r"blocks.0.mixing.weight.* too large for single"):
        s4edge.export_c(model, tmp_path / "m.c")


@pytest.mark.parametrize("at", range(5))
def test_a_full_disk_leaves_all_files_as_they_were(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk says so late, and in a package, which comes last."""
    old, new = random_model(0), random_model(1)
    options: dict[str, Any] = {"compiled": True, "packages": ["cmake"]}
    s4edge.export_c(old, tmp_path / "m.c", **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    synced, sync = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal synced
        ours = os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path))
        synced += ours
        if ours and synced > (at if at < 4 else 8):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    says = rf"^cannot write {tmp_path}/m[-.](c|h|so|cmake): No space left on device$"
    with pytest.raises(S4EdgeError, match=says):
        s4edge.export_c(new, tmp_path / "m.c", **options)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed <= ({"m.c", "m.h", "m.so"} if at == 4 else set())


def cancelling_model() -> SequenceModel:
    """Two poles side by side whose large weights leave little of each other."""
    log_pole = np.tile(np.log(0.9) + 1j * np.array([0.3, 0.3001]), (6, 1))
    weight = np.tile([3e5, -3e5], (6, 1)).astype(complex)
    systems = DiagonalSystems.from_modes(
        Modes.from_rows(log_pole, weight), np.ones(6), kind="cancels", state_size=4,
        states_per_size=1,
    )  # fmt: skip
    model = random_model()
    blocks = [dataclasses.replace(model.config.blocks[0], systems=systems.config)]
    config = dataclasses.replace(model.config, blocks=(*blocks, model.config.blocks[1]))
    other = SequenceModel(config)
    tensors = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks.0.systems")}
    other.load_state_dict(tensors, strict=False)
    other.blocks[0].systems, other.blocks[1].systems = systems, model.blocks[1].systems
    return other.eval()


def test_weights_that_cancel_are_in_double_precision(tmp_path: Path) -> None:
    exported = s4edge.export_c(cancelling_model(), tmp_path / "m.c")
    header = exported.header.read_text()
    assert "double block_0_systems[" in header
    assert "float block_1_systems[" in header
    assert exported.max_abs_error is not None
    assert exported.max_abs_error < 1e-5 * exported.max_abs_output
    compiles(exported.output, "gcc", "-std=c99", "-O2")
    compiles(exported.output, "g++", "-std=c++17", "-x", "c++")
    if shutil.which("arm-none-eabi-gcc"):
        compiles(exported.output, "arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m3")


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    model = random_model()
    exported = s4edge.export_c(model, tmp_path / "m.c")
    assert exported.max_abs_error is exported.compiler is None
    assert "no C compiler is here" in str(exported.unchecked)
    assert "has not been run" in exported.output.read_text()
    with pytest.raises(S4EdgeError, match="no C compiler is here"):
        s4edge.export_c(model, tmp_path / "m.c", compiled=True)
    # One that is there and does not work.
    broken = tmp_path / "cc"
    script = f"[ $1 = -dumpmachine ] && echo {platform.machine()}-linux-gnu && exit 0"
    broken.write_text(f"#!/bin/sh\n{script}\necho 'cc: error: no heart' >&2\nexit 1\n")
    broken.chmod(0o755)
    exported = s4edge.export_c(model, tmp_path / "m.c")
    assert exported.max_abs_error is None
    assert "cc: error: no heart" in str(exported.unchecked)
    with pytest.raises(S4EdgeError, match="the compiler cc does not work: cc: error: no heart"):
        s4edge.export_c(model, tmp_path / "m.c", compiled=True)


def test_a_model_that_float32_cannot_carry_is_not_written(tmp_path: Path) -> None:
    model = random_model().double()
    with torch.no_grad():
        # Two numbers that leave little of each other.
        model.decoder.bias.fill_(1.0)
        model.blocks[1].norm.weight.fill_(1e12)
        model.blocks[1].norm.bias.fill_(0.0)
        model.decoder.weight[:, 0] = 1.0
        model.decoder.weight[:, 1:] = 1.0
    with pytest.raises(S4EdgeError, match="it is not written"):
        s4edge.export_c(model, tmp_path / "m.c")
    assert not list(tmp_path.iterdir())
