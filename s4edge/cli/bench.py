"""``s4edge bench``: what graphs cost on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import output
from s4edge.errors import S4EdgeError


def _newest() -> Path:
    from s4edge.runtime import newest_graph

    path = newest_graph(Path.cwd())
    if path is None:
        raise S4EdgeError(
            "no graph that s4edge wrote is in this folder; name one, or export one with: "
            "s4edge export MODEL --onnx"
        )
    output.notes.print(f"Taking {path.name}, the newest graph here.", markup=False)
    return Path(path.name)


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads that one run may use.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to measure each model.",
)
@output.json_option
@output.verbose_option
def bench(
    models: tuple[Path, ...], threads: int, duration: float, as_json: bool, verbose: bool
) -> None:
    """Measure latency and memory of exported graphs on this machine.

    Several models are measured in turns and shown side by side. Without MODEL.onnx it takes
    the newest graph here.
    """
    # Here and not above, so that `s4edge --help` does not wait for onnxruntime.
    from s4edge import runtime
    from s4edge.runtime.report import bench_table

    if not models:
        models = (_newest(),)
    with output.progress("Measuring") as progress:
        result = runtime.bench(models, threads, duration, progress)
    if as_json:
        output.emit_json(result.to_json())
    else:
        output.console.print(bench_table(result))
    if verbose:
        for row in result.results:
            output.notes.print(
                f"{row.model}: {row.runs} runs, loaded in {row.load_seconds:.3f} s, "
                f"{(row.peak_rss_bytes - row.baseline_rss_bytes) / 1e6:.1f} MB above "
                f"the runtime's own {row.baseline_rss_bytes / 1e6:.1f} MB",
                markup=False,
                soft_wrap=True,
            )
