"""Models whose dense layers become products of two matrices."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge.compression.dense.step import ReduceRank
from s4edge.compression.states.step import ReduceStates
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.export.lowering import lower
from s4edge.model.block import Block
from s4edge.model.configuration import DenseLayer, GateConfig
from s4edge.model.dense.low_rank import LowRank, LowRankConfig
from s4edge.model.dense.plain import Plain
from s4edge.model.history import RankReduction
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.feedforward import FeedForwardConfig


def wide_model(seed: int = 0, **changes: object) -> SequenceModel:
    """Two blocks, the first with a gate, a projection and a stride behind it, and a third without
    systems."""
    model = random_model(seed, d_model=12, **changes)
    first, second = model.config.blocks
    gated = dataclasses.replace(
        first, gate=GateConfig(10, "silu", "identity"), projection="linear", mixing_width=16,
        final_activation="gelu", stride=2,
    )  # fmt: skip
    forward = dataclasses.replace(
        first, name="blocks.2", systems=FeedForwardConfig("feedforward", 12), mixing_width=24,
        projection="linear", final_activation="relu", residual=True,
    )  # fmt: skip
    config = dataclasses.replace(model.config, blocks=(gated, second, forward))
    built = SequenceModel(config)
    for block, old in zip(built.blocks, model.blocks, strict=False):
        block.systems = old.systems
    built.encoder, built.decoder = model.encoder, model.decoder
    return built.eval()


def inputs(count: int = 24, length: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((count, length, 2))).float()


def entry_of(model: SequenceModel) -> RankReduction:
    entry = model.provenance.history[-1]
    assert isinstance(entry, RankReduction)
    return entry


def relative(y: torch.Tensor, aim: torch.Tensor) -> float:
    return float((y.double() - aim).norm() / aim.double().norm())


def dense_work(model: SequenceModel) -> float:
    """Multiply-adds of blocks' matrices for each input sample."""
    total = 0.0
    for block, period in zip(model.blocks, model.config.periods, strict=False):
        for module in block.modules():
            if isinstance(module, torch.nn.Linear):
                total += module.weight.numel() / period
    return total


class Spy(torch.nn.Module):
    """A layer in memory with time last is not called as a module: this one is."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.answer = layer, torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.answer = self.layer(x)
        return self.answer


def leaving(block: Block, name: str, h: torch.Tensor) -> torch.Tensor:
    """(samples, rows) what leaves a dense layer."""
    watched = copy.deepcopy(block)
    spy = Spy(watched.get_submodule(name))
    watched.set_submodule(name, spy)
    watched(h)
    return spy.answer.flatten(0, 1)


def test_a_rank_for_all_layers_that_gain_by_it() -> None:
    model, x = wide_model(), inputs()
    small = s4edge.compress(model, steps=[ReduceRank(4)], calibration=x)
    assert dense_work(small) < dense_work(model)
    taken = 0
    for before, after in zip(model.blocks, small.blocks, strict=True):
        for name in before.config.dense_names:
            old, new = before.get_submodule(name), after.get_submodule(name)
            assert isinstance(old, Plain)
            m, n = old.weight.shape
            if 4 * (m + n) < m * n:
                taken += 1
                assert isinstance(new, LowRank)
                assert after.config.dense_kind(name) == LowRankConfig(4)
            else:
                assert after.config.dense_kind(name) is None
                assert torch.equal(old.weight, new.get_parameter("weight"))
    entry = entry_of(small)
    assert taken == sum(layer.rank == 4 for layer in entry.layers) >= 5
    assert entry.rank == 4
    assert {layer.name for layer in entry.layers} == {"blocks.0", "blocks.1", "blocks.2"}
    assert (model.config.blocks[0].dense, model.provenance.history) == ((), [])


def test_errors_are_what_they_are() -> None:
    model, x = wide_model(), inputs()
    small = s4edge.compress(model, steps=[ReduceRank(3)], calibration=x)
    entry = entry_of(small)
    with torch.no_grad():
        measured = relative(small(x), model(x))
        assert entry.output_error.measured == pytest.approx(measured, rel=1e-3)
        assert entry.layers[-1].output_error.measured == pytest.approx(measured, rel=1e-3)
        h = g = model.encode(x)
        told = {(layer.name, layer.dense): layer for layer in entry.layers}
        for before, after in zip(model.blocks, small.blocks, strict=True):
            for name in before.config.dense_names:
                layer = told[before.config.name, name]
                y, z = (leaving(block, name, each) for block, each in ((before, h), (after, g)))
                deviation = (y - y.mean(0)).norm()
                assert layer.error == pytest.approx(
                    float((z - y).norm() / deviation), rel=1e-3, abs=1e-6
                )
            h, g = before(h), after(g)
    # Before the first one nothing has changed.
    first = entry.layers[1]
    assert first.dense == "gate.output"
    assert first.error == pytest.approx(first.predicted_error, rel=1e-3)
    assert first.error > 0.05


def test_small_losses_are_predicted() -> None:
    model, x = wide_model(2), inputs(64)
    small = s4edge.compress(model, steps=[ReduceRank(tolerance=0.03)], calibration=x)
    error = entry_of(small).output_error
    assert error.predicted is not None
    assert 0.3 * error.measured < error.predicted < 3 * error.measured


@pytest.mark.parametrize("fraction", [0.7, 0.4])
def test_a_fraction_of_the_work_is_spent_where_it_matters(fraction: float) -> None:
    model, x = wide_model(), inputs()
    small = s4edge.compress(model, steps=[ReduceRank(fraction=fraction)], calibration=x)
    assert dense_work(small) <= fraction * dense_work(model)
    assert dense_work(small) > 0.75 * fraction * dense_work(model)
    assert lower(small).multiply_adds < lower(model).multiply_adds
    # The layer whose outputs nobody hears is the first to lose.
    deaf = copy.deepcopy(model)
    with torch.no_grad():
        deaf.blocks[2].projection.get_parameter("weight").mul_(1e-4)
    quiet = entry_of(s4edge.compress(deaf, steps=[ReduceRank(fraction=0.7)], calibration=x))
    ranks = {(each.name, each.dense): each.rank for each in quiet.layers}
    assert ranks["blocks.2", "mixing"] in (1, 2)
    assert any(rank is None or rank > 4 for rank in ranks.values())


def test_a_tolerance_is_kept() -> None:
    model, x = wide_model(), inputs()
    sizes = []
    for tolerance in (0.3, 0.1, 0.02):
        small = s4edge.compress(model, steps=[ReduceRank(tolerance=tolerance)], calibration=x)
        with torch.no_grad():
            assert relative(small(x), model(x)) <= tolerance * 1.001
        sizes.append(dense_work(small))
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.7 * dense_work(model)


def test_a_layer_of_that_rank_loses_nothing() -> None:
    model, x = wide_model(), inputs()
    with torch.no_grad():
        for block in model.blocks:
            for name in block.config.dense_names:
                weight = block.get_submodule(name).get_parameter("weight")
                weight.copy_(weight[:, :3] @ torch.randn(3, weight.shape[1]))
    small = s4edge.compress(model, steps=[ReduceRank(3)], calibration=x)
    with torch.no_grad():
        assert relative(small(x), model(x)) < 1e-5
        other = inputs(4, 100) * 3 + 1
        assert relative(small(other), model(other)) < 1e-4


def test_it_beats_the_plain_svd() -> None:
    model, x = wide_model(), inputs(64)
    small = s4edge.compress(model, steps=[ReduceRank(2)], calibration=x)
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for block, after in zip(plain.blocks, small.blocks, strict=True):
            for each in after.config.dense:
                weight = block.get_submodule(each.name).get_parameter("weight")
                u, s, v = torch.linalg.svd(weight)
                weight.copy_((u[:, :2] * s[:2]) @ v[:2])
        fresh = torch.from_numpy(np.random.default_rng(9).standard_normal((32, 40, 2))).float()
        assert relative(small(fresh), model(fresh)) < 0.8 * relative(plain(fresh), model(fresh))


def test_a_product_is_reduced_further() -> None:
    model, x = wide_model(), inputs()
    once = s4edge.compress(model, steps=[ReduceRank(4)], calibration=x)
    twice = s4edge.compress(model, steps=[ReduceRank(4), ReduceRank(2)], calibration=x)
    assert dense_work(twice) < dense_work(once)
    again = entry_of(twice)
    assert {(layer.rank_before, layer.rank) for layer in again.layers} == {(4, 2)}


def test_with_states_in_one_go() -> None:
    model, x = random_model(), inputs()
    small = s4edge.compress(model, steps=[ReduceRank(2), ReduceStates(2)], calibration=x)
    assert small.config.real_states < model.config.real_states
    assert small.config.blocks[0].dense_kind("mixing") == LowRankConfig(2)
    assert len(small.provenance.history) == 2


def test_padding_is_not_looked_at() -> None:
    model = random_model()
    x, lengths = inputs().numpy(), np.arange(24) % 17 + 20
    models = []
    for rubbish in (0.0, 50.0):
        padded = x.copy()
        for row, length in enumerate(lengths):
            padded[row, length:] = rubbish
        data = Data(padded, None, lengths, "padded")
        models.append(s4edge.compress(model, steps=[ReduceRank(2)], calibration=data))
    for one, other in zip(*(each.state_dict().values() for each in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # Sequences cut there one by one, as far as they are equally long.
    same = lengths == 20
    whole = s4edge.compress(
        model, steps=[ReduceRank(2)], calibration=torch.from_numpy(x[same, :20])
    )
    some = Data(x[same], None, lengths[same], "padded")
    cut = s4edge.compress(model, steps=[ReduceRank(2)], calibration=some)
    for one, other in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_it_streams_and_is_kept_in_a_file(tmp_path: Path) -> None:
    model, x = random_model(), inputs(3)
    small = s4edge.compress(model, steps=[ReduceRank(2)], calibration=inputs())
    with torch.no_grad():
        torch.testing.assert_close(
            small.double().stream(x.double()), small.running(x.double()), atol=1e-6, rtol=1e-6
        )
    small = small.float()
    s4edge.save(small, tmp_path / "small.safetensors")
    again = s4edge.load(tmp_path / "small.safetensors")
    assert again.config == small.config
    assert again.provenance.history == small.provenance.history
    assert torch.equal(again(x), small(x))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (ReduceRank(), "give either a rank, or a fraction"),
        (ReduceRank(2, tolerance=0.1), "give either a rank, or a fraction"),
        (ReduceRank(0), "a rank is a whole number from 1 up, got 0"),
        (ReduceRank(True), "a rank is a whole number from 1 up, got True"),
        (ReduceRank(fraction=1.0), "multiply-adds is between 0 and 1, got 1"),
        (ReduceRank(fraction=float("nan")), "between 0 and 1, got nan"),
        (ReduceRank(tolerance=-0.5), "may cost is between 0 and 1, got -0.5"),
        (ReduceRank(9), "rank 9 saves nothing: .* of 6 -> 12 features .* up to the rank 3"),
        (ReduceRank(fraction=0.1), "ranks of 1 take 27.78% .* a fraction of 0.1 is too small"),
        (ReduceRank(tolerance=1e-9), "no product of two keeps the output's error under 1e-09"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(step: ReduceRank, why: str) -> None:
    with pytest.raises(S4EdgeError, match=why) as refused:
        s4edge.compress(random_model(), steps=[step], calibration=inputs())
    assert "\n" not in str(refused.value)


def test_a_rank_that_a_layer_cannot_have() -> None:
    model = random_model()
    for rank in (0, 7):
        dense = (DenseLayer("mixing", LowRankConfig(rank)),)
        blocks = (dataclasses.replace(model.config.blocks[0], dense=dense),)
        with pytest.raises(S4EdgeError, match=f"blocks.0: mixing: .*cannot have the rank {rank}"):
            SequenceModel(dataclasses.replace(model.config, blocks=blocks))


def test_what_it_needs() -> None:
    with pytest.raises(S4EdgeError, match="add --calibrate DATA"):
        s4edge.compress(random_model(), steps=[ReduceRank(2)])
    tiny = random_model(d_model=1)
    with pytest.raises(S4EdgeError, match="no dense layer of a block would take fewer"):
        s4edge.compress(tiny, steps=[ReduceRank(1)], calibration=inputs())
    silent = random_model()
    with torch.no_grad():
        silent.decoder.weight.zero_()
        silent.decoder.bias.zero_()
    with pytest.raises(S4EdgeError, match="is zero throughout: it cannot be calibrated"):
        s4edge.compress(silent, steps=[ReduceRank(1)], calibration=inputs())
