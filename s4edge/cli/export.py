"""``s4edge export``: a recurrent ONNX graph."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import output
from s4edge.cli.models import newest_model, read_model, set_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--onnx", is_flag=True, required=True, help="Write ONNX (the only format so far).")
@click.option(
    "--mode", type=click.Choice(["step", "sequence"]), default="step", show_default=True,
    help="step: one sample per run, the state in and out. sequence: whole sequences, also for "
    "models that cannot stream.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>.onnx here, <stem>-sequence.onnx]",
)  # fmt: skip
@set_option
@output.json_option
@output.verbose_option
def export(
    model: Path | None,
    onnx: bool,
    mode: str,
    path: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Write MODEL as a graph that ONNX Runtime streams, checked against the model.

    MODEL is a compressed model or an upstream checkpoint; without it, the newest compressed model
    here.
    """
    from s4edge.api import export_onnx
    from s4edge.files import check_writable

    model = model or newest_model()
    path = path or Path(f"{model.stem}{'' if mode == 'step' else '-' + mode}.onnx")
    check_writable(path, model)
    exported = export_onnx(read_model(model, assignments), path, mode)
    if as_json:
        output.emit_json(exported.to_json())
        return
    output.console.print(
        f"Wrote {exported.output} ({exported.bytes / 1000:,.0f} kB): {exported.mode} graph, "
        f"{exported.nodes} nodes, opset {exported.opset}, {exported.state_floats:,} floats of "
        f"state.\nAgainst the model it came from: largest difference {exported.max_abs_error:.2g} "
        f"where outputs reach {exported.max_abs_output:.3g}."
        + (" Next: s4edge bench" if mode == "step" else ""),
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    if exported.exact_samples is not None:
        output.note(
            f"Exact for the first {exported.exact_samples} samples of a stream: the model's "
            "kernels are cut there, a recurrence goes on."
        )
