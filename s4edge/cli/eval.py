"""``s4edge eval``: how good a model is on data."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import terminal
from s4edge.cli.models import read_model, set_option


@click.command(name="eval")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, metavar="DATA",
    help="An .npz with x (samples, length, d_input), y and optionally lengths; or "
    "package.module:callable giving batches.",
)  # fmt: skip
@set_option
@terminal.json_option
@terminal.verbose_option
def evaluate(
    model: Path, data: str, assignments: tuple[str, ...], as_json: bool, verbose: bool
) -> None:
    """Accuracy (or mean squared error) of MODEL on DATA.

    MODEL is an upstream checkpoint, a compressed model or an exported graph. A graph is streamed
    sample by sample and needs no torch.
    """
    from s4edge.data.dataset import load_data
    from s4edge.data.metrics import require_targets, score
    from s4edge.runtime.backends import SUFFIXES

    samples = load_data(data)
    require_targets(samples)
    with terminal.progress("Evaluating") as progress:
        if model.suffix in SUFFIXES:
            from s4edge.runtime import open_graph, predict

            result = score(
                predict(open_graph(model), samples.x, samples.lengths, progress), samples
            )
        else:
            from s4edge.training.evaluate import evaluate_model

            result = evaluate_model(read_model(model, assignments), samples, progress)
    if as_json:
        terminal.emit_json({"model": str(model), **result.__dict__})
        return
    shown = f"{result.value:.2%}" if result.metric == "accuracy" else f"{result.value:.6g}"
    terminal.console.print(
        f"{model}: {result.metric} {shown} on {result.samples} samples",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
