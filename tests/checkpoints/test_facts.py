"""No key of a configuration goes unheard, wherever it stands, and each fact can be said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from upstream_by_hand import S4D, build

import s4edge
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.interpolation import UNKNOWN, resolve
from s4edge.errors import S4EdgeError

WIDTH = 4


def config() -> dict[str, Any]:
    """As the trainer saves it: groups, words, references."""
    return {
        "train": {"seed": 0, "post_init_hook": {"_name_": None}},
        "optimizer": {"lr": 0.001},
        "dataset": {"_name_": "cifar", "__l_max": 32},
        "task": {"_name_": "base", "loss": "cross_entropy"},
        "encoder": "linear",
        "decoder": {"_name_": "sequence", "mode": "pool"},
        "model": {
            "_name_": "model",
            "layer": [{"_name_": "s4d", "dropout": "${..dropout}", "lr": "${optimizer.lr}"}],
            "norm": {"_name_": "layer", "eps": 0.01},
            "pool": {"_name_": "pool", "stride": 1, "expand": None},
            "residual": {"_name_": "R", "alpha": 0.5},
            "prenorm": False,
            "dropout": 0.1,
        },
    }


def load(folder: Path, saved: dict[str, Any], facts: dict[str, Any] | None = None) -> Any:
    layer = S4D(WIDTH, 8, seed=0)
    arrays = {f"model.layers.0.layer.{name}": value for name, value in layer.tensors().items()}
    arrays |= {
        "model.layers.0.norm.norm.weight": layer.normal(WIDTH),
        "model.layers.0.norm.norm.bias": layer.normal(WIDTH),
        "encoder.0.weight": layer.normal(WIDTH, 2),
        "encoder.0.bias": layer.normal(WIDTH),
        "decoder.0.output_transform.weight": layer.normal(3, WIDTH),
        "decoder.0.output_transform.bias": layer.normal(3),
    }
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in arrays.items()}
    torch.save({"state_dict": tensors, "hyper_parameters": saved}, folder / "model.ckpt")
    return s4edge.load(folder / "model.ckpt", facts)


def places(config: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every group of options in a configuration, and each word that may be one."""
    found = [place] if isinstance(config, dict) else []
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        if isinstance(value, dict | list):
            found += places(value, (*place, key))
    return found


def added(place: tuple[Any, ...], key: str, value: Any) -> dict[str, Any]:
    saved = config()
    at: Any = saved
    for step in place:
        at = at[step]
    at[key] = value
    return saved


# What is in them is the training's own, or sizes that the tensors tell.
FREE = ("train", "optimizer", "dataset", "task")
STRICT = [place for place in places(config()) if not place or place[0] not in FREE]


@pytest.mark.parametrize("place", STRICT, ids=lambda place: ".".join(map(str, place)) or "top")
def test_a_key_that_nobody_thought_of_stops_the_reader(
    tmp_path: Path, place: tuple[Any, ...]
) -> None:
    name = ".".join([*map(str, place), "foo"])
    with pytest.raises(S4EdgeError, match=f"gives {name}=0.1, which this layout does not know"):
        load(tmp_path, added(place, "foo", 0.1))
    model = load(tmp_path, added(place, "foo", 0.1), {"ignore": name})
    assert model.provenance.given["ignore"] == name


def test_what_is_left_out_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(S4EdgeError, match=r"ignore=norm.foo names no unread key"):
        load(tmp_path, config(), {"ignore": "norm.foo"})


def test_a_hook_that_changes_the_built_model_is_refused(tmp_path: Path) -> None:
    saved = config()
    saved["train"]["post_init_hook"] = {"_name_": "setup_step"}
    with pytest.raises(S4EdgeError, match=r"train.post_init_hook=setup_step cannot be read"):
        load(tmp_path, saved)


def test_options_in_groups_are_heard(tmp_path: Path) -> None:
    model = load(tmp_path, config())
    (block,) = model.config.blocks
    assert block.norm_epsilon == 0.01
    assert block.residual_weights == (0.5, 1.0)
    assert "norm.eps" not in model.provenance.assumed


def test_a_word_is_a_group_of_one(tmp_path: Path) -> None:
    by_word, by_group = config(), config()
    by_word["model"] |= {"norm": "layer", "residual": "R", "pool": None}
    by_group["model"] |= {"norm": {"_name_": "layer"}, "residual": {"_name_": "R"}}
    assert load(tmp_path, by_word).config == load(tmp_path, by_group).config


def test_facts_have_dotted_names(tmp_path: Path) -> None:
    model = load(tmp_path, config(), {"norm.eps": 0.5, "model.residual.alpha": 0.25})
    assert model.config.blocks[0].norm_epsilon == 0.5
    assert model.config.blocks[0].residual_weights == (0.25, 1.0)
    with pytest.raises(S4EdgeError, match=r"--set gives norm.epsilon=1"):
        load(tmp_path, config(), {"norm.epsilon": 1})


def test_what_cannot_be_known_without_a_configuration_is_told(tmp_path: Path) -> None:
    load(tmp_path, config())
    tensors = torch.load(tmp_path / "model.ckpt", weights_only=True)
    torch.save({"state_dict": tensors["state_dict"]}, tmp_path / "blind.ckpt")
    facts = {"residual": "R", "mode": "pool"}
    assumed = s4edge.load(tmp_path / "blind.ckpt", facts).provenance.assumed
    assert assumed["norm.eps"] == 1e-5
    assert assumed["norm"] == "layer"


def test_words_that_two_parts_share_are_kept_apart() -> None:
    facts = Facts(Path("x.pt"), {"mode": "pool"}, {"layer": {"mode": "diag"}})
    facts.keep_apart("mode", decoder=("pool", "last"))
    layer, decoder = facts.part("layer", dotted=False), facts.part("decoder", plain=("mode",))
    assert layer.get("mode") == "diag"
    assert decoder.get("mode") == "pool"
    facts.finish()


def test_references_are_looked_up() -> None:
    found = resolve(
        {
            "train": {"n": 2, "same": "${.n}"},
            "model": {"dropout": 0.5, "layer": [{"dropout": "${...dropout}", "x": "${model.y}"}]},
            "chosen": "${oc.select:model.dropout,1}",
            "default": "${oc.select:nowhere.at.all,1}",
            "null": "${oc.select:nowhere}",
            "text": "a${train.n}b${train.n}",
            "time": "${now:%H}",
            "open": "???",
            "endless": "${endless}",
        }
    )
    assert found["train"] == {"n": 2, "same": 2}
    assert found["model"]["layer"] == [{"dropout": 0.5, "x": UNKNOWN}]
    assert (found["chosen"], found["default"], found["null"]) == (0.5, 1, None)
    assert found["text"] == "a2b2"
    assert [found[key] for key in ("time", "open", "endless")] == [UNKNOWN] * 3


def test_what_a_file_leaves_open_is_unknown() -> None:
    facts = Facts(Path("x.pt"), {}, {"disc": UNKNOWN, "mode": UNKNOWN})
    assert facts.get("disc", "zoh") == "zoh"
    assert facts.assumed == {"disc": "zoh"}
    with pytest.raises(S4EdgeError, match="say it with --set mode=VALUE"):
        facts.get("mode", why="unknown")
    with pytest.raises(S4EdgeError, match="gives other="):
        Facts(Path("x.pt"), {}, {"other": UNKNOWN}).finish()


def test_a_sidecars_options_are_those_of_the_class_itself(tmp_path: Path) -> None:
    """A hub's configuration may have a layer's beside the backbone's; a sidecar has not."""
    layer = S4D(WIDTH, 8, seed=0)
    torch.save({"model": build(layer)}, tmp_path / "model.pt")
    config = {"prenorm": True, "layer": S4D.classes, "layer_kwargs": {"d_state": 8}}
    sidecar = {"cls": "example.S4Model", "config": config, "L": 16}
    (tmp_path / "model.json").write_text(json.dumps(sidecar))
    s4edge.load(tmp_path / "model.pt")
    config |= {"layer_kwargs": {}, "d_state": 8}
    (tmp_path / "model.json").write_text(json.dumps(sidecar))
    with pytest.raises(S4EdgeError, match="d_state"):
        s4edge.load(tmp_path / "model.pt")
