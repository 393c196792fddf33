"""A smaller model, from file to file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s4edge.compression.states.calibration import Calibration, output_on, working_copy
from s4edge.compression.states.observed import relative_error, same_class
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.steps import Step, apply_steps, check_steps
from s4edge.compression.trade_off import trade_off
from s4edge.data.dataset import Data, load_data
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable
from s4edge.model.file import save_model
from s4edge.model.history import to_json
from s4edge.model.sequence_model import SequenceModel
from s4edge.reports.compression_page import check_report, write_report
from s4edge.reports.compression_table import compression_answer
from s4edge.training.allocator import keep_freed_memory
from s4edge.training.finetune import TrainingWatch, finetune_model
from s4edge.training.settings import settings_of
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import read_calibration, read_model


def compress_file(
    model: Path,
    steps: Sequence[Step],
    output: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    calibrate: str | None = None,
    memory: int | None = None,
    finetune: str | None = None,
    epochs: int | None = None,
    distill: bool = False,
    report: Path | None = None,
    audience: Audience = NOBODY,
) -> dict[str, Any]:
    """Read a model, reduce it, train it on where that is asked for, and write it.

    Args:
        model: an upstream checkpoint or a compressed model.
        steps: of the compression, in order.
        output: the ``.safetensors`` file to write.
        facts: of a checkpoint, as for `s4edge.load`.
        calibrate: sequences to calibrate on, as `s4edge.data.dataset.load_data` takes them.
        memory: bytes that calibration may take; None for half of what is free.
        finetune: sequences to train on afterwards, for ``epochs``.
        epochs: of ``finetune``.
        distill: whether the original's outputs take the place of labels.
        report: an ``.html`` page to write, of the model before it is trained.
        audience: who is told on the way.

    Returns:
        The answer of ``s4edge compress --json``.

    Raises:
        S4EdgeError: a file cannot be read or written, or a step does not suit the model.
    """
    check_writable(output, model, calibrate, finetune)
    if report is not None:
        if not isinstance(steps[-1], ReduceStates):
            raise S4EdgeError("a report shows states: ask for --state or --tolerance, too")
        check_report(report)
        check_writable(report, model, calibrate, finetune, output)
    started = time.perf_counter()
    original = read_model(model, facts, audience)
    check_steps(original, steps)
    samples = None if finetune is None else load_data(finetune)
    calibration = read_calibration(original, calibrate, audience, memory)
    try:
        with audience.progress("Reducing") as progress:
            reduced = apply_steps(original, steps, calibration, progress)
    except KeyboardInterrupt:
        if calibration is not None:
            audience.note(f"Interrupted: nothing was written to {output}.")
        raise
    small = reduced.model
    _tell_unheard(small, calibration, audience)
    if samples is not None and epochs is not None:
        teacher = original if distill else None
        small = _trained(small, samples, epochs, teacher, audience)
    save_model(small, output)
    answer = compression_answer(original, reduced.model, output, time.perf_counter() - started)
    if calibration is not None and len(steps) > 1:
        answer["total_error"] = _total_error(original, reduced.model, calibration)
    if samples is not None:
        answer["finetune"] = to_json(small.provenance.history[-1])
    if report is not None:
        points, before = [trade_off(reduced.model)], reduced.before or original
        write_report(report, before, reduced.model, points, reduced.curve, model.name)
        answer["report"] = str(report)
    return answer


def _total_error(
    original: SequenceModel, small: SequenceModel, calibration: Calibration
) -> dict[str, Any]:
    """Of the output after all steps, relative to the original's, on the calibration data."""
    aim, y = (output_on(working_copy(each), calibration) for each in (original, small))
    return {"measured": relative_error(y, aim), "same_class": same_class(aim, y)}


def _tell_unheard(
    small: SequenceModel, calibration: Calibration | None, audience: Audience
) -> None:
    """Tell where windows do not divide sequences."""
    stride = small.config.stride
    if calibration is not None and calibration.length % stride:
        audience.note(
            f"The model makes one sample of {stride}: of sequences of {calibration.length:,} the "
            f"last {calibration.length % stride} are not heard."
        )


def _trained(
    small: SequenceModel,
    data: Data,
    epochs: int,
    teacher: SequenceModel | None,
    audience: Audience,
) -> SequenceModel:
    keep_freed_memory()
    settings = settings_of(epochs=epochs, has_teacher=teacher is not None)
    with audience.progress("Training") as progress:
        return finetune_model(small, data, settings, teacher=teacher, watch=TrainingWatch(progress))
