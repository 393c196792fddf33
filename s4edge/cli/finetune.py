"""``s4edge finetune``: train a model further."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from s4edge.cli import output
from s4edge.cli.models import model_stem, read_model, set_option
from s4edge.cli.training import log_path, run_path, schedule_of, training_options


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, metavar="DATA",
    help="An .npz with x, and y (labels or targets) unless a teacher or --task next makes up for "
    "it; or package.module:callable giving batches.",
)  # fmt: skip
@click.option("--epochs", type=int, required=True, metavar="K", help="Passes over the data.")
@training_options
@click.option(
    "--teacher", type=click.Path(path_type=Path), metavar="MODEL",
    help="Come close to this model's outputs (see --distill); needs no labels.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True,
    help="Go on with the run of the same call that was interrupted: its result is the same to the "
    "bit on a CPU. The run is kept in OUT.run after every epoch.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>-ft.safetensors here]",
)  # fmt: skip
@set_option
@output.json_option
@output.verbose_option
def finetune(
    model: Path,
    data: str,
    epochs: int,
    teacher: Path | None,
    resume: bool,
    path: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Train MODEL further on DATA and write the best of its epochs.

    Several processes share the work with
    torchrun --nproc-per-node 2 --no-python s4edge finetune ...
    """
    from s4edge.api import save
    from s4edge.data.dataset import load_data
    from s4edge.files import check_writable
    from s4edge.reports.training_table import finetune_answer, finetune_lines, finetune_table
    from s4edge.training.allocator import keep_freed_memory
    from s4edge.training.finetune import Watch, finetune_model
    from s4edge.training.processes import open_processes
    from s4edge.training.settings import settings_of

    path = path or Path(f"{model_stem(model)}-ft.safetensors")
    log = log_path(path, options["log"])
    read = (data, options["validation_data"], teacher)
    check_writable(path, model, *read)
    check_writable(log, model, *read, path)
    settings = settings_of(epochs=epochs, has_teacher=teacher is not None, **options)
    started = time.perf_counter()
    original = read_model(model, assignments)
    samples = load_data(data)
    validation = (
        None if options["validation_data"] is None else load_data(options["validation_data"])
    )
    guide = None if teacher is None else read_model(teacher, assignments)
    keep_freed_memory()
    with open_processes(options["device"]) as processes, output.progress("Training") as bar:
        tell = output.note if verbose and processes.first else lambda line: None
        watch = Watch(
            progress=bar if processes.first else lambda done: None,
            epoch=lambda line: tell("  ".join(f"{key} {value:.6g}" for key, value in line.items())),
            state=run_path(path),
            log=log,
            resume=resume,
        )
        trained = finetune_model(
            original, samples, settings, validation=validation, teacher=guide,
            reduce=schedule_of(samples), watch=watch, processes=processes,
        )  # fmt: skip
        if not processes.first:
            return
        save(trained, path)
    run_path(path).unlink(missing_ok=True)
    answer = finetune_answer(original, trained, path, watch.log, time.perf_counter() - started)
    if as_json:
        output.emit_json(answer)
        return
    output.console.print(finetune_table(answer))
    for line in finetune_lines(answer):
        output.console.print(line, markup=False, highlight=False, soft_wrap=True)
