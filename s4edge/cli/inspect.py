"""``s4edge inspect``: what a model is."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import terminal
from s4edge.cli.models import set_option

# Beyond these, seconds would leave the range of numbers.
_RATES = (1e-9, 1e15)


def _check_rate(
    context: click.Context, parameter: click.Parameter, rate: float | None
) -> float | None:
    if rate is not None and not _RATES[0] <= rate <= _RATES[1]:
        raise click.BadParameter(f"a sample rate is a number of Hz above 0, got {rate:g}")
    return rate


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--rate", type=float, metavar="HZ", callback=_check_rate,
    help="The sample rate, to give time constants in seconds, too.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE",
    help="Draw all Hankel singular values and poles into a .png, .svg or .pdf.",
)  # fmt: skip
@set_option
@terminal.json_option
@terminal.verbose_option
def inspect(
    model: Path,
    rate: float | None,
    plot: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Show what MODEL is: layers, poles, what was assumed, and how small it may get.

    MODEL is an upstream checkpoint or a compressed model. Hankel singular values tell how much of
    a layer's systems a smaller state size can keep; nothing is reduced here, so errors are bounds.
    """
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.compression.states.spectrum import growing_notes
    from s4edge.reports.model_summary import fact_lines, summary_table
    from s4edge.reports.spectrum_table import hankel_table, state_size_table
    from s4edge.workflows.audience import Audience
    from s4edge.workflows.inspect import inspect_file

    # What was assumed is part of what is shown here; a program's person is told beside it.
    audience = terminal.audience() if as_json else Audience(progress=terminal.progress)
    found = inspect_file(
        model, facts=parse_assignments(assignments), rate=rate, plot=plot, audience=audience
    )
    summary, spectra = found.answer, found.spectra
    if as_json:
        terminal.emit_json(summary)
        return
    console = terminal.console
    ascii_only = console.options.ascii_only
    console.print(summary_table(summary, str(model)))
    for line in [*fact_lines(summary), *(f"note: {note}" for note in growing_notes(spectra))]:
        console.print(line, markup=False, highlight=False)
    for table in (
        hankel_table(spectra, console.width, ascii_only),
        state_size_table(summary, spectra, ascii_only),
    ):
        if table is not None:
            console.print()
            console.print(table)
    if plot is not None:
        console.print(f"Wrote {plot}.", markup=False, highlight=False)
