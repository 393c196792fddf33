"""Training a model further: on labels, on targets, on the next sample, or towards a teacher."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.model.configuration import ModelConfig
from s4edge.model.dropout import Dropout
from s4edge.model.file import check_tensors
from s4edge.model.history import Training
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.batches import Batch, Sequences, dropout_generator, split
from s4edge.training.evaluate import predict
from s4edge.training.nuclear_norm import NuclearNorm
from s4edge.training.objective import Objective, find_task
from s4edge.training.optimizer import check_moments, clip, make_optimizer, set_rate
from s4edge.training.processes import Processes
from s4edge.training.run_state import Best, RunState, fingerprint, model_fingerprint
from s4edge.training.settings import TrainingSettings
from s4edge.training.trainable import Trainable

# Sequences on which the size of the teacher's layers is measured.
_LOOKED_AT = 64

Reduce = Callable[[SequenceModel, int], SequenceModel]


@dataclass(frozen=True)
class TrainingWatch:
    """Who is told how far it is, and where a run is kept.

    Attributes:
        progress: called with the fraction done.
        epoch: called with each line of the log.
        state: file of the run, or None.
        log: file of JSON lines, or None.
        resume: whether to go on from ``state``.
    """

    progress: Callable[[float], None] = lambda fraction: None
    epoch: Callable[[dict[str, Any]], None] = lambda line: None
    state: Path | None = None
    log: Path | None = None
    resume: bool = False


NOBODY = TrainingWatch()


def finetune_model(
    model: SequenceModel,
    data: Data,
    settings: TrainingSettings,
    *,
    validation: Data | None = None,
    teacher: SequenceModel | None = None,
    reduce: Reduce | None = None,
    every_epoch: Callable[[int], Data] | None = None,
    watch: TrainingWatch = NOBODY,
    processes: Processes = Processes(),  # noqa: B008  (frozen)
) -> SequenceModel:
    """A trained copy of a model: that of the epoch with the best validation.

    Args:
        model: left as it is.
        data: to train on.
        settings: how.
        validation: to choose the epoch by; a part of ``data`` is held out if None.
        teacher: whose outputs to come close to, with ``settings.distill`` or ``match_layers``.
        reduce: makes a model smaller, for ``settings.schedule``.
        every_epoch: gives the training data of an epoch (from 0), as many sequences as ``data``:
            for random changes of it, which must depend on the epoch's number only.
        watch: who is told.
        processes: that share the work.

    Returns:
        The model, on the CPU, in eval mode; its ``provenance.history`` has an entry more.

    Raises:
        S4EdgeError: the data, the teacher and the model do not fit together, training diverges, or
            there is no run to resume.
    """
    settings.check()
    run = _Run(model, data, settings, validation, teacher, reduce, every_epoch, watch, processes)
    run.start()
    while run.epoch < settings.epochs and not run.ended:
        run.reduce_if_due()
        run.train_epoch()
    return run.result()


class _Run:
    """One training run; what `RunState` keeps of it are its attributes."""

    def __init__(
        self,
        model: SequenceModel,
        data: Data,
        settings: TrainingSettings,
        validation: Data | None,
        teacher: SequenceModel | None,
        reduce: Reduce | None,
        every_epoch: Callable[[int], Data] | None,
        watch: TrainingWatch,
        processes: Processes,
    ) -> None:
        self.settings, self.watch, self.processes = settings, watch, processes
        self.reduce, self.original, self.every_epoch = reduce, model, every_epoch
        _check(model, data, settings, teacher, validation)
        self.task = find_task(data, model.config, settings.task)
        if validation is not None:
            find_task(validation, model.config, self.task)
        if self.task is None and not (settings.distill or settings.match_layers):
            raise S4EdgeError(
                f"{data.source} holds no 'y': give labels, a teacher, or the task of predicting "
                "the next sample"
            )
        # Half a machine's work is wasted by a loss of no weight.
        if self.task is None and settings.distill:
            settings = dataclasses.replace(settings, distill=1.0)
            self.settings = settings
        self.what = {
            "settings": settings.to_json(),
            "data": fingerprint(data),
            "validation data": fingerprint(validation),
            "model": model_fingerprint(model),
            "teacher": model_fingerprint(teacher),
            "threads": torch.get_num_threads(),
            "processes": processes.world,
        }
        if validation is None:
            data, validation = split(data, settings.validation, settings.seed)
        self.length = data.x.shape[2 if model.config.channels_first else 1]
        self.teacher = None
        aims: list[Tensor | None] = [None, None]
        power, powers = 1.0, []
        if teacher is not None:
            self.teacher = copy.deepcopy(teacher).requires_grad_(False).eval().set_fast(True)
            aims = [None if part is None else self._aim(part) for part in (data, validation)]
            assert aims[0] is not None
            power = max(float(aims[0].double().var()), 1e-12)
            if settings.match_layers:
                first = Sequences.of(data.part(slice(0, _LOOKED_AT)))
                left = self.teacher.cpu().trace(first.x, first.lengths)[1]
                powers = [max(float(each.square().mean()), 1e-12) for each in left]
            self.teacher.to(processes.device)
        self.objective = Objective(self.task, settings, power, tuple(powers))
        self.training = Sequences.of(data, aims[0])
        self.validation = None if validation is None else Sequences.of(validation, aims[1])
        self.epoch, self.waited, self.seconds = 0, 0, 0.0
        self.best: Best | None = None
        self.log: list[dict[str, Any]] = []
        self._begin(model)

    def _begin(self, model: SequenceModel) -> None:
        """Train this model from here on, with an optimizer that has seen nothing."""
        self.trainable = Trainable(model, self.length).to(self.processes.device)
        self.module = self.processes.wrap(self.trainable)
        self.optimizer = make_optimizer(self.trainable, self.settings)
        self.penalty = NuclearNorm(self.trainable) if self.settings.hankel else None

    # Before the first epoch

    def start(self) -> None:
        """Take up the run, or judge the model as it is: training must not make it worse."""
        if self.watch.resume:
            assert self.watch.state is not None
            state = RunState.load(self.watch.state, self.what)
            try:
                self._take_up(state)
            except (RuntimeError, ValueError, TypeError, KeyError, S4EdgeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise S4EdgeError(
                    f"{self.watch.state} does not fit the model ({reason}); start again without "
                    "--resume"
                ) from error
            self._write_log()
        else:
            self._judge({"epoch": 0})
            self._keep()

    def _take_up(self, state: RunState) -> None:
        if state.config != json.loads(json.dumps(self.original.config.to_json())):
            config = ModelConfig.from_json(state.config)
            prefix = "model."
            tensors = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.tensors.items()
                if name.startswith(prefix)
            }
            assert self.watch.state is not None
            check_tensors(self.watch.state, config, tensors)
            model = SequenceModel(config, self.original.provenance)
            model.load_state_dict(tensors, assign=True)
            self._begin(model)
        self.trainable.load_state_dict(state.tensors)
        self.trainable.model.provenance.history = state.history
        self.optimizer.load_state_dict(state.optimizer)
        check_moments(self.optimizer)
        self.epoch, self.waited, self.seconds = state.epoch, state.waited, state.seconds
        self.best, self.log = state.best, state.log

    # Epochs

    @property
    def ended(self) -> bool:
        """Whether it was waited long enough, all reductions being done."""
        last = self.settings.epochs
        for epoch in range(self.settings.epochs):
            if self.settings.size_before(epoch) is not None:
                last = epoch
        reduced = not self.settings.schedule or self.epoch > last
        return reduced and 0 < self.settings.patience <= self.waited

    def reduce_if_due(self) -> None:
        """To the next state size of the schedule."""
        size = self.settings.size_before(self.epoch)
        if size is None:
            return
        assert self.reduce is not None
        small = self.reduce(self.trainable.written(), size)
        self.best, self.waited = None, 0  # that of a larger model is no result
        self._begin(small)

    def train_epoch(self) -> None:
        """One pass over the data, judged, logged and kept."""
        started = time.perf_counter()
        if self.every_epoch is not None:
            data = self.every_epoch(self.epoch)
            self.training = Sequences.of(data, self._aim(data))
        settings, processes = self.settings, self.processes
        generator = dropout_generator(settings.seed, self.epoch)
        count = math.ceil(len(self.training) / settings.batch)
        summed = torch.zeros(1, dtype=torch.float64)
        self.trainable.train()
        if self.penalty is not None:
            self.penalty.renew()
        batches = self.training.epoch(settings.batch, settings.seed, self.epoch, processes)
        for index, batch in enumerate(batches):
            done = (self.epoch * count + index) / (settings.epochs * count)
            set_rate(self.optimizer, done + 1 / (settings.epochs * count), settings.warmup)
            if settings.dropout:
                self.trainable.set_dropout(Dropout(settings.dropout, generator, batch.sequences))
            share = self._loss(batch)
            loss = share * processes.world  # which the average over processes takes back
            if self.penalty is not None:
                loss = loss + settings.hankel * self.penalty()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip(self.trainable, settings.clip)
            self.optimizer.step()
            summed += float(share.detach()) * batch.sequences
            self.watch.progress(done)
        self.trainable.set_dropout(None)
        mean = float(processes.total(summed)) / len(self.training)
        if not math.isfinite(mean):
            raise S4EdgeError(
                f"training diverged in epoch {self.epoch + 1} (the loss is not finite): choose "
                "smaller rates"
            )
        self.epoch += 1
        self._judge(
            {
                "epoch": self.epoch,
                "loss": mean,
                "rate": self.optimizer.param_groups[0]["lr"],
                "real_states": self.trainable.model.config.real_states,
                "seconds": time.perf_counter() - started,
            }
        )
        self._keep()

    def _aim(self, data: Data) -> Tensor | None:
        """The teacher's outputs, found on the CPU."""
        if self.teacher is None:
            return None
        aim = torch.from_numpy(predict(self.teacher.cpu(), data))
        self.teacher.to(self.processes.device)
        return aim

    def _loss(self, batch: Batch, seen: list[Tensor] | None = None) -> Tensor:
        """This process's share of a batch's loss.

        Args:
            batch: of it.
            seen: takes the outputs, part by part.
        """

        def of_part(part: Batch, output: Tensor, left: list[Tensor]) -> Tensor:
            aims = None
            if self.teacher is not None and self.settings.match_layers:
                with torch.no_grad():
                    aims = self.teacher.trace(part.x, part.lengths)[1]
            if seen is not None:
                seen.append(output)
            return self.objective.loss(part, output, left, aims)

        device = self.processes.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            loss: Tensor = self.module(_moved(batch, device), of_part)
        return loss

    @torch.no_grad()
    def _judge(self, line: dict[str, Any]) -> None:
        """Measure the model on the validation data; keep it if it is the best so far."""
        loss = metric = value = None
        if self.validation is not None:
            loss, metric, value = self._validate(self.validation)
            line |= {"validation_loss": loss, metric or "metric": value}
            if metric is None:
                del line["metric"]
        line = {key: each for key, each in line.items() if each is not None}
        best = self.best
        if best is None or loss is None or _better(value, loss, best):
            written = self.trainable.written()
            tensors = {name: tensor.detach() for name, tensor in written.state_dict().items()}
            self.best = Best(written.config.to_json(), tensors, self.epoch, loss, metric, value)
            self.waited = 0
            line["best"] = True
        else:
            self.waited += 1
        self.seconds += line.get("seconds", 0.0)
        self.log.append(line)
        self.watch.epoch(line)

    def _validate(self, sequences: Sequences) -> tuple[float, str | None, float | None]:
        """Loss, and for labels the metric and its value."""
        self.trainable.eval()
        summed = torch.zeros(3, dtype=torch.float64)
        for batch in sequences.in_order(self.settings.batch, self.processes):
            seen: list[Tensor] = []
            loss = self._loss(batch, seen)
            right = count = 0.0
            if self.task == "classification" and not batch.empty:
                assert batch.y is not None
                found = torch.cat(seen).argmax(dim=-1).cpu() == batch.y
                if batch.lengths is not None and found.ndim == 2:
                    found = found[torch.arange(found.shape[1]) < batch.lengths[:, None]]
                right, count = float(found.sum()), float(found.numel())
            summed += torch.tensor(
                [float(loss) * batch.sequences, right, count], dtype=torch.float64
            )
        self.processes.total(summed)
        mean = float(summed[0]) / len(sequences)
        if self.task != "classification":
            return mean, None, None
        return mean, "accuracy", float(summed[1] / summed[2])

    # What is kept

    def _keep(self) -> None:
        if self.processes.first and self.watch.state is not None:
            RunState(
                what=self.what,
                epoch=self.epoch,
                config=self.trainable.model.config.to_json(),
                history=self.trainable.model.provenance.history,
                tensors=self.trainable.state_dict(),
                optimizer=self.optimizer.state_dict(),
                seconds=self.seconds,
                waited=self.waited,
                best=self.best,
                log=self.log,
            ).save(self.watch.state)
        self._write_log()

    def _write_log(self) -> None:
        if self.processes.first and self.watch.log is not None:
            with replacing(self.watch.log) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.log))

    def result(self) -> SequenceModel:
        """The best model, with what was done to it."""
        self.watch.progress(1)
        assert self.best is not None
        provenance = dataclasses.replace(
            self.trainable.model.provenance,
            history=list(self.trainable.model.provenance.history),
        )
        model = self.best.model(provenance)
        settings = self.settings
        taught = settings.distill or settings.match_layers
        model.provenance.history.append(
            Training(
                task=self.task,
                epochs=self.epoch,
                best_epoch=self.best.epoch,
                samples=len(self.training),
                seed=settings.seed,
                validation_accuracy=self.best.value,
                validation_loss=self.best.loss if self.best.value is None else None,
                distill=settings.distill if taught else None,
            )
        )
        return model


def _better(value: float | None, loss: float, best: Best) -> bool:
    if value is not None and best.value is not None and value != best.value:
        return value > best.value
    return best.loss is None or loss < best.loss


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    y, lengths, aim = (
        None if each is None else each.to(device) for each in (batch.y, batch.lengths, batch.aim)
    )
    return dataclasses.replace(batch, x=batch.x.to(device), y=y, lengths=lengths, aim=aim)


def _check(
    model: SequenceModel,
    data: Data,
    settings: TrainingSettings,
    teacher: SequenceModel | None,
    validation: Data | None,
) -> None:
    for part in (data, validation):
        if part is not None:
            sample = part.part(slice(0, 1))
            lengths = None if sample.lengths is None else torch.from_numpy(sample.lengths)
            try:
                model.checked(torch.from_numpy(sample.x), lengths)
            except S4EdgeError as error:
                raise S4EdgeError(f"{part.source} does not fit: {error}") from error
    if teacher is None:
        if settings.distill or settings.match_layers:
            raise S4EdgeError("distillation needs a teacher: add --teacher MODEL")
        return
    ours, theirs = model.config, teacher.config
    for name in ("d_input", "d_output", "pooling", "encoder", "channels_first"):
        if getattr(ours, name) != getattr(theirs, name):
            raise S4EdgeError(
                f"the teacher's {name} is {getattr(theirs, name)}, the model's "
                f"{getattr(ours, name)}"
            )
    if settings.match_layers and (ours.d_model, len(ours.blocks)) != (
        theirs.d_model,
        len(theirs.blocks),
    ):
        raise S4EdgeError("layers can be matched where the teacher has as many of the same width")
    if settings.temperature and not (data.y is None or np.issubdtype(data.y.dtype, np.integer)):
        raise S4EdgeError("a temperature is for class scores; y holds targets")
