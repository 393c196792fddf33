"""``s4edge inspect``: what a model is."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import output
from s4edge.cli.models import read_model, set_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@set_option
@output.json_option
@output.verbose_option
def inspect(model: Path, assignments: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Show what MODEL is: layers, state sizes, slowest poles, what was assumed.

    MODEL is an upstream checkpoint or a compressed model.
    """
    from s4edge.model.summary import summarize, summary_table

    loaded = read_model(model, assignments)
    summary = summarize(loaded)
    if as_json:
        output.emit_json(summary)
        return
    output.console.print(summary_table(summary, str(model)))
    for key in ("inferred", "given", "assumed"):
        if summary[key] and (verbose or key != "inferred"):
            facts = ", ".join(f"{name}={value}" for name, value in summary[key].items())
            output.console.print(f"{key}: {facts}", markup=False, highlight=False)
