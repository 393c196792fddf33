"""The DSS reader: against what upstream recorded, and by hand where no shared data is needed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4edge.checkpoints import dss
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import UpstreamLayer
from s4edge.errors import S4EdgeError

FIXTURES = [
    "clip-no-scale_channels2", "clip-no-scale_maxk24", "clip-no-scale_sepF", "clip_channels2",
    "clip_maxk24", "clip_randn", "clip_randn_maxre", "exp", "exp-no-scale_bidir",
    "exp-no-scale_sepF", "exp-re-im", "exp-re-im_bidir", "exp-re-im_sepF", "exp_L101",
    "exp_act_None", "exp_bidir", "exp_channels2", "exp_glu", "exp_maxk24", "exp_postgelu",
    "exp_sepF", "exp_transposedF", "softmax", "softmax_channels2", "softmax_randn_sepF",
]  # fmt: skip
WRAPPING = [
    "clip-no-scale_bidir_maxk24", "clip_bidir_maxk24", "exp-no-scale_bidir_maxk24",
    "exp-re-im_bidir_maxk24", "softmax_bidir_maxk24", "softmax_randn_bidir_maxk24",
]  # fmt: skip

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "glu": lambda x: x[..., : x.shape[-1] // 2] / (1 + np.exp(-x[..., x.shape[-1] // 2 :])),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def kernels(layer: UpstreamLayer, length: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(systems, length) forward and backward."""
    end = min(length, layer.kernel_length or length)
    forward = layer.modes.kernel(end)
    return forward, None if layer.backward is None else layer.backward.kernel(end)


def forward(layer: UpstreamLayer, x: np.ndarray) -> np.ndarray:
    """(length, features) through a layer by its definition, convolutions as matrices."""
    length = len(x)
    v = x if layer.inputs is None else x[:, layer.inputs]
    ahead, back = kernels(layer, length)
    y = layer.D * v
    for t in range(length):
        past = ahead[:, : t + 1]
        y[t] += np.einsum("sk,ks->s", past, v[t::-1][: past.shape[1]])
        if back is not None:
            future = v[t + 1 :][: back.shape[1]]
            y[t] += np.einsum("sk,ks->s", back[:, : len(future)], future)
    if layer.hyper is not None:
        first, second = np.split(y, 2, axis=1)
        y = first * ACTIVATIONS[layer.hyper](second)
    y = ACTIVATIONS[layer.activation](y)
    assert layer.mixing_weight is not None
    return ACTIVATIONS[layer.final_activation](y @ layer.mixing_weight.T + layer.mixing_bias)


def read(
    tensors: dict[str, torch.Tensor], facts: dict[str, Any], d_model: int, path: str = "x.pt"
) -> UpstreamLayer:
    """Read a bare layer and see that every tensor and every fact was used."""
    view, known = Tensors(Path(path), tensors), Facts(Path(path), {}, dict(facts))
    assert dss.READER.claims(view)
    layer = dss.READER.read(view, known, d_model)
    known.ignore("d_model", "length")
    view.finish()
    known.finish()
    return layer


def fixture(shared: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any], Any]:
    path = shared / "checkpoints" / "layers" / f"dss_{name}.pt"
    sidecar = json.loads(path.with_suffix(".json").read_text())
    with np.load(path.with_suffix(".npz")) as content:
        recorded = dict(content)
    return torch.load(path, weights_only=True), sidecar, recorded


def is_close(got: np.ndarray, wanted: np.ndarray, float32_error: float) -> bool:
    """To 1e-5 of the largest, or what upstream's own float32 is off its float64 (2 digits)."""
    error = np.abs(got - wanted.reshape(got.shape)).max()
    return bool(error < max(1e-5 * np.abs(wanted).max(), 1.1 * float32_error))


@pytest.mark.parametrize("name", FIXTURES)
def test_kernel_and_output_are_what_upstream_recorded(shared: Path, name: str) -> None:
    tensors, sidecar, recorded = fixture(shared, name)
    config, length = sidecar["config"], sidecar["L"]
    layer = read(tensors, {**config, "length": length}, config["d_model"])
    ahead, back = kernels(layer, length)
    kernel = ahead if back is None else np.concatenate([ahead, back])
    assert is_close(kernel, recorded["K"], sidecar["float32_error"])
    x, y = recorded["x"].astype(np.float64), recorded["y"]
    channels_last = config.get("transposed", True) is False
    output = np.stack([forward(layer, sample if channels_last else sample.T) for sample in x])
    output = output if channels_last else output.transpose(0, 2, 1)
    assert is_close(output, y, sidecar["float32_error"])
    assert layer.notes == ()


@pytest.mark.parametrize("name", WRAPPING)
def test_two_directions_beyond_max_kernel_length_are_refused(shared: Path, name: str) -> None:
    tensors, sidecar, recorded = fixture(shared, name)
    config = sidecar["config"]
    with pytest.raises(S4EdgeError, match=r"--set length="):
        read(tensors, config, 8)
    with pytest.raises(S4EdgeError, match="wraps around"):
        read(tensors, {**config, "length": sidecar["L"]}, 8)
    # For sequences of up to that length it is an ordinary layer.
    layer = read(tensors, {**config, "length": 24}, 8)
    ahead, back = kernels(layer, 24)
    assert back is not None
    kernel = np.concatenate([ahead, back])
    assert is_close(kernel, recorded["K"], sidecar["float32_error"])
    assert layer.length == 24
    assert "wraps around" in layer.notes[0]


def tensors(
    H: int = 3, N: int = 4, rows: int = 1, copies: int = 1, columns: int = 3, **extra: Any
) -> dict[str, torch.Tensor]:
    """A layer with kernel.Lambda and a linear layer alone."""
    rng = np.random.default_rng(0)
    arrays = {
        "D": rng.standard_normal((copies, H)),
        "kernel.log_dt": rng.uniform(-4, -2, (H, 2)),
        "kernel.W": rng.standard_normal((rows, H, N, 2)),
        "kernel.Lambda": np.stack([-rng.uniform(0.2, 2, N), np.pi * np.arange(N)], -1),
        "output_linear.weight": rng.standard_normal((H, columns)),
        "output_linear.bias": rng.standard_normal((H, 1)),
        **extra,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


def by_hand(t: dict[str, torch.Tensor], length: int, most: float | None = None) -> np.ndarray:
    """Kernels (rows, H, length) of clip-no-scale, or of softmax if ``most`` is None."""
    W, dt = t["kernel.W"].numpy(), np.exp(t["kernel.log_dt"].numpy())
    re, im = t["kernel.Lambda"].numpy().T
    if most is not None:
        re = np.minimum(re, most)
    z = dt[:, :1] * re + 1j * dt[:, 1:] * im
    S = np.exp(z[:, :, None] * np.arange(length))
    w = W[..., 0] + 1j * W[..., 1]
    if most is None:
        w = w / ((re + 1j * im) * S.sum(-1))
    return np.einsum("chn,hnl->chl", w, S).real


def test_hyper_activation_multiplies_the_halves() -> None:
    t = tensors(rows=4, copies=4, columns=6)
    config = {"version": "clip-no-scale", "hyper_act": "tanh", "activation": "relu"}
    layer = read(t, config, 3)
    assert layer.hyper == "tanh"
    assert layer.inputs is not None
    assert layer.inputs.tolist() == [0, 1, 2] * 4
    x = np.random.default_rng(1).standard_normal((20, 3))
    kernel, D = by_hand(t, 20, 1e-4), t["D"].numpy()
    y = np.empty((4, 3, 20))
    for c in range(4):
        for h in range(3):
            y[c, h] = np.convolve(kernel[c, h], x[:, h])[:20] + D[c, h] * x[:, h]
    y = np.maximum(np.tanh(y[2:]) * y[:2], 0).reshape(6, 20)
    wanted = (t["output_linear.weight"].numpy() @ y + t["output_linear.bias"].numpy()).T
    np.testing.assert_allclose(forward(layer, x), wanted, rtol=0, atol=1e-12 * np.abs(y).max())
    with pytest.raises(S4EdgeError, match="--set hyper_act="):
        read(t, {"version": "clip-no-scale"}, 3)
    with pytest.raises(S4EdgeError, match="hyper_act"):
        read(tensors(), {"version": "clip-no-scale", "hyper_act": "tanh"}, 3)


@pytest.mark.parametrize(
    "names", [("weight_g", "weight_v"), [f"parametrizations.weight.original{i}" for i in (0, 1)]]
)
def test_weight_norm_is_folded(names: tuple[str, str]) -> None:
    linear = torch.nn.Linear(3, 3)
    normed = torch.nn.utils.parametrizations.weight_norm(linear)
    with torch.no_grad():
        normed.parametrizations.weight.original0.mul_(1.7)
        wanted = normed.weight.numpy().copy()
    g, v = (getattr(normed.parametrizations.weight, f"original{i}") for i in (0, 1))
    t = tensors(**{"output_linear.weight": None})
    t |= {f"output_linear.{name}": value for name, value in zip(names, (g, v), strict=True)}
    layer = read(t, {"version": "clip", "weight_norm": True}, 3)
    assert layer.mixing_weight is not None
    np.testing.assert_allclose(layer.mixing_weight, wanted, rtol=1e-6)
    with pytest.raises(S4EdgeError, match="weight_norm"):
        read(t, {"version": "clip", "weight_norm": False}, 3)


def test_softmax_asks_for_the_length_it_is_normalized_over() -> None:
    t = tensors()
    with pytest.raises(S4EdgeError, match=r"normalized over the length.*--set length="):
        read(t, {}, 3)
    layer = read(t, {"length": 30, "epsilon": 0.0}, 3)
    assert (layer.length, layer.kernel_length, layer.kind) == (30, None, "dss-softmax")
    np.testing.assert_allclose(layer.modes.kernel(30)[0], by_hand(t, 30)[0, 0], rtol=1e-9)


@pytest.mark.parametrize("length", [None, 12, 50])
def test_softmax_with_max_kernel_length_is_normalized_over_that(length: int | None) -> None:
    t = tensors()
    facts = {"max_kernel_length": 12, "epsilon": 0.0, "length": length}
    layer = read(t, {k: v for k, v in facts.items() if v is not None}, 3)
    assert (layer.length, layer.kernel_length) == (None, 12)
    assert "shorter sequences" in layer.notes[0]
    np.testing.assert_allclose(kernels(layer, 50)[0], by_hand(t, 12)[0], rtol=1e-9)


def test_that_sequences_are_as_long_as_max_kernel_length_is_told_as_assumed() -> None:
    for given, assumed in (({}, 12), ({"length": 50}, None)):
        facts = Facts(Path("x.pt"), {}, {"max_kernel_length": 12, **given})
        dss.READER.read(Tensors(Path("x.pt"), tensors()), facts, 3)
        assert facts.assumed.get("length") == assumed


def test_softmax_of_sequences_shorter_than_max_kernel_length() -> None:
    t = tensors()
    layer = read(t, {"max_kernel_length": 12, "length": 7, "epsilon": 0.0}, 3)
    assert (layer.length, layer.kernel_length, layer.notes) == (7, None, ())
    np.testing.assert_allclose(layer.modes.kernel(7), by_hand(t, 7)[0], rtol=1e-9)


def test_growth_beyond_floating_point_is_refused() -> None:
    t = tensors()
    t["kernel.Lambda"][0, 0] = 5.0
    with pytest.raises(S4EdgeError, match="grows by exp"):
        read(t, {"length": 100_000}, 3)


def test_clipped_modes_that_grow_need_a_length() -> None:
    t = tensors()
    t["kernel.Lambda"][0, 0] = 2.0
    facts: dict[str, Any] = {"version": "clip-no-scale", "max_real_Lambda": 0.01}
    with pytest.raises(S4EdgeError, match=r"\|a\| >= 1.*--set length="):
        read(t, facts, 3)
    layer = read(t, {**facts, "length": 40}, 3)
    assert layer.length == 40
    np.testing.assert_allclose(layer.modes.kernel(40), by_hand(t, 40, 0.01)[0], rtol=1e-9)
    # A cut kernel is finite, whatever its modes do.
    cut = read(t, {**facts, "max_kernel_length": 15}, 3)
    assert (cut.length, cut.kernel_length) == (None, 15)
    # Clipped to decay, it needs none.
    decays = read(t, {**facts, "max_real_Lambda": -0.1}, 3)
    assert decays.length is None
    np.testing.assert_allclose(decays.modes.kernel(40), by_hand(t, 40, -0.1)[0], rtol=1e-9)
    assert read(t | {"kernel.Lambda": -t["kernel.Lambda"].abs()}, facts, 3).length is None


def test_the_tensors_tell_exp_re_im_and_leave_the_rest_to_be_said() -> None:
    log_re, im = torch.zeros(4), torch.arange(4.0)
    exp = tensors(**{"kernel.Lambda": None}) | {"kernel.Lambda_log_neg_re": log_re}
    assert read(exp | {"kernel.Lambda_log_im": im}, {}, 3).kind == "dss-exp-re-im"
    assert read(exp | {"kernel.Lambda_im": im}, {}, 3).kind == "dss-exp"
    scaled = {"version": "exp-no-scale"}
    assert read(exp | {"kernel.Lambda_im": im}, scaled, 3).kind == "dss-exp-no-scale"
    with pytest.raises(S4EdgeError, match="version"):
        read(exp | {"kernel.Lambda_log_im": im}, {"version": "exp"}, 3)
    with pytest.raises(S4EdgeError, match="version=exp cannot be read"):
        read(tensors(), {"version": "exp"}, 3)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"length": 0}, "length must be a whole number"),
        ({"length": None}, "--set length="),
        ({"length": 9, "max_kernel_length": 2.5}, "max_kernel_length must be a whole number"),
        ({"version": "clip", "max_real_Lambda": "a"}, "max_real_Lambda is a number"),
        ({"version": "clip", "activation": "glu"}, "activation=glu cannot be read"),
        ({"version": "clip", "bidirectional": True}, "bidirectional"),
        ({"version": "clip", "channels": 2}, "channels"),
    ],
)
def test_what_is_wrong_or_contradictory_is_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(S4EdgeError, match=words):
        read(tensors(), facts, 3)


def test_shapes_of_no_dss_layer_are_refused() -> None:
    with pytest.raises(S4EdgeError, match="of no DSS layer"):
        read(tensors(rows=3), {"version": "clip"}, 3)
    with pytest.raises(S4EdgeError, match="of no DSS layer"):
        read(tensors(columns=4), {"version": "clip"}, 3)
