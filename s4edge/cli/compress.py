"""``s4edge compress``: a smaller state size."""

from __future__ import annotations

import time
from pathlib import Path

import click

from s4edge.cli import output
from s4edge.cli.models import read_model, set_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--state", type=int, required=True, metavar="N",
    help="The new state size, in the checkpoint's own count of d_state.",
)  # fmt: skip
@click.option(
    "--method", default="balanced", show_default=True,
    type=click.Choice(["balanced", "complex-balanced"]),
    help="balanced: balanced truncation of the real system. complex-balanced: of the complex "
    "half-system, the source paper's way, to compare with.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>-s<N>.safetensors here]",
)  # fmt: skip
@set_option
@output.json_option
@output.verbose_option
def compress(
    model: Path,
    state: int,
    method: str,
    path: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Reduce the state size of MODEL, layer by layer, and write the smaller model."""
    from s4edge.api import compress as reduce_model
    from s4edge.api import save
    from s4edge.files import check_writable
    from s4edge.reduction.report import compression_answer, compression_table

    path = path or Path(f"{model.stem}-s{state}.safetensors")
    check_writable(path, model)
    started = time.perf_counter()
    original = read_model(model, assignments)
    with output.progress("Reducing") as progress:
        small = reduce_model(original, state, method=method, progress=progress)
    save(small, path)
    answer = compression_answer(original, small, path, time.perf_counter() - started)
    if as_json:
        output.emit_json(answer)
    else:
        output.console.print(compression_table(answer, verbose))
