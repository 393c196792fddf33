"""Training from file to file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from s4edge.compression.compress import compress_model
from s4edge.compression.states.calibration import evenly
from s4edge.data.dataset import Data, load_data
from s4edge.files import check_writable
from s4edge.model.file import save_model
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import silent
from s4edge.reports.training_table import finetune_answer
from s4edge.training.allocator import keep_freed_memory
from s4edge.training.finetune import TrainingWatch, finetune_model
from s4edge.training.processes import open_processes
from s4edge.training.settings import TrainingSettings
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import calibration_of, read_model

# Sequences on which a reduction on the way is calibrated.
_CALIBRATION = 1000


def finetune_file(
    model: Path,
    data: str,
    settings: TrainingSettings,
    output: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    validation: str | None = None,
    teacher: Path | None = None,
    log: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    audience: Audience = NOBODY,
    epoch: Callable[[str], None] = lambda line: None,
) -> dict[str, Any] | None:
    """Read a model, train it further, and write the best of its epochs.

    Args:
        model: an upstream checkpoint or a compressed model.
        data: as `s4edge.data.dataset.load_data` takes it.
        settings: how.
        output: the ``.safetensors`` file to write; the run is kept beside it until it is there.
        facts: of checkpoints, as for `s4edge.load`.
        validation: data to choose the epoch by; a part of ``data`` where None.
        teacher: a model whose outputs to come close to.
        log: file of JSON lines; ``output`` with ``.jsonl`` behind it where None.
        resume: whether to go on with a run that was interrupted.
        device: "auto", "cpu" or "cuda".
        audience: who is told on the way.
        epoch: called with a line on each epoch.

    Returns:
        The answer of ``s4edge finetune --json``; None in all but the first of several processes.

    Raises:
        S4EdgeError: a file cannot be read or written, the data, the teacher and the model do not
            fit together, training diverges, or there is no run to resume.
    """
    log = log or output.with_name(f"{output.name}.jsonl")
    kept = output.with_name(f"{output.name}.run")
    check_writable(output, model, data, validation, teacher)
    check_writable(log, model, data, validation, teacher, output)
    started = time.perf_counter()
    original = read_model(model, facts, audience)
    samples = load_data(data)
    held_out = None if validation is None else load_data(validation)
    guide = None if teacher is None else read_model(teacher, facts, audience)
    keep_freed_memory()
    with open_processes(device) as processes, audience.progress("Training") as progress:

        def tell(line: dict[str, Any]) -> None:
            if processes.first:
                epoch("  ".join(f"{key} {value:.6g}" for key, value in line.items()))

        watch = TrainingWatch(progress if processes.first else silent, tell, kept, log, resume)
        trained = finetune_model(
            original, samples, settings, validation=held_out, teacher=guide,
            reduce=_calibrated_on(samples), watch=watch, processes=processes,
        )  # fmt: skip
        if not processes.first:
            return None
        save_model(trained, output)
    kept.unlink(missing_ok=True)
    return finetune_answer(original, trained, output, log, time.perf_counter() - started)


def _calibrated_on(data: Data) -> Callable[[SequenceModel, int], SequenceModel]:
    """What reduces a model on the way: calibrated on the data, allocated by sensitivity."""

    def reduce(model: SequenceModel, state: int) -> SequenceModel:
        calibration = calibration_of(model, data.part(evenly(len(data), _CALIBRATION)))
        return compress_model(model, state, calibration=calibration, allocate="sensitivity")

    return reduce
