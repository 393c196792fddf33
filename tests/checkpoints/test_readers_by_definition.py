"""Readers against the layers' definitions, computed naively in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from upstream_by_hand import DSS, S4D, S4Block, Upstream, build, run

import s4edge

CASES: dict[str, tuple[type[Upstream], dict[str, Any]]] = {
    "s4d": (S4D, {}),
    "block_zoh": (S4Block, {"disc": "zoh"}),
    "block_bilinear": (S4Block, {"disc": "bilinear"}),
    "block_n_ssm": (S4Block, {"n_ssm": 2}),
    "block_untied_dt": (S4Block, {"dt_tie": False, "dt_transform": "softplus"}),
    "block_dt_fast": (S4Block, {"dt_transform": "none", "dt_fast": True}),
    "block_sigmoid": (S4Block, {"real_transform": "sigmoid", "imag_transform": "softplus"}),
    "block_relu": (S4Block, {"real_transform": "relu", "dt_transform": "relu"}),
    "block_bandlimit": (S4Block, {"bandlimit": 0.1}),
    "block_tanh_gelu": (S4Block, {"activation": "tanh", "final_act": "gelu"}),
    "dss_exp": (DSS, {"version": "exp"}),
    "dss_exp_joint_dt": (DSS, {"version": "exp", "sep_dt_re_im": False}),
    "dss_exp_glu": (DSS, {"version": "exp", "postact": "glu"}),
    "dss_exp_gelu": (DSS, {"version": "exp", "postact": "gelu"}),
    "dss_softmax": (DSS, {"version": "softmax"}),
    "dss_softmax_growing": (DSS, {"version": "softmax", "grows": 2}),
}
LENGTH = 40


@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_reader_agrees_with_the_definition(name: str, prenorm: bool, tmp_path: Path) -> None:
    cls, options = CASES[name]
    layer = cls(6, 8, seed=1, **options)
    state_dict = build(layer)
    path = tmp_path / "model.pt"
    torch.save({"model": state_dict, "acc": 1.0, "epoch": 0}, path)
    kwargs = {"d_state": 8, **{k: v for k, v in options.items() if k != "grows"}}
    config = {"prenorm": prenorm, "layer": cls.classes, "layer_kwargs": kwargs}  # type: ignore[attr-defined]
    sidecar = {"cls": "example.S4Model", "config": config, "L": LENGTH}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    model = s4edge.load(path).double()

    x = np.random.default_rng(0).standard_normal((2, LENGTH, 2))
    expected = np.stack([run(layer, state_dict, sequence, prenorm) for sequence in x])
    with torch.inference_mode():
        got = model(torch.from_numpy(x)).numpy()
        # Poles and weights were rounded to float32 when the model was made.
        np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)
        if model.config.streams:
            streamed = model.stream(torch.from_numpy(x))[:, -1].numpy()
            np.testing.assert_allclose(streamed, got, atol=1e-10 * np.abs(got).max(), rtol=0)
        else:
            with pytest.raises(s4edge.S4EdgeError, match="no stable recurrence"):
                model.stream(torch.from_numpy(x))
    assert model.config.streams == ("grows" not in options)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_dropped(prefix: str, tmp_path: Path) -> None:
    layer = S4D(4, 8, seed=0)
    state_dict = build(layer)
    torch.save(state_dict, tmp_path / "plain.pt")
    torch.save({prefix + name: value for name, value in state_dict.items()}, tmp_path / "w.pt")
    plain, wrapped = (s4edge.load(tmp_path / f"{name}.pt").state_dict() for name in ("plain", "w"))
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    layer = S4D(4, 8, seed=0)
    state_dict = {name: value.to(dtype) for name, value in build(layer).items()}
    torch.save(state_dict, tmp_path / "model.pt")
    x = np.random.default_rng(0).standard_normal((1, 30, 2))
    expected = run(layer, state_dict, x[0])
    model = s4edge.load(tmp_path / "model.pt").double()
    with torch.inference_mode():
        np.testing.assert_allclose(model(torch.from_numpy(x))[0].numpy(), expected, atol=1e-5)


def test_what_is_inferred_assumed_and_given_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(build(S4Block(4, 8, seed=0)), path)
    provenance = s4edge.load(path, {"disc": "bilinear"}).provenance
    assert provenance.inferred["d_state"] == 8
    assert provenance.inferred["mode"] == "diag"
    assert provenance.given == {"disc": "bilinear"}
    assert provenance.assumed["prenorm"] is False
    assert provenance.assumed["dt_transform"] == "exp"


def test_a_pole_that_is_exactly_real_costs_one_state(tmp_path: Path) -> None:
    layer = S4D(3, 8, seed=0)
    state_dict = build(layer, layers=1)
    state_dict["s4_layers.0.kernel.A_imag"][:, 0] = 0
    torch.save(state_dict, tmp_path / "model.pt")
    model = s4edge.load(tmp_path / "model.pt").double()
    systems = model.config.blocks[0].systems
    assert (systems.pairs, systems.reals, systems.real_states) == ((3, 3, 3), (1, 1, 1), 21)
    x = np.random.default_rng(0).standard_normal((1, 30, 2))
    with torch.inference_mode():
        got = model(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(got, run(layer, state_dict, x[0]), atol=1e-5)
