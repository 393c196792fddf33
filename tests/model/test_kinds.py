"""Another kind of systems than those there are, registered as anybody would, through all rooms."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from models_by_hand import redescribed
from safetensors import safe_open
from torch import Tensor, nn

from s4edge.arrays import Float
from s4edge.compression.compress import compress_model
from s4edge.errors import S4EdgeError
from s4edge.export.c.c_file import export_c
from s4edge.export.lowering import lower, lower_sequences
from s4edge.export.lowering.reference import run
from s4edge.export.onnx.onnx_file import export_model
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.file import load_model, save_model
from s4edge.model.kinds import Kind
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import Stages, numbers
from s4edge.model.systems.base import Systems, SystemsConfig
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.model.systems.registry import SYSTEMS
from s4edge.reports.model_summary import summarize
from s4edge.runtime import Stream, open_graph, predict
from s4edge.systems.modes import Modes
from s4edge.training.batches import Batch
from s4edge.training.trainable import Trainable

# The kind, as a file of its own would have it


@dataclass(frozen=True)
class FiltersConfig:
    """First-order filters that all features enter and all channels hear."""

    TAG: ClassVar[str] = "filters"

    kind: str
    features: int
    channels: int
    filters: int

    exact_samples: ClassVar[None] = None
    cannot_stream: ClassVar[None] = None

    @property
    def state_size(self) -> float:
        return self.filters

    @property
    def real_states(self) -> int:
        return self.filters

    @property
    def facts(self) -> dict[str, Any]:
        return {"filters": self.filters}

    def check(self, where: str, features: int) -> None:
        if self.features != features:
            raise S4EdgeError(f"{where}: its filters read {self.features} of {features} features")


class Filters(Systems):
    """``x_t = a x_{t-1} + B u_t``, ``y_t = C x_t + D u_t``, ``a = exp(-exp(log_decay))``."""

    config: FiltersConfig

    def __init__(self, config: FiltersConfig, length: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.log_decay = nn.Parameter(torch.zeros(config.filters))
        self.B = nn.Parameter(torch.zeros(config.filters, config.features))
        self.C = nn.Parameter(torch.zeros(config.channels, config.filters))
        self.D = nn.Parameter(torch.zeros(config.channels, config.features))

    def forward(self, u: Tensor) -> Tensor:
        response = self.response(u.shape[1]).to(u.dtype)
        later = [
            torch.einsum("btf,hf->bth", u[:, : u.shape[1] - k], response[..., k])
            for k in range(u.shape[1])
        ]
        return sum(torch.cat([u.new_zeros(len(u), k, y.shape[2]), y], 1)
                   for k, y in enumerate(later))  # fmt: skip

    def response(self, length: int) -> Tensor:
        power = torch.exp(-self.log_decay.double().exp()[:, None] * torch.arange(length))
        K = torch.einsum("hn,nk,nf->hfk", self.C.double(), power, self.B.double())
        return torch.cat([K[..., :1] + self.D.double()[..., None], K[..., 1:]], dim=2)

    @property
    def state_width(self) -> int:
        return self.config.filters

    def coefficients(self) -> Tensor:
        return torch.exp(-self.log_decay.double().exp())

    def step(self, u: Tensor, state: Tensor, coefficients: Any = None) -> tuple[Tensor, Tensor]:
        a = self.coefficients() if coefficients is None else coefficients
        sample = u.double()
        state = a * state + sample @ self.B.double().T
        y = state @ self.C.double().T + sample @ self.D.double().T
        return y.to(u.dtype), state

    def lower(self, stages: Stages, u: str, backward: bool) -> str:
        of = "backward_" if backward else ""
        count = self.config.filters
        decay = -np.exp(numbers(self.log_decay))
        modes = Modes.make(decay + 0j, np.ones(count) + 0j, np.arange(count), count)
        driven = stages.dense(f"{of}B", u, numbers(self.B))
        x = stages.recurrence(f"{of}filters", driven, modes, np.zeros(count), backward)
        heard = stages.dense(f"{of}C", x, numbers(self.C))
        at_once = stages.dense(f"{of}D", u, numbers(self.D))
        if backward:
            # Of the sample to come, as all that runs backward.
            none = Modes.make([], [], [], self.config.channels)
            at_once = stages.recurrence(f"{of}next", at_once, none, np.ones(none.channels), True)
        return stages.weighted_sum(f"{of}systems", heard, at_once, (1.0, 1.0))

    @property
    def log_radius(self) -> float:
        return -float(self.log_decay.detach().double().exp().min())


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    SYSTEMS.register(Kind(FiltersConfig, Filters))
    yield
    del SYSTEMS.by_tag[FiltersConfig.TAG]


# Models with it


FEATURES, CHANNELS, FILTERS = 2, 3, 4


def block(systems: SystemsConfig, **options: Any) -> BlockConfig:
    plain: dict[str, Any] = {
        "norm": "none", "norm_placement": "pre", "norm_epsilon": 1e-5, "residual": False,
        "activation": "identity", "mixing": "none", "final_activation": "identity",
    }  # fmt: skip
    return BlockConfig(name="layer", systems=systems, **{**plain, **options})


def filled(config: ModelConfig, seed: int = 0) -> SequenceModel:
    """Random numbers, poles of which decay within a few tens of samples."""
    generator = torch.Generator().manual_seed(seed)
    model = SequenceModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            if name.endswith("log_decay"):
                parameter -= 2
    return model.eval()


def bare(bidirectional: bool = False) -> SequenceModel:
    """Nothing but systems."""
    systems = FiltersConfig("filters", FEATURES, CHANNELS, FILTERS)
    blocks = (block(systems, backward=systems if bidirectional else None),)
    return filled(
        ModelConfig(FEATURES, CHANNELS, FEATURES, "none", blocks, "none", "none", length=None)
    )


def deep() -> SequenceModel:
    """Between diagonal systems, with norms and dense layers around."""
    width = 6
    diagonal = DiagonalConfig("S4D", 8, 1, (4,) * width, (0,) * width, (0,) * width)
    filters = FiltersConfig("filters", width, width, FILTERS)
    around: dict[str, Any] = {
        "norm": "layer", "norm_placement": "post", "residual": True, "activation": "gelu",
        "mixing": "linear", "final_activation": "glu",
    }  # fmt: skip
    blocks = [block(each, **around) for each in (diagonal, filters, diagonal)]
    named = tuple(
        dataclasses.replace(each, name=f"layers.{index}") for index, each in enumerate(blocks)
    )
    return filled(ModelConfig(FEATURES, 4, width, "linear", named, "mean", "linear", None))


def recurrence(systems: Filters, u: Float) -> Float:
    """(length, features) to (length, channels), sample by sample."""
    log_decay, B, C, D = (numbers(each) for each in systems.parameters())
    x, out = np.zeros(FILTERS), []
    for sample in u:
        x = np.exp(-np.exp(log_decay)) * x + B @ sample
        out.append(C @ x + D @ sample)
    return np.array(out)


def backward_recurrence(systems: Filters, u: Float) -> Float:
    """From the end, on the samples to come."""
    later = np.concatenate([u[1:], np.zeros((1, u.shape[1]))])
    return recurrence(systems, later[::-1])[::-1]


def signal(length: int = 200, features: int = FEATURES) -> Float:
    return np.random.default_rng(3).standard_normal((length, features)).astype(np.float32)


def systems_of(model: SequenceModel, backward: bool = False) -> Filters:
    (layer,) = model.blocks
    found = layer.backward_systems if backward else layer.systems
    assert isinstance(found, Filters)
    return found


def test_sequences_steps_response_and_stages_are_the_recurrence() -> None:
    model, u = bare(), signal()
    wanted = recurrence(systems_of(model), u)
    x = torch.from_numpy(u).double()[None]
    with torch.no_grad():
        assert np.allclose(model.double()(x)[0], wanted, atol=1e-9)
        assert np.allclose(model.stream(x)[0], wanted, atol=1e-9)
    impulses = np.stack([recurrence(systems_of(model), pulse) for pulse in _pulses(30)], axis=1)
    response = systems_of(model).response(30).detach().numpy()
    assert np.allclose(response, impulses.transpose(2, 1, 0), atol=1e-12)
    y, state = run(lower(model), u.astype(np.float64))
    assert np.allclose(y, wanted, atol=1e-9)
    assert len(state) == FILTERS == model.state_width


def _pulses(length: int) -> Float:
    """(features, length, features) one at the start of each."""
    pulses = np.zeros((FEATURES, length, FEATURES))
    pulses[np.arange(FEATURES), 0, np.arange(FEATURES)] = 1
    return pulses


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
def test_graphs_are_the_recurrence(tmp_path: Path, mode: str) -> None:
    model, u = bare(), signal()
    wanted = recurrence(systems_of(model), u)
    done = export_model(model, tmp_path / "model.onnx", mode)
    graph = open_graph(tmp_path / "model.onnx")
    if mode == "sequence":
        got = predict(graph, u[None])
    else:
        stream = Stream(graph)
        got = np.concatenate([stream.extend(u[None]), stream.finish()], axis=1)
    assert np.abs(got[0] - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert done.max_abs_error < 1e-5 * done.max_abs_output


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_c_is_the_recurrence(tmp_path: Path, precision: str) -> None:
    model, u = bare(), signal()
    wanted = recurrence(systems_of(model), u)
    export_c(model, tmp_path / "model.c", precision=precision, compiled=True)
    got = Stream(open_graph(tmp_path / "model.so")).extend(u[None])
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert np.abs(got[0] - wanted).max() < tolerance * np.abs(wanted).max()


def test_backward_too(tmp_path: Path) -> None:
    model, u = bare(bidirectional=True), signal(75)
    wanted = recurrence(systems_of(model), u)
    wanted = wanted + backward_recurrence(systems_of(model, backward=True), u)
    with torch.no_grad():
        assert np.allclose(model(torch.from_numpy(u)[None])[0], wanted, atol=1e-4)
    assert [s.name for s in lower_sequences(model).stages].count("blocks.0.backward_systems") == 1
    export_model(model, tmp_path / "model.onnx", "sequence")
    got = predict(open_graph(tmp_path / "model.onnx"), u[None])
    assert np.abs(got[0] - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("target", ["step", "chunk", "c"])
def test_among_diagonal_systems(tmp_path: Path, target: str) -> None:
    model = deep()
    x = signal(100)
    with torch.no_grad():
        wanted = model.stream(torch.from_numpy(x)[None])[0].numpy()
    if target == "c":
        if shutil.which("cc") is None:
            pytest.skip("there is no C compiler")
        path = tmp_path / "model.so"
        export_c(model, path.with_suffix(".c"), compiled=True)
    else:
        path = tmp_path / "model.onnx"
        export_model(model, path, target)
    stream = Stream(open_graph(path))
    got = np.concatenate([stream.extend(x[None]), stream.finish()], axis=1)
    assert np.abs(got[0] - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_files_hold_the_tag(tmp_path: Path) -> None:
    model, path = deep(), tmp_path / "model.safetensors"
    save_model(model, path)
    with safe_open(path, "pt") as file:
        blocks = json.loads(file.metadata()["s4edge"])["config"]["blocks"]
    assert [each["systems"]["tag"] for each in blocks] == ["diagonal", "filters", "diagonal"]
    again = load_model(path)
    assert again.config == model.config
    x = torch.from_numpy(signal(50))[None]
    assert torch.equal(again(x), model(x))


def test_without_a_tag_systems_are_diagonal(tmp_path: Path) -> None:
    width = 3
    config = DiagonalConfig("S4D", 2, 1, (1,) * width, (0,) * width, (0,) * width)
    plain = (block(config),)
    model = filled(ModelConfig(width, width, width, "none", plain, "none", "none", None))
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    redescribed(path, lambda blocks: blocks[0]["systems"].pop("tag"))
    assert load_model(path).config == model.config


@pytest.mark.parametrize("tag", ["lru", 3, None, ["filters"], {}])
def test_unknown_tags_are_refused_in_one_line(tmp_path: Path, tag: Any) -> None:
    path = tmp_path / "model.safetensors"
    save_model(bare(), path)
    redescribed(path, lambda blocks: blocks[0]["systems"].update(tag=tag))
    with pytest.raises(S4EdgeError) as refused:
        load_model(path)
    told = str(refused.value)
    assert "\n" not in told
    assert "is unknown to this version; it knows diagonal" in told
    assert "filters" in told


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(bare(), path)
    redescribed(path, lambda blocks: blocks[0]["systems"].update(features=5))
    with pytest.raises(S4EdgeError, match="its filters read 5 of 2 features"):
        load_model(path)
    with pytest.raises(S4EdgeError, match="another kind of systems with the tag 'filters'"):
        SYSTEMS.register(Kind(FiltersConfig, lambda config, length: Filters(config)))


def test_reduction_leaves_them_as_they_are() -> None:
    model = deep()
    small = compress_model(model, state=2)
    assert small.config.blocks[1] == model.config.blocks[1]
    assert small.config.real_states == 2 * 2 * 6 + FILTERS
    before, after = model.blocks[1].state_dict(), small.blocks[1].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(S4EdgeError, match="no diagonal systems"):
        compress_model(bare(), state=2)


def test_they_are_told_of() -> None:
    layer = summarize(bare())["layers"][0]
    assert (layer["kind"], layer["channels"], layer["real_states"]) == ("filters", 3, 4)
    assert layer["filters"] == FILTERS
    slowest = np.exp(numbers(systems_of(bare()).log_decay)).min()
    assert math.isclose(layer["slowest_time_constant"], 1 / slowest, rel_tol=1e-6)


@pytest.mark.parametrize("alone", [False, True])
def test_training_moves_their_parameters(alone: bool) -> None:
    model = bare() if alone else deep()
    trainable = Trainable(model, 12)
    x = torch.from_numpy(np.stack([signal(12), -signal(12)]))
    aim = torch.zeros_like(model(x))

    def loss(part: Batch, y: Tensor, traced: list[Tensor]) -> Tensor:
        assert part.aim is not None
        return (y - part.aim).square().sum()

    batch = Batch(x, None, None, aim, slice(0, 2), 2, 24)
    optimizer = torch.optim.Adam(trainable.parameters(), 2e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        value = trainable(batch, loss)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.5 * losses[0]
    at = 0 if alone else 1
    assert not torch.equal(trainable.written().blocks[at].systems.B, model.blocks[at].systems.B)
