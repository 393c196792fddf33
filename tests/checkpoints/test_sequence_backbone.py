"""SequenceModel's options, each against the definition of what upstream computes, in numpy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from upstream_by_hand import S4D, gelu, glu

import s4edge
from s4edge.errors import S4EdgeError

Array = np.ndarray
WIDTH, LENGTH = 4, 12


class Backbone:
    """Tensors of a SequenceModel, and the functions of its parts."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self.rng = np.random.default_rng(0)

    def new(self, name: str, *shape: int) -> Array:
        value = 0.5 * self.rng.standard_normal(shape).astype(np.float32).astype(np.float64)
        self.tensors[name] = value
        return value

    def s4d(self, prefix: str, width: int = WIDTH) -> Callable[[Array], Array]:
        layer = S4D(width, 6, seed=len(self.tensors))
        tensors = {
            name: np.asarray(value).astype(np.float32).astype(np.float64)
            for name, value in layer.tensors().items()
        }
        self.tensors |= {prefix + name: value for name, value in tensors.items()}
        return lambda u: layer.run(tensors, u)

    def linear(self, prefix: str, rows: int, columns: int) -> Callable[[Array], Array]:
        weight, bias = self.new(f"{prefix}weight", rows, columns), self.new(f"{prefix}bias", rows)
        return lambda x: x @ weight.T + bias

    def ffn(self, prefix: str, rows: int, columns: int, act: Any) -> Callable[[Array], Array]:
        first = self.linear(f"{prefix}ff.0.0.", rows, WIDTH)
        second = self.linear(f"{prefix}ff.2.", WIDTH, columns)
        return lambda u: second(act(first(u)))

    def check(
        self, folder: Path, config: dict[str, Any], wanted: Callable[[Array], Array], **facts: Any
    ) -> s4edge.SequenceModel:
        path = folder / "model.pt"
        torch.save({k: torch.tensor(v, dtype=torch.float32) for k, v in self.tensors.items()}, path)
        cls = "src.models.sequence.SequenceModel"
        path.with_suffix(".json").write_text(json.dumps({"cls": cls, "config": config}))
        model = s4edge.load(path, facts).double()
        x = self.rng.standard_normal((LENGTH, WIDTH))
        with torch.no_grad():
            got = model(torch.tensor(x)[None])[0].numpy()
        expected = wanted(x)
        assert got.shape == expected.shape
        # Parameters are single precision in the model, too.
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
        return model


def over_time(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    variance = x.var(axis=axes, keepdims=True)
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + epsilon)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# Files without a configuration, and what is assumed there and is not so.
BLIND = {
    "blind_eps_batch": "norm.eps", "blind_eps_layer": "norm.eps", "blind_mult_act": "mult_act",
    "blind_v2_resample": "resample", "blind_v3_shift": "shift",
}  # fmt: skip
PLAIN = {"d_model": WIDTH, "n_layers": 1, "prenorm": False, "norm": None, "residual": None}


@pytest.mark.parametrize(
    ("norm", "axes"),
    [
        ({"_name_": "instance", "eps": 0.1}, (0,)),
        ({"_name_": "group", "eps": 0.1, "affine": False}, (0, 1)),
        ({"_name_": "layer", "eps": 0.1, "elementwise_affine": False}, (1,)),
        ({"_name_": "batch", "eps": 0.1, "affine": False, "track_running_stats": False}, (0,)),
    ],
)
def test_a_norm_without_tensors_stands_at_the_end_too(
    norm: dict[str, Any], axes: tuple[int, ...], tmp_path: Path
) -> None:
    b = Backbone()
    layer = b.s4d("layers.0.layer.")
    config = {**PLAIN, "prenorm": True, "norm": norm, "residual": "R"}
    b.check(
        tmp_path, config,
        lambda x: over_time(x + layer(over_time(x, axes, 0.1)), axes, 0.1),
    )  # fmt: skip


def test_a_batch_norm_with_its_epsilon(tmp_path: Path) -> None:
    b = Backbone()
    layer = b.s4d("layers.0.layer.")
    mean, scale = b.new("layers.0.norm.norm.running_mean", WIDTH), b.new("x", WIDTH)
    del b.tensors["x"]
    b.tensors["layers.0.norm.norm.running_var"] = variance = np.abs(scale) + 0.1
    b.check(
        tmp_path, {**PLAIN, "norm": {"_name_": "batch", "affine": False, "eps": 0.1}},
        lambda x: (layer(x) - mean) / np.sqrt(variance + 0.1),
    )  # fmt: skip


def test_affine_and_highway_residuals(tmp_path: Path) -> None:
    b = Backbone()
    layer, factor = b.s4d("layers.0.layer."), b.new("layers.0.residual.affine", WIDTH)
    residual = {"_name_": "A", "alpha": 0.5, "scalar": False}
    b.check(tmp_path, {**PLAIN, "residual": residual}, lambda x: 0.5 * x + factor * layer(x))
    b = Backbone()
    layer = b.s4d("layers.0.layer.")
    of_x = b.linear("layers.0.residual.Wx.", WIDTH, WIDTH)
    of_y = b.linear("layers.0.residual.Wy.", WIDTH, WIDTH)

    def highway(x: Array) -> Array:
        y = of_y(layer(x))
        gate = sigmoid(of_x(x) + y)
        return 1.732 * (1 - gate) * x + gate * y

    residual = {"_name_": "highway", "scaling_correction": True}
    b.check(tmp_path, {**PLAIN, "residual": residual}, highway)
    with pytest.raises(S4EdgeError, match="residual=H with transposed=true"):
        b.check(tmp_path, {**PLAIN, "residual": residual, "transposed": True}, highway)


def test_without_a_residual_version_2_drops_the_layer(tmp_path: Path) -> None:
    b = Backbone()
    second = b.ffn("layers.0.layer.", 6, 6, gelu)
    config = {**PLAIN, "layer": "ff"}
    with pytest.raises(S4EdgeError, match="say it with --set upstream=v2 or --set upstream=v3"):
        b.check(tmp_path, config, lambda x: x)
    b.check(tmp_path, config, lambda x: x, upstream="v2")
    b.check(tmp_path, config, second, upstream="v4")
    # Version 2 alone has biases of two axes in its transposed layers.
    b.tensors["layers.0.layer.ff.0.0.bias"] = b.tensors["layers.0.layer.ff.0.0.bias"][:, None]
    b.tensors["layers.0.layer.ff.2.bias"] = b.tensors["layers.0.layer.ff.2.bias"][:, None]
    model = b.check(tmp_path, config, lambda x: x)
    assert "drops the layer's output" in model.provenance.notes[0]
    b.check(tmp_path, {**config, "residual": "R"}, lambda x: x + second(x))


@pytest.mark.parametrize(
    ("pool", "leaves"),
    [
        ({"_name_": "sample", "pool": 1, "expand": 1}, lambda y: y),
        ({"_name_": "pool", "stride": 1, "expand": 1}, lambda y: y),
        ({"_name_": "avg"}, lambda y: y),
        (None, lambda y: y),
        ({"_name_": "sample", "stride": 5, "expand": 3}, lambda y: np.repeat(y[::5], 3, axis=1)),
        ({"_name_": "sample", "pool": 5}, lambda y: y[::5]),
        (
            {"_name_": "pool", "stride": 5, "expand": 2},
            lambda y: np.repeat(y[:10].reshape(2, 5, WIDTH).mean(1), 2, axis=1),
        ),
    ],
)
def test_poolings_without_tensors(pool: Any, leaves: Any, tmp_path: Path) -> None:
    b = Backbone()
    layer = b.s4d("layers.0.layer.")
    b.check(tmp_path, {**PLAIN, "pool": pool}, lambda x: leaves(layer(x)))


def test_layers_behind_a_pooling_are_as_wide_and_as_long_as_what_leaves_it(tmp_path: Path) -> None:
    b = Backbone()
    first, second = b.s4d("layers.0.layer."), b.s4d("layers.1.layer.", 2 * WIDTH)
    config = {**PLAIN, "n_layers": 2, "pool": {"_name_": "sample", "stride": 3, "expand": 2}}
    b.check(
        tmp_path, config,
        lambda x: np.repeat(second(np.repeat(first(x)[::3], 2, axis=1))[::3], 2, axis=1),
    )  # fmt: skip


def test_a_pooling_that_may_not_follow_every_block_is_told(tmp_path: Path) -> None:
    b = Backbone()
    for index in range(2):
        b.s4d(f"layers.{index}.layer.")
    path = tmp_path / "blind.pt"
    torch.save({name: torch.tensor(value) for name, value in b.tensors.items()}, path)
    facts: dict[str, Any] = {"residual": "F", "prenorm": False}
    assert "n_repeat" not in s4edge.load(path, facts).provenance.assumed
    facts["pool"] = {"_name_": "sample", "stride": 2}
    assert s4edge.load(path, facts).provenance.assumed["n_repeat"] == 1
    told = s4edge.load(path, facts | {"n_repeat": 2})
    assert "n_repeat" not in told.provenance.assumed
    assert [block.stride for block in told.config.blocks] == [1, 2]


def test_a_pooling_that_only_the_next_block_s_width_tells_is_asked_for(tmp_path: Path) -> None:
    b = Backbone()
    b.s4d("layers.0.layer.")
    b.s4d("layers.1.layer.", 2 * WIDTH)
    path = tmp_path / "blind.pt"
    torch.save({name: torch.tensor(value) for name, value in b.tensors.items()}, path)
    facts: dict[str, Any] = {"residual": "F", "prenorm": False}
    with pytest.raises(S4EdgeError, match=r'layers\.1 takes .* --set pool=VALUE.*"expand": 2'):
        s4edge.load(path, facts)
    facts["pool"] = {"_name_": "sample", "stride": 1, "expand": 2}
    assert s4edge.load(path, facts).config.d_output == 4 * WIDTH
    # After the last block the last norm tells.
    b = Backbone()
    b.s4d("layers.0.layer.")
    for prefix, width in (("layers.0.norm.norm.", WIDTH), ("norm.norm.", 3 * WIDTH)):
        b.new(f"{prefix}weight", width)
        b.new(f"{prefix}bias", width)
    torch.save({name: torch.tensor(value) for name, value in b.tensors.items()}, path)
    with pytest.raises(S4EdgeError, match=r'norm takes .* --set pool=VALUE.*"expand": 3'):
        s4edge.load(path, {"residual": "F"})


def test_poolings_with_tensors(tmp_path: Path) -> None:
    b = Backbone()
    layer, wider = b.s4d("layers.0.layer."), b.linear("layers.0.pool.linear.", 2 * WIDTH, WIDTH)
    config = {**PLAIN, "pool": {"_name_": "avg", "stride": 3, "expand": 2}}
    b.check(tmp_path, config, lambda x: wider(layer(x).reshape(4, 3, WIDTH).mean(1)))
    b = Backbone()
    layer, joined = b.s4d("layers.0.layer."), b.linear("layers.0.pool.linear.", WIDTH, 3 * WIDTH)
    config = {**PLAIN, "pool": {"_name_": "linear", "stride": 3}}
    b.check(
        tmp_path, config,
        lambda x: joined(layer(x).reshape(4, 3, WIDTH).swapaxes(1, 2).reshape(4, -1)),
    )  # fmt: skip


def test_a_trained_pooling_tells_behind_how_many_blocks_it_stands(tmp_path: Path) -> None:
    b = Backbone()
    first, second = b.s4d("layers.0.layer."), b.s4d("layers.1.layer.")
    wider = b.linear("layers.1.pool.linear.", WIDTH, WIDTH)
    pool = {"_name_": "avg", "stride": 3, "expand": 1}
    config = {**PLAIN, "pool": pool, "n_repeat": 2}

    def wanted(x: Array) -> Array:
        return wider(second(first(x)).reshape(4, 3, WIDTH).mean(1))

    b.check(tmp_path, config, wanted)
    with pytest.raises(S4EdgeError, match="says n_repeat=1, the tensors say 2"):
        b.check(tmp_path, {**config, "n_repeat": 1}, wanted)
    (tmp_path / "model.json").unlink()
    blind = s4edge.load(tmp_path / "model.pt", {"residual": None, "pool": pool, "norm": None})
    assert blind.provenance.inferred["n_repeat"] == 2


def test_a_pooling_of_whole_sequences_is_refused(tmp_path: Path) -> None:
    b = Backbone()
    b.s4d("layers.0.layer.")
    with pytest.raises(S4EdgeError, match="pool=spectral cannot be read: it mixes all samples"):
        b.check(tmp_path, {**PLAIN, "pool": {"_name_": "spectral"}}, lambda x: x)


@pytest.mark.parametrize(
    ("rows", "name", "act"), [(6, "tanh", np.tanh), (12, "glu", glu), (6, "id", lambda x: x)]
)
def test_feed_forward_layers_and_two_copies_of_each(
    rows: int, name: str, act: Any, tmp_path: Path
) -> None:
    b = Backbone()
    layers, mixes = [], []
    for index in (0, 1):
        pair = [
            b.s4d(f"layers.{index}.{part}.") if index == 0
            else b.ffn(f"layers.{index}.{part}.", rows, 6, act)
            for part in ("layer", "reverse_layer")
        ]  # fmt: skip
        layers.append(pair)
        mixes.append(b.linear(f"layers.{index}.bidirectional_linear.", WIDTH, 2 * WIDTH))
    config = {
        **PLAIN, "bidirectional": True, "residual": "R",
        "layer": [{"_name_": "s4d"}, {"_name_": "ffn", "activation": name}],
    }  # fmt: skip

    def wanted(x: Array) -> Array:
        for (one, other), mix in zip(layers, mixes, strict=True):
            x = x + mix(np.concatenate([one(x), other(x)], axis=1))
        return x

    b.check(tmp_path, config, wanted)


def test_a_feed_forward_layer_without_an_activation(tmp_path: Path) -> None:
    b = Backbone()
    first = b.linear("layers.0.layer.ff.0.", 6, WIDTH)
    second = b.linear("layers.0.layer.ff.2.", WIDTH, 6)
    config = {**PLAIN, "layer": {"_name_": "ffn", "activation": None}, "residual": "F"}
    b.check(tmp_path, config, lambda x: second(first(x)))


def test_a_feed_forward_layer_may_change_the_width(tmp_path: Path) -> None:
    b = Backbone()
    first = b.linear("layers.0.layer.ff.0.0.", 6, WIDTH)
    second = b.linear("layers.0.layer.ff.2.", 7, 6)
    layer = b.s4d("layers.1.layer.", 7)
    config = {**PLAIN, "layer": [{"_name_": "ffn", "d_output": 7}, {"_name_": "s4d"}]}
    b.check(tmp_path, config, lambda x: layer(second(gelu(first(x)))))


def test_identity_layers(tmp_path: Path) -> None:
    b = Backbone()
    layer = b.s4d("layers.1.layer.")
    config = {
        **PLAIN, "layer": [{"_name_": "id"}, {"_name_": "s4d"}, {"_name_": "id"}], "residual": "R"
    }  # fmt: skip
    b.check(tmp_path, config, lambda x: 2 * (2 * x + layer(2 * x)))


@pytest.mark.parametrize("width", [0, -WIDTH, 2**31, True, "4", 4.0])
def test_a_width_that_no_tensor_tells_must_be_one(width: object, tmp_path: Path) -> None:
    b = Backbone()
    b.s4d("layers.1.layer.")
    config = {**PLAIN, "d_model": width, "layer": [{"_name_": "id"}, {"_name_": "s4d"}]}
    with pytest.raises(S4EdgeError, match=f"d_model={width} cannot be read; it is a whole number"):
        b.check(tmp_path, config, lambda x: x)


@pytest.mark.parametrize("kind", ["conv2d", "mha", "lssl"])
def test_other_layers_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    b = Backbone()
    b.linear("layers.0.layer.inner.", WIDTH, WIDTH)
    with pytest.raises(S4EdgeError, match=f"layers.0.layer is of the kind {kind}, which cannot"):
        b.check(tmp_path, {**PLAIN, "layer": {"_name_": kind}}, lambda x: x)


@pytest.mark.parametrize("nli", [True, False])
def test_the_retrieval_head(nli: bool, tmp_path: Path) -> None:
    b = Backbone()
    layer = b.s4d("model.layers.0.layer.")
    classifier = "decoder.0.retrieval.classifier."
    widths = [4 * WIDTH, 6, 3] if nli else [2 * WIDTH, 6, 3, 2]
    dense = [
        b.linear(f"{classifier}{2 * i}.", rows, columns)
        for i, (columns, rows) in enumerate(itertools.pairwise(widths))
    ]
    path = tmp_path / "model.pt"
    tensors = {k: torch.tensor(v, dtype=torch.float32) for k, v in b.tensors.items()}
    config = {
        "encoder": None, "model": PLAIN,
        "decoder": {"_name_": "retrieval", "mode": "pool", "nli": nli, "use_lengths": True},
    }  # fmt: skip
    torch.save({"state_dict": tensors, "hyper_parameters": config}, path)
    model = s4edge.load(path).double()
    x = b.rng.standard_normal((4, LENGTH, WIDTH))
    features = np.stack([layer(each).mean(0) for each in x])
    u, v = features[:2], features[2:]
    y = np.concatenate([u, v, u - v, u * v] if nli else [u, v], axis=1)
    for each in dense[:-1]:
        y = np.maximum(each(y), 0)
    y = dense[-1](y)
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.tensor(x)).numpy(), y, rtol=1e-5, atol=1e-6)
        streamed = model.stream(torch.tensor(x))[:, -1].numpy()
    np.testing.assert_allclose(streamed, features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("folder", ["published", "random", "hard"])
def test_what_upstream_recorded(shared: Path, folder: str) -> None:
    """Nothing wrong and nothing crashed; the few that are refused are counted."""
    wrong, refused = [], 0
    paths = sorted((shared / "checkpoints" / folder).glob("*.[cp][kt]*"))
    if not paths:
        pytest.skip("no recorded models")
    for path in paths:
        note = path.with_name(f"{path.stem}.note.json")
        said = json.loads(note.read_text()) if note.exists() else {}
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as data:
            x, y = torch.from_numpy(data["x"]), data["y"].astype(np.float64)
            limit = max(1e-4, 10 * float(data.get("err32", 0) or 0))
        try:
            model = s4edge.load(path, said.get("facts", {}))
        except S4EdgeError:
            refused += 1
            continue
        with torch.no_grad():
            got = model(x).double().numpy()
        right = got.shape == y.shape and np.abs(got - y).max() <= limit * np.abs(y).max()
        # Without a configuration what differs is told to be assumed.
        if not right and BLIND.get(path.stem) not in model.provenance.assumed:
            wrong.append(path.stem)
    assert wrong == []
    assert refused <= {"published": 3, "random": len(paths) // 15, "hard": 4}[folder]
