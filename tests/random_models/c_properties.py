"""What holds of the C of every model that streams: it takes a `RandomC` and asserts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from model_properties import SINGLE, assert_close, assert_one_line, reference
from model_strategies import RandomModel, random_models

import s4edge
from s4edge import S4EdgeError
from s4edge.runtime import Stream, open_graph

MAIN = Path(__file__).resolve().parents[2] / "tools" / "c_parity" / "main.c"
# gcc's: clang's are tried on fewer models in tests/export/test_c_elsewhere.py.
SANITIZED = ("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Bytes in matrices.
_BYTES = 0.5


@dataclass(frozen=True)
class RandomC:
    """How a model is exported.

    Attributes:
        drawn: the model.
        chunk: samples side by side.
        precision: of matrices.
    """

    drawn: RandomModel
    chunk: int
    precision: str


@st.composite
def random_c(draw: st.DrawFn) -> RandomC:
    """A model that streams, and how it is exported."""
    drawn = draw(random_models(streams=True, slowest=1e-3, cancels=True))
    return RandomC(drawn, draw(st.integers(1, 20)), draw(st.sampled_from(["fp32", "fp32", "int8"])))


def check_c(how: RandomC) -> None:
    """Its C, under address and undefined-behaviour sanitizers, gives what model and graph give."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here (apt install gcc)")
    model, x = how.drawn.build(), how.drawn.inputs()
    naive, tokens = reference(model, x), model.config.encoder == "embedding"
    exact = model.config.exact_samples
    x = x if exact is None else x[:, :exact]
    samples = (x[..., None] if tokens else x).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            s4edge.export_c(model, folder / "m.c", chunk=how.chunk, precision=how.precision)
        except S4EdgeError as refused:
            assert_one_line(refused, "differs from the model", "it is not written")
            noise = how.drawn.inputs(samples=model.config.length or 256)
            assert naive.tolerance(noise, SINGLE) > 3e-5 * np.abs(naive.running(noise)).max()
            return
        names = ["-DNAME=m", "-DUPPER=M", '-DHEADER="m.h"', "-I."]
        command = [*SANITIZED, *names, str(MAIN), "m.c", "-o", "main", "-lm"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        ran = subprocess.run(
            [folder / "main", *map(str, samples.shape[:2])], input=samples.tobytes(),
            capture_output=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")[:2000]
        found = np.frombuffer(ran.stdout, np.float32).reshape(*samples.shape[:2], -1)
        wanted = naive.running(x)
        relative = SINGLE if how.precision == "fp32" else _BYTES
        tolerance = naive.tolerance(x, relative * (1e3 if how.drawn.numbers.cancels else 1))
        assert_close(found, wanted, tolerance)
        if how.precision != "fp32":
            return
        try:
            # One that answers once for several samples has no step graph.
            stride, rows = model.config.stride, len(samples)
            mode, part = ("step", None) if stride == 1 else ("chunk", 4 * stride)
            s4edge.export_onnx(model, folder / "m.onnx", mode, chunk=part, batch=rows)
        except S4EdgeError as refused:
            assert_one_line(refused, "differs from the model")
            return
        graph = Stream(open_graph(folder / "m.onnx"), batch=len(samples))
        of_graph = np.concatenate([graph.extend(samples), graph.finish()], axis=1)
        assert_close(found, of_graph, 2 * tolerance)
