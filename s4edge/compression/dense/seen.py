"""What dense layers see on calibration data, in the original model and in a smaller one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float
from s4edge.compression.dense.factors import Affine, Components, Moments, components
from s4edge.compression.dense.places import Place, Recorder, recorded
from s4edge.compression.states.calibration import Calibration, lengths_entering
from s4edge.model.sequence_model import SequenceModel

# Floats of one batch at one place.
_BATCH_FLOATS = 4_000_000
# Of the predicted error, the share that trusts no error to cancel another one over time.
_LOCAL_SHARE = 0.5
_SEED = 0


def parts_of(model: SequenceModel, calibration: Calibration) -> Iterator[slice]:
    """Rows of consecutive parts that fit the memory."""
    widest = max(systems.channels for block in model.config.blocks for systems in block.all_systems)
    size = max(1, _BATCH_FLOATS // (calibration.length * widest))
    for start in range(0, len(calibration), size):
        yield slice(start, min(start + size, len(calibration)))


def counted(model: SequenceModel, index: int, lengths: Tensor | None, x: Tensor) -> Tensor:
    """(samples, features) of (batch, length, features): those that count, float64.

    Args:
        model: whose they are.
        index: of the block that they enter or are within; of one more behind its stride.
        lengths: see `SequenceModel.forward`.
        x: of them.
    """
    if lengths is not None:
        ends = lengths_entering(model, lengths)[index]
        assert ends is not None
        return x[torch.arange(x.shape[1]) < ends[:, None]].double()
    return x.reshape(-1, x.shape[-1]).double()


class Pair:
    """Sequences on their way through the original model and a smaller one, block by block.

    Args:
        original: a `working_copy`.
        small: another one, whose dense layers ahead may be replaced on the way.
        calibration: the sequences.
    """

    def __init__(
        self, original: SequenceModel, small: SequenceModel, calibration: Calibration
    ) -> None:
        self.models, self.calibration, self.at = (original, small), calibration, 0
        self.rows = list(parts_of(original, calibration))
        # By part: what entered the next block of either model.
        self.hidden = [
            [model.encode(part.x, part.lengths) for model in self.models]
            for part in map(calibration.part, self.rows)
        ]

    def reach(self, block: int) -> None:
        """Go on up to a block."""
        while self.at < block:
            self.hidden = [
                [m.blocks[self.at](h) for m, h in zip(self.models, each, strict=True)]
                for each in self.hidden
            ]
            self.at += 1

    def parts(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """By part, what enters the next block of either model, and the sequences' lengths."""
        for rows, hidden in zip(self.rows, self.hidden, strict=True):
            yield hidden, self.calibration.part(rows).lengths

    def counted(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """`counted` of what enters the next block."""
        return counted(self.models[0], self.at, lengths, x)

    def moments(self, place: Place) -> Moments:
        """Of what enters a layer of the next block."""
        sums = Sums()
        for (x, _), (reached, _) in self.passing(place.block, place.name):
            sums.add(x, reached)
        return sums.moments()

    def error(self, place: Place) -> float:
        """Relative error of what leaves a layer, against its deviation from its mean."""
        lost, count = 0.0, 0
        first, second = torch.zeros(2, place.rows, dtype=torch.float64)
        for (_, y), (_, found) in self.passing(place.block, place.name):
            lost += float((found - y).square().sum())
            first, second = first + y.sum(0), second + y.square().sum(0)
            count += len(y)
        power = float((second - first.square() / count).sum())
        return float(np.sqrt(lost / power)) if power > 0 else 0.0

    def passing(self, index: int, name: str) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """By part and model, what enters and what leaves a layer, of the samples that count.

        Args:
            index: of the next block.
            name: of a dense layer of it, or of its norm.
        """
        original = self.models[0]
        for hidden, lengths in self.parts():
            seen = []
            for model, h in zip(self.models, hidden, strict=True):
                block = model.blocks[index]
                with recorded(block, name) as recorder:
                    block(h)
                assert recorder.seen is not None
                behind = index + (name == "widening")
                x, y = (counted(original, behind, lengths, each) for each in recorder.seen)
                seen.append((x, y))
            yield seen


class Sums:
    """First and second moments of two signals, taken part by part."""

    def __init__(self) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._features, self._first, self._second = 0, torch.zeros(0), torch.zeros(0)

    def add(self, x: Tensor, reached: Tensor | None = None) -> None:
        """(samples, features) each, not always as many; None: the same signal."""
        both = x if reached is None else torch.cat([x, reached], dim=1)
        if self._shift is None:
            # Close to the mean: a difference of large sums would lose digits.
            self._features, self._shift = x.shape[1], both.mean(0)
            self._first, self._second = (
                torch.zeros_like(both[0]),
                both.new_zeros(2 * both.shape[1:]),
            )
        both = both - self._shift
        self.count += len(both)
        self._first += both.sum(0)
        self._second += both.T @ both

    def moments(self) -> Moments:
        """Of all that was added."""
        assert self._shift is not None
        first, second = (each.numpy() / self.count for each in (self._first, self._second))
        second = second - np.outer(first, first)
        mean, n = first + self._shift.numpy(), self._features
        if n == len(mean):
            return Moments(mean, mean, second, second, second)
        return Moments(mean[:n], mean[n:], second[:n, :n], second[:n, n:], second[n:, n:])


@dataclass(frozen=True)
class Predicted:
    """What every rank of a layer is predicted to lose.

    Attributes:
        sensitivity: (rows, rows) second moment of the output's gradients behind it.
        components: of its answers.
        answers: (rows, rows) their covariance.
        output: (n + 1,) squared error of the model's output at ranks 0 to n, relative to its
            energy.
    """

    sensitivity: Float
    components: Components
    answers: Float
    output: Float

    def layer_error(self, rank: int) -> float:
        """Relative error of what leaves the layer, against its deviation from its mean."""
        kept = self.components.directions[:, :rank] @ self.components.onto[:rank]
        lost = np.eye(len(kept)) - kept
        power = max(float(np.trace(self.answers)), 1e-300)
        return float(np.sqrt(max(np.trace(lost @ self.answers @ lost.T), 0.0) / power))


def predict(
    model: SequenceModel, places: list[Place], calibration: Calibration, energy: float
) -> list[Predicted]:
    """By place, from the model as it is.

    The output's error is to first order: what leaves the layer changes by the components that are
    left out, each times the gradient of a random projection of the output. Half of it trusts
    errors at different samples to cancel as they do there, the other half takes them for
    independent.

    Args:
        model: a `working_copy`.
        places: of its dense layers.
        calibration: sequences.
        energy: mean square of its output, per sequence.
    """
    sums = [(Sums(), Sums()) for each in places]
    for place, (x, _, gradient) in backward(model, places, calibration):
        of_inputs, of_gradients = sums[places.index(place)]
        of_inputs.add(x)
        of_gradients.add(gradient)
    losses = [
        _Losses(place.affine(model), of_inputs.moments(), of_gradients.moments())
        for place, (of_inputs, of_gradients) in zip(places, sums, strict=True)
    ]
    for place, (_, y, gradient) in backward(model, places, calibration):
        losses[places.index(place)].add(y, gradient)
    return [each.predicted(energy * len(calibration)) for each in losses]


@contextmanager
def _all_recorded(model: SequenceModel, places: list[Place]) -> Iterator[list[Recorder]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(recorded(model.blocks[each.block], each.name)) for each in places
        ]


def backward(
    model: SequenceModel, places: list[Place], calibration: Calibration
) -> Iterator[tuple[Place, tuple[Tensor, Tensor, Tensor]]]:
    """By sequence and place: what enters, what leaves, and a gradient of the output there.

    With a projection of the output on random signs, the mean square of the projected error is the
    mean square of the output's error.
    """
    generator = torch.Generator().manual_seed(_SEED)
    for part in map(calibration.part, parts_of(model, calibration)):
        with _all_recorded(model, places) as recorders, torch.enable_grad():
            out = part.output_of(model)
            signs = torch.randint(0, 2, out.shape, generator=generator) * 2.0 - 1
            seen = [each.seen for each in recorders if each.seen is not None]
            gradients = torch.autograd.grad((signs * out).sum(), [y for _, y in seen])
        for place, (x, y), gradient in zip(places, seen, gradients, strict=True):
            for row in range(len(part)):
                ends = None if part.lengths is None else part.lengths[row : row + 1]
                behind = place.block + (place.name == "widening")
                x_row, y_row, gradient_row = (
                    counted(model, behind, ends, each.detach()[row : row + 1])
                    for each in (x, y, gradient)
                )
                yield place, (x_row, y_row, gradient_row)


class _Losses:
    """What the output loses with the components of a layer's answers."""

    def __init__(self, layer: Affine, inputs: Moments, gradients: Moments) -> None:
        self.sensitivity = gradients.covariance + np.outer(gradients.mean, gradients.mean)
        self.components = components(layer.weight, inputs.covariance, self.sensitivity)
        self.answers = layer.weight @ inputs.covariance @ layer.weight.T
        self.mean = torch.from_numpy(layer.weight @ inputs.mean + layer.bias)
        ranks = len(self.components.energy) + 1
        self.together, self.alone = torch.zeros(2, ranks, dtype=torch.float64)

    def add(self, y: Tensor, gradient: Tensor) -> None:
        """(samples, rows) of one sequence."""
        onto, directions = map(torch.from_numpy, (self.components.onto, self.components.directions))
        changes = ((y - self.mean) @ onto.T) * (gradient @ directions)
        self.together += _left_out(changes.sum(0)).square()
        self.alone += _left_out(changes).square().sum(0)

    def predicted(self, energy: float) -> Predicted:
        mixed = (1 - _LOCAL_SHARE) * self.together + _LOCAL_SHARE * self.alone
        return Predicted(self.sensitivity, self.components, self.answers, mixed.numpy() / energy)


def _left_out(parts: Tensor) -> Tensor:
    """(..., n) to (..., n + 1): sums of what is behind the first 0 to n."""
    sums = parts.flip(-1).cumsum(-1).flip(-1)
    return torch.cat([sums, torch.zeros_like(sums[..., :1])], -1)
