"""``s4edge compress``: a smaller state size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from s4edge.cli import terminal
from s4edge.cli.dense import dense_options, dense_suffix, rank_step, width_step
from s4edge.cli.models import model_stem, set_option
from s4edge.cli.rates import rate_options, rate_step, rate_suffix
from s4edge.cli.reduction import reduction_options
from s4edge.errors import S4EdgeError


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
@rate_options
@dense_options
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
@terminal.json_option
@terminal.verbose_option
def compress(
    model: Path,
    state: int | None,
    tolerance: float | None,
    rate: str | None,
    macs: int | None,
    rate_tolerance: float | None,
    width: str | None,
    rank: str | None,
    rank_tolerance: float | None,
    method: str,
    calibrate: str | None,
    memory: int | None,
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
    """Reduce states, rates, width and ranks of MODEL, and write the smaller model."""
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.reports.compression_table import compression_table
    from s4edge.reports.rank_table import rank_table
    from s4edge.reports.rate_table import rate_table
    from s4edge.reports.width_table import width_table

    if state is not None and tolerance is not None:
        raise click.UsageError("give either --state N or --tolerance E")
    if state is None and tolerance is None and rate is None and width is None and rank is None:
        raise click.UsageError(
            "give either --state N or --tolerance E, or --rate STRIDES, --width W or --rank R"
        )
    if (finetune is None) != (epochs is None):
        raise click.UsageError("--finetune DATA and --epochs K go together")
    if distill and finetune is None:
        raise click.UsageError("--distill is for --finetune")
    slower = rate_step(rate, macs, rate_tolerance)
    narrower, factored = width_step(width), rank_step(rank, rank_tolerance)
    size = rate_suffix(rate) + dense_suffix(width, rank)
    if state is not None or tolerance is not None:
        size += f"-s{state}" if state is not None else f"-t{tolerance:g}"
    suffix = ".pt" if layout == "upstream" else ".safetensors"
    path = path or Path(f"{model_stem(model)}{size}{suffix}")
    facts, audience = parse_assignments(assignments), terminal.audience(verbose)
    if layout == "upstream":
        from s4edge.workflows.to_upstream import compress_to_upstream

        wrong = _only_for_s4edge(
            tolerance=tolerance, calibrate=calibrate, memory=memory, horizon=horizon,
            report=report, refine=refine or None, finetune=finetune, rate=rate, width=width,
            rank=rank,
            allocate=None if allocate == "uniform" else allocate,
        )  # fmt: skip
        if wrong or state is None:
            raise S4EdgeError(
                f"--format upstream takes --state and --method only, not {', '.join(wrong)}: its "
                "layouts hold equally many modes in every channel"
            )
        answer = compress_to_upstream(
            model, state, path, facts=facts, method=method, audience=audience
        )
    else:
        from s4edge.compression.states.step import ReduceStates
        from s4edge.compression.steps import Step
        from s4edge.workflows.compress import compress_file

        # States last: they are fewer for signals that are averages, and moved on the data after all
        # else has changed.
        steps: list[Step] = [each for each in (slower, narrower, factored) if each is not None]
        if state is not None or tolerance is not None:
            steps.append(ReduceStates(state, tolerance, method, allocate, refine, horizon))
        answer = compress_file(
            model,
            steps,
            path,
            facts=facts,
            calibrate=calibrate,
            memory=memory,
            finetune=finetune,
            epochs=epochs,
            distill=distill,
            report=report,
            audience=audience,
        )
    if as_json:
        terminal.emit_json(answer)
        return
    if "rate" in answer:
        terminal.console.print(rate_table(answer["rate"]))
    if "width" in answer:
        terminal.console.print(width_table(answer["width"]))
    if "rank" in answer:
        terminal.console.print(rank_table(answer["rank"]))
    if "method" in answer:
        table = compression_table(answer, verbose)
        if layout == "upstream":
            table.caption = (
                f"Wrote {answer['output']} for upstream's code, and {answer['sidecar']} with the "
                f"arguments of its class, in {answer['seconds']:.1f} s."
            )
        terminal.console.print(table)
        if "total_error" in answer:
            together = answer["total_error"]["measured"]
            terminal.console.print(
                f"Strides and states together: the output differs by {together:.2%}.",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
    else:
        wrote = f"Wrote {answer['output']} ({answer['bytes'] / 1000:,.0f} kB)."
        terminal.console.print(wrote, markup=False, highlight=False, soft_wrap=True)
    if finetune is not None:
        from s4edge.reports.training_table import finetune_told

        told = finetune_told(answer["finetune"])
        terminal.console.print(told, markup=False, highlight=False, soft_wrap=True)


def _only_for_s4edge(**options: Any) -> list[str]:
    """The options given that upstream's layouts have no use for."""
    return [f"--{name}" for name, value in options.items() if value is not None]
