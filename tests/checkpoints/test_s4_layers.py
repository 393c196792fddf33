"""Single layers of state-spaces/s4, all versions and options, against upstream's own outputs."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layers_by_hand import (
    HALF,
    H,
    as_complex,
    block,
    dense_block,
    parts,
    read,
    read_block,
    v2_layer,
)

from s4edge.checkpoints.upstream_layer import UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import Modes

# As the fixture `shared` has it; needed before fixtures are, for the names.
SHARED = os.environ.get("S4EDGE_SHARED", Path(__file__).resolve().parents[3] / "shared")
FOLDER = Path(SHARED) / "checkpoints" / "layers"
NAMES = [
    path.stem
    for family in ("s4d_min", "diag_*", "nplr_*", "srcblk_*", "v2_*", "v3_*")
    for path in sorted(FOLDER.glob(f"{family}.json"))
]


def fixture(name: str) -> tuple[UpstreamLayer, dict[str, Any], Any]:
    sidecar = json.loads((FOLDER / f"{name}.json").read_text())
    state_dict = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    saved = {**sidecar["config"], "length": sidecar["L"]}
    layer = read(FOLDER / f"{name}.pt", state_dict, saved)
    return layer, sidecar, np.load(FOLDER / f"{name}.npz")


def activate(name: str, x: np.ndarray) -> np.ndarray:
    if name.startswith("glu"):
        value, gate = np.split(x, 2, axis=-1)
        return value * activate(name[4:] or "sigmoid", gate)
    functions: dict[str, Any] = {
        "identity": lambda x: x,
        "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
        "relu": lambda x: np.maximum(x, 0),
        "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "tanh": np.tanh,
    }
    return functions[name](x)


def kernel(layer: UpstreamLayer, modes: Modes, length: int) -> np.ndarray:
    out = modes.kernel(length)
    out[:, layer.kernel_length or length :] = 0
    return out


def convolve(kernel: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(S, L) kernels with u (L, S)."""
    return np.stack([np.convolve(k, v)[: len(v)] for k, v in zip(kernel, u.T, strict=True)], 1)


def forward(layer: UpstreamLayer, u: np.ndarray) -> np.ndarray:
    """A layer's output for u (L, H), by what `Layer` says."""
    v = u if layer.inputs is None else u[:, layer.inputs]
    y = convolve(kernel(layer, layer.modes, len(u)), v) + layer.D * v
    if layer.backward is not None:
        back = convolve(kernel(layer, layer.backward, len(u)), v[::-1])[::-1]
        y[:-1] += back[1:]
    if layer.hyper is not None:
        first, second = np.split(y, 2, axis=1)
        y = first * activate(layer.hyper, second)
    y = activate(layer.activation, y)
    if layer.gate is not None:
        gate = layer.gate
        branch = activate(gate.activation, u @ gate.input_weight.T + gate.input_bias)
        y = y @ gate.output_weight.T + gate.output_bias
        y = activate(getattr(gate, "output_activation", "identity"), y) * branch
    y = activate(layer.multiplied_activation, y)
    if layer.mixing_weight is not None:
        y = y @ layer.mixing_weight.T + layer.mixing_bias
    return activate(layer.final_activation, y)


def kernel_error(layer: UpstreamLayer, sidecar: dict[str, Any], recorded: Any) -> float:
    expected = recorded["K"].astype(np.float64)
    rows = expected.reshape(-1, expected.shape[-1])
    got = kernel(layer, layer.modes, rows.shape[1])
    if layer.backward is not None:
        got = np.concatenate([got, kernel(layer, layer.backward, rows.shape[1])])
    return float(np.abs(got - rows).max() / np.abs(rows).max())


def output_error(layer: UpstreamLayer, sidecar: dict[str, Any], recorded: Any) -> float:
    transposed = sidecar["config"].get("transposed", True)
    x, y = (recorded[key].astype(np.float64) for key in ("x", "y"))
    if transposed:
        x, y = x.swapaxes(1, 2), y.swapaxes(1, 2)
    got = np.stack([forward(layer, sample) for sample in x])
    return float(np.abs(got - y).max() / np.abs(y).max())


@pytest.mark.parametrize("name", NAMES)
def test_kernel_and_output_are_upstreams(name: str, shared: Path) -> None:
    layer, sidecar, recorded = fixture(name)
    # What upstream's own rounding costs, relative to the largest output.
    rounding = 3 * sidecar["float32_error"] / np.abs(recorded["y"]).max()
    if "K" in recorded:
        assert kernel_error(layer, sidecar, recorded) < max(1e-5, rounding)
    assert output_error(layer, sidecar, recorded) < max(1e-5, rounding)


# By hand, without upstream's files


@pytest.mark.parametrize("length", [0, 1, 17])
@pytest.mark.parametrize("steps", [1, HALF])
def test_low_rank_kernels_are_those_of_the_recurrence(length: int, steps: int) -> None:
    state = block(systems=2) | {
        "layer.kernel.P": parts(2, 2, HALF, seed=4),
        "layer.kernel.l_kernel": torch.tensor(length),
        "layer.kernel.inv_dt": parts(H, steps, seed=5)[..., 0] - 2,
    }

    def full(x: np.ndarray) -> np.ndarray:
        x = np.concatenate([x] * (H // x.shape[-2]), axis=-2)
        return np.concatenate([x, x.conj()], axis=-1)

    real, imag = (state[f"layer.kernel.A_{part}"].numpy() for part in ("real", "imag"))
    A = full(-np.exp(real) - 1j * imag)
    P, B = full(as_complex(state["layer.kernel.P"])), full(as_complex(state["layer.kernel.B"][0]))
    C = full(as_complex(state["layer.kernel.C"][0]))
    step = full(np.exp(state["layer.kernel.inv_dt"].numpy()) * np.ones((1, HALF))).real
    expected, stored = np.zeros((H, 40)), np.zeros_like(C)
    for h in range(H):
        scaled = step[h][:, None] * (np.diag(A[h]) - P[:, h].T @ P[:, h].conj())
        below = np.eye(2 * HALF) - scaled / 2
        dA = np.linalg.solve(below, np.eye(2 * HALF) + scaled / 2)
        dB = np.linalg.solve(below, step[h] * B[h])
        kernel = [C[h] @ np.linalg.matrix_power(dA, k) @ dB for k in range(40)]
        np.testing.assert_allclose(np.imag(kernel), 0, atol=1e-12)
        expected[h] = np.real(kernel)
        stored[h] = C[h] @ (np.eye(2 * HALF) - np.linalg.matrix_power(dA, length))
    if length:
        state["layer.kernel.C"] = torch.view_as_real(torch.from_numpy(stored[None, :, :HALF]))
    layer = read_block(state)
    np.testing.assert_allclose(
        layer.modes.kernel(40), expected, atol=1e-10 * np.abs(expected).max(), rtol=0
    )
    assert (layer.modes.real_states == 2 * HALF).all()
    assert (layer.state_size, layer.states_per_size) == (2 * HALF, 1)
    assert "condition of the eigenvectors" in layer.notes[0]


def test_channels_are_ordered_as_upstream_flattens_them() -> None:
    plain, swapped = (
        read_block(block(rows=2, directions=2), swap_channels=swap) for swap in (False, True)
    )
    # '(c h)' to '(h c)'.
    order = np.arange(2 * H).reshape(2, H).T.reshape(-1)
    assert plain.inputs is not None
    assert swapped.inputs is not None
    assert plain.backward is not None
    assert swapped.backward is not None
    assert plain.inputs.tolist() == [*range(H), *range(H)]
    np.testing.assert_array_equal(plain.inputs[order], swapped.inputs)
    np.testing.assert_array_equal(plain.D[order], swapped.D)
    for first, second in ((plain.modes, swapped.modes), (plain.backward, swapped.backward)):
        np.testing.assert_allclose(first.kernel(9)[order], second.kernel(9), rtol=1e-12)


def test_l_max_cuts_kernels_and_is_the_length_of_dss() -> None:
    assert read_block(block(), l_max=16).kernel_length == 16
    cut = read_block(block(), l_max=16, disc="dss", length=64)
    short = read_block(block(), disc="dss", length=16)
    assert (cut.length, short.length) == (64, 16)
    np.testing.assert_array_equal(cut.modes.kernel(16), short.modes.kernel(16))


def test_real_kernels_have_real_poles_and_twice_the_sum() -> None:
    state = block()
    del state["layer.kernel.A_imag"]
    state["layer.kernel.B"], state["layer.kernel.C"] = (
        state[f"layer.kernel.{name}"][..., 0] for name in "BC"
    )
    layer = read_block(state)
    A = -np.exp(state["layer.kernel.A_real"].numpy())
    dt = np.exp(state["layer.kernel.inv_dt"].numpy())
    weight = (state["layer.kernel.B"] * state["layer.kernel.C"])[0].numpy() * np.expm1(dt * A) / A
    expected = 2 * (weight[..., None] * np.exp((dt * A)[..., None] * np.arange(20))).sum(1)
    np.testing.assert_allclose(layer.modes.kernel(20), expected, rtol=1e-10)
    assert (layer.modes.real_states == HALF).all()


@pytest.mark.parametrize("kind", ["real", "conjugate", "complex"])
def test_dense_matrices_are_diagonalized_and_keep_their_real_form(kind: str) -> None:
    rng = np.random.default_rng(8)
    n = 6
    A = rng.standard_normal((1, n, n)) - 3 * np.eye(n) + 0j
    if kind != "real":
        A = A + 1j * rng.standard_normal((1, n, n))
    if kind == "conjugate":
        A[:, 3:, 3:], A[:, 3:, :3] = A[:, :3, :3].conj(), A[:, :3, 3:].conj()
    state = dense_block(A)
    layer = read_block(state, mode="dense")
    step = np.exp(state["layer.kernel.inv_dt"].numpy())[..., None]
    below = np.eye(n) - step * A / 2
    dA = np.linalg.solve(below, np.eye(n) + step * A / 2)
    B, C = as_complex(state["layer.kernel.B"]), as_complex(state["layer.kernel.C"][0])
    dB = np.linalg.solve(below, (step[..., 0] * B)[..., None])
    expected = np.stack(
        [(C[:, None] @ np.linalg.matrix_power(dA, k) @ dB)[:, 0, 0].real for k in range(30)], 1
    )
    got = layer.modes.kernel(30)
    np.testing.assert_allclose(got, expected, atol=1e-11 * np.abs(expected).max(), rtol=0)
    states = 2 * n if kind == "complex" else n
    assert (layer.modes.real_states == states).all()
    assert layer.states_per_size * layer.state_size == states


def test_a_matrix_without_a_diagonal_form_is_refused() -> None:
    jordan = -np.eye(6) + np.diag(np.ones(5), 1)
    with pytest.raises(S4EdgeError, match="no diagonal form that is accurate enough"):
        read_block(dense_block(jordan[None]))


@pytest.mark.parametrize(
    "names",
    [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
)
def test_normalized_weights_are_multiplied_out(names: tuple[str, str]) -> None:
    state = block()
    weight = state.pop("output_linear.0.weight")
    state[f"output_linear.0.{names[0]}"] = weight.norm(dim=1, keepdim=True)
    state[f"output_linear.0.{names[1]}"] = 3 * weight
    layer = read_block(state)
    assert layer.mixing_weight is not None
    np.testing.assert_allclose(layer.mixing_weight, weight.numpy(), rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 64, 1024])
def test_version_2_stores_its_length_as_fourier_nodes(length: int) -> None:
    state = v2_layer(length)
    old, new = read_block(state), block(systems=1)
    new["layer.kernel.A_real"] = state["kernel.kernel.log_w_real"]
    new["layer.kernel.A_imag"] = -state["kernel.kernel.w_imag"]
    new["layer.kernel.inv_dt"] = state["kernel.kernel.log_dt"][:, None]
    new["layer.kernel.l_kernel"] = torch.tensor(length)
    for name in "PBC":
        new[f"layer.kernel.{name}"] = state[f"kernel.kernel.{name}"]
    np.testing.assert_allclose(old.modes.kernel(30), read_block(new).modes.kernel(30), rtol=1e-9)


def test_what_cannot_be_read_is_refused() -> None:
    low_rank = {
        "layer.kernel.P": parts(1, H, HALF, seed=4),
        "layer.kernel.l_kernel": torch.tensor(8),
    }
    free = {name: value for name, value in block().items() if ".kernel." not in name}
    free |= {"layer.kernel.C": parts(1, seed=1), "layer.kernel.kernel": torch.ones(1, H, 9)}
    narrow = block()
    narrow["output_linear.0.weight"] = narrow["output_linear.0.weight"][:H]
    narrow["output_linear.0.bias"] = narrow["output_linear.0.bias"][:H]
    odd = block(rows=2)
    odd["layer.kernel.C"] = parts(3, H, HALF, seed=3)
    cases: list[tuple[dict[str, torch.Tensor], dict[str, Any], str]] = [
        (block(), {"gate": 2}, "gate=2"),
        (block() | low_rank, {"bandlimit": 0.1}, "bandlimit in mode nplr"),
        (block() | low_rank, {"mode": "diag"}, "mode=diag, the tensors say nplr"),
        (block(), {"disc": "dss"}, "length of the sequences"),
        (block(), {"l_max": 0.5}, "l_max must be a whole number"),
        (free, {}, "free convolution"),
        (narrow, {}, "activation after it is unknown"),
        (odd, {}, "expected as many"),
        (v2_layer(9), {}, "odd length, 9"),
        (v2_layer(9), {"length": 9}, "odd kernel length"),
        (v2_layer(8), {"resample": True, "length": 9}, "resample"),
    ]
    for state, saved, message in cases:
        with pytest.raises(S4EdgeError, match=message):
            read_block(state, **saved)
