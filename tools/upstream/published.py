"""Upstream's published experiments: composed, shrunken, saved as their trainer does, and read."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from upstream.checkout import Checkout
from upstream.draws import Draw
from upstream.models import (
    Built,
    Recorded,
    UnfitError,
    parts,
    record,
    save_lightning,
    trainers_model,
    walk,
    word,
)
from upstream.verdict import judge

LENGTH, SIDE = 32, 8
# Of a shrunken model.
_WIDTH, _DEPTH, _STATES, _COPIES, _FEATURES, _TOKENS, _OUTPUTS = 8, 2, 16, 8, 3, 12, 5
# Data sets whose targets are as long as their inputs, and those that ask for some of the samples.
_WHOLE_LENGTH = ("delay", "wt103")
_ANSWERS = {"copying": "l_memorize"}
_IMAGE_LAYERS = ("conv2d", "s4nd")


@dataclass(frozen=True)
class Published:
    """What happens to one experiment.

    Attributes:
        version: of upstream.
        name: of the experiment, and after a blank what its command adds.
        outcome: ``exact``, ``refused``, ``WRONG``, ``CRASH``, or ``none`` where there is nothing
            to read: upstream cannot compose or build it, or its model is no SequenceModel.
        message: why.
        facts: what had to be said with ``--set``.
        streams: whether it also ran sample by sample, as exactly.
    """

    version: str
    name: str
    outcome: str
    message: str
    facts: dict[str, Any]
    streams: bool


def experiments(folder: Path, version: str) -> Iterator[tuple[str, list[str]]]:
    """Names of all experiments, and what is added to each on the command line.

    The DSS repository publishes its own by commands of its README, on top of version 2's.
    """
    root = folder / "configs" / "experiment"
    names = sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))
    if version != "dss":
        yield from ((name, []) for name in names)
        return
    readme = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [shlex.split(line, comments=True) for line in readme if "model=dss" in line
                and line.startswith(("python -m train", "CUDA_VISIBLE_DEVICES"))]  # fmt: skip
    given: dict[str, list[list[str]]] = {}
    for words in commands:
        options = sorted(w for w in words if w.startswith(("model=", "model.")))
        for w in words:
            if w.startswith("experiment=") and options not in given.setdefault(w[11:], []):
                given[w[11:]].append(options)
    for name in names:
        for options in given.get(name, [["model=dss"]]):
            yield name, options


def run(upstream: Checkout, folder: Path) -> Iterator[Published]:
    """Every experiment of a checkout.

    Args:
        upstream: the checkout.
        folder: for files in between.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    for name in ("eval", "div_up"):  # upstream's own, for numbers that are no part of a model
        OmegaConf.register_new_resolver(name, lambda *_: 1, replace=True)
    configs = str((upstream.folder / "configs").resolve())
    with initialize_config_dir(configs, version_base="1.1"):
        for name, options in experiments(upstream.folder, upstream.version):
            added = [option for option in options if option != "model=dss"]
            title = " ".join([name, *added])
            told = Published(upstream.version, title, "none", "", {}, False)
            try:
                config = compose("config", overrides=[f"experiment={name}", *options])
                if options and not _is_ours(compose("config", overrides=[f"experiment={name}"])):
                    yield _changed(told, message="its model is no SequenceModel")
                    continue
            except Exception as error:  # whatever hydra says to it
                said = _short(error, upstream)
                yield _changed(told, message=f"does not compose in upstream's repository: {said}")
                continue
            if not _is_ours(config):
                other = config.model.get("_name_")
                yield _changed(told, message=f"its model is {other}, no SequenceModel")
                continue
            yield _read(upstream, told, config, folder)


def _short(error: Exception, upstream: Checkout) -> str:
    """An error in one line, without what is of this machine."""
    said = " ".join(str(error).replace(f"{upstream.folder}/", "").split())
    return re.split(r" Available options| Are you sure| \(Called| full_key", said)[0][:160]


def _changed(told: Published, **changes: Any) -> Published:
    return Published(**{**vars(told), **changes})


def _is_ours(config: Any) -> bool:
    return str(config.model.get("_name_")) == "model"


def _read(upstream: Checkout, told: Published, config: Any, folder: Path) -> Published:
    """Shrink, build, save and read one experiment's model."""
    from omegaconf import OmegaConf

    layers = shrink(config)
    hyper = copy.deepcopy(config)
    images = bool({word(layer) for layer in layers} & set(_IMAGE_LAYERS))
    plain = OmegaConf.to_container(config, resolve=False)
    task = config.dataset.get("_name_")
    answers = config.dataset.get(_ANSWERS[task]) if task in _ANSWERS else 0
    tokens = {word(part) for part in parts(plain.get("encoder"))} & {"embedding", "onehot"}
    features = _TOKENS if tokens else _FEATURES
    left_out = ""
    if plain.get("encoder") is None:
        # The task's own embedding, which is no part of the model.
        features, left_out = _WIDTH, "; without the task's adaptive embedding and softmax"
    data = {
        "d_input": features,
        "d_output": _OUTPUTS,
        "l_output": None if task in _WHOLE_LENGTH else answers,
    }

    def build() -> Built:
        torch.manual_seed(0)
        own = copy.deepcopy(config)
        encoder = [*_given(own.get("encoder")), *_given(own.model.pop("encoder", None))]
        decoder = _given(own.get("decoder"))
        if upstream.version not in ("v2", "dss"):
            decoder = [*_given(own.model.pop("decoder", None)), *decoder]
        own.model.pop("decoder", None)
        built = trainers_model(
            upstream, {"encoder": encoder, "decoder": decoder, "model": own.model, **data}, LENGTH
        )
        return Built(built.module, built.run, built.tokens, built.features, shape=_shape(images))

    known = {**data, "encoder": plain.get("encoder"), "decoder": plain.get("decoder"),
             "model": _resolved(config.model)}  # fmt: skip
    drawn = Draw(told.version, 0, "full", "", known, LENGTH, "lightning", 0.1, None)
    try:
        recorded: Recorded = record(build, drawn)
    except UnfitError as error:
        said = _short(error, upstream)
        return _changed(told, message=f"upstream cannot build or run it: {said}")
    for part in ("encoder", "decoder"):
        hyper.model.pop(part, None)
    path = save_lightning(recorded.state, hyper, folder, "experiment")
    verdict = judge(path, recorded, drawn)
    outcome = "exact" if verdict.outcome == "told" and verdict.as_told else verdict.outcome
    message = (
        "" if outcome == "exact" else verdict.message.removeprefix("FILE: ").replace("FILE", "it")
    )
    return _changed(
        told, outcome=outcome, message=message + left_out, facts=verdict.asked,
        streams=verdict.streams,
    )  # fmt: skip


def _shape(images: bool) -> tuple[int, ...]:
    return (SIDE, SIDE) if images else ()


def _given(part: Any) -> list[Any]:
    if part is None:
        return []
    return [part] if isinstance(part, str) or hasattr(part, "keys") else list(part)


def _resolved(config: Any) -> Any:
    """A configuration as plain values; what cannot be looked up stays as it is written."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config, resolve=False)


def shrink(config: Any) -> list[Any]:
    """Make an experiment's model small, in place.

    Returns:
        Its layers' configurations.
    """
    from omegaconf import OmegaConf

    OmegaConf.set_struct(config, False)  # as upstream's trainer does
    model = config.model
    model.d_model, model.n_layers = _WIDTH, _DEPTH
    layers = _given(model.get("layer"))
    images = bool({word(OmegaConf.to_container(each)) for each in layers} & set(_IMAGE_LAYERS))
    for each in layers:
        for key, most in (("d_state", _STATES), ("n_ssm", _COPIES)):
            value = each.get(key)
            if isinstance(value, int) and value > most:
                each[key] = most
    config.dataset["__l_max"] = [SIDE, SIDE] if images else LENGTH
    for key, value in walk(OmegaConf.to_container(model, resolve=False)):
        if key == "l_max" and isinstance(value, int) and value > LENGTH:
            for each in layers:
                if each.get("l_max") == value:
                    each.l_max = LENGTH
    return [OmegaConf.to_container(each, resolve=False) for each in layers]
