"""Reduced checkpoints for upstream's code, run by the layers' definitions in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from upstream_by_hand import DSS, S4D, S4Block, Upstream, build, run

import s4edge
from s4edge import S4EdgeError
from s4edge.cli.main import cli
from s4edge.compression.states.common_poles import SharedModes, reduce_shared, refit
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.compression.states.mode_counts import reduce_to_mode_count
from s4edge.model.history import to_json
from s4edge.systems.h2 import h2_distance
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes
from s4edge.workflows.to_upstream import SHARED_METHOD, compress_checkpoint

CASES: dict[str, tuple[type[Upstream], dict[str, Any]]] = {
    "s4d": (S4D, {}),
    "block_zoh": (S4Block, {"disc": "zoh"}),
    "block_bilinear": (S4Block, {"disc": "bilinear"}),
    "block_bandlimit": (S4Block, {"bandlimit": 0.1}),
    "block_n_ssm": (S4Block, {"n_ssm": 2}),
    "block_n_ssm_bilinear": (S4Block, {"n_ssm": 3, "disc": "bilinear"}),
    "block_untied_dt": (S4Block, {"dt_tie": False, "dt_transform": "softplus"}),
    "block_dt_fast": (S4Block, {"dt_transform": "none", "dt_fast": True}),
    "block_transforms": (S4Block, {"real_transform": "softplus", "imag_transform": "exp"}),
    "dss_exp": (DSS, {"version": "exp"}),
    "dss_exp_joint_dt": (DSS, {"version": "exp", "sep_dt_re_im": False}),
    "dss_softmax": (DSS, {"version": "softmax"}),
}
FEATURES, BEFORE, AFTER, LENGTH = 6, 16, 8, 60


def save(
    path: Path, cls: type[Upstream], options: dict[str, Any], sidecar: bool = True
) -> tuple[Upstream, dict[str, torch.Tensor]]:
    """A checkpoint in the layout of upstream's example.py."""
    layer = cls(FEATURES, BEFORE, seed=2, **options)
    state_dict = build(layer)
    torch.save({"model": state_dict, "acc": 1.0, "epoch": 0}, path)
    kwargs = {"d_state": BEFORE, "lr": 0.001, **{k: v for k, v in options.items() if k != "grows"}}
    config = {"prenorm": True, "layer": cls.classes, "layer_kwargs": kwargs}  # type: ignore[attr-defined]
    if sidecar:
        content = {"cls": "example.S4Model", "config": config, "L": LENGTH}
        path.with_suffix(".json").write_text(json.dumps(content))
    return layer, state_dict


def sequences() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, LENGTH, 2))


def outputs(model: torch.nn.Module) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(sequences()).float()))


@pytest.mark.parametrize("name", CASES)
def test_the_upstream_class_computes_what_the_reduced_model_does(name: str, tmp_path: Path) -> None:
    cls, options = CASES[name]
    layer, original = save(tmp_path / "model.pt", cls, options)
    out = tmp_path / "small.pt"
    _, small = compress_checkpoint(tmp_path / "model.pt", AFTER, out)

    content = torch.load(out, weights_only=True)
    written = content["model"]
    fresh = build(cls(FEATURES, AFTER, seed=3, **options))
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in fresh.items()}
    assert {k: v.dtype for k, v in written.items()} == {k: v.dtype for k, v in fresh.items()}
    untouched = [k for k in original if "kernel." not in k]
    assert all(torch.equal(written[k], original[k]) for k in untouched)

    expected = np.stack([run(layer, written, x, prenorm=True) for x in sequences()])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs(s4edge.load(out)), expected, atol=1e-5 * scale, rtol=0)
    np.testing.assert_allclose(outputs(small), expected, atol=1e-5 * scale, rtol=0)

    sidecar = json.loads(out.with_suffix(".json").read_text())
    before = json.loads((tmp_path / "model.json").read_text())
    before["config"]["layer_kwargs"]["d_state"] = AFTER
    assert sidecar == before
    (entry,) = content["s4edge"]["history"]
    assert entry == to_json(small.provenance.history[-1])
    shared = cls is DSS or "n_ssm" in options
    assert entry["method"] == (SHARED_METHOD if shared else "balanced")
    original_modes = s4edge.load(tmp_path / "model.pt").blocks[0].systems.modes()
    measured = hinf_distance(original_modes, small.blocks[0].systems.modes())
    told = entry["layers"][0]["channel_error"]
    np.testing.assert_allclose(told, measured, rtol=1e-3, atol=1e-5)
    if not shared:
        bound = np.array(entry["layers"][0]["channel_error_bound"], dtype=float)  # None is NaN
        assert not (np.array(told) > bound + 1e-5).any()
        # Where a bandlimit leaves no more than is kept, rounding is all that is lost.
        assert "bandlimit" in options or np.isfinite(bound).all()


@pytest.mark.parametrize("cls", [S4D, S4Block])
def test_where_no_pole_is_real_the_reduction_is_the_ordinary_one(
    cls: type[Upstream], tmp_path: Path
) -> None:
    save(tmp_path / "model.pt", cls, {})
    usual = s4edge.compress(s4edge.load(tmp_path / "model.pt"), AFTER)
    _, small = compress_checkpoint(tmp_path / "model.pt", AFTER, tmp_path / "small.pt")
    compared = 0
    for one, other in zip(usual.blocks, small.blocks, strict=True):
        fits = np.flatnonzero(np.array(one.systems.config.reals) == 0)
        compared += len(fits)
        kernels = [each.systems.modes().of_channels(fits).kernel(LENGTH) for each in (one, other)]
        np.testing.assert_allclose(*kernels, atol=1e-5 * np.abs(kernels[0]).max())
    assert compared


def test_the_same_size_is_written_to_the_bit(tmp_path: Path) -> None:
    _, original = save(tmp_path / "model.pt", S4D, {})
    compress_checkpoint(tmp_path / "model.pt", BEFORE, tmp_path / "same.pt")
    written = torch.load(tmp_path / "same.pt", weights_only=True)["model"]
    assert all(torch.equal(written[k], original[k]) for k in original)


@pytest.mark.parametrize("name", ["s4d", "block_n_ssm", "dss_exp"])
def test_without_a_sidecar_one_is_written_that_says_what_was_found(
    name: str, tmp_path: Path
) -> None:
    cls, options = CASES[name]
    save(tmp_path / "model.pt", cls, options, sidecar=False)
    _, small = compress_checkpoint(
        tmp_path / "model.pt", AFTER, tmp_path / "small.pt", facts={"prenorm": True}
    )
    again = s4edge.load(tmp_path / "small.pt")
    assert again.provenance.assumed == {}
    np.testing.assert_array_equal(outputs(again), outputs(small))
    config = json.loads((tmp_path / "small.json").read_text())["config"]
    assert config["prenorm"] is True
    assert config["layer"] == cls.classes  # type: ignore[attr-defined]
    assert config["layer_kwargs"]["d_state"] == AFTER
    if name == "block_n_ssm":
        assert config["layer_kwargs"]["n_ssm"] == 2


def test_a_real_pole_takes_a_place_and_a_weight(tmp_path: Path) -> None:
    layer, state = save(tmp_path / "model.pt", S4D, {})
    for i in range(2):
        state[f"s4_layers.{i}.kernel.A_imag"][:, :6] = 0
    torch.save({"model": state}, tmp_path / "model.pt")
    _, small = compress_checkpoint(tmp_path / "model.pt", AFTER, tmp_path / "small.pt")
    modes = small.blocks[0].systems.modes()
    assert modes.is_real.any()
    assert np.bincount(modes.channel).max() <= AFTER // 2
    written = torch.load(tmp_path / "small.pt", weights_only=True)["model"]
    assert (written["s4_layers.0.kernel.A_imag"] == 0).any()
    expected = np.stack([run(layer, written, x, prenorm=True) for x in sequences()])
    np.testing.assert_allclose(outputs(small), expected, atol=1e-5 * np.abs(expected).max())


def random_modes(channels: int, pairs: int, reals: int, seed: int) -> Modes:
    rng = np.random.default_rng(seed)
    angle = np.hstack(
        [rng.uniform(0, np.pi, (channels, pairs)), rng.choice([0, np.pi], (channels, reals))]
    )
    decay = -np.exp(rng.uniform(-4, 0, angle.shape))
    weight = rng.standard_normal(angle.shape) + 1j * rng.standard_normal(angle.shape)
    return Modes.from_rows(decay + 1j * angle, weight)


def test_places_are_not_exceeded_whatever_the_poles() -> None:
    modes = random_modes(channels=8, pairs=2, reals=10, seed=0)
    for slots in (1, 2, 4, 7):
        reduced, bound = reduce_to_mode_count(modes, slots, balanced_truncation)
        assert np.bincount(reduced.channel, minlength=8).max() <= slots
        assert (hinf_distance(modes, reduced) <= bound * (1 + 1e-9)).all()
    same, bound = reduce_to_mode_count(modes, 12, balanced_truncation)
    assert (bound == 0).all()
    np.testing.assert_array_equal(same.kernel(9), modes.kernel(9))


def shared_systems(rows: int = 2, bilinear: bool = False) -> SharedModes:
    rng = np.random.default_rng(4)
    pole = -np.exp(rng.uniform(-1, 1, 10)) + 1j * rng.uniform(-20, 20, 10)
    steps = np.exp(rng.uniform(-4, -2, (5, 1))) * np.ones(2)
    weight = rng.standard_normal((rows, 5, 10)) + 1j * rng.standard_normal((rows, 5, 10))
    return SharedModes(pole, steps, weight, bilinear)


def kernels(systems: SharedModes, row: int) -> Modes:
    return Modes.from_rows(systems.log_pole, systems.weight[row])


@pytest.mark.parametrize("bilinear", [False, True])
def test_shared_modes_without_weight_are_what_goes(bilinear: bool) -> None:
    systems = shared_systems(bilinear=bilinear)
    systems.weight[..., 6:] = 0
    small = reduce_shared(systems, 6)
    for row in range(2):
        whole = kernels(systems, row)
        norm = h2_distance(whole, whole.select(np.zeros(len(whole.weight), bool)))
        assert (h2_distance(whole, kernels(small, row)) < 1e-4 * norm).all()


def test_the_descent_improves_on_the_choice_and_more_modes_on_fewer() -> None:
    systems = shared_systems()

    def error(small: SharedModes) -> float:
        signal = np.convolve(np.ones(1), 0.9 ** np.arange(400))
        total = 0.0
        for row in range(2):
            before, after = (kernels(each, row).kernel(400) for each in (systems, small))
            out = [np.convolve(k, signal)[:400] for k in (before - after)]
            reference = [np.convolve(k, signal)[:400] for k in before]
            total += sum((o**2).sum() / (r**2).sum() for o, r in zip(out, reference, strict=True))
        return total

    chosen = [error(reduce_shared(systems, count, steps=0)) for count in (2, 4, 7)]
    moved = [error(reduce_shared(systems, count)) for count in (2, 4, 7)]
    assert chosen[0] > chosen[1] > chosen[2]
    assert all(after < before for before, after in zip(chosen, moved, strict=True))


def test_refitted_weights_are_the_given_ones_where_nothing_is_missing() -> None:
    systems = shared_systems()
    weight = refit(systems, systems.pole)
    again = systems.with_modes(systems.pole, weight)
    for row in range(2):
        error = h2_distance(kernels(systems, row), kernels(again, row))
        np.testing.assert_allclose(error, 0, atol=1e-6)


def test_the_h2_distance_is_that_of_the_kernels() -> None:
    first, second = random_modes(3, 4, 2, seed=1), random_modes(3, 3, 1, seed=2)
    difference = first.kernel(3000) - second.kernel(3000)
    expected = np.sqrt((difference**2).sum(axis=1))
    np.testing.assert_allclose(h2_distance(first, second), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "state", "words"),
    [
        ("s4d", {}, 7, "even"),
        ("s4d", {}, 18, "larger than"),
        ("s4d", {}, 0, "from 1 up"),
        ("block_zoh", {"disc": "zoh", "real_transform": "sigmoid"}, 4, "real_transform=sigmoid"),
        ("dss_softmax", {"version": "softmax", "grows": 2}, 8, "modes that grow"),
        ("block_n_ssm", {"n_ssm": 2, "dt_tie": False}, 8, "dt_tie=False"),
    ],
)
def test_what_the_layout_cannot_hold_is_said(
    name: str, options: dict[str, Any], state: int, words: str, tmp_path: Path
) -> None:
    _, state_dict = save(tmp_path / "model.pt", CASES[name][0], options)
    if "sigmoid" in words:
        # Step sizes so large that the poles, all near 1, are too slow for what is kept of them.
        for i in range(2):
            state_dict[f"s4_layers.{i}.layer.kernel.A_real"] = torch.linspace(-6, 6, 48).view(6, 8)
        torch.save({"model": state_dict}, tmp_path / "model.pt")
    with pytest.raises(s4edge.S4EdgeError, match=words) as caught:
        compress_checkpoint(tmp_path / "model.pt", state, tmp_path / "small.pt")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt"]


def test_systems_that_share_poles_are_not_reduced_one_by_one(tmp_path: Path) -> None:
    save(tmp_path / "model.pt", DSS, {"version": "exp"})
    with pytest.raises(s4edge.S4EdgeError, match="share poles"):
        compress_checkpoint(tmp_path / "model.pt", 8, tmp_path / "s.pt", method="complex-balanced")


@pytest.mark.parametrize(
    ("name", "words"),
    [("nplr_lmaxNone", "low-rank part P"), ("diag_is_real_bilinear", "is_real"),
     ("seq_ffn", "several kinds"), ("v3_diag_zoh", "version 3 is not written")],
)  # fmt: skip
def test_other_layouts_are_refused(name: str, words: str, shared: Path, tmp_path: Path) -> None:
    path = shared / "checkpoints" / "layers" / f"{name}.pt"
    with pytest.raises(s4edge.S4EdgeError, match=words):
        compress_checkpoint(path, 8, tmp_path / "small.pt")


@pytest.mark.parametrize(
    "name",
    ["s4d_min", "diag_channels2", "diag_nssm2_bilinear_bidir_softplus", "diag_disc_dss_legs",
     "dss_exp-re-im_bidir", "dss_clip_channels2", "dss_exp_transposedF", "seq_modelbidir_trF"],
)  # fmt: skip
def test_bare_layers_and_backbones_are_read_back(name: str, shared: Path, tmp_path: Path) -> None:
    path = shared / "checkpoints" / "layers" / f"{name}.pt"
    _, small = compress_checkpoint(path, 8, tmp_path / "small.pt")
    again = s4edge.load(tmp_path / "small.pt")
    assert again.blocks[0].systems.config.state_size == 8
    with np.load(path.with_suffix(".npz")) as content:
        x = torch.from_numpy(content["x"]).float()
    with torch.inference_mode():
        y, whole = again(x), s4edge.load(path)(x)
        torch.testing.assert_close(y, small(x), rtol=0, atol=0)
    # A reduction, not another layer.
    assert (y - whole).square().mean() < 0.3 * whole.square().mean()


def call(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(cli, ["compress", *arguments])


def test_the_command_writes_the_checkpoint_and_its_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model.pt", S4D, {})
    result = call(
        tmp_path, monkeypatch, "model.pt", "--state", "8", "--format", "upstream", "--json"
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["output"], answer["sidecar"]) == ("model-s8.pt", "model-s8.json")
    assert answer["state_size"] == {"before": 16, "after": 8}
    assert answer["layers"][0]["error"] <= answer["layers"][0]["error_bound"]
    assert s4edge.load(tmp_path / "model-s8.pt").config.real_states < 2 * FEATURES * BEFORE
    # For people.
    result = call(tmp_path, monkeypatch, "model.pt", "--state", "4", "--format", "upstream")
    assert result.exit_code == 0
    assert "model-s4.json" in result.stdout


@pytest.mark.parametrize(
    ("output", "words"),
    [("small.safetensors", "ends in .pt"), ("model.pth", "original or its sidecar"),
     ("nowhere/small.pt", "does not exist")],
)  # fmt: skip
def test_the_command_refuses_a_name_for_another_kind_of_file(
    output: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model.pt", S4D, {})
    arguments = ("model.pt", "--state", "8", "--format", "upstream", "-o", output)
    result = call(tmp_path, monkeypatch, *arguments)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt"]


def test_a_compressed_model_is_no_upstream_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model.pt", S4D, {})
    assert call(tmp_path, monkeypatch, "model.pt", "--state", "8").exit_code == 0
    arguments = ("model-s8.safetensors", "--state", "4", "--format", "upstream")
    result = call(tmp_path, monkeypatch, *arguments)
    assert result.exit_code == 1
    assert "name the upstream checkpoint" in " ".join(result.output.split())


@pytest.mark.parametrize("name", CASES)
def test_more_states_are_not_worse(name: str, tmp_path: Path) -> None:
    """Also where modes are chosen together: a pole on the wrong side would cost more with each."""
    cls, options = CASES[name]
    save(tmp_path / "model.pt", cls, options)
    errors = []
    for state in (2, 4, 12):
        _, small = compress_checkpoint(tmp_path / "model.pt", state, tmp_path / "small.pt")
        layers = small.provenance.history[-1].layers
        errors.append(sum(np.square(layer.channel_h2_error).sum() for layer in layers))
    assert errors[1] < errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_one_dss_channel_keeps_its_two_step_sizes(tmp_path: Path) -> None:
    """Its poles are its own then, and each part of them has a step size of its own."""
    options = {"version": "exp"}
    state_dict = build(DSS(1, BEFORE, seed=2, **options))
    torch.save({"model": state_dict}, tmp_path / "model.pt")
    kwargs = {"d_state": BEFORE, **options}
    config = {"prenorm": True, "layer": DSS.classes, "layer_kwargs": kwargs}
    (tmp_path / "model.json").write_text(json.dumps({"cls": "example.S4Model", "config": config}))
    _, small = compress_checkpoint(
        tmp_path / "model.pt", AFTER, tmp_path / "small.pt", method="modal"
    )
    before = s4edge.load(tmp_path / "model.pt").blocks[0].systems.modes()
    kept = small.blocks[0].systems.modes()
    # The modes that are kept are kept as they are.
    assert np.abs(kept.pole[:, None] - before.pole).min(axis=1).max() < 1e-6


def test_finite_horizon_takes_the_length_or_asks_for_it(tmp_path: Path) -> None:
    save(tmp_path / "model.pt", S4D, {})
    _, small = compress_checkpoint(
        tmp_path / "model.pt", AFTER, tmp_path / "small.pt", method="finite-horizon"
    )
    assert small.blocks[0].systems.config.state_size == AFTER
    content = json.loads((tmp_path / "model.json").read_text())
    del content["L"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(S4EdgeError, match="--set length=L"):
        compress_checkpoint(
            tmp_path / "model.pt", AFTER, tmp_path / "small.pt", method="finite-horizon"
        )
