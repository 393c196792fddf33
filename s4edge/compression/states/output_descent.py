"""Descent of all layers together towards the original model's output, without labels.

Refinement layer by layer trusts the model to be linear around what it computes. Where so many
states go that it is not, errors that were meant to cancel do not, and they grow from layer to
layer. Then the reduced systems of all layers are moved a little further, by gradients through the
whole reduced model, towards the original's output on the calibration data. Nothing but the
systems' own poles, weights and ``D`` moves.

Every number moves in units of its own: a pole in units of its width, a weight of its size.
Sources: D. Kingma and J. Ba, "Adam" (2015); rates that fall as half cosines and start again,
I. Loshchilov and F. Hutter, "SGDR" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from s4edge.compression.states.calibration import Calibration, evenly, output_on
from s4edge.compression.states.unit import Unit, systems_of, units_of
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.progress import Progress, silent

_RATE = 0.002
# After a round that has made it worse, the next one goes on from before it, slower.
_ROUNDS, _SLOWER = 7, 0.25
_BETAS = (0.9, 0.99)
_SEQUENCES = 32
# Sequences that decide on a round.
_CHECKED = 256
_SEED = 0


class _Moving:
    """One parameter on its way: its unit, its moments, and how low it may go."""

    def __init__(self, parameter: Tensor, unit: Tensor, least: Tensor | None = None) -> None:
        self.parameter, self.unit, self.least = parameter, unit, least
        self.mean, self.square = torch.zeros_like(unit), torch.zeros_like(unit)

    def step(self, gradient: Tensor, count: int, rate: float) -> None:
        gradient = gradient * self.unit
        for moment, value, beta in zip(
            (self.mean, self.square), (gradient, gradient**2), _BETAS, strict=True
        ):
            moment.lerp_(value, 1 - beta)
        mean, square = self.mean / (1 - _BETAS[0] ** count), self.square / (1 - _BETAS[1] ** count)
        with torch.no_grad():
            self.parameter -= rate * self.unit * mean / (square.sqrt() + 1e-12)
            if self.least is not None:
                self.parameter.clamp_(min=self.least)


def descend(
    model: SequenceModel,
    original: SequenceModel,
    calibration: Calibration,
    aim: Tensor,
    steps: int,
    progress: Progress = silent,
) -> None:
    """Move the systems of ``model`` in place; they do not become worse.

    Args:
        model: reduced, not frozen.
        original: what it was reduced from: no pole becomes slower than the slowest of its channel.
        calibration: sequences.
        aim: (sequences, ...) the original's output on them, padding zeroed.
        steps: of each round, of 32 sequences each.
        progress: called with the fraction done.
    """
    model.set_fast(True)
    try:
        _descend(model, original, calibration, aim, steps, progress)
    finally:
        model.set_fast(False)


def _descend(
    model: SequenceModel,
    original: SequenceModel,
    calibration: Calibration,
    aim: Tensor,
    steps: int,
    progress: Progress,
) -> None:
    units = _reduced(model, original)
    reduced = [(systems_of(model, unit), unit.systems) for unit in units]
    lengths = model.config.samples_entering(calibration.length)
    places = [(systems_of(model, unit), lengths[unit.block]) for unit in units]
    batches = _batches(len(aim))
    chosen = evenly(len(aim), _CHECKED)
    checked, checked_aim = calibration.part(chosen), aim[torch.from_numpy(chosen)]
    least, rate = _error(model, checked, checked_aim), _RATE
    for turn in range(_ROUNDS):
        moving = [each for pair in reduced for each in _moving(*pair)]
        parameters = [each.parameter for each in moving]
        before = [parameter.detach().clone() for parameter in parameters]
        for count in range(1, steps + 1):
            rows = next(batches)
            part = calibration.part(rows.numpy())
            gradients = _gradients(model, places, part, aim[rows], parameters)
            falling = rate * 0.5 * (1 + math.cos(math.pi * (count - 1) / steps))
            for each, gradient in zip(moving, gradients, strict=True):
                each.step(gradient, count, falling)
            progress((turn + count / steps) / _ROUNDS)
        found = _error(model, checked, checked_aim)
        if found < least:
            least = found
        else:
            rate *= _SLOWER
            with torch.no_grad():
                for parameter, value in zip(parameters, before, strict=True):
                    parameter.copy_(value)


def _gradients(
    model: SequenceModel,
    systems: list[tuple[DiagonalSystems, int]],
    calibration: Calibration,
    aim: Tensor,
    parameters: list[Tensor],
) -> list[Tensor]:
    """Of the relative squared error of the output on some sequences.

    Kernels are formed once; sequences are worked on block by block, each by one thread, and give
    gradients by the kernels.

    Args:
        model: reduced.
        systems: those that move, and the length of what they read.
        calibration: the sequences.
        aim: as for `descend`, of these sequences.
        parameters: of ``systems``.
    """
    scale = float(aim.square().sum())
    with torch.enable_grad():
        responses = [each.response(length) for each, length in systems]
    leaves = [response.detach().requires_grad_() for response in responses]
    for (each, length), leaf in zip(systems, leaves, strict=True):
        each.hold_({length: (leaf, None)})

    def of_leaves(rows: slice, part: Calibration) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            loss = (part.output_of(model) - aim[rows]).square().sum() / scale
            return torch.autograd.grad(loss, leaves)

    try:
        parts = calibration.in_blocks(model, of_leaves)
    finally:
        for each, _ in systems:
            each.hold_(None)
    sums = [torch.stack(each).sum(0) for each in zip(*parts, strict=True)]
    return list(torch.autograd.grad(responses, parameters, sums))


def _batches(count: int) -> Iterator[Tensor]:
    """Rows in random order, again and again."""
    generator = torch.Generator().manual_seed(_SEED)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: max(len(order) // _SEQUENCES, 1) * _SEQUENCES].split(_SEQUENCES)


def _error(model: SequenceModel, calibration: Calibration, aim: Tensor) -> float:
    error = float((output_on(model, calibration) - aim).square().sum())
    return error if math.isfinite(error) else math.inf


def _reduced(model: SequenceModel, original: SequenceModel) -> list[Unit]:
    """The units of the original that have fewer states in the model."""
    return [
        unit
        for unit in units_of(original)
        if systems_of(model, unit).config.real_states < unit.systems.config.real_states
    ]


def _moving(systems: DiagonalSystems, reference: DiagonalSystems) -> Iterator[_Moving]:
    """The parameters of one layer's stable modes, and ``D`` if it has one.

    Channels that have lost no state stay as they are.
    """
    # By what a recurrence holds: a pair whose pole is exactly real counts as the real pole that
    # takes its place.
    changed = torch.from_numpy(systems.modes().real_states < reference.modes().real_states)
    slowest = torch.full((systems.D.shape[0],), math.inf)
    for decay, channel in (
        (reference.pair_log_decay, reference.pair_channel),
        (reference.real_log_decay, reference.real_channel),
    ):
        slowest = slowest.to(decay.dtype).scatter_reduce(0, channel, decay.detach(), "amin")
    for kind in ("pair", "real"):
        decay = getattr(systems, f"{kind}_log_decay")
        if not decay.numel():
            continue
        channel, weight = getattr(systems, f"{kind}_channel"), getattr(systems, f"{kind}_weight")
        moves = changed[channel].to(decay.dtype)
        yield _Moving(decay, moves, slowest[channel].to(decay.dtype))
        size = weight.detach().reshape(len(weight), -1).norm(dim=1)
        unit = moves * (size + 1e-3 * size.mean())
        unit = unit.reshape(-1, *[1] * (weight.ndim - 1))
        yield _Moving(weight, unit.expand_as(weight).clone())
    if systems.pair_angle.numel():
        width = systems.pair_log_decay.detach().exp()
        yield _Moving(systems.pair_angle, width * changed[systems.pair_channel].to(width.dtype))
    if systems.config.feedthrough:
        unit = systems.D.detach().square().mean().sqrt() + 1e-6
        yield _Moving(systems.D, unit * changed.to(unit.dtype))
