"""What the comparison with upstream decides by itself; it runs where a checkout of upstream is."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from upstream import checkout, draws, models, run, verdict

import s4edge

SEEDS = range(300)


@pytest.mark.parametrize("version", checkout.VERSIONS)
def test_a_seed_draws_the_same_again_and_all_kinds_come(version: str) -> None:
    drawn = [draws.draw(version, seed) for seed in SEEDS]
    assert drawn == [draws.draw(version, seed) for seed in SEEDS]
    kinds = {each.kind for each in drawn}
    assert {"seq", "full", "example"} <= kinds
    assert {each.way for each in drawn} == set(draws.WAYS)
    # Only what a trainer saves is given as Lightning gives it.
    assert {each.kind for each in drawn if each.way == "lightning"} == {"full"}
    assert any(each.config.get("d_model", 2) % 2 for each in drawn)


@pytest.mark.parametrize("version", checkout.VERSIONS)
def test_a_sidecar_can_hold_what_is_drawn(version: str) -> None:
    for seed in SEEDS:
        config = draws.draw(version, seed).config
        assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize("version", checkout.VERSIONS)
def test_every_option_is_drawn_and_mostly_few_at_a_time(version: str) -> None:
    layers = []
    for seed in range(600):
        config = draws.draw(version, seed).config
        model = config.get("model", config)
        layers += [layer for layer in models.parts(model.get("layer")) if isinstance(layer, dict)]
    options = collections.Counter(key for layer in layers for key in layer)
    for key in ("activation", "channels", "bidirectional", "dt_min", "dropout", "expand"):
        assert options[key] > 2, key
    sizes = sorted(len(layer) for layer in layers)
    assert sizes[len(sizes) // 2] <= 9
    assert sizes[-1] >= 14


def test_checkouts_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "NEEDS", ("json",))
    with pytest.raises(checkout.CannotError, match="has no src/models"):
        checkout.open_checkout(tmp_path, "v4")
    (tmp_path / "src" / "models").mkdir(parents=True)
    with pytest.raises(checkout.CannotError, match="--cauchy FOLDER"):
        checkout.open_checkout(tmp_path, "v2")
    monkeypatch.setattr(checkout, "NEEDS", ("no_such_package_at_all",))
    with pytest.raises(checkout.CannotError, match="pip install no_such_package_at_all"):
        checkout.open_checkout(tmp_path, "v4")


def test_upstreams_float_is_double_only_inside() -> None:
    with checkout.double_precision():
        assert torch.zeros(1).float().dtype == torch.float64
    assert torch.zeros(1).double().float().dtype == torch.float32


def test_the_example_is_built_without_running_its_script(tmp_path: Path) -> None:
    source = (
        "raise RuntimeError\nclass S4Model(nn.Module):\n  def __init__(self):\n    self.a = S4(3)"
    )
    (tmp_path / "example.py").write_text(source)
    built: Any = checkout.Checkout(tmp_path, "v4").example(lambda size: size + 1)
    assert built().a == 4


def test_parameters_move_by_their_spread_and_norms_statistics_do_not() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.BatchNorm1d(20))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        models.move(module, 0.1, torch.Generator().manual_seed(0))
    after = module.state_dict()
    moved = (after["0.weight"] - before["0.weight"]).std() / before["0.weight"].std()
    assert float(moved) == pytest.approx(0.1, rel=0.2)
    assert not torch.equal(after["1.weight"], before["1.weight"])
    assert torch.equal(after["1.running_var"], before["1.running_var"])


def test_what_is_true_by_any_of_its_names() -> None:
    config = {
        "decoder": {"_name_": "sequence", "mode": "pool"},
        "model": {"norm": {"eps": 0.1}, "layer": [{"mode": "diag"}, {"expand": 2}]},
    }
    drawn = draws.Draw("v4", 0, "full", "", config, 32, "blind", 0.1, None)
    truth = verdict.Truth(drawn, {"residual": None})
    assert truth.value("decoder.mode") == (True, "pool")
    assert truth.value("layer.mode") == (True, "diag")
    assert truth.value("norm.eps") == (True, 0.1)
    assert truth.value("mode") == (True, "diag")  # of a layer, before a decoder's
    assert truth.value("residual") == (True, None)
    assert truth.value("unheard_of")[0] is False
    assert truth.value("length") == (True, 32)
    assert truth.differing({"eps": 1e-5, "expand": 2, "l_max": None}) == {"eps": 0.1}


def test_reasons_are_told_without_what_is_of_one_file() -> None:
    said = "FILE: model.layers.3.layer.D has shape (8, 1), expected (8,)"
    assert verdict.reason(said) == "LAYER has shape (#, #), expected (#,)"


def _recorded(model: s4edge.SequenceModel, change: float = 0.0) -> models.Recorded:
    x = torch.randn(2, 8, model.config.d_input, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).double().numpy()
    return models.Recorded({}, x, y + change, None, float("nan"), {})


def test_verdicts_on_a_model(digits: Path) -> None:
    path = digits / "model.pt"
    model = s4edge.load(path)
    drawn = draws.Draw("v4", 0, "example", "", {}, 8, "blind", 0.0, None)
    exact = verdict.judge(path, _recorded(model), drawn)
    assert (exact.outcome, exact.streams) == ("exact", True)
    assert verdict.judge(path, _recorded(model, 0.1), drawn).outcome == "WRONG"
    assert verdict.judge(path.with_name("none.pt"), _recorded(model), drawn).outcome == "refused"


def test_cases_of_a_folder(tmp_path: Path, digits: Path) -> None:
    recorded = _recorded(s4edge.load(digits / "model.pt"))
    for name, change in (("right", 0.0), ("off", 1.0)):
        (tmp_path / f"{name}.pt").write_bytes((digits / "model.pt").read_bytes())
        np.savez(tmp_path / f"{name}.npz", x=recorded.x.numpy(), y=recorded.y + change)
    told = CliRunner().invoke(run.main, ["cases", str(tmp_path)])
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert lines[0].split()[:2] == ["off", "WRONG"]
    assert lines[1].split()[:2] == ["right", "exact"]
    assert lines[2] == "1 exact, 1 WRONG"
