"""What holds of upstream checkpoints that are written with fewer states for upstream's own code."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from model_properties import assert_one_line
from upstream_by_hand import DSS, S4D, TRANSFORMS, S4Block, Upstream, build, run

import s4edge
from s4edge import S4EdgeError
from s4edge.compression.states.methods.registry import METHODS
from s4edge.workflows.to_upstream import compress_checkpoint

LENGTH, D_INPUT = 40, 2
# Words of the reasons why upstream's layout cannot hold what is asked for.
_REASONS = (
    "changes D", "is odd", "share poles", "shared modes", "do not share", "modes that grow",
    "holds values from", "silences them", "share", "is not inside the unit circle",
)  # fmt: skip


@dataclass(frozen=True)
class RandomUpstream:
    """An upstream checkpoint in the backbone of ``example.py``, and what is made of it.

    Attributes:
        cls: of its layers.
        options: of their constructor.
        features: channels.
        d_state: of the checkpoint.
        layers: blocks.
        state: the new ``d_state``.
        method: of reduction.
        prenorm: where the norms are.
        seed: of the numbers.
    """

    cls: type[Upstream]
    options: dict[str, Any]
    features: int
    d_state: int
    layers: int
    state: int
    method: str
    prenorm: bool
    seed: int


@st.composite
def random_upstreams(draw: st.DrawFn) -> RandomUpstream:
    """Minimal S4D, S4Block and DSS layers with the options that their layouts have."""
    cls = draw(st.sampled_from([S4D, S4Block, DSS]))
    features = draw(st.integers(1, 4))
    options: dict[str, Any] = {}
    if cls is S4Block:
        options = {
            "disc": draw(st.sampled_from(["zoh", "bilinear"])),
            "activation": draw(st.sampled_from(["gelu", "relu", "tanh"])),
            "final_act": draw(st.sampled_from(["glu", "gelu", "id"])),
            "real_transform": draw(st.sampled_from(list(TRANSFORMS))),
            "imag_transform": draw(st.sampled_from(["none", "exp", "softplus"])),
        }
        if draw(st.booleans()):
            divisors = [each for each in range(1, features + 1) if features % each == 0]
            options["n_ssm"] = draw(st.sampled_from(divisors))
        elif draw(st.booleans()):
            options |= {"dt_tie": False, "dt_transform": "softplus"}
        elif draw(st.booleans()):
            options |= {"dt_transform": "none", "dt_fast": True}
    if cls is DSS:
        options = {
            "version": draw(st.sampled_from(["exp", "softmax"])),
            "sep_dt_re_im": draw(st.booleans()),
            "postact": draw(st.sampled_from([None, "glu", "gelu"])),
        }
    d_state = 2 * draw(st.integers(1, 6))
    return RandomUpstream(
        cls,
        options,
        features,
        d_state,
        layers=draw(st.integers(1, 2)),
        state=draw(st.integers(1, d_state)),
        method=draw(st.sampled_from(["balanced", "balanced", *METHODS])),
        prenorm=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )


def _outputs(path: Path, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return s4edge.load(path)(torch.from_numpy(x).float()).double().numpy()


def assert_refused_rightly(refused: S4EdgeError, out: Path) -> None:
    assert_one_line(refused)
    assert any(reason in str(refused) for reason in _REASONS), refused
    assert not out.exists()


def check_upstream(how: RandomUpstream) -> None:
    """Read as defined; written with fewer states, read back as defined; or refused by name."""
    layer = how.cls(how.features, how.d_state, how.seed, **how.options)
    original = build(layer, how.layers, D_INPUT)
    kwargs = {"d_state": how.d_state, "lr": 0.001, **how.options}
    config = {"prenorm": how.prenorm, "layer": how.cls.classes, "layer_kwargs": kwargs}
    x = np.random.default_rng(how.seed).standard_normal((2, LENGTH, D_INPUT))
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "model.pt", Path(folder) / "small.pt"
        torch.save({"model": original}, path)
        sidecar = {"cls": "example.S4Model", "config": config, "L": LENGTH}
        path.with_suffix(".json").write_text(json.dumps(sidecar))
        defined = np.stack([run(layer, original, each, how.prenorm) for each in x])
        np.testing.assert_allclose(_outputs(path, x), defined, atol=1e-4, rtol=1e-4)
        try:
            _, small = compress_checkpoint(path, how.state, out, method=how.method)
        except S4EdgeError as refused:
            assert_refused_rightly(refused, out)
            return
        written = torch.load(out, weights_only=True)["model"]
        told = json.loads(out.with_suffix(".json").read_text())["config"]["layer_kwargs"]
        assert told == {**kwargs, "d_state": how.state}
        fresh = build(how.cls(how.features, how.state, 0, **how.options), how.layers, D_INPUT)
        assert {k: (v.shape, v.dtype) for k, v in written.items()} == {
            k: (v.shape, v.dtype) for k, v in fresh.items()
        }
        for name, tensor in original.items():
            if "kernel." not in name or how.state == how.d_state:
                assert torch.equal(written[name], tensor), name
        defined = np.stack([run(layer, written, each, how.prenorm) for each in x])
        np.testing.assert_allclose(_outputs(out, x), defined, atol=1e-4, rtol=1e-4)
        for entry in small.provenance.history[-1].layers:
            for error, bound in zip(entry.channel_error, entry.channel_error_bound, strict=True):
                assert bound is None or error <= bound * (1 + 1e-4) + 1e-4
