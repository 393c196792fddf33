"""C in shared libraries, made with given flags: ours, and emx-onnx-cgen's of our step graph."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

import s4edge
from s4edge.export.lowering import lower
from s4edge.export.onnx.fixed_batch import with_fixed_batch
from s4edge.export.onnx.step_graph import step_graph
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime.backends.c.compiler import find_compiler
from s4edge.runtime.backends.c.library import CLibrary, open_library

# Samples that one call from Python takes: its own cost is hardly any of theirs, and yet they are
# done before a shared machine does something else.
SAMPLES, THEIR_SAMPLES = 256, 64
FLAGS = {"-O2": ["-O2"], "-O3 native": ["-O3", "-march=native"]}
Contender = tuple[Callable[[], object], int]

# The loop around emx-onnx-cgen's function, as a C program would have it: its state is another
# array after each sample.
_LOOP = """
void pair(const float *x, float *one, float *other, float *y) {{
    emx((const void *)x, (const void *)one, (void *)y, (void *)other);
    emx((const void *)(x + {inputs}), (const void *)other, (void *)(y + {outputs}), (void *)one);
}}
void loop(const float *x, float *one, float *other, float *y, int samples) {{
    for (int t = 0; t < samples; t += 2) {{
        emx((const void *)(x + t * {inputs}), (const void *)one, (void *)y, (void *)other);
        emx((const void *)(x + (t + 1) * {inputs}), (const void *)other, (void *)y, (void *)one);
    }}
}}
"""


@dataclass(frozen=True)
class Ours:
    """Our C of a model.

    Attributes:
        libraries: by the name of the flags.
        ram: bytes: a stream's state, and the stack's scratch of a step as the header tells it.
    """

    libraries: dict[str, CLibrary]
    ram: int

    def step(self, flags: str, samples: int = SAMPLES) -> Contender:
        """Steps in the loop within the library that `s4edge bench` times."""
        library = self.libraries[flags]
        state, x = library.start(), _noise(library.info.d_input)[:samples]
        return lambda: library.time(state, x), samples

    def chunk(self, flags: str, samples: int = SAMPLES) -> Contender:
        """The chunk function on many chunks."""
        library = self.libraries[flags]
        state, x = library.start(), _noise(library.info.d_input)[:samples]
        y = np.empty((samples, library.info.d_output), np.float32)
        return lambda: library.run(state, x, y), samples


def ours(model: SequenceModel, folder: Path) -> Ours:
    """Write, check and compile a model in an empty folder."""
    source = folder / "model.c"
    s4edge.export_c(model, source)
    libraries = {}
    for index, (name, flags) in enumerate(FLAGS.items()):
        made = folder / f"ours{index}.so"
        _compile(source, made, [*flags, "-DS4EDGE_LIBRARY"])
        libraries[name] = open_library(made)
        if libraries[name].selftest():
            raise RuntimeError(f"the self-test fails with {name}")
    header = source.with_suffix(".h").read_text()
    scratch = re.search(r"STEP_SCRATCH_BYTES \(4 \* \((\d+) \+ (\d+)\)\)", header)
    state = 4 * next(iter(libraries.values())).info.state_floats
    return Ours(libraries, state + 4 * sum(map(int, scratch.groups())))  # type: ignore[union-attr]


@dataclass(frozen=True)
class Theirs:
    """emx-onnx-cgen's C of our step graph.

    Attributes:
        libraries: by the name of the flags.
        ports: floats of ``x``, ``state`` and ``y``.
        ram: bytes: the two states, and the deepest frame that the compiler tells (-O2).
    """

    libraries: dict[str, ctypes.CDLL]
    ports: tuple[int, int, int]
    ram: int

    def step(self, flags: str, samples: int = THEIR_SAMPLES) -> Contender:
        """Steps in a loop within the library."""
        return self.bound(flags, samples)[0], samples

    def bound(
        self, flags: str, samples: int = THEIR_SAMPLES
    ) -> tuple[Callable[[], object], np.ndarray]:
        """What runs so many steps of noise, an even number, and where the last output is then."""
        inputs, size, outputs = self.ports
        arrays = (_noise(inputs), *np.zeros((2, size), np.float32), np.empty(outputs, np.float32))
        call = self.libraries[flags].loop
        where = [ctypes.c_void_p(each.ctypes.data) for each in arrays]

        def run(kept: object = arrays) -> None:  # the arrays live as long as what is bound
            call(*where, samples)

        return run, arrays[-1]

    def difference(self, flags: str, wanted: np.ndarray, x: np.ndarray) -> float:
        """Largest to outputs of samples one after another, relative to the largest."""
        _, size, outputs = self.ports
        states, y = np.zeros((2, size), np.float32), np.empty((len(x), outputs), np.float32)
        one, other = (ctypes.c_void_p(state.ctypes.data) for state in states)
        for t in range(0, len(x), 2):
            at = ctypes.c_void_p(x[t:].ctypes.data)
            self.libraries[flags].pair(at, one, other, ctypes.c_void_p(y[t:].ctypes.data))
        return float(np.abs(y - wanted).max() / np.abs(wanted).max())


def theirs(model: SequenceModel, folder: Path) -> Theirs | None:
    """Generate and compile, if emx-onnx-cgen is installed; one thread, weights in the C file."""
    if importlib.util.find_spec("emx_onnx_cgen") is None:
        return None
    graph, source = folder / "emx.onnx", folder / "emx.c"
    lowered = lower(model)
    onnx.save(ir.to_proto(with_fixed_batch(step_graph(lowered), 1)), graph)
    options = ["--large-weight-threshold", "0", "--large-temp-threshold", "0"]
    command = [sys.executable, "-m", "emx_onnx_cgen", "compile", "--model-name", "emx", *options]
    subprocess.run([*command, str(graph), str(source)], check=True, capture_output=True)
    with source.open("a") as file:
        file.write(_LOOP.format(inputs=lowered.d_input, outputs=lowered.d_output))
    libraries = {}
    for index, (name, flags) in enumerate(FLAGS.items()):
        made = folder / f"emx{index}.so"
        _compile(source, made, [*flags, "-w"])
        libraries[name] = ctypes.CDLL(str(made))
    _compile(source, folder / "emx.o", ["-O2", "-w", "-c", "-fstack-usage"])
    frames = [int(line.split("\t")[1]) for line in (folder / "emx.su").read_text().splitlines()]
    state = next(each for each in onnx.load(graph).graph.input if each.name == "state")
    size = state.type.tensor_type.shape.dim[1].dim_value
    return Theirs(libraries, (lowered.d_input, size, lowered.d_output), 8 * size + max(frames))


def agreement(mine: CLibrary, emx: Theirs, flags: str) -> float:
    """Difference of the outputs after `THEIR_SAMPLES`, relative to the largest of them."""
    run, y = emx.bound(flags)
    run()
    expected = mine.run(mine.start(), _noise(mine.info.d_input)[:THEIR_SAMPLES])[-1]
    return float(np.abs(y - expected).max() / np.abs(expected).max())


def _noise(inputs: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SAMPLES, inputs), np.float32)


def _compile(source: Path, made: Path, flags: list[str]) -> None:
    linked = [] if "-c" in flags else ["-shared", "-fPIC"]
    command = [*find_compiler().command, *flags, *linked, str(source), "-o", str(made), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
