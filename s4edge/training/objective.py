"""What training makes small: the task's loss, the distance to a teacher, or both.

Every term is a sum over the sequences that a process has, divided by numbers of the whole batch, so
that processes that share a batch add up to what one would have computed.

Source of distillation on outputs as numbers: J. Ba and R. Caruana, "Do deep nets really need to be
deep?" (2014); at a temperature: G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a
neural network" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import ModelConfig
from s4edge.model.joining import join
from s4edge.training.batches import Batch
from s4edge.training.settings import Task, TrainingSettings


@dataclass(frozen=True)
class Objective:
    """The loss of a batch.

    Attributes:
        task: what outputs are compared with, or None where only a teacher is.
        settings: the weights of the terms.
        power: variance of the teacher's outputs; 1 without a teacher.
        layer_powers: mean square of what leaves each of the teacher's blocks.
    """

    task: Task | None
    settings: TrainingSettings
    power: float = 1.0
    layer_powers: tuple[float, ...] = ()

    def loss(
        self, batch: Batch, output: Tensor, left: list[Tensor], aims: list[Tensor] | None = None
    ) -> Tensor:
        """A scalar: this process's share of the batch's mean.

        Args:
            batch: what the outputs are for.
            output: (rows, d_output) or (rows, length, d_output).
            left: what leaves each block.
            aims: the teacher's.
        """
        output = output.float()
        counted = _counted(batch, output)
        labelled = 1 - self.settings.distill
        total = output.new_zeros(())
        if self.task is not None and labelled:
            total = total + labelled * self._task(batch, output, counted)
        if batch.aim is not None and self.settings.distill:
            total = total + self.settings.distill * self._distance(batch, output, counted)
        if aims is not None:
            for mine, theirs, power in zip(left, aims, self.layer_powers, strict=True):
                # A student's layer may run once for several samples.
                aim = join("mean", theirs.shape[1] // mine.shape[1], theirs)[:, : mine.shape[1]]
                error = (mine.float() - aim).square().mean(dim=-1)
                if batch.lengths is not None and error.shape[1] == batch.x.shape[1]:
                    error = torch.where(_within(batch, error.shape[1]), error, 0.0)
                    scale = batch.steps
                else:
                    scale = batch.sequences * error.shape[1]
                part = error.sum() / (scale * power)
                total = total + self.settings.match_layers * part / len(left)
        return total * 0 if batch.empty else total

    def _task(self, batch: Batch, output: Tensor, counted: Tensor | None) -> Tensor:
        if self.task == "next":
            follows = batch.x[:, 1:]
            output = output[:, :-1]
            counted = None if counted is None else counted[:, 1:]
            steps = max(batch.steps - batch.sequences, 1)  # none where all are of one sample
            if not follows.is_floating_point():
                error = F.cross_entropy(output.mT, follows, reduction="none")
            else:
                error = (output - follows).square().mean(dim=-1)
            return _summed(error, counted) / steps
        assert batch.y is not None
        if self.task == "classification":
            scores = output if output.ndim == 2 else output.mT
            error = F.cross_entropy(scores, batch.y, reduction="none")
        else:
            error = (output - batch.y).square().mean(dim=-1)
        return _summed(error, counted) / _scale(batch, output)

    def _distance(self, batch: Batch, output: Tensor, counted: Tensor | None) -> Tensor:
        assert batch.aim is not None
        heat = self.settings.temperature
        if heat:
            ours, theirs = ((each / heat).log_softmax(-1) for each in (output, batch.aim))
            error = heat**2 * (theirs.exp() * (theirs - ours)).sum(-1)
        else:
            error = (output - batch.aim).square().mean(dim=-1) / self.power
        return _summed(error, counted) / _scale(batch, output)


def _summed(error: Tensor, counted: Tensor | None) -> Tensor:
    return (error if counted is None else torch.where(counted, error, 0.0)).sum()


def _scale(batch: Batch, output: Tensor) -> int:
    return batch.sequences if output.ndim == 2 else batch.steps


def _within(batch: Batch, length: int) -> Tensor:
    assert batch.lengths is not None
    return torch.arange(length, device=batch.lengths.device) < batch.lengths[:, None]


def _counted(batch: Batch, output: Tensor) -> Tensor | None:
    """(rows, length) which outputs count, None for all."""
    if batch.lengths is None or output.ndim == 2:
        return None
    return _within(batch, output.shape[1])


def find_task(data: Data, config: ModelConfig, asked: Task | None) -> Task | None:
    """The task that the data's ``y`` says, or the one asked for; None without a ``y``.

    Raises:
        S4EdgeError: the data or the model are not made for it.
    """
    y = data.y
    if asked == "next":
        tokens = data.x.ndim == 2
        features = config.d_input if tokens else data.x.shape[-1]
        if config.pooling != "none" or config.d_output != features or config.channels_first:
            raise S4EdgeError(
                f"to predict the next sample the model must give {features} outputs per sample; "
                f"it gives {config.d_output}, pooling {config.pooling}"
            )
        if data.x.shape[1] < 2:
            raise S4EdgeError(f"{data.source}: sequences of one sample have no next one")
        return "next"
    if y is None:
        if asked is not None:
            raise S4EdgeError(f"{data.source} holds no 'y', which {asked} needs")
        return None
    whole = np.issubdtype(y.dtype, np.integer)
    if asked == "classification" and not whole:
        raise S4EdgeError(f"{data.source}: y holds {y.dtype}; labels are whole numbers")
    task: Task = asked or ("classification" if whole else "regression")
    if config.head is not None:
        raise S4EdgeError(
            f"{data.source} holds a y for each sequence, the model answers to pairs: leave y out, "
            "and what the head compares is kept as the model gives it"
        )
    shape: tuple[int, ...] = (len(data),)
    if config.answers_each_sample:
        shape += (config.samples_entering(data.x.shape[1])[-1],)
    elif config.answers:
        shape += (config.answers,)
    if task == "regression":
        shape = (*shape, config.d_output)
    if y.shape != shape:
        raise S4EdgeError(
            f"{data.source}: y has shape {y.shape}, {task} with this model takes {shape}"
        )
    if task == "classification" and (y.min() < 0 or y.max() >= config.d_output):
        raise S4EdgeError(
            f"{data.source}: labels run from {y.min()} to {y.max()}, the model has "
            f"{config.d_output} classes"
        )
    if not np.isfinite(y).all():
        raise S4EdgeError(f"{data.source}: y holds NaN or infinite values")
    return task
