"""``s4edge compress``: a smaller state size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s4edge.cli import output
from s4edge.cli.models import model_stem, read_model, set_option
from s4edge.cli.reduction import read_calibration, reduction_options
from s4edge.errors import S4EdgeError

if TYPE_CHECKING:
    from s4edge.data.dataset import Data
    from s4edge.model.sequence_model import SequenceModel


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--state", type=int, metavar="N",
    help="The new state size, in the checkpoint's own count of d_state.",
)  # fmt: skip
@click.option(
    "--tolerance", type=float, metavar="E",
    help="Instead of --state: as few states as keep the relative error of the model's output on "
    "the calibration data under E (0.05 is 5 %); allocated by sensitivity.",
)  # fmt: skip
@reduction_options
@click.option(
    "--finetune",
    metavar="DATA",
    help="Train the smaller model on these sequences afterwards, for --epochs; for more choice "
    "call s4edge finetune.",
)
@click.option("--epochs", type=int, metavar="K", help="Of --finetune.")
@click.option(
    "--distill",
    is_flag=True,
    help="--finetune towards MODEL's own outputs instead of labels.",
)
@click.option(
    "--format", "layout", default="s4edge", show_default=True,
    type=click.Choice(["s4edge", "upstream"]),
    help="s4edge: a .safetensors file for this program. upstream: a .pt file and its sidecar that "
    "the same upstream class loads, built with the smaller d_state, to train on.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>-s<N>.safetensors here, .pt for upstream]",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html",
    help="Write a page to look at: where the states went, what was lost, kernels, poles.",
)  # fmt: skip
@set_option
@output.json_option
@output.verbose_option
def compress(
    model: Path,
    state: int | None,
    tolerance: float | None,
    method: str,
    calibrate: str | None,
    allocate: str,
    refine: bool | None,
    horizon: int | None,
    finetune: str | None,
    epochs: int | None,
    distill: bool,
    layout: str,
    path: Path | None,
    report: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Reduce the state size of MODEL, layer by layer, and write the smaller model."""
    from s4edge.api import save
    from s4edge.compression.states.reducer import Reducer
    from s4edge.data.dataset import load_data
    from s4edge.files import check_writable
    from s4edge.progress import part_of
    from s4edge.reports.compression_table import compression_answer, compression_table
    from s4edge.workflows.compress import check_arguments, make_settings, reduce_prepared

    if (state is None) == (tolerance is None):
        raise click.UsageError("give either --state N or --tolerance E")
    if (finetune is None) != (epochs is None):
        raise click.UsageError("--finetune DATA and --epochs K go together")
    if distill and finetune is None:
        raise click.UsageError("--distill is for --finetune")
    size = f"s{state}" if state is not None else f"t{tolerance:g}"
    suffix = ".pt" if layout == "upstream" else ".safetensors"
    path = path or Path(f"{model_stem(model)}-{size}{suffix}")
    check_writable(path, model, calibrate, finetune)
    if report is not None:
        from s4edge.reports.compression_page import check_report

        check_report(report)
        check_writable(report, model, calibrate, finetune, path)
    started = time.perf_counter()
    if layout == "upstream":
        asked = {
            "--tolerance": tolerance, "--calibrate": calibrate, "--horizon": horizon,
            "--report": report, "--refine": refine or None, "--finetune": finetune,
            "--allocate": None if allocate == "uniform" else allocate,
        }  # fmt: skip
        original, reduced = _for_upstream(model, state, method, path, assignments, asked)
    else:
        original = read_model(model, assignments)
        check_arguments(original, state, tolerance)
        samples = None if finetune is None else load_data(finetune)
        data = read_calibration(original, calibrate)
        settings = make_settings(
            method, data, allocate, refine, horizon, to_tolerance=tolerance is not None
        )
        with output.progress("Reducing") as progress:
            reducer = Reducer(original, settings, data, part_of(progress, 0, 2))
            small = reduce_prepared(reducer, state, tolerance, part_of(progress, 1, 2))
        reduced = small
        if samples is not None and epochs is not None:
            small = _finetuned(original, reduced, samples, epochs, distill)
        save(small, path)
    answer = compression_answer(original, reduced, path, time.perf_counter() - started)
    if finetune is not None:
        answer["finetune"] = small.provenance.history[-1]
    if layout == "upstream":
        answer["sidecar"] = str(path.with_suffix(".json"))
    if report is not None:
        from s4edge.compression.trade_off import trade_off
        from s4edge.reports.compression_page import write_report
        from s4edge.workflows.sweep import predicted_curve

        points = [trade_off(reduced)]
        write_report(report, original, reduced, points, predicted_curve(reducer), model.name)
        answer["report"] = str(report)
    if as_json:
        output.emit_json(answer)
        return
    table = compression_table(answer, verbose)
    if layout == "upstream":
        table.caption = (
            f"Wrote {answer['output']} for upstream's code, and {answer['sidecar']} with the "
            f"arguments of its class, in {answer['seconds']:.1f} s."
        )
    output.console.print(table)
    if finetune is not None:
        from s4edge.reports.training_table import finetune_told

        told = finetune_told(answer["finetune"])
        output.console.print(told, markup=False, highlight=False, soft_wrap=True)


def _finetuned(
    original: SequenceModel, small: SequenceModel, data: Data, epochs: int, distill: bool
) -> SequenceModel:
    from s4edge.training.allocator import keep_freed_memory
    from s4edge.training.finetune import Watch, finetune_model
    from s4edge.training.settings import settings_of

    keep_freed_memory()
    settings = settings_of(epochs=epochs, has_teacher=distill)
    with output.progress("Training") as progress:
        return finetune_model(
            small, data, settings, teacher=original if distill else None, watch=Watch(progress)
        )


def _for_upstream(
    model: Path,
    state: int | None,
    method: str,
    path: Path,
    assignments: tuple[str, ...],
    asked: dict[str, Any],
) -> tuple[SequenceModel, SequenceModel]:
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.checkpoints.write_upstream import check_source_and_output, compress_upstream

    wrong = [name for name, value in asked.items() if value is not None]
    if wrong or state is None:
        raise S4EdgeError(
            f"--format upstream takes --state and --method only, not {', '.join(wrong)}: its "
            "layouts hold equally many modes in every channel"
        )
    check_source_and_output(model, path)
    original = read_model(model, assignments)
    facts = parse_assignments(assignments)
    with output.progress("Reducing") as progress:
        small = compress_upstream(model, state, path, facts, method=method, progress=progress)
    return original, small
