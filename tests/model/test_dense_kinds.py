"""Another kind of dense layer than those there are, registered as anybody would."""

from __future__ import annotations

import dataclasses
import json
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

from s4edge.errors import S4EdgeError
from s4edge.export.c.c_file import export_c
from s4edge.export.lowering import lower
from s4edge.export.onnx.onnx_file import export_model
from s4edge.model.configuration import BlockConfig, DenseLayer, GateConfig, ModelConfig
from s4edge.model.dense.registry import DENSE
from s4edge.model.file import load_model, save_model
from s4edge.model.kinds import Kind
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import Stages, numbers
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.runtime import Stream, open_graph


@dataclass(frozen=True)
class FactorsConfig:
    """A product of two matrices."""

    TAG: ClassVar[str] = "factors"

    rank: int

    def check(self, where: str, columns: int, rows: int) -> None:
        if not 1 <= self.rank <= min(columns, rows):
            raise S4EdgeError(f"{where} of {columns} -> {rows} features cannot have {self.rank}")


class Factors(nn.Module):
    """``left (right x) + bias``."""

    def __init__(self, config: FactorsConfig, columns: int, rows: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(rows, config.rank) / config.rank)
        self.right = nn.Parameter(torch.randn(config.rank, columns))
        self.bias = nn.Parameter(torch.randn(rows))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.right.T @ self.left.T + self.bias

    def lower(self, stages: Stages, name: str, x: str) -> str:
        inner = stages.dense(f"{name}.right", x, numbers(self.right))
        return stages.dense(name, inner, numbers(self.left), numbers(self.bias))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    DENSE.register(Kind(FactorsConfig, Factors))
    yield
    del DENSE.by_tag[FactorsConfig.TAG]


WIDTH, RANK = 6, 2
EVERYWHERE = ("gate.input", "gate.output", "mixing", "projection", "highway.input",
              "highway.output", "widening")  # fmt: skip


def model_of(*names: str) -> SequenceModel:
    """A model of two blocks with dense layers wherever there may be some, these as factors."""
    factors = tuple(DenseLayer(name, FactorsConfig(RANK)) for name in names)
    systems = DiagonalConfig("S4D", 4, 1, (2,) * WIDTH, (0,) * WIDTH, (0,) * WIDTH)
    block = BlockConfig(
        name="blocks.0", systems=systems, norm="layer", norm_placement="pre", norm_epsilon=1e-5,
        residual=True, activation="gelu", mixing="linear", final_activation="glu",
        gate=GateConfig(5, "silu", "identity"), projection="linear", residual_form="highway",
        widening=WIDTH, dense=factors,
    )  # fmt: skip
    blocks = (block, dataclasses.replace(block, name="blocks.1"))
    config = ModelConfig(3, 2, WIDTH, "linear", blocks, "mean", "linear", None)
    torch.manual_seed(0)
    model = SequenceModel(config)
    for each in model.blocks:
        nn.init.normal_(each.systems.get_parameter("pair_weight"))
        nn.init.normal_(each.systems.get_parameter("pair_angle"))
    return model.eval()


def as_matrices(model: SequenceModel) -> SequenceModel:
    """The same with plain layers that hold the products."""
    plain = model_of()
    tensors = model.state_dict()
    for name in list(tensors):
        if name.endswith(".left"):
            stem = name.removesuffix("left")
            product = tensors.pop(name).double() @ tensors.pop(f"{stem}right").double()
            tensors[f"{stem}weight"] = product
    plain.double().load_state_dict(tensors)
    return plain


def signal(length: int = 60) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, length, 3)).astype(np.float32)


@pytest.mark.parametrize("names", [("mixing",), EVERYWHERE])
def test_it_computes_what_its_matrix_does(names: tuple[str, ...]) -> None:
    model, x = model_of(*names), torch.from_numpy(signal()).double()
    with torch.no_grad():
        wanted = as_matrices(model)(x)
        torch.testing.assert_close(model.double()(x), wanted)
        torch.testing.assert_close(model.set_fast(True)(x), wanted, atol=1e-5, rtol=1e-5)
    assert lower(model).multiply_adds < lower(model_of()).multiply_adds


@pytest.mark.parametrize("target", ["step", "chunk", "c"])
def test_files_compute_it(tmp_path: Path, target: str) -> None:
    model, x = model_of(*EVERYWHERE), signal()
    with torch.no_grad():
        wanted = as_matrices(model).running(torch.from_numpy(x).double())[0].numpy()
    if target == "c":
        if shutil.which("cc") is None:
            pytest.skip("there is no C compiler")
        path = tmp_path / "model.so"
        export_c(model, path.with_suffix(".c"), compiled=True)
    else:
        path = tmp_path / "model.onnx"
        export_model(model, path, target)
    stream = Stream(open_graph(path))
    got = np.concatenate([stream.extend(x), stream.finish()], axis=1)
    assert np.abs(got[0] - wanted).max() < 1e-4 * np.abs(wanted).max()


def saved(path: Path, model: SequenceModel, change: Any = lambda dense: None) -> Path:
    """A file with another list of the first block's dense layers."""
    save_model(model, path)
    return redescribed(path, lambda blocks: change(blocks[0]["dense"]))


def test_files_hold_the_tag(tmp_path: Path) -> None:
    model = model_of("mixing")
    path = saved(tmp_path / "model.safetensors", model)
    again = load_model(path)
    assert again.config == model.config
    x = torch.from_numpy(signal())
    assert torch.equal(again(x), model(x))
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["s4edge"])
    (layer,) = description["config"]["blocks"][0]["dense"]
    assert layer == {"name": "mixing", "kind": {"tag": "factors", "rank": RANK}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda dense: dense[0]["kind"].update(tag="sparse"),
         "kind 'sparse' is unknown to this version; it knows plain, low-rank, factors"),
        (lambda dense: dense[0].update(name="decoder"),
         "it has the dense layers gate.input, .*, not once each 'decoder'"),
        (lambda dense: dense.append(dense[0]), "not once each 'mixing', 'mixing'"),
        (lambda dense: dense[0]["kind"].update(rank=7),
         "blocks.0: mixing of 5 -> 12 features cannot have 7"),
        (lambda dense: dense[0]["kind"].update(rank=1), "has shape"),
    ],
)  # fmt: skip
def test_others_are_refused_in_one_line(tmp_path: Path, change: Any, why: str) -> None:
    path = saved(tmp_path / "model.safetensors", model_of("mixing"), change)
    with pytest.raises(S4EdgeError, match=why) as refused:
        load_model(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_plain_one_may_say_so(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "model.safetensors",
        model_of(),
        lambda dense: dense.append({"name": "mixing", "kind": {"tag": "plain"}}),
    )
    x = torch.from_numpy(signal())
    assert torch.equal(load_model(path)(x), model_of()(x))
