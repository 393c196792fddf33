"""What our graphs are compared with: upstream's step, torch's exporter, GRU and LSTM graphs."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from models import D_MODEL, LAYERS, OUTPUTS, ROOT
from torch import Tensor, nn

from s4edge.export.lowering import lower
from s4edge.export.lowering.program import Pool, Recurrence, Stage
from s4edge.export.onnx.builder import GraphBuilder, Shape
from s4edge.export.onnx.stages import emit
from s4edge.export.onnx.step_graph import pool_step
from s4edge.model.sequence_model import SequenceModel

sys.path.insert(0, str(ROOT / "benchmarks"))
from upstream_layers import upstream_module


def upstream_step(
    folder: Path, state: int, d_model: int = D_MODEL, layers: int = LAYERS
) -> Callable[[], object]:
    """Upstream's S4Blocks (diagonal) with residual and LayerNorm, one sample in eager torch."""
    make = upstream_module(folder, "s4").S4Block
    blocks, norms = [], nn.ModuleList(nn.LayerNorm(d_model) for _ in range(layers))
    for _ in range(layers):
        with contextlib.redirect_stdout(io.StringIO()):
            block = make(d_model, d_state=state, mode="diag", final_act="glu").eval()
        block.setup_step()
        blocks.append(block)
    encoder, decoder = nn.Linear(1, d_model), nn.Linear(d_model, OUTPUTS)
    x = torch.randn(1, 1)
    with torch.inference_mode():
        states = [block.default_state(1) for block in blocks]

    def run() -> None:
        with torch.inference_mode():
            h = encoder(x)
            for index, (block, layer_norm) in enumerate(zip(blocks, norms, strict=True)):
                z, states[index] = block.step(h, states[index])
                h = layer_norm(h + z)
            decoder(h)

    torch.set_num_threads(1)
    run()
    return run


class _Layer(nn.Module):
    """A diagonal layer's step as one writes it down: complex numbers as pairs of arrays."""

    def __init__(self, state: int) -> None:
        super().__init__()
        pairs = state // 2
        rng = np.random.default_rng(0)
        pole = np.exp(rng.uniform(-3, -1, (D_MODEL, 1)) * (0.5 + 1j * np.pi * np.arange(pairs)))
        for name, value in (("a", pole / np.abs(pole) * 0.99), ("b", pole), ("c", pole)):
            self.register_buffer(f"{name}_real", torch.tensor(value.real, dtype=torch.float32))
            self.register_buffer(f"{name}_imag", torch.tensor(value.imag, dtype=torch.float32))
        self.D = nn.Parameter(torch.randn(D_MODEL))
        self.output, self.norm = nn.Linear(D_MODEL, 2 * D_MODEL), nn.LayerNorm(D_MODEL)

    def forward(self, u: Tensor, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new_real = self.a_real * real - self.a_imag * imag + self.b_real * u[..., None]
        new_imag = self.a_real * imag + self.a_imag * real + self.b_imag * u[..., None]
        y = 2 * (self.c_real * new_real - self.c_imag * new_imag).sum(-1) + self.D * u
        y = nn.functional.glu(self.output(nn.functional.gelu(y)))
        return self.norm(u + y), new_real, new_imag


class _Straightforward(nn.Module):
    def __init__(self, state: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, D_MODEL), nn.Linear(D_MODEL, OUTPUTS)
        self.layers = nn.ModuleList(_Layer(state) for _ in range(LAYERS))

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, after = self.encoder(x), []
        for index, layer in enumerate(self.layers):
            h, real, imag = layer(h, states[2 * index], states[2 * index + 1])
            after += [real, imag]
        return self.decoder(h), *after


def torch_export(state: int) -> onnx.ModelProto:
    """``torch.onnx.export`` of a step module written without thought of graphs."""
    module = _Straightforward(state).eval()
    states = [torch.zeros(1, D_MODEL, state // 2) for _ in range(2 * LAYERS)]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 1), *states), file, opset_version=17, dynamo=False,
            input_names=["x", *(f"state{i}" for i in range(len(states)))],
            output_names=["y", *(f"next{i}" for i in range(len(states)))],
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def without_states(model: SequenceModel) -> ir.Model:
    """Our step graph with no system states in it: the floor."""
    program, g = lower(model), GraphBuilder()
    size = sum(program.pooled)
    x, state = g.input("x", ["batch", program.d_input]), g.input("state", ["batch", size])
    new_state: list[ir.Value] = []

    def systems(systems: Recurrence, u: ir.Value, stage: Stage) -> ir.Value:
        return g.add("Mul", u, g.constant(systems.first_tap, "tap"))

    def pooling(pooling: Pool, x: ir.Value, stage: Stage) -> ir.Value:
        x, new = pool_step(g, pooling.kind, x, g.split(state, program.pooled))
        new_state.append(g.concat(new))
        return x

    values = {"x": x}
    emit(g, program.stages, values, {Recurrence: systems, Pool: pooling})
    g.output("y", values[program.output], ["batch", program.d_output])
    g.output("next_state", *new_state, ["batch", size])
    return g.model("floor")


class RecurrentNetwork(nn.Module):
    """GRU or LSTM layers between an encoder and a decoder; the answer after each sample."""

    def __init__(self, kind: str, width: int = D_MODEL, layers: int = LAYERS) -> None:
        super().__init__()
        self.kind = kind
        self.encoder, self.decoder = nn.Linear(1, width), nn.Linear(width, OUTPUTS)
        self.layers = getattr(nn, kind)(width, width, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, 1) to (batch, length, outputs)."""
        y: Tensor = self.decoder(self.layers(self.encoder(x))[0])
        return y


# The order of ONNX's gates in torch's.
_GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


def recurrent_graph(network: RecurrentNetwork, length: int = 1) -> ir.Model:
    """Its graph for ``length`` samples a run, on ONNX's own operators of these names."""
    kind, width = network.kind, network.encoder.out_features

    def weight(name: str) -> np.ndarray:
        parts = np.split(network.layers.get_parameter(name).detach().numpy(), len(_GATES[kind]))
        return np.concatenate([parts[gate] for gate in _GATES[kind]])

    g = GraphBuilder()
    names = ["h", *(["c"] if kind == "LSTM" else [])]
    encoder, decoder = network.encoder, network.decoder
    x = g.input("x", [length, 1])
    x = g.linear(x, encoder.weight.detach().numpy(), encoder.bias.detach().numpy())
    # (length, 1, features), as the operators take it.
    x = g.reshape(x, [length, 1, width])
    size: Shape = [1, 1, width]
    after: dict[str, ir.Value] = {}
    for layer in range(network.layers.num_layers):
        biases = [weight(f"bias_{part}_l{layer}") for part in ("ih", "hh")]
        matrices = [weight(f"weight_{part}_l{layer}") for part in ("ih", "hh")]
        constants = [g.constant(each[None]) for each in (*matrices, np.concatenate(biases))]
        states = [g.input(f"state_{name}{layer}", size) for name in names]
        following = [f"next_{name}{layer}" for name in names]
        attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
        x, *new = g.add_many(
            kind, [f"all{layer}", *following], x, *constants, None, *states, hidden_size=width,
            **attributes,
        )  # fmt: skip
        after |= dict(zip(following, new, strict=True))
        x = g.reshape(x, [length, 1, width])
    x = g.reshape(x, [length, width])
    y = g.linear(x, decoder.weight.detach().numpy(), decoder.bias.detach().numpy())
    g.output("y", y, [length, OUTPUTS])
    for name, value in after.items():
        g.output(name, value, size)
    return g.model(kind.lower())
