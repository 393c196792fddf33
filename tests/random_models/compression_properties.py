"""What holds of every model that is made smaller: each takes a `RandomCompression` and asserts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from graph_properties import RandomGraph, assert_graph_computes
from hypothesis import assume
from hypothesis import strategies as st
from model_properties import (
    assert_one_line,
    assert_same_model,
    outputs,
    saved_and_loaded,
)
from model_strategies import RandomModel, inputs_of, random_models
from naive_model import Naive

import s4edge
from s4edge import S4EdgeError
from s4edge.compression.states.methods.registry import METHODS
from s4edge.compression.states.unit import units_of
from s4edge.model import history
from s4edge.model.history import Compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.reports.model_summary import summarize


@dataclass(frozen=True)
class RandomCompression:
    """How a model is made smaller.

    Attributes:
        drawn: the model.
        method: of reduction.
        share: of the largest state size that is asked for, between 0 and 1.
        sequences: to calibrate on; 0 for no calibration.
        allocate: over all channels, by sensitivity.
        refine: None for wherever it helps.
        horizon: samples, or None.
        tolerance: asked for instead of a size, or None.
        mode: of the graph that is written afterwards.
    """

    drawn: RandomModel
    method: str
    share: float
    sequences: int = 0
    allocate: bool = False
    refine: bool | None = None
    horizon: int | None = None
    tolerance: float | None = None
    mode: str = "step"

    @property
    def options(self) -> dict[str, Any]:
        """Of `s4edge.compress` but for the size and the calibration data."""
        options: dict[str, Any] = {"method": self.method, "horizon": self.horizon}
        if self.sequences:
            options["refine"] = self.refine
            options["allocate"] = "sensitivity" if self.allocate else "uniform"
            options["tolerance"] = self.tolerance
        return options

    def calibration(self) -> np.ndarray | None:
        """Sequences as the model takes them, of the lengths that it is used at."""
        if not self.sequences:
            return None
        config = self.drawn.config
        x = inputs_of(config, 2 * self.sequences, self.drawn.samples, self.drawn.numbers.seed + 2)
        if config.encoder == "embedding":
            return x
        x = x.astype(np.float32)
        return x.transpose(0, 2, 1) if config.channels_first else x


@st.composite
def random_compressions(
    draw: st.DrawFn, calibrated: bool = False, streams: bool | None = None
) -> RandomCompression:
    """A model and how it is made smaller; with ``calibrated``, on a few sequences."""
    drawn = draw(random_models(streams=streams, cancels=True))
    how = RandomCompression(
        drawn,
        draw(st.sampled_from(list(METHODS))),
        draw(st.floats(0.05, 1)),
        horizon=draw(st.none() | st.integers(1, 60)),
        mode=draw(st.sampled_from(["step", "chunk", "sequence"])),
    )
    if not calibrated:
        return how
    tolerance = draw(st.sampled_from([None, None, None, 0.02, 0.3]))
    return RandomCompression(
        how.drawn,
        how.method,
        how.share,
        sequences=draw(st.integers(1, 3)),
        allocate=draw(st.booleans()) and tolerance is None,
        refine=draw(st.sampled_from([None, None, False])),
        horizon=how.horizon,
        tolerance=tolerance,
        mode=how.mode,
    )


def largest_size(model: SequenceModel) -> int:
    """The largest state size that can be asked for."""
    return int(model.config.largest_state_size)


def reduced(how: RandomCompression, model: SequenceModel, state: int | None) -> SequenceModel:
    return s4edge.compress(model, state, calibration=how.calibration(), **how.options)


def check_compress(how: RandomCompression) -> None:
    """Smaller, stable, certified, saved and loaded to the bit, and a graph can be written of it.

    Where growing modes leave no room it is said, and for what size they would.
    """
    model, x = how.drawn.build(), how.drawn.inputs()
    naive = Naive(model)
    largest = largest_size(model)
    assume(largest >= 1)
    with np.errstate(all="ignore"):
        assume(np.isfinite(naive.tolerance(x, 1e-6)))
    state = None if how.tolerance else max(1, round(how.share * largest))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        small = reduced(how, model, state)
    except S4EdgeError as refused:
        assert_refused_rightly(how, model, state, refused)
        return
    assert all((before[name] == tensor).all() for name, tensor in model.state_dict().items())
    assert_certified(how, model, small, state)
    back = saved_and_loaded(small)
    assert_same_model(back, small)
    np.testing.assert_array_equal(outputs(back, x), outputs(small, x))
    json.dumps(summarize(small), allow_nan=False)
    again = Naive(small)
    with np.errstate(all="ignore"):
        rounding = again.tolerance(x, 1e-6)
    wanted = again.run(x)
    if not rounding <= 0.05 * max(np.abs(wanted).max(), 1e-3):
        return
    assert np.abs(outputs(small, x) - wanted).max() <= rounding
    mode = how.mode if small.config.streams else "sequence"
    if mode == "step" and small.config.stride > 1:
        mode = "chunk"
    exact = small.config.exact_samples
    cut = x[:, :exact] if mode != "sequence" else x
    graph = RandomGraph(how.drawn, mode, None, "fp32", len(x), fixed=False)
    assert_graph_computes(small, again, cut, graph)


def assert_refused_rightly(
    how: RandomCompression, model: SequenceModel, state: int | None, refused: S4EdgeError
) -> None:
    """For modes that are not shared, modes that grow, or a length that data do not have."""
    assert_one_line(refused)
    said = str(refused)
    if how.method == "shared-modes" and "share" in said:
        return
    if how.method == "finite-horizon" and "give a horizon" in said:
        assert how.horizon is None
        assert not how.sequences
        assert model.config.length is None
        return
    if not units_of(model):
        assert "no diagonal systems" in said
        return
    if any(len(unit.growing.channel) for unit in units_of(model)):
        assert "growing" in said
        assert state is None or state < int(said.rsplit(maxsplit=1)[1])
        return
    assert how.sequences
    assert "normalized over" in said or "cannot be calibrated there" in said


def assert_certified(
    how: RandomCompression, model: SequenceModel, small: SequenceModel, state: int | None
) -> None:
    """Sizes as asked for, poles inside the unit circle, errors within their bounds."""
    entry = small.provenance.history[-1]
    assert isinstance(entry, Compression)
    told = json.loads(json.dumps(history.to_json(entry), allow_nan=False))
    assert history.from_json(told) == entry
    layers = iter(entry.layers)
    pairs = [
        pair
        for old, new in zip(model.blocks, small.blocks, strict=True)
        for pair in ((old.systems, new.systems), (old.backward_systems, new.backward_systems))
        if pair[0] is not None
    ]
    total_before = total_after = allowed = 0
    for old, new in pairs:
        layer = next(layers)
        assert new is not None
        if not isinstance(old, DiagonalSystems):
            assert new.config == old.config
            assert (layer.real_states_before, layer.real_states_after, layer.error) == (0, 0, 0)
            continue
        config, kept = old.config, new.modes()
        assert new.config.growing == config.growing
        stable = kept.select(kept.is_stable)
        assert len(stable.channel) == len(kept.channel) - sum(config.growing)
        assert np.isfinite(kept.weight).all()
        assert layer.real_states_before == config.real_states
        assert layer.real_states_after == new.config.real_states
        assert new.config.real_states <= config.real_states
        uniform = state is not None and not how.allocate
        if uniform:
            most = np.maximum(state * config.states_per_size, 2 * np.array(config.growing))
            assert (kept.real_states <= most).all()
        total_before += old.config.real_states
        total_after += new.config.real_states
        if state is not None:
            most = state * config.states_per_size
            allowed += int(np.minimum(most, old.modes().real_states).sum())
        error, bound = np.array(layer.channel_error), np.array(layer.channel_error_bound, float)
        assert np.isfinite(error).all()
        known = np.isfinite(bound)
        size = np.abs(old.modes().weight).sum(initial=1e-3) + np.abs(old.D.detach().numpy()).sum()
        assert (error[known] <= bound[known] * (1 + 1e-4) + 1e-6 * size).all()
        # No sample of a kernel is off by more than the error's H-infinity norm.
        taps = new.kernel(64) - old.kernel(64)
        taps[:, 0] += (new.D - old.D).double()
        if not sum(config.growing):
            worst = taps.abs().amax(dim=1).detach().numpy()
            assert (worst <= error * (1 + 1e-6) + 1e-6 * size).all()
    assert next(layers, None) is None
    if state is not None:
        assert total_after <= max(allowed, 0) or not how.allocate
    assert total_after <= total_before
    if how.tolerance is not None:
        assert entry.output_error is not None
        found = entry.output_error.measured
        assert found <= how.tolerance or total_after == total_before


def check_full_size(how: RandomCompression) -> None:
    """A size that all channels have room in changes no bit."""
    model = how.drawn.build()
    full = max(
        (
            -(-int(unit.systems.modes().real_states.max(initial=0))
            // unit.systems.config.states_per_size)
            for unit in units_of(model)
        ),
        default=0,
    )  # fmt: skip
    assume(1 <= full <= largest_size(model))
    assume(how.tolerance is None and np.isfinite(outputs(model, how.drawn.inputs())).all())
    try:
        small = reduced(how, model, largest_size(model))
    except S4EdgeError as refused:
        assert_refused_rightly(how, model, None, refused)
        return
    if how.allocate:
        naive, x = Naive(model), how.drawn.inputs()
        assume(naive.tolerance(x, 1e-6) <= 1e-3 * np.abs(naive.running(x)).max())
        # What costs nothing on the data may go.
        assert small.provenance.history[-1].output_error.measured <= 1e-3
        return
    assert_same_model(small, model)
    for layer in small.provenance.history[-1].layers:
        assert not np.any(layer.channel_error)
