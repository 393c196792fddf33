"""Upstream's models: built as drawn, moved away from their start, run and saved."""

from __future__ import annotations

import copy
import inspect
import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upstream.checkout import Checkout, double_precision
from upstream.draws import Config, Draw

BATCH = 2
# What a model must keep to for its outputs to be worth a comparison.
LARGEST = 1e6
FLOAT32_ERROR = 1e-4


class UnfitError(Exception):
    """Upstream cannot build or run the model, or its own float32 output says nothing."""


@dataclass(frozen=True)
class Recorded:
    """A saved model and what upstream's code computes with it.

    Attributes:
        state: its state dict as saved.
        x: the input.
        y: upstream's float32 output.
        y64: the same in double precision, or None where upstream does not run in it.
        error32: of ``y`` against it, relative to the largest value; NaN without.
        defaults: upstream's defaults of the options of all modules that it is built of.
    """

    state: dict[str, Tensor]
    x: Tensor
    y: NDArray[np.float64]
    y64: NDArray[np.float64] | None
    error32: float
    defaults: dict[str, Any]


@dataclass
class Built:
    """A model of upstream's and how it is run.

    Attributes:
        module: all its parameters, under the names that they are saved with.
        run: from input to output.
        tokens: how many tokens the input has; 0 for numbers.
        features: of the input.
        time_last: whether the input is (batch, features, length).
        shape: of an image, instead of a length.
    """

    module: nn.Module
    run: Callable[[Tensor], Tensor]
    tokens: int
    features: int
    time_last: bool = False
    shape: tuple[int, ...] = ()


_PLACES = {
    "v4": "src.models.sequence.backbones.model.SequenceModel",
    "v3": "src.models.sequence.model.SequenceModel",
    "v2": "src.models.sequence.model.SequenceModel",
    "dss": "src.models.sequence.model.SequenceModel",
}
_LAYERS = {"dss.DSS": "src.models.sequence.ss.standalone.dss.DSS"}


def build(upstream: Checkout, drawn: Draw) -> Built:
    """The drawn model, untouched; the same parameters each time."""
    torch.manual_seed(drawn.seed)
    np.random.seed(drawn.seed % 2**32)
    config = copy.deepcopy(drawn.config)
    if drawn.kind == "full":
        return trainers_model(upstream, config, drawn.length)
    if drawn.kind == "seq":
        backbone = upstream.get(_PLACES[upstream.version])(**config)
        return Built(backbone, lambda x: backbone(x)[0], 0, config["d_model"])
    if drawn.kind == "example":
        layer_class, options = upstream.get(config.pop("layer")), config.pop("layer_kwargs")

        def layer(d_model: int, **_: Any) -> nn.Module:
            return layer_class(d_model, transposed=True, **copy.deepcopy(options))

        whole = upstream.example(layer)(dropout=0.1, **config)
        return Built(whole, whole, 0, config["d_input"])
    place = drawn.cls.rpartition(":")[2]
    block = upstream.get(_LAYERS.get(place, place))(**config)
    return Built(block, lambda x: block(x)[0], 0, config["d_model"], config.get("transposed", True))


def trainers_model(upstream: Checkout, config: Config, length: int) -> Built:
    """Encoder, `SequenceModel` and decoder as upstream's trainer puts them together.

    Args:
        upstream: where to build it from.
        config: ``encoder``, ``model``, ``decoder``, and ``d_input``, ``d_output``, ``l_output``
            of the data set.
        length: of the sequences, all in full.
    """
    encoders = __import__("src.tasks.encoders", fromlist=["encoders"])
    decoders = __import__("src.tasks.decoders", fromlist=["decoders"])
    model_config = dict(config["model"])
    model_config.pop("_name_", None)
    model = upstream.get(_PLACES[upstream.version])(**model_config)
    names = {word(part) for part in parts(config["encoder"])}
    tokens = config["d_input"] if names & {"embedding", "onehot"} else 0
    data = types.SimpleNamespace(
        d_input=config["d_input"],
        n_tokens=config["d_input"],
        d_output=config["d_output"],
        l_output=config["l_output"],
        n_tokens_time=[7, 24],  # of calendars
    )
    encoder = encoders.instantiate(config["encoder"], dataset=data, model=model)
    decoder = decoders.instantiate(config["decoder"], model=model, dataset=data)
    # As the trainer does, and with what it does to their names.
    chain = "TupleSequential" if upstream.version in ("v2", "dss") else "PassthroughSequential"
    encoder = upstream.get(f"src.models.nn.utils.{chain}")(None, encoder)
    decoder = upstream.get(f"src.models.nn.utils.{chain}")(decoder, None)
    lengths = any(isinstance(d, Mapping) and d.get("use_lengths") for d in parts(config["decoder"]))
    whole = nn.ModuleDict({"encoder": encoder, "model": model, "decoder": decoder})

    def run(x: Tensor) -> Tensor:
        beside = {"lengths": torch.full((x.shape[0],), length)} if lengths else {}
        if "time" in names:
            beside["mark"] = torch.zeros(*x.shape[:2], len(data.n_tokens_time), dtype=torch.long)
            beside["mask"] = torch.zeros(*x.shape[:2], 1, dtype=torch.long)
        if upstream.version in ("v2", "dss"):
            h, *more = encoder(x, *beside.values())
            h, state = model(h, *more)
            y = decoder(h, state, *beside.values())
            return y[0] if isinstance(y, tuple) else y
        h, known = encoder(x, **beside)
        h, state = model(h, **known)
        return decoder(h, state=state, **known)[0]

    return Built(whole, run, tokens, config["d_input"])


def parts(config: Any) -> list[Any]:
    """An encoder's or decoder's configuration as a list."""
    return list(config) if isinstance(config, list | tuple) else [config]


def word(part: Any) -> str:
    """The name of an encoder, a decoder or a layer."""
    return str(part.get("_name_")) if isinstance(part, Mapping) else str(part)


def record(make: Callable[[], Built], drawn: Draw) -> Recorded:
    """Build, move and run a model.

    Args:
        make: builds it, the same each time.
        drawn: how it is moved and run.

    Raises:
        UnfitError: its outputs are worth no comparison.
    """
    try:
        with torch.no_grad():
            return _record(make, drawn)
    except UnfitError:
        raise
    except Exception as error:  # whatever upstream's own code says to an option it cannot take
        raise UnfitError(f"{type(error).__name__}: {error}") from error


def _record(make: Callable[[], Built], drawn: Draw) -> Recorded:
    built = make()
    built.module.eval()
    _unshare(built.module)
    random = torch.Generator().manual_seed(drawn.seed + 1)
    move(built.module, drawn.noise, random)
    settle_norms(built, drawn.length, random)
    if drawn.ran:
        built.run(draw_input(built, drawn.ran, random))
    state = {name: value.clone() for name, value in built.module.state_dict().items()}
    x = draw_input(built, drawn.length, random)
    y = _output(_loaded(make, state).run(x.clone()), x)
    try:
        y64 = _in_double(_loaded(make, state), x)
    except Exception:  # upstream's code is not made for it
        y64 = None
    error = float("nan") if y64 is None else relative_error(y64, y)
    if y64 is not None and not error < FLOAT32_ERROR:
        raise UnfitError(f"upstream's float32 output is off by {error:.1g}")
    return Recorded(state, x, y, y64, error, defaults_of(built.module))


def relative_error(true: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """The largest difference relative to the largest true value."""
    return float(np.abs(found - true).max() / max(float(np.abs(true).max()), 1e-30))


def _output(y: Tensor, x: Tensor) -> NDArray[np.float64]:
    out = y.double().numpy()
    if not np.isfinite(out).all() or np.abs(out).max() > LARGEST:
        raise UnfitError("upstream's output is not finite or huge")
    if out.size == 0 or (out.shape == x.shape and np.array_equal(out, x.double().numpy())):
        raise UnfitError("upstream's output is its input")
    return out


def _loaded(make: Callable[[], Built], state: dict[str, Tensor]) -> Built:
    """The model as a checkpoint gives it back, without what running has left in it."""
    again = make()
    again.module.eval()
    _unshare(again.module)
    for name, buffer in list(again.module.named_buffers()):
        if state[name].shape != buffer.shape:  # version 2's FFT nodes, longer after running
            owner = again.module.get_submodule(name.rpartition(".")[0])
            owner.register_buffer(name.rpartition(".")[2], state[name].clone())
            owner.L = 2 * (state[name].shape[0] - 1)
    again.module.load_state_dict(state)
    return again


def _in_double(built: Built, x: Tensor) -> NDArray[np.float64]:
    built.module.double()
    for module in built.module.modules():
        if "omega" in module._buffers and isinstance(module.L, int):
            # Version 2 keeps them in single precision.
            module._omega(module.L, torch.complex128, "cpu", cache=True)
    with double_precision():
        return _output(built.run(x.double() if x.is_floating_point() else x), x)


def _unshare(module: nn.Module) -> None:
    """Tensors of their own, where upstream repeats one by a view."""
    for value in [*module.parameters(), *module.buffers()]:
        value.data = value.data.clone(memory_format=torch.contiguous_format)


# Not moved: what upstream computes from the length, and what the norms' runs settle.
_KEPT = ("omega", "z", "pe", "running_mean", "running_var")


def move(module: nn.Module, noise: float, random: torch.Generator) -> None:
    """Move all parameters, frozen ones too, by ``noise`` times their spread."""
    named = [*module.named_parameters(), *module.named_buffers()]
    for name, value in named:
        if value.is_complex():
            value = torch.view_as_real(value)
        if not value.is_floating_point() or name.rpartition(".")[2] in _KEPT:
            continue
        # Real and imaginary parts of a complex one differ too much to be moved alike.
        parts = value.unbind(-1) if value.shape[-1:] == (2,) and value.ndim > 1 else [value]
        for part in parts:
            spread = float(part.std()) if part.numel() > 1 else 0.0
            spread = max(spread, 0.1 * float(part.abs().mean())) or 0.1 * (part.numel() == 1)
            part.add_(noise * spread * torch.randn(part.shape, generator=random))


def settle_norms(built: Built, length: int, random: torch.Generator) -> None:
    """Give norms with running statistics a few batches; nothing else changes."""
    norms = [
        module
        for module in built.module.modules()
        if isinstance(module, nn.BatchNorm1d | nn.InstanceNorm1d) and module.track_running_stats
    ]
    if not norms:
        return
    before = {name: value.clone() for name, value in built.module.state_dict().items()}
    for norm in norms:
        norm.train()
    for _ in range(3):
        built.run(draw_input(built, length, random))
    built.module.eval()
    for name, value in built.module.state_dict().items():
        if name.rpartition(".")[2] not in ("running_mean", "running_var", "num_batches_tracked"):
            if value.shape != before[name].shape:
                raise UnfitError("it changes its shapes as it runs")
            value.copy_(before[name])


def draw_input(built: Built, length: int, random: torch.Generator) -> Tensor:
    """Numbers or tokens."""
    if built.tokens:
        return torch.randint(0, built.tokens, (BATCH, length), generator=random)
    x = torch.randn(BATCH, *(built.shape or (length,)), built.features, generator=random)
    return x.transpose(1, 2).contiguous() if built.time_last else x


def defaults_of(module: nn.Module) -> dict[str, Any]:
    """Upstream's defaults of all options of all its classes; the outermost class wins.

    A decoder's are there by dotted names, too.
    """
    out: dict[str, Any] = {}
    if isinstance(module, nn.ModuleDict):
        found = defaults_of(module["decoder"])
        out |= {f"decoder.{key}": value for key, value in found.items()}
    for each in module.modules():
        for cls in type(each).__mro__:
            if "__init__" in vars(cls):
                for key, parameter in inspect.signature(cls.__init__).parameters.items():
                    if parameter.default is not inspect.Parameter.empty:
                        out.setdefault(key, parameter.default)
    return out


def save(recorded: Recorded, drawn: Draw, folder: Path) -> Path:
    """Write the checkpoint as drawn: with a sidecar, without one, or as Lightning does."""
    if drawn.way == "lightning":
        return save_lightning(recorded.state, hyper_parameters(drawn), folder, drawn.name)
    path = folder / f"{drawn.name}.pt"
    whole = {"full": "state_dict", "example": "model"}.get(drawn.kind)
    state = recorded.state
    if drawn.seed % 10 == 0:
        # As a model on several devices saves them, which version 2's example does.
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save({whole: state} if whole else state, path)
    if drawn.way == "sidecar":
        sidecar = {"cls": drawn.cls, "config": drawn.config, "L": drawn.length}
        path.with_suffix(".json").write_text(json.dumps(sidecar), encoding="utf-8")
    return path


def hyper_parameters(drawn: Draw) -> Config:
    """What the trainer saves of a drawn model beside its parameters."""
    config = copy.deepcopy(drawn.config)
    model = {"_name_": "model"} | config["model"]
    for layer in parts(model["layer"]):
        layer.setdefault("dropout", "${model.dropout}")
        if "l_max" in layer and layer["l_max"] == drawn.length:
            layer["l_max"] = "${oc.select:dataset.__l_max,null}"
    model.setdefault("dropout", 0.0)
    return {
        "train": {"seed": drawn.seed, "interval": "epoch"},
        "dataset": {"_name_": "drawn", "__l_max": drawn.length},
        "loader": {"batch_size": BATCH},
        "encoder": config["encoder"],
        "decoder": config["decoder"],
        "model": model,
    }


def save_lightning(state: dict[str, Tensor], hyper: Any, folder: Path, name: str) -> Path:
    """A checkpoint as PyTorch Lightning writes it: the configuration as an OmegaConf object."""
    from omegaconf import OmegaConf

    if isinstance(hyper, dict):
        hyper = OmegaConf.create(hyper)
    path = folder / f"{name}.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": hyper, "epoch": 3}, path)
    return path


def walk(config: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of a configuration, however deep."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield key, value
            yield from walk(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from walk(value)
