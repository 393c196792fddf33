"""Products with one matrix per channel: every form against numpy, and the convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.products import FORMS, Form, best_form, causal, per_channel


def run(g: GraphBuilder, x: np.ndarray, y: ir.Value) -> np.ndarray:
    g.output("y", y, [f"out{axis}" for axis in range(x.ndim)])
    session = onnxruntime.InferenceSession(
        ir.to_proto(g.model("test")).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["y"], {"x": x})[0]


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(FORMS), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
    st.integers(1, 17), st.integers(0, 99),
)  # fmt: skip
def test_every_form_against_numpy(
    form: Form, batch: int, rows: int, columns: int, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, columns, channels)).astype(np.float32)
    matrix = rng.standard_normal((rows, columns, channels))
    g = GraphBuilder()
    got = run(g, x, per_channel(g, g.input("x", ["a", "b", "c"]), matrix, form))
    np.testing.assert_allclose(got, np.einsum("tkc,bkc->btc", matrix, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 7, 8, 24])
@pytest.mark.parametrize("taps", [1, 5])
def test_convolution_into_the_past(channels: int, taps: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, channels)).astype(np.float32)
    kernel = rng.standard_normal((channels, taps))
    g = GraphBuilder()
    y = causal(g, g.input("x", ["a", "b"]), kernel, 5)
    got = run(g, x.reshape(10, channels), y).reshape(x.shape)
    for sequence, found in zip(x, got, strict=True):
        for channel in range(channels):
            expected = np.convolve(sequence[:, channel], kernel[channel])[:5]
            np.testing.assert_allclose(found[:, channel], expected, atol=1e-5)


def test_small_matrices_are_taken_apart() -> None:
    assert best_form(4, 4) == "elementwise"
    assert best_form(64, 64) != "elementwise"
