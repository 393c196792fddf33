"""Products with one small matrix per channel, in the forms that a runtime may be quick at.

``y[t, c] = sum_k M[t, k, c] x[k, c]`` over (batch, K, channels): a runtime has no operator for it
that is quick at all sizes. `best_form` knows which is, from ``benchmarks/graphs/run.py forms``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from s4edge.arrays import Float
from s4edge.export.onnx.builder import GraphBuilder

Form = Literal["elementwise", "batched", "grouped"]
FORMS: tuple[Form, ...] = ("elementwise", "batched", "grouped")

# Numbers in a channel's matrix up to which all products are formed and then summed.
_FEW = 512


def best_form(rows: int, columns: int) -> Form:
    """The quickest form for one sequence at a time and matrices (rows, columns) per channel."""
    return "elementwise" if rows * columns <= _FEW else "grouped"


def per_channel(
    g: GraphBuilder, x: ir.Value, matrix: Float, form: Form | None = None, dtype: Any = np.float32
) -> ir.Value:
    """(batch, K, channels) times ``matrix`` (T, K, channels) to (batch, T, channels).

    ``dtype`` is that of ``x`` and of the product.
    """
    rows, columns, channels = matrix.shape
    form = form or best_form(rows, columns)
    if form == "grouped" and dtype == np.float64:
        # onnxruntime has no such convolution.
        form = "batched"

    def constant(value: Float) -> ir.Value:
        return g.constant(value, "matrix", dtype, role="kernel")

    if form == "elementwise":
        # Long rows over the channels, summed by a product with ones: quicker than ReduceSum.
        spread = g.add("Unsqueeze", x, g.constant([1], "axis"))
        products = g.add("Mul", spread, constant(matrix))
        sums = g.add("MatMul", g.constant(np.ones((1, columns)), "ones", dtype), products)
        return g.add("Squeeze", sums, g.constant([2], "axis"))
    if form == "batched":
        by_channel = g.add("Transpose", x, perm=[2, 0, 1])
        product = g.add("MatMul", by_channel, constant(matrix.transpose(2, 1, 0)))
        return g.add("Transpose", product, perm=[1, 2, 0])
    by_channel = g.add("Transpose", x, perm=[0, 2, 1])
    flat = g.reshape(by_channel, [0, channels * columns, 1])
    weight = constant(matrix.transpose(2, 0, 1).reshape(channels * rows, columns, 1))
    product = g.add("Conv", flat, weight, group=channels, kernel_shape=[1])
    return g.add("Transpose", g.reshape(product, [0, channels, rows]), perm=[0, 2, 1])


def causal(g: GraphBuilder, x: ir.Value, kernel: Float, length: int) -> ir.Value:
    """(batch length, channels) convolved with ``kernel`` (channels, taps) into the past.

    As pictures of one row each, which onnxruntime convolves in blocks of channels.
    """
    channels, taps = kernel.shape
    picture = g.reshape(x, [-1, 1, length, channels])
    picture = g.add("Transpose", picture, perm=[0, 3, 1, 2])
    weight = g.constant(kernel[:, None, None, ::-1], "kernel", role="kernel")
    product = g.add("Conv", picture, weight, group=channels, pads=[0, taps - 1, 0, 0],
                    kernel_shape=[1, taps])  # fmt: skip
    return g.rows(g.add("Transpose", product, perm=[0, 2, 3, 1]), channels)
