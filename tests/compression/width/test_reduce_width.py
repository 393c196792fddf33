"""Models with a narrower residual stream."""

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
from s4edge.compression.rates.step import ReduceRate
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.width.narrowing import narrowed
from s4edge.compression.width.step import ReduceWidth
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.export.c.c_file import export_c
from s4edge.model.configuration import GateConfig
from s4edge.model.costs import multiply_adds
from s4edge.model.history import WidthReduction
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.model.systems.feedforward import FeedForwardConfig


def inputs(count: int = 32, length: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((count, length, 2))).float()


def relative(y: torch.Tensor, aim: torch.Tensor) -> float:
    return float((y.double() - aim).norm() / aim.double().norm())


def entry_of(model: SequenceModel) -> WidthReduction:
    entry = model.provenance.history[-1]
    assert isinstance(entry, WidthReduction)
    return entry


def rich_model(norm: str = "affine", **changes: object) -> SequenceModel:
    """Three blocks: gated with a projection and a stride; a highway; two heads, feed-forward."""
    model = random_model(3, d_model=8)
    first, second = model.config.blocks
    gated = dataclasses.replace(
        first, norm=norm, gate=GateConfig(10, "silu", "identity"), projection="linear",
        mixing_width=12, final_activation="gelu", stride=2, residual_form="scaled",
    )  # fmt: skip
    highway = dataclasses.replace(
        second, norm=norm, residual=True, residual_form="highway", final_activation="glu",
        norm_placement="pre",
    )  # fmt: skip
    heads = FeedForwardConfig("feedforward", 16, tuple(range(8)) * 2)
    forward = dataclasses.replace(
        second, name="blocks.2", systems=heads, norm=norm, residual=True, final_activation="relu",
    )  # fmt: skip
    config = dataclasses.replace(
        model.config, blocks=(gated, highway, forward), final_norm=norm, **changes
    )
    torch.manual_seed(4)
    built = SequenceModel(config)
    for block, old in zip(built.blocks, model.blocks, strict=False):
        block.systems = old.systems
    return built.eval()


@pytest.mark.parametrize("dead", [[0], [2, 5], [1, 3, 6, 7]])
def test_features_that_are_nothing_are_taken_and_nothing_changes(dead: list[int]) -> None:
    model, x = rich_model(), inputs()
    with torch.no_grad():
        # A feature that is 0 wherever it leaves something.
        kept = [each for each in range(8) if each not in dead]
        rows = {
            "blocks.0.projection": dead, "blocks.1.mixing": [*dead, *(8 + d for d in dead)],
            "blocks.1.highway.output": dead, "blocks.2.mixing": dead, "encoder": dead,
        }  # fmt: skip
        for name, own in rows.items():
            for part in ("weight", "bias"):
                model.get_parameter(f"{name}.{part}")[own] = 0
        for norm in (*(block.norm for block in model.blocks), model.norm):
            norm.get_parameter("bias")[dead] = 0
        wanted = model(x)
        cut = narrowed(model, np.array(kept))
        assert relative(cut(x), wanted) < 1e-5
    small = s4edge.compress(model, steps=[ReduceWidth(len(kept))], calibration=x)
    assert entry_of(small).features == tuple(kept)
    with torch.no_grad():
        assert relative(small(x), wanted) < 2e-3
        other = inputs(4, 60) * 2
        assert relative(small(other), model(other)) < 1e-2


def test_all_features_are_the_same_model_to_the_bit() -> None:
    model, x = rich_model("layer"), inputs()
    assert torch.equal(narrowed(model, np.arange(8))(x), model(x))


def test_what_is_told_is_what_is() -> None:
    model, x = random_model(d_model=8), inputs()
    small = s4edge.compress(model, steps=[ReduceWidth(6)], calibration=x)
    entry = entry_of(small)
    assert (entry.width_before, entry.width, len(entry.features)) == (8, 6, 6)
    assert small.config.d_model == 6
    assert [block.systems.config.channels for block in small.blocks] == [6, 6]
    assert entry.multiply_adds_after == multiply_adds(small) < multiply_adds(model)
    with torch.no_grad():
        assert entry.output_error.measured == pytest.approx(relative(small(x), model(x)), rel=1e-3)
        h, g = model.encode(x), small.encode(x)
        for before, after, told in zip(model.blocks, small.blocks, entry.layers, strict=True):
            h, g = before(h), after(g)
            found = relative(g, h[..., list(entry.features)])
            assert told.error == pytest.approx(found, rel=1e-3)
    # The systems are the original's.
    for before, after in zip(model.blocks, small.blocks, strict=True):
        old, new = before.systems.modes(), after.systems.modes()
        for place, feature in enumerate(entry.features):
            for kind in ("log_pole", "weight"):
                one, other = (
                    getattr(each, kind)[each.channel == h]
                    for each, h in ((old, feature), (new, place))
                )
                assert np.array_equal(one, other)


def test_choosing_and_refitting_are_worth_it() -> None:
    model, x = random_model(5, d_model=10), inputs(64)
    small = s4edge.compress(model, steps=[ReduceWidth(fraction=0.7)], calibration=x)
    fresh = torch.from_numpy(np.random.default_rng(9).standard_normal((32, 40, 2))).float()
    with torch.no_grad():
        found = relative(small(fresh), model(fresh))
        assert found < 0.7 * relative(
            narrowed(model, np.array(entry_of(small).features))(fresh), model(fresh)
        )
        rng = np.random.default_rng(0)
        blind = [
            relative(
                narrowed(model, np.sort(rng.choice(10, 7, replace=False)))(fresh), model(fresh)
            )
            for _ in range(10)
        ]
        assert found < min(blind)


def test_with_all_other_steps_in_one_go(tmp_path: Path) -> None:
    model, x = random_model(d_model=10), inputs()
    steps = [ReduceRate((2, 1)), ReduceWidth(7), ReduceRank(2), ReduceStates(3)]
    small = s4edge.compress(model, steps=steps, calibration=x)
    assert len(small.provenance.history) == 4
    assert small.config.d_model == 7
    with torch.no_grad():
        torch.testing.assert_close(
            small.double().stream(x[:2].double()), small.running(x[:2].double()),
            atol=1e-6, rtol=1e-6,
        )  # fmt: skip
    small = small.float()
    s4edge.save(small, tmp_path / "small.safetensors")
    again = s4edge.load(tmp_path / "small.safetensors")
    assert again.config == small.config
    assert again.provenance.history == small.provenance.history
    assert torch.equal(again(x), small(x))
    export_c(again, tmp_path / "small.c")


def test_rich_models_and_padding() -> None:
    model = rich_model("layer", held=True)
    x, lengths = inputs().numpy(), np.arange(32) % 9 + 30
    models = []
    for rubbish in (0.0, 50.0):
        padded = x.copy()
        for row, length in enumerate(lengths):
            padded[row, length:] = rubbish
        data = Data(padded, None, lengths, "padded")
        models.append(s4edge.compress(model, steps=[ReduceWidth(6)], calibration=data))
    assert models[0].config.d_model == 6
    for one, other in zip(*(each.state_dict().values() for each in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert not model.provenance.history


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (ReduceWidth(), "give either a width or a fraction of it"),
        (ReduceWidth(4, 0.5), "give either a width or a fraction of it"),
        (ReduceWidth(0), "a width is a whole number from 1 up, got 0"),
        (ReduceWidth(True), "a width is a whole number from 1 up, got True"),
        (ReduceWidth(fraction=1.5), "is between 0 and 1, got 1.5"),
        (ReduceWidth(fraction=float("nan")), "is between 0 and 1, got nan"),
        (ReduceWidth(6), "the width 6 takes no feature away: the model has 6"),
        (ReduceWidth(fraction=0.99), "the width 6 takes no feature away"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(step: ReduceWidth, why: str) -> None:
    with pytest.raises(S4EdgeError, match=why) as refused:
        s4edge.compress(random_model(), steps=[step], calibration=inputs())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encoder": "none"}, "has no encoder and decoder of its own"),
        ({"widening": 6}, "blocks.0 changes the width of the stream"),
        ({"repeat": 2}, "blocks.0 changes the width of the stream"),
        ({"activation": "glu"}, "blocks.0 multiplies channels by each other"),
        ({"mixing": "none", "final_activation": "identity"}, "without a dense layer"),
    ],
)
def test_models_whose_width_is_fixed_are_refused(change: dict[str, object], why: str) -> None:
    model = random_model()
    config = model.config
    if "encoder" in change:
        config = dataclasses.replace(config, d_input=6, **change)
    else:
        last = dataclasses.replace(config.blocks[0], name="blocks.0", **change)
        if change.get("activation") == "glu":
            assert isinstance(last.systems, DiagonalConfig)
            last = dataclasses.replace(
                last, systems=FeedForwardConfig("feedforward", 12, tuple(range(6)) * 2)
            )
        config = dataclasses.replace(config, blocks=(last,))
    built = SequenceModel(config).eval()
    x = torch.randn(8, 20, config.d_input)
    with pytest.raises(S4EdgeError, match=why):
        s4edge.compress(built, steps=[ReduceWidth(4)], calibration=x)


def test_what_it_needs() -> None:
    with pytest.raises(S4EdgeError, match="add --calibrate DATA"):
        s4edge.compress(random_model(), steps=[ReduceWidth(4)])
    with pytest.raises(S4EdgeError, match="no single matrix, mixing: its width"):
        s4edge.compress(random_model(), steps=[ReduceRank(2), ReduceWidth(4)], calibration=inputs())
    silent = copy.deepcopy(random_model())
    with torch.no_grad():
        silent.decoder.weight.zero_()
        silent.decoder.bias.zero_()
    with pytest.raises(S4EdgeError, match="is zero throughout: it cannot be calibrated"):
        s4edge.compress(silent, steps=[ReduceWidth(4)], calibration=inputs())
