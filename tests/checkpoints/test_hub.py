"""Model folders as hubs have them, against definitions and upstream's recorded outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor
from upstream_by_hand import S4D, S4Block, build, run

import s4edge
from s4edge.checkpoints.container import read_container
from s4edge.cli.main import cli

LENGTH = 30
# What transformers writes beside a class's own options.
LIBRARY = {
    "architectures": ["S4ForSequenceClassification"],
    "model_type": "s4",
    "torch_dtype": "float32",
    "transformers_version": "4.41.0",
    "_name_or_path": "someone/s4",
    "auto_map": {"AutoModel": "modeling_s4.S4ForSequenceClassification"},
    "id2label": {"0": "no", "1": "yes"},
    "use_cache": True,
    "is_decoder": False,
}


def write(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors"
    )
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def check(
    model: torch.nn.Module, expected: np.ndarray, x: np.ndarray, tolerance: float = 3e-6
) -> None:
    inputs = torch.from_numpy(x)
    with torch.inference_mode():
        got = model.double()(inputs.double() if inputs.is_floating_point() else inputs).numpy()
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, LENGTH, 2))


@pytest.mark.parametrize("prefix", ["", "model.", "s4.", "base_model.model."])
def test_examples_model_with_its_arguments(prefix: str, tmp_path: Path, x: np.ndarray) -> None:
    layer = S4D(6, 8, seed=1)
    state_dict = build(layer)
    options = {"d_input": 2, "d_output": 3, "d_model": 6, "n_layers": 2, "prenorm": True}
    folder = write(tmp_path / "hub", prefixed(state_dict, prefix), {**options, "dropout": 0.2})
    expected = np.stack([run(layer, state_dict, each, prenorm=True) for each in x])
    for path in (folder, folder / "model.safetensors"):
        model = s4edge.load(path)
        assert model.provenance.given["prenorm"] is True
        assert "prenorm" not in model.provenance.assumed
        check(model, expected, x)


@pytest.mark.parametrize("key", ["config", "backbone", "s4_config"])
def test_options_under_a_key_beside_the_librarys(key: str, tmp_path: Path, x: np.ndarray) -> None:
    layer = S4Block(6, 8, seed=1, disc="bilinear")
    state_dict = build(layer)
    # The layers' options stand beside the backbone's, under the library's words.
    options = {"hidden_size": 6, "num_hidden_layers": 2, "disc": "bilinear", "prenorm": False}
    folder = write(tmp_path / "hub", state_dict, {**LIBRARY, key: options})
    (folder / "modeling_s4.py").write_text("raise SystemExit('this ran')\n")
    model = s4edge.load(folder)
    check(model, np.stack([run(layer, state_dict, each) for each in x]), x)
    known, code = model.provenance.notes
    assert all(key in known for key in LIBRARY)
    assert "modeling_s4.py" in code
    assert "neither run nor looked at" in code
    assert model.provenance.given["disc"] == "bilinear"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prenorm": True, "time_constant": 3}, "time_constant=3"),
        ({"prenorm": True, "n_layers": 3}, "says n_layers=3, the tensors say 2"),
        ({"hidden_size": 6, "d_model": 8}, "d_model=8, which are the same thing"),
        ({"d_state": 8, "s4": {"d_state": 16}}, "d_state=8, and under s4 d_state=16"),
        ({"prenorm": True, "quantization_config": {"bits": 4}}, "quantization_config"),
        ({"prenorm": True, "layer_kwargs": {"disk": "zoh"}}, "disk=zoh"),
    ],
)
def test_a_key_that_no_one_knows_or_that_contradicts_stops_the_reader(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "hub", build(S4D(6, 8, seed=1)), {**LIBRARY, **config})
    with pytest.raises(s4edge.S4EdgeError, match=message):
        s4edge.load(folder)


def shards(folder: Path, tensors: dict[str, Tensor], binary: bool) -> Path:
    folder.mkdir()
    names = sorted(tensors)
    suffix, stem = ("bin", "pytorch_model") if binary else ("safetensors", "model")
    owners = {}
    for index, part in enumerate((names[:5], names[5:]), start=1):
        shard = f"{stem}-{index:05}-of-00002.{suffix}"
        owners |= dict.fromkeys(part, shard)
        content = {name: tensors[name] for name in part}
        if binary:
            torch.save(content, folder / shard)
        else:
            save_file(content, folder / shard)
    index_path = folder / f"{stem}.{suffix}.index.json"
    index_path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": owners}))
    return index_path


@pytest.mark.parametrize("binary", [False, True])
def test_shards(binary: bool, tmp_path: Path, x: np.ndarray) -> None:
    layer = S4D(6, 8, seed=1)
    state_dict = build(layer)
    index = shards(tmp_path / "hub", prefixed(state_dict, "model."), binary)
    (index.parent / "config.json").write_text(json.dumps({**LIBRARY, "prenorm": False}))
    expected = np.stack([run(layer, state_dict, each) for each in x])
    for path in (index.parent, index):
        check(s4edge.load(path), expected, x)


def test_one_file_of_torchs(tmp_path: Path, x: np.ndarray) -> None:
    layer = S4D(6, 8, seed=1)
    state_dict = build(layer)
    torch.save(state_dict, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"prenorm": True}))
    expected = np.stack([run(layer, state_dict, each, prenorm=True) for each in x])
    check(s4edge.load(tmp_path), expected, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "../model.safetensors"}, "no file beside it"),
        ({"a": "model-00009.safetensors"}, "not beside it"),
        ({"encoder.nothing": None}, "encoder.nothing"),
    ],
)
def test_an_index_that_does_not_fit(
    change: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    index = shards(tmp_path / "hub", build(S4D(6, 8, seed=1)), binary=False)
    content = json.loads(index.read_text())
    first = next(iter(content["weight_map"].values()))
    content["weight_map"] |= {name: shard or first for name, shard in change.items()}
    index.write_text(json.dumps(content))
    with pytest.raises(s4edge.S4EdgeError, match=message):
        s4edge.load(index.parent)


def test_tensors_that_shared_memory_when_they_were_saved(tmp_path: Path, x: np.ndarray) -> None:
    layer = S4D(6, 8, seed=1)
    state_dict = build(layer)
    state_dict["norms.1.bias"] = state_dict["norms.0.bias"]
    kept = {name: value for name, value in state_dict.items() if name != "norms.1.bias"}
    save_file(kept, tmp_path / "model.safetensors", {"norms.1.bias": "norms.0.bias"})
    expected = np.stack([run(layer, state_dict, each) for each in x])
    check(s4edge.load(tmp_path), expected, x)


# Heads and embeddings of a wrapper


def wrapped_block(seed: int = 1) -> tuple[S4Block, dict[str, Tensor], dict[str, Tensor]]:
    layer = S4Block(6, 8, seed=seed)
    arrays = {f"backbone.s4.{name}": value for name, value in layer.tensors().items()}
    head = {"classifier.weight": layer.normal(4, 6), "classifier.bias": layer.normal(4)}
    embedding = {"embeddings.word.weight": layer.normal(11, 6)}
    tensors = {
        name: torch.tensor(value, dtype=torch.float32)
        for name, value in (arrays | head | embedding).items()
    }
    return layer, tensors, {name: value.double() for name, value in tensors.items()}


def by_hand(layer: S4Block, t: dict[str, Tensor], tokens: np.ndarray) -> np.ndarray:
    """(length, 6) what leaves the layer."""
    own = {n.removeprefix("backbone.s4."): v.numpy() for n, v in t.items()}
    return layer.run(own, t["embeddings.word.weight"].numpy()[tokens])


def test_a_head_is_read_once_its_pooling_is_said(tmp_path: Path) -> None:
    layer, tensors, t = wrapped_block()
    folder = write(tmp_path / "hub", tensors, {**LIBRARY, "vocab_size": 11, "num_labels": 4})
    with pytest.raises(s4edge.S4EdgeError, match=r"classifier.*--set pooling=mean"):
        s4edge.load(folder)
    tokens = np.random.default_rng(2).integers(0, 11, (1, LENGTH))
    features = by_hand(layer, t, tokens[0])
    pooled = {"mean": features.mean(0), "last": features[-1], "none": features}
    for pooling, each in pooled.items():
        model = s4edge.load(folder, {"pooling": pooling})
        expected = each @ t["classifier.weight"].numpy().T + t["classifier.bias"].numpy()
        check(model, expected[None], tokens)
        assert model.provenance.assumed["around the backbone"] == (
            "nothing but embeddings.word and classifier"
        )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"classifier.extra": (6,)}, "classifier.extra"),
        ({"classifier.weight": (4, 7)}, r"classifier.weight.*\(4, 7\)"),
        ({"pooler.dense.weight": (6, 6)}, "pooler.dense.weight.*--set prefix=backbone.s4"),
        ({"output.weight": (6, 6)}, "--set prefix=backbone.s4"),
    ],
)
def test_what_cannot_be_placed_is_refused_by_name(
    extra: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    layer, tensors, t = wrapped_block()
    tensors |= {name: torch.ones(shape) for name, shape in extra.items()}
    folder = write(tmp_path / "hub", tensors, LIBRARY)
    with pytest.raises(s4edge.S4EdgeError, match=message):
        s4edge.load(folder, {"pooling": "mean"})
    alone = s4edge.load(folder, {"prefix": "backbone.s4"})
    assert "left out: classifier.bias" in alone.provenance.notes[0]
    tokens = np.arange(11)
    features = t["embeddings.word.weight"].numpy()[tokens]
    check(alone, by_hand(layer, t, tokens).T[None], features.T[None])


def test_wrong_words_about_the_ends(tmp_path: Path) -> None:
    _, tensors, _ = wrapped_block()
    folder = write(tmp_path / "hub", tensors, {**LIBRARY, "num_labels": 5})
    with pytest.raises(s4edge.S4EdgeError, match="d_output=5, the tensors say 4"):
        s4edge.load(folder, {"pooling": "mean"})


def test_layers_inside_an_unknown_model_are_named(tmp_path: Path) -> None:
    layer = S4D(6, 8, seed=1)
    tensors: dict[str, Tensor] = {}
    for index in range(2):
        for name, value in layer.tensors().items():
            tensors[f"blocks.{index}.mixer.{name}"] = torch.tensor(value, dtype=torch.float32)
    folder = write(tmp_path / "hub", tensors, LIBRARY)
    with pytest.raises(s4edge.S4EdgeError, match=r"blocks.0.mixer, blocks.1.mixer.*compress_"):
        s4edge.load(folder)
    assert s4edge.load(folder, {"prefix": "blocks.1.mixer"}).config.d_model == 6


def test_an_adapter_alone_and_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(s4edge.S4EdgeError, match=r"folder without model.safetensors"):
        s4edge.load(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(s4edge.S4EdgeError, match="merge_and_unload"):
        s4edge.load(tmp_path)


# Upstream's own SequenceModel, with its recorded outputs

RECORDED = ["seq_layer_trT_pre_unidir", "seq_ffn", "seq_batch_trF_pre_bidir", "seq_s4d_layer"]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("prefix", ["model.", "backbone.", "base_model.model."])
@pytest.mark.parametrize("name", RECORDED)
def test_sequence_models_under_a_prefix(
    name: str, prefix: str, flat: bool, shared: Path, tmp_path: Path
) -> None:
    path = shared / "checkpoints" / "layers" / f"{name}.pt"
    content = torch.load(path, weights_only=True)
    tensors = content.get("model", content)
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    if flat and isinstance(config["layer"], dict):
        inner = config.pop("layer")
        inner.pop("_name_", None)
        config = {**inner, **config}
    folder = write(tmp_path / "hub", prefixed(tensors, prefix), {**LIBRARY, **config})
    with np.load(path.with_suffix(".npz")) as recorded:
        x, y = recorded["x"], recorded["y"]
    check(s4edge.load(folder), y, x, tolerance=3e-5)


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "lightning."])
@pytest.mark.parametrize("flat", [False, True])
def test_the_trainers_whole_model_under_a_prefix(
    prefix: str, flat: bool, shared: Path, tmp_path: Path
) -> None:
    path = shared / "checkpoints" / "layers" / "full_lra_batch_trT_pre.ckpt"
    tensors = read_container(path).tensors
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    if flat:
        config = {**config.pop("model"), **config}
        config.pop("_name_", None)
    folder = write(tmp_path / "hub", prefixed(tensors, prefix), {**LIBRARY, **config})
    with np.load(path.with_suffix(".npz")) as recorded:
        x, y = recorded["x"], recorded["y"]
    check(s4edge.load(folder), y, x, tolerance=3e-5)


@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
def test_a_backbone_whose_layers_have_no_tensors(prefix: str, tmp_path: Path) -> None:
    norm = {f"layers.0.norm.norm.{name}": torch.full((3,), 2.0) for name in ("weight", "bias")}
    config = {"layer": "id", "norm": "layer", "prenorm": False, "residual": "R", "d_model": 3}
    folder = write(tmp_path / "hub", prefixed(norm, prefix), {**LIBRARY, **config})
    x = np.random.default_rng(0).standard_normal((1, 5, 3))
    centred = 2 * x - (2 * x).mean(-1, keepdims=True)
    expected = 2 * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + 2
    check(s4edge.load(folder), expected, x)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"d_model": NaN}', "[" * 100_000, '{"a": {"b": {"c": {"d": 1}}}}', "null"],
)
def test_a_damaged_configuration_is_told_in_a_line(text: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "hub", build(S4D(4, 8, seed=1)), None)
    (folder / "config.json").write_text(text)
    with pytest.raises(s4edge.S4EdgeError) as refused:
        s4edge.load(folder)
    assert "\n" not in str(refused.value)
    assert "config" in str(refused.value)


# The commands


def test_the_commands_take_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = S4D(4, 8, seed=1)
    folder = write(tmp_path / "my-s4", prefixed(build(layer), "model."), LIBRARY)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((4, 20, 2)), y=rng.integers(0, 3, 4))
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["inspect", "my-s4"],
        ["eval", "my-s4", "--data", "data.npz"],
        ["compress", "my-s4", "--state", "4"],
        ["export", "my-s4", "--onnx"],
        ["inspect", "."],
    ):
        if arguments[1] == ".":
            monkeypatch.chdir(folder)
        result = CliRunner().invoke(cli, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "my-s4-s4.safetensors").exists()
    assert (tmp_path / "my-s4.onnx").exists()
    assert s4edge.load(tmp_path / "my-s4-s4.safetensors").provenance.history
