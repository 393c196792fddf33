"""What calibration data tell of a model, whatever it is going to be reduced to."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float
from s4edge.compression.states.base import Use
from s4edge.compression.states.calibration import (
    Calibration,
    Gradients,
    Passage,
    autocorrelation,
    evenly,
    give_back_memory,
    lengths_entering,
    output_gradients,
    output_on,
    working_copy,
)
from s4edge.compression.states.layer_error import LayerError, LayerSignals
from s4edge.compression.states.plan import LEAST, plan
from s4edge.compression.states.unit import Unit, install, systems_of
from s4edge.errors import S4EdgeError
from s4edge.model.history import CalibratedOn
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress
from s4edge.systems.parallel import map_batches

# Samples of the sequences on which the error of the output is measured layer by layer.
_LAYER_BY_LAYER = 2**17


@dataclass(frozen=True)
class Observed:
    """A model on calibration data.

    Attributes:
        model: a `working_copy`.
        calibration: all sequences.
        sample: those that layers are fitted to.
        others: that neither layers are fitted to nor errors measured on, for the descent of all
            layers.
        measured: those that the output's error is measured on, others as far as there are.
        output: of the model on ``measured``.
        energy: mean square of the output, per sequence.
        gradients: of projections of the output on ``sample``.
    """

    model: SequenceModel
    calibration: Calibration
    sample: Calibration
    others: Calibration
    measured: Calibration
    output: Tensor
    energy: float
    gradients: Gradients

    def pool(self) -> tuple[Calibration, Tensor]:
        """All sequences but those that errors are measured on, and the model's output there."""
        if not len(self.others):
            return self.sample, self.gradients.output
        aims = [self.gradients.output, output_on(self.model, self.others)]
        return self.sample.with_more(self.others), torch.cat(aims)

    def told(self, descended: bool) -> CalibratedOn:
        """What a model's history tells of the sequences: how many were looked at.

        Args:
            descended: whether those of `pool` were.
        """
        parts = [self.sample]
        if self.measured is not self.sample:
            parts.append(self.measured)
        if descended:
            parts.append(self.others)
        return replace(self.calibration.told(), sequences=sum(map(len, parts)))

    def use(self, unit: Unit, u: Tensor, horizon: int | None) -> Use:
        """Of a unit's channels.

        Args:
            unit: of the model.
            u: (features, sequences, length) what it reads.
            horizon: samples for which kernels are used, None for the sequences' length.
        """
        inputs = unit.systems.config.inputs or range(unit.stable.channels)
        rho: Float = np.stack(map_batches(autocorrelation, u.unbind())) / self._counted(unit, u)
        return Use(rho[list(inputs)], horizon or u.shape[2])

    def layer_error(self, unit: Unit, original: Tensor, reached: Tensor) -> LayerError:
        """Of a unit that reads ``reached`` where it read ``original``; as `LayerSignals`."""
        gradient = self.gradients.of[unit.block]
        signals = LayerSignals(
            original,
            reached,
            gradient.flip(2) if unit.backward else gradient,
            self._counted(unit, original),
            self.energy,
        )
        return LayerError(unit.systems, signals)

    def error_by_unit(self, small: SequenceModel, units: list[Unit]) -> list[float]:
        """Relative error of the output on a few sequences, up to each unit reduced."""
        part = self.measured.part(
            evenly(len(self.measured), max(16, _LAYER_BY_LAYER // self.measured.length))
        )
        mixed, out = copy.deepcopy(self.model), []
        aim = output_on(mixed, part)
        passage = Passage(mixed, part)
        for unit in units:
            while passage.at < unit.block:
                passage.advance()
            systems = copy.deepcopy(systems_of(small, unit)).freeze_(torch.float32)
            install(mixed.blocks[unit.block], unit, systems)
            out.append(relative_error(passage.output(), aim))
        return out

    def _counted(self, unit: Unit, u: Tensor) -> int:
        """Samples of all sequences that count where a unit reads ``u``."""
        lengths = lengths_entering(self.model, self.sample.lengths)[unit.block]
        return u.shape[1] * u.shape[2] if lengths is None else int(lengths.sum())


def observe(model: SequenceModel, calibration: Calibration, progress: Progress) -> Observed:
    """Run a model on calibration data, forward and backward.

    Raises:
        S4EdgeError: its output there is zero, NaN or infinite.
    """
    working, meant = working_copy(model), plan(model, calibration)
    chosen = evenly(len(calibration), meant.sample)
    sample = calibration.part(chosen)
    gradients = output_gradients(working, sample, progress)
    give_back_memory()
    energy = output_energy(gradients.output, calibration)
    measured, output = sample, gradients.output
    others = np.setdiff1d(np.arange(len(calibration)), chosen)
    if len(others) >= LEAST:
        held_out = others[evenly(len(others), meant.measured)]
        measured, others = calibration.part(held_out), np.setdiff1d(others, held_out)
        output = output_on(working, measured)
    rest = calibration.part(others[evenly(len(others), meant.descended)])
    return Observed(working, calibration, sample, rest, measured, output, energy, gradients)


def output_energy(output: Tensor, calibration: Calibration) -> float:
    """Mean square of a model's output, per sequence.

    Args:
        output: of the model.
        calibration: what it is an answer to, for the message.

    Raises:
        S4EdgeError: it is zero, NaN or infinite.
    """
    energy = float(output.double().square().sum()) / len(output)
    if not np.isfinite(energy) or energy == 0:
        what = "zero throughout" if energy == 0 else "NaN or infinite in places"
        raise S4EdgeError(
            f"the model's output on {calibration.source} is {what}: it cannot be calibrated there"
        )
    return energy


def relative_error(y: Tensor, aim: Tensor) -> float:
    """``|y - aim| / |aim|``."""
    return float((y.double() - aim).norm() / aim.double().norm())


def same_class(aim: Tensor, y: Tensor) -> float | None:
    """Share of sequences whose largest score is the same one; None where outputs are no scores."""
    if aim.ndim != 2 or aim.shape[1] < 2:
        return None
    return float((aim.argmax(dim=1) == y.argmax(dim=1)).double().mean())
