"""What is found in a checkpoint file, and that nothing in it is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import json
import os
import pathlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4edge.checkpoints.container import read_container
from s4edge.checkpoints.plain import plain
from s4edge.checkpoints.unpickle import Inert, load
from s4edge.errors import S4EdgeError

WEIGHTS = {"encoder.weight": torch.arange(6.0).reshape(2, 3), "encoder.bias": torch.ones(2)}
NUMBER = torch.tensor(3)
AVERAGE = {name: value + 10 for name, value in WEIGHTS.items()}


class Configuration:
    """OmegaConf's classes, as far as a pickle tells."""

    def __init__(self) -> None:
        self.modules = {
            name: types.ModuleType(name)
            for name in (
                "omegaconf", "omegaconf.dictconfig", "omegaconf.listconfig", "omegaconf.nodes",
                "omegaconf.base", "pytorch_lightning", "pytorch_lightning.utilities",
                "pytorch_lightning.utilities.parsing", "elsewhere",
            )
        }  # fmt: skip
        self.dictionary = self._make("omegaconf.dictconfig", "DictConfig")
        self.list = self._make("omegaconf.listconfig", "ListConfig")
        self.node = self._make("omegaconf.nodes", "AnyNode")
        self.metadata = self._make("omegaconf.base", "ContainerMetadata")
        self.attributes = self._make(
            "pytorch_lightning.utilities.parsing", "AttributeDict", (dict,)
        )
        self.unknown = self._make("elsewhere", "Thing")

    def _make(self, module: str, name: str, bases: tuple[type, ...] = ()) -> Any:
        cls = type(name, bases, {"__module__": module})
        setattr(self.modules[module], name, cls)
        return cls

    def of(self, value: Any, parent: Any = None) -> Any:
        """A value as OmegaConf keeps it: every node knows its parent and its metadata."""
        cls = {dict: self.dictionary, list: self.list}.get(type(value), self.node)
        made = cls()
        metadata = self.metadata()
        metadata.__dict__.update(
            ref_type=Any, object_type=dict, optional=True, flags={},
            resolver_cache=collections.defaultdict(dict),
        )  # fmt: skip
        made.__dict__.update(_metadata=metadata, _parent=parent)
        if isinstance(value, dict):
            made._content = {key: self.of(item, made) for key, item in value.items()}
        elif isinstance(value, list):
            made._content = [self.of(item, made) for item in value]
        else:
            made._val = value
        return made


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configuration]:
    """Fake modules; `save` takes them away again before anything is read."""
    configuration = Configuration()
    for name, module in configuration.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return configuration


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def save(content: Any, **options: Any) -> Path:
        path = tmp_path / "model.ckpt"
        torch.save(content, path, **options)
        for name in list(sys.modules):
            if name.partition(".")[0] in ("omegaconf", "pytorch_lightning", "elsewhere"):
                monkeypatch.delitem(sys.modules, name)
        return path

    return save


def same(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return list(tensors) == list(wanted) and all(
        torch.equal(tensors[name], wanted[name]) for name in wanted
    )


def lightning(config: Any, **more: Any) -> dict[str, Any]:
    return {
        "epoch": 3,
        "state_dict": collections.OrderedDict(WEIGHTS),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hyper_parameters": config,
        **more,
    }


CONFIG = {
    "model": {"d_model": 8, "dropout": "${..dropout}", "layer": {"_name_": "s4", "lr": 1e-3}},
    "sizes": [1, 2, [3, None]],
    "prenorm": True,
    "dropout": 0.1,
    "empty": {},
    "missing": "???",
}


@pytest.mark.parametrize(
    "options",
    [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}],
    ids=["zip", "protocol 4", "old format"],
)
def test_omegaconf_is_read_as_data(
    omegaconf: Configuration, save: Callable[..., Path], options: dict[str, Any]
) -> None:
    container = read_container(save(lightning(omegaconf.of(CONFIG)), **options))
    assert container.config == CONFIG
    assert json.loads(json.dumps(container.config)) == CONFIG
    assert same(container.tensors, WEIGHTS)
    assert (container.weights, container.notes) == ("model", ())
    assert not any("omegaconf" in name for name in sys.modules)


def test_the_lightning_checkpoint_that_upstream_wrote(shared: Path) -> None:
    path = shared / "checkpoints" / "layers" / "full_lra_batch_trT_pre.ckpt"
    before = set(sys.modules)
    container = read_container(path)
    assert container.config == json.loads(path.with_suffix(".json").read_text())["config"]
    assert len(container.tensors) == 35
    assert container.tensors["encoder.0.weight"].shape == (8, 3)
    assert not any("omegaconf" in name for name in set(sys.modules) - before)


def test_other_harmless_objects_become_plain(
    omegaconf: Configuration, save: Callable[..., Path]
) -> None:
    values = omegaconf.attributes(
        scale=np.float64(0.5),
        count=np.int32(7),
        big=np.dtype(">i4").type(258),
        path=pathlib.PurePosixPath("/data/x"),
        options=argparse.Namespace(lr=0.1, names=["a"]),
        pair=(1, 2),
        when=datetime.date(2024, 1, 2),
        size=torch.Size([2, 3]),
        dtype=torch.float16,
        step=torch.tensor(4),
        table=np.arange(3),
        kinds={"a"},
        partial=functools.partial(int, base=2),
        raw=b"bytes",
        number=1 + 2j,
    )
    config = read_container(save(lightning(values))).config
    assert config is not None
    assert {key: config[key] for key in ("scale", "count", "big", "path")} == {
        "scale": 0.5,
        "count": 7,
        "big": 258,
        "path": "/data/x",
    }
    assert config["options"] == {"lr": 0.1, "names": ["a"]}
    assert (config["pair"], config["size"], config["kinds"]) == ([1, 2], [2, 3], ["a"])
    assert (config["step"], config["raw"]) == (4, "bytes")
    assert config["when"] == "<datetime.date>"
    assert config["partial"] == "<functools.partial>"
    json.dumps(config)


def test_much_data_beside_the_weights(save: Callable[..., Path]) -> None:
    """As protocol 2 has it: bytes and arrays are text that is encoded."""
    arrays = [np.arange(1_000_000), b"\xff" * 5_000_000, list(range(100_000))]
    assert same(read_container(save({"state_dict": WEIGHTS, "others": arrays})).tensors, WEIGHTS)


def test_parameters_with_attributes_and_views_are_read(
    omegaconf: Configuration, save: Callable[..., Path]
) -> None:
    parameter = torch.nn.Parameter(torch.arange(4.0))
    parameter._optim = {"lr": 0.1}  # type: ignore[attr-defined]
    base = torch.arange(12).to(torch.complex64).reshape(3, 4) * (1 + 2j)
    weights = {"a": parameter, "b": base.T[1:], "c": base.conj(), "d": torch.arange(3)}
    tensors = read_container(
        save({"state_dict": weights, "hyper_parameters": omegaconf.of({})})
    ).tensors
    assert same(tensors, weights)


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("place", ["beside", "config", "state", "key", "metadata"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_command_in_a_lightning_file_is_refused_and_not_run(
    omegaconf: Configuration,
    save: Callable[..., Path],
    tmp_path: Path,
    place: str,
    protocol: int,
    zipped: bool,
) -> None:
    mark = tmp_path / "run"
    evil = Runs(os.system, f"touch {mark}")
    config = omegaconf.of({"lr": 1, "evil": evil} if place == "config" else {"lr": 1})
    content = lightning(config)
    if place == "beside":
        content["evil"] = evil
    elif place == "state":
        content["state_dict"]["evil"] = evil
    elif place == "key":
        content[Runs(os.getcwd)] = 1
    elif place == "metadata":
        config._metadata.object_type = evil
    path = save(content, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    name = r"(posix|nt)\.(getcwd|system)"
    with pytest.raises(S4EdgeError, match=rf"Python objects \({name}\) that only running code"):
        read_container(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (eval, ("1",), "eval"),
        (exec, ("1",), "exec"),
        (getattr, ("a", "upper"), "getattr"),
        (__import__, ("os",), "__import__"),
        (torch.storage._load_from_bytes, (b"",), "torch.storage._load_from_bytes"),
        (torch.load, ("x",), "torch.serialization.load"),
        (torch.nn.Linear, (1, 1), "torch.nn.modules.linear.Linear"),
        (pickle.loads, (b"",), "_?pickle.loads"),
    ],
)
def test_functions_that_do_things_are_refused_by_name(
    omegaconf: Configuration, save: Callable[..., Path], function: Any, args: Any, name: str
) -> None:
    path = save(lightning(omegaconf.of({}), extra=Runs(function, *args)))
    with pytest.raises(S4EdgeError, match=rf"Python objects \({name}\)"):
        read_container(path)


def test_names_in_harmless_packages_are_not_imported_nor_called(
    omegaconf: Configuration, save: Callable[..., Path], tmp_path: Path
) -> None:
    mark = tmp_path / "run"
    call = Runs(np.save, str(mark), 1)
    assert read_container(save(lightning(omegaconf.of({}), extra=call))).config == {}
    assert not list(tmp_path.glob("run*"))
    # What they would be called with is refused all the same.
    with pytest.raises(S4EdgeError, match=r"(posix|nt)\.system"):
        read_container(save(lightning({}, extra=functools.partial(os.system, "true"))))


def test_classes_of_unknown_modules_are_refused_by_name(
    omegaconf: Configuration, save: Callable[..., Path]
) -> None:
    path = save(lightning(omegaconf.of({"a": omegaconf.unknown()})))
    with pytest.raises(S4EdgeError, match=r"\(elsewhere\.Thing\).*Re-save the weights alone"):
        read_container(path)


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        (b"cfunctools\npartial\n(tR(tR.", "a call of a Inert"),
        (b"cfunctools\npartial\n}b.", "a state for a InertClass"),
        (b"c__builtin__\ndict\n}b.", "a state for a _Known"),
        (b"ctorch\nUntypedStorage\n(tR.", "a call of a"),
        (b"]}b.", "a state for a list"),
        (b"](I1\nu.", "items for a list"),
        (b"}I1\na.", "elements for a dict"),
        (b"})\x85\x85I1\ns.", "a key that is a tuple"),
        (b"Vx\nP1\n.", "PERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"(Vstorage\ntQ.", "no storage"),
    ],
)
def test_instructions_that_checkpoints_have_no_use_for_are_refused(
    instructions: bytes, words: str
) -> None:
    with pytest.raises(pickle.UnpicklingError, match=words):
        load(BytesIO(b"\x80\x02" + instructions))


def test_deep_nesting_cycles_and_shared_parts(
    omegaconf: Configuration, save: Callable[..., Path]
) -> None:
    deep: Any = 1
    for _ in range(30):
        deep = {"a": deep}
    assert read_container(save(lightning(omegaconf.of(deep)))).config == deep
    too_deep: Any = []
    for _ in range(400):
        too_deep = [too_deep]
    with pytest.raises(S4EdgeError, match="nested more than"):
        read_container(save(lightning({"a": too_deep})))
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    with pytest.raises(S4EdgeError, match="contains itself"):
        read_container(save(lightning({"a": cycle})))
    shared: Any = [1]
    for _ in range(60):
        shared = [shared, shared]
    config = read_container(save(lightning({"a": shared}))).config
    assert config is not None
    # Nothing of this depth crashes the reader, wherever it is.
    bottomless = b"\x80\x02" + b"(" * 50_000 + b"t" * 50_000 + b"."
    path = save({})
    path.write_bytes(bottomless)
    with pytest.raises(S4EdgeError, match=r"no readable PyTorch checkpoint|Python objects"):
        read_container(path)


def test_plain_of_omegaconf_1() -> None:
    node = Inert("omegaconf.nodes.AnyNode", state={"_val": 3})
    assert plain(Inert("omegaconf.dictconfig.DictConfig", state={"content": {"a": node}})) == {
        "a": 3
    }
    missing = Inert("omegaconf.dictconfig.DictConfig", state={"_content": "${x.y}"})
    assert plain([missing, Inert("omegaconf.listconfig.ListConfig", state={"_content": None})]) == [
        "${x.y}",
        None,
    ]


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_where_the_weights_are(save: Callable[..., Path], key: str) -> None:
    assert same(read_container(save({key: WEIGHTS, "acc": 1.0})).tensors, WEIGHTS)
    # "model" may be a configuration too.
    path = save({"model": {"d_model": 8}, "state_dict": WEIGHTS})
    assert same(read_container(path).tensors, WEIGHTS)
    assert read_container(path).config is None


@pytest.mark.parametrize(
    "average",
    [
        {"state_dict_ema": AVERAGE},
        {"model_ema": {f"module.{name}": value for name, value in AVERAGE.items()}},
        {"ema": {"state_dict": AVERAGE, "decay": 0.999}},
        {"ema": {"shadow": AVERAGE, "updates": 5}},
        {"ema_model": {f"module.{n}": v for n, v in AVERAGE.items()} | {"n_averaged": NUMBER}},
    ],
)
def test_a_running_average_beside_the_weights(
    save: Callable[..., Path], average: dict[str, Any]
) -> None:
    path = save({"model": WEIGHTS, **average})
    container = read_container(path)
    assert same(container.tensors, WEIGHTS)
    assert "weights=ema" in container.notes[0]
    chosen = read_container(path, weights="ema")
    assert same(chosen.tensors, AVERAGE)
    assert chosen.weights == "ema"
    # Alone, it is taken, and that is said.
    alone = read_container(save(average))
    assert same(alone.tensors, AVERAGE)
    assert "running average" in alone.notes[0]
    with pytest.raises(S4EdgeError, match="no state dict"):
        read_container(save(average), weights="model")


def test_a_running_average_within_the_state_dict(save: Callable[..., Path]) -> None:
    def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {prefix + name: value for name, value in tensors.items()}

    inside = {**under("model.", WEIGHTS), **under("model_ema.", AVERAGE), "decoder": torch.ones(1)}
    path = save({"state_dict": inside})
    decoder = {"decoder": torch.ones(1)}
    assert same(read_container(path).tensors, under("model.", WEIGHTS) | decoder)
    assert same(read_container(path, "ema").tensors, under("model.", AVERAGE) | decoder)
    plainly = save(WEIGHTS | under("ema.", AVERAGE))
    assert same(read_container(plainly).tensors, WEIGHTS)
    assert same(read_container(plainly, "ema").tensors, AVERAGE)


def test_weights_that_are_not_there_are_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(S4EdgeError, match="no running average"):
        read_container(save(WEIGHTS), weights="ema")
    with pytest.raises(S4EdgeError, match="supported: model, ema"):
        read_container(save(WEIGHTS), weights="best")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "module.module."])
def test_prefixes_of_wrappers_are_dropped(save: Callable[..., Path], prefix: str) -> None:
    path = save({"model": {prefix + name: value for name, value in WEIGHTS.items()}})
    assert same(read_container(path).tensors, WEIGHTS)
    inner = {f"model._orig_mod.{name}": value for name, value in WEIGHTS.items()}
    wanted = {f"model.{name}": value for name, value in WEIGHTS.items()}
    assert same(read_container(save({"state_dict": inner})).tensors, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_from_a_gpu(
    omegaconf: Configuration,
    save: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
) -> None:
    weights = {name: value.to(dtype) for name, value in WEIGHTS.items()}
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        path = save({"state_dict": weights, "hyper_parameters": omegaconf.of({"a": 1})})
    container = read_container(path)
    assert same(container.tensors, weights)
    assert container.config == {"a": 1}
    assert {value.device.type for value in container.tensors.values()} == {"cpu"}


def test_a_damaged_lightning_file_is_told_from_one_that_needs_code(
    omegaconf: Configuration, save: Callable[..., Path]
) -> None:
    path = save(lightning(omegaconf.of(CONFIG)))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(S4EdgeError, match="no readable PyTorch checkpoint"):
        read_container(path)
