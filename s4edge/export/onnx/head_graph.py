"""The graph of a head that compares a model's answers to two sequences.

The model's own graph gives the answers (features of one document each); this one, a file of its
own beside it, takes two of them: ``first`` and ``second`` (batch, features) to ``y`` (batch,
d_output).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from s4edge.errors import S4EdgeError
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.fixed_batch import with_fixed_batch
from s4edge.files import replacing
from s4edge.model.head import Head
from s4edge.runtime.backends.onnx import in_memory

_TOLERANCE = 1e-3
_CHECK_BATCH = 8


def head_path(path: Path) -> Path:
    """Where the head of the model in a graph's file lies."""
    return path.with_name(f"{path.stem}-head{path.suffix}")


def head_graph(head: Head) -> ir.Model:
    """Build the graph of a head."""
    g = GraphBuilder()
    first, second = (g.input(name, ["batch", head.features]) for name in ("first", "second"))
    parts = [first, second]
    if head.config.contrasts:
        parts += [g.add("Sub", first, second), g.add("Mul", first, second)]
    y = g.concat(parts)
    for index, layer in enumerate(head.layers):
        if index:
            y = g.activation(head.config.activation, y)
        weight, bias = (nn.Module.get_parameter(layer, name) for name in ("weight", "bias"))
        y = g.linear(y, *(each.detach().double().numpy() for each in (weight, bias)))
    g.output("y", y, ["batch", head.config.d_output])
    return g.model("s4edge_head")


def write_head(head: Head, path: Path, batch: int | None = None) -> Path:
    """Write a head beside its model's graph, checked against the head.

    Args:
        head: of the model.
        path: of the model's graph.
        batch: answers side by side; None for any number.

    Raises:
        S4EdgeError: the file cannot be written, or the graph differs from the head.
    """
    path = head_path(path)
    written = head_graph(head)
    graph = ir.to_proto(written if batch is None else with_fixed_batch(written, batch))
    onnx.checker.check_model(graph, full_check=True)
    with replacing(path) as temporary:
        try:
            onnx.save(graph, temporary)
        except (OSError, ValueError) as error:
            raise S4EdgeError(f"cannot write {path}: {error}") from error
        shape = (batch or _CHECK_BATCH, head.features)
        rng = np.random.default_rng(0)
        first, second = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        run = in_memory(graph.SerializeToString())
        (got,) = run(["y"], {"first": first, "second": second})
        with torch.no_grad():
            dtype = next(nn.Module.parameters(head)).dtype
            inputs = (torch.from_numpy(each).to(dtype) for each in (first, second))
            wanted = head(*inputs).double().numpy()
        if not np.abs(got - wanted).max() <= _TOLERANCE * np.abs(wanted).max():
            raise S4EdgeError(
                f"the graph of the head differs from it by {np.abs(got - wanted).max():.3g}: it is "
                "not written"
            )
    return path
