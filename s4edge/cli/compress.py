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
    "--format", "layout", default="s4edge", show_default=True,
    type=click.Choice(["s4edge", "upstream"]),
    help="s4edge: a .safetensors file for this program. upstream: a .pt file and its sidecar that "
    "the same upstream class loads, built with the smaller d_state, to train on.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>-s<N>.safetensors here, .pt for upstream]",
)  # fmt: skip
@set_option
@output.json_option
@output.verbose_option
def compress(
    model: Path,
    state: int,
    method: str,
    layout: str,
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

    suffix = ".pt" if layout == "upstream" else ".safetensors"
    path = path or Path(f"{model.stem}-s{state}{suffix}")
    check_writable(path, model)
    started = time.perf_counter()
    if layout == "upstream":
        from s4edge.checkpoints.facts import parse_assignments
        from s4edge.checkpoints.write_upstream import check_source_and_output, compress_upstream

        check_source_and_output(model, path)
        original = read_model(model, assignments)
        facts = parse_assignments(assignments)
        with output.progress("Reducing") as progress:
            small = compress_upstream(model, state, path, facts, method=method, progress=progress)
    else:
        original = read_model(model, assignments)
        with output.progress("Reducing") as progress:
            small = reduce_model(original, state, method=method, progress=progress)
        save(small, path)
    answer = compression_answer(original, small, path, time.perf_counter() - started)
    if layout == "upstream":
        answer["sidecar"] = str(path.with_suffix(".json"))
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
