"""``s4edge finetune``: train a model further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from s4edge.cli import terminal
from s4edge.cli.models import model_stem, set_option
from s4edge.cli.training import training_options


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
@terminal.json_option
@terminal.verbose_option
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
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.reports.training_table import finetune_lines, finetune_table
    from s4edge.training.settings import settings_of
    from s4edge.workflows.finetune import finetune_file

    answer = finetune_file(
        model,
        data,
        settings_of(epochs=epochs, has_teacher=teacher is not None, **options),
        path or Path(f"{model_stem(model)}-ft.safetensors"),
        facts=parse_assignments(assignments),
        validation=options["validation_data"],
        teacher=teacher,
        log=options["log"],
        resume=resume,
        device=options["device"],
        audience=terminal.audience(),
        epoch=terminal.note if verbose else lambda line: None,
    )
    if answer is None:
        return
    if as_json:
        terminal.emit_json(answer)
        return
    terminal.console.print(finetune_table(answer))
    for line in finetune_lines(answer):
        terminal.console.print(line, markup=False, highlight=False, soft_wrap=True)
