"""Options of upstream's layers, one by one, against their definitions in float64."""

from __future__ import annotations

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
    read_block,
    v2_layer,
    v3_layer,
)

from s4edge.checkpoints import bare_layer
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError

State = dict[str, torch.Tensor]


def full(x: np.ndarray) -> np.ndarray:
    """All features' rows of those that are stored, and the conjugate half."""
    x = np.concatenate([x] * (H // x.shape[-2]), axis=-2)
    return np.concatenate([x, x.conj()], axis=-1)


def by_nodes(
    A: np.ndarray, P: np.ndarray, Q: np.ndarray, B: np.ndarray, C: np.ndarray, step: np.ndarray,
    nodes: int,
) -> np.ndarray:  # fmt: skip
    """(H, nodes) what upstream computes: an inverse transform of the resolvent at the nodes.

    ``A`` (H, n), ``P`` and ``Q`` (rank, H, n), ``B`` and ``C`` (H, n), ``step`` (H,), with both
    halves of conjugate pairs.
    """
    kernels = []
    identity = np.eye(A.shape[1])
    for h in range(H):
        scaled = step[h] * (np.diag(A[h]) - P[:, h].T @ Q[:, h])
        below = identity - scaled / 2
        dA = np.linalg.solve(below, identity + scaled / 2)
        dB = np.linalg.solve(below, step[h] * B[h])
        omega = np.exp(-2j * np.pi * np.arange(nodes // 2 + 1) / nodes)
        resolvent = [C[h] @ np.linalg.solve(identity - w * dA, dB) for w in omega]
        kernels.append(np.fft.irfft(resolvent, nodes))
    return np.array(kernels)


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


# Kernels that depend on the length


@pytest.mark.parametrize("length", [8, 16, 48])
def test_resampled_kernels_are_stretched_to_the_length(length: int) -> None:
    state = v2_layer(16)
    kernel = {name: state[f"kernel.kernel.{name}"] for name in ("w_imag", "log_w_real", "log_dt")}
    A = full(-np.exp(kernel["log_w_real"].numpy()) + 1j * kernel["w_imag"].numpy())
    P, B, C = (full(as_complex(state[f"kernel.kernel.{name}"])) for name in "PBC")
    step = np.exp(kernel["log_dt"].numpy()) * 16 / length
    layer = read_block(state, resample=True, length=length)
    assert layer.length == length
    close(layer.modes.kernel(length), by_nodes(A, P, P.conj(), B[0], C[0], step, length))


def test_resampling_to_an_odd_length_is_refused() -> None:
    with pytest.raises(S4EdgeError, match=r"resample=true.* take an even length"):
        read_block(v2_layer(16), resample=True, length=17)


def test_resampled_kernels_without_a_length_are_for_that_of_the_kernel() -> None:
    layer = read_block(v2_layer(16), resample=True)
    assert layer.length == 16
    close(layer.modes.kernel(16), read_block(v2_layer(16)).modes.kernel(16))


def test_an_odd_stored_length_is_read_for_longer_sequences() -> None:
    odd, even = (v2_layer(length) for length in (9, 18))
    # Upstream doubles: C (I - A^9) (I + A^9) = C (I - A^18).
    n = 2 * HALF
    A = full(-np.exp(odd["kernel.kernel.log_w_real"].numpy())
             + 1j * odd["kernel.kernel.w_imag"].numpy())  # fmt: skip
    P, C = (full(as_complex(odd[f"kernel.kernel.{name}"])) for name in "PC")
    step = np.exp(odd["kernel.kernel.log_dt"].numpy())
    doubled = np.zeros_like(C)
    for h in range(H):
        scaled = step[h] * (np.diag(A[h]) - P[:, h].T @ P[:, h].conj())
        dA = np.linalg.solve(np.eye(n) - scaled / 2, np.eye(n) + scaled / 2)
        doubled[0, h] = C[0, h] @ (np.eye(n) + np.linalg.matrix_power(dA, 9))
    even["kernel.kernel.C"] = torch.view_as_real(torch.from_numpy(doubled[..., :HALF]))
    first, second = read_block(odd, length=12), read_block(even)
    close(first.modes.kernel(30), second.modes.kernel(30))


@pytest.mark.parametrize(
    ("stored", "facts", "nodes", "length"),
    [
        (16, {"l_max": 16}, 16, None),
        (16, {"length": 12}, 16, 12),
        (16, {"length": 40}, 64, 40),
        (0, {"l_max": 24}, 24, None),
        (0, {"length": 20}, 20, 20),
    ],
)
def test_a_bandlimit_masks_low_rank_kernels_as_transformed(
    stored: int, facts: dict[str, Any], nodes: int, length: int | None
) -> None:
    state = block() | {
        "layer.kernel.P": parts(1, H, HALF, seed=4),
        "layer.kernel.l_kernel": torch.tensor(stored),
    }
    real, imag = (state[f"layer.kernel.A_{part}"].numpy() for part in ("real", "imag"))
    half = -np.exp(real) - 1j * imag
    A, P = full(half), full(as_complex(state["layer.kernel.P"]))
    B, C = (full(as_complex(state[f"layer.kernel.{name}"])) for name in "BC")
    step = np.exp(state["layer.kernel.inv_dt"].numpy()[:, 0])
    passed = full(step[:, None] * np.abs(half.imag) / (2 * np.pi) < 0.05).astype(float)
    assert 0 < passed.mean() < 1
    transformed = np.zeros_like(C[0])
    n = 2 * HALF
    for h in range(H):
        scaled = step[h] * (np.diag(A[h]) - P[:, h].T @ P[:, h].conj())
        dA = np.linalg.solve(np.eye(n) - scaled / 2, np.eye(n) + scaled / 2)
        power = np.linalg.matrix_power
        left = C[0, h]
        if stored:
            left = np.linalg.solve((np.eye(n) - power(dA, stored)).T, left)
        transformed[h] = left @ (np.eye(n) - power(dA, nodes))
    expected = by_nodes(A, P, P.conj(), B[0], transformed * passed, step, nodes)
    layer = read_block(state, bandlimit=0.1, **facts)
    assert layer.length == length
    close(layer.modes.kernel(nodes), expected)


def test_growing_modes_are_read_for_one_length() -> None:
    state = block()
    state["layer.kernel.A_real"] = torch.full((H, HALF), -2.0, dtype=torch.float64)
    with pytest.raises(S4EdgeError, match=r"\|a\| >= 1 .* --set length="):
        read_block(state, real_transform="none")
    layer = read_block(state, real_transform="none", length=50)
    assert layer.length == 50
    A = 2 - 1j * state["layer.kernel.A_imag"].numpy()
    z = np.exp(state["layer.kernel.inv_dt"].numpy()) * A
    B, C = as_complex(state["layer.kernel.B"])[0], as_complex(state["layer.kernel.C"])[0]
    weight = B * C * (np.exp(z) - 1) / A
    close(
        layer.modes.kernel(50),
        2 * (weight[..., None] * np.exp(z[..., None] * np.arange(50))).sum(1).real,
    )
    # Where kernels are cut, no length is needed.
    assert read_block(state, real_transform="none", l_max=20).length is None


# Around the kernel


def test_shift_delays_by_a_sample() -> None:
    state = v3_layer()
    plain, shifted = read_block(state), read_block(state, shift=True)
    kernel, late = plain.modes.kernel(30), shifted.modes.kernel(30)
    close(late[:, 1:], kernel[:, :-1])
    # The first value and D are added to the same sample.
    close(late[:, 0] + shifted.D, plain.D)
    assert read_block(state, shift=True, l_max=64, length=40).kernel_length is None
    for facts in ({"l_max": 32, "length": 40}, {"l_max": 32}):
        with pytest.raises(S4EdgeError, match="shift=true"):
            read_block(state, shift=True, **facts)


def test_shift_turns_the_backward_kernel_round() -> None:
    both = v3_layer() | {"kernel.kernel.C": parts(2, H, HALF, seed=3)}
    plain = read_block(both)
    assert plain.backward is not None
    layer = read_block(both, shift=True, length=20)
    assert layer.backward is None
    assert layer.length == 20
    kernel = layer.modes.kernel(20)
    close(kernel[:, 1:], plain.backward.kernel(20)[:, :0:-1])
    close(kernel[:, 0] + layer.D, plain.D)
    with pytest.raises(S4EdgeError, match="--set length="):
        read_block(both, shift=True)
    with pytest.raises(S4EdgeError, match="more than floating point numbers hold"):
        read_block(both, shift=True, length=10**6)


def test_a_linear_layer_ignores_its_activations() -> None:
    state = v3_layer(output=False)
    layer = read_block(state, linear=True, postact="glu", activation="tanh", weight_norm=True)
    assert (layer.activation, layer.final_activation, layer.hyper) == ("identity", "identity", None)
    assert layer.mixing_weight is None


def test_a_linear_layer_is_multiplied_all_the_same() -> None:
    state = v3_layer(rows=2, output=False)
    hyper = read_block(state, linear=True, channels=1, hyper_act="sigmoid")
    assert hyper.hyper == "sigmoid"
    heads = read_block(state, linear=True, channels=2)
    assert heads.hyper is None
    with pytest.raises(S4EdgeError, match="--set hyper_act=null"):
        read_block(state)


def test_a_linear_layer_has_its_gate() -> None:
    state = v3_layer(rows=2, output=False)
    rng = np.random.default_rng(1)
    for name, shape in (("input_gate.0", (2 * H, H)), ("output_gate", (H, 2 * H))):
        state[f"{name}.weight"] = torch.from_numpy(rng.standard_normal(shape))
        state[f"{name}.bias"] = torch.from_numpy(rng.standard_normal(shape[0]))
    layer = read_block(state, linear=True, channels=2, gate=2, activation="tanh", postact="glu")
    assert layer.gate is not None
    # The input's branch is activated, the systems are multiplied as they are.
    assert (layer.activation, layer.gate.activation) == ("identity", "tanh")
    assert layer.gate.output_activation == "identity"
    np.testing.assert_array_equal(layer.gate.output_weight, np.eye(2 * H))
    assert not layer.gate.output_bias.any()


@pytest.mark.parametrize("said", [2 * HALF, 2 * HALF + 1])
def test_an_odd_state_size_is_floored(said: int) -> None:
    for state in (block(), v3_layer(), v2_layer(16)):
        assert read_block(state, d_state=said).state_size == 2 * HALF
    with pytest.raises(S4EdgeError, match="d_state=8, the tensors say 6"):
        read_block(block(), d_state=8)


def test_the_kind_of_kernel_goes_by_either_name() -> None:
    for said in ({"mode": None, "kernel": "s4d"}, {"kernel": "diag"}, {"mode": "diag"}):
        read_block(block(), **said)
    with pytest.raises(S4EdgeError, match="kernel=nplr, the tensors say diag"):
        read_block(block(), mode=None, kernel="nplr")


@pytest.mark.parametrize("kind", ["real", "slow"], ids=["real", "complex"])
def test_dense_kernels_of_version_2(kind: str) -> None:
    rng = np.random.default_rng(3)
    n = 5
    A, B, C = (rng.standard_normal(shape) for shape in ((n, n), (n,), (1, H, n)))
    A = A - 6 * np.eye(n)
    if kind == "slow":
        A, B, C = (x + 1j * rng.standard_normal(x.shape) for x in (A, B, C))
    step = rng.uniform(0.01, 0.1, H)
    state = {name: value for name, value in v2_layer(4).items() if "kernel" not in name}
    for name, value in (("A", A), ("B", B), ("C", C), ("log_dt", np.log(step))):
        state[f"kernel.kernel.{name}"] = torch.from_numpy(value)
    expected = []
    for h in range(H):
        below = np.eye(n) - step[h] * A / 2
        dA = np.linalg.solve(below, np.eye(n) + step[h] * A / 2)
        dB = np.linalg.solve(below, step[h] * B)
        expected.append([(C[0, h] @ np.linalg.matrix_power(dA, k) @ dB).real for k in range(30)])
    layer = read_block(state, mode=kind, trainable=True)
    assert layer.kind == f"s4-v2-{'real' if kind == 'real' else 'dense'}"
    close(layer.modes.kernel(30), np.array(expected))
    # Upstream would go on using what it computed first.
    for trainable in (None, False, {"dt": False, "P": True}):
        with pytest.raises(S4EdgeError, match="nothing is trained"):
            read_block(state, trainable=trainable)


def test_frozen_dense_kernels_are_told() -> None:
    state = dense_block(-np.eye(4)[None] - np.diag(np.arange(4)))
    read_block(state, lr={"dt": 0.001, "A": 0.0, "B": 0.0})
    read_block(state, lr=0.001)
    for lr in (0.0, {"dt": 0, "A": 0.0, "B": 0.0}):
        with pytest.raises(S4EdgeError, match="nothing is trained"):
            read_block(state, lr=lr)


def test_a_bottleneck_is_refused_by_name() -> None:
    for state in (block(), v3_layer()):
        state |= {"input_linear.weight": torch.zeros(H, H), "input_linear.bias": torch.zeros(H)}
        with pytest.raises(S4EdgeError, match="bottleneck: a linear layer"):
            read_block(state)


# What is assumed, and told


GIVEN = {"transposed": True, "length": 16}
ALONE: dict[str, tuple[State, dict[str, Any]]] = {
    "S4Block": (
        block(),
        {
            "activation": "gelu", "l_max": None, "real_transform": "exp", "imag_transform": "none",
            "dt_fast": False, "dt_transform": "exp", "bandlimit": None, "disc": "zoh",
            "mult_act": None, "transposed": True,
        },
    ),
    "S4Block of two channels": (
        block(rows=2),
        {
            "activation": "gelu", "swap_channels": False, "l_max": None, "real_transform": "exp",
            "imag_transform": "none", "dt_fast": False, "dt_transform": "exp", "bandlimit": None,
            "disc": "zoh", "mult_act": None, "transposed": True,
        },
    ),
    "version 3": (
        v3_layer(),
        {
            "l_max": None, "real_type": "exp", "bandlimit": None, "disc": "bilinear",
            "activation": "gelu", "shift": False, "transposed": True,
        },
    ),
    "version 2": (v2_layer(16), {"resample": False, "activation": "gelu"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_all_that_is_assumed_is_told(name: str) -> None:
    """Each option whose other value changes the output, and which no tensor tells."""
    state, expected = ALONE[name]
    facts = Facts(Path("layer.pt"))
    if name.startswith("S4Block"):
        facts = Facts(Path("layer.pt"), {"final_act": "glu"})
    model = bare_layer.read(Tensors(Path("layer.pt"), state), facts)
    assert model.provenance.assumed == expected


@pytest.mark.parametrize(
    "value", ["soon", [1], {"a": 1}, 1e300, -1, True, float("nan"), 10**30, None, {"_name_": []}]
)
def test_whatever_an_option_is_the_answer_is_one_line(value: Any) -> None:
    """No traceback, and no other model without a word."""
    for state in (block(), v3_layer(), v2_layer(16)):
        facts = Facts(Path("layer.pt"))
        bare_layer.read(Tensors(Path("layer.pt"), state), facts)
        for key in (*facts.assumed, *facts.inferred, "lr", "trainable", "kernel", "length"):
            try:
                model = bare_layer.read(
                    Tensors(Path("layer.pt"), state), Facts(Path("layer.pt"), {}, {key: value})
                )
            except S4EdgeError as error:
                told = str(error)
                assert "\n" not in told
            else:
                assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()
