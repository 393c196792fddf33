"""``s4edge export``: a recurrent ONNX graph, or plain C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s4edge.cli import terminal
from s4edge.cli.export_c import write_c
from s4edge.cli.models import model_stem, newest_model, read_model, set_option
from s4edge.export.c.packages.kinds import KINDS

if TYPE_CHECKING:
    from s4edge.export.onnx.onnx_file import Exported


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--onnx", is_flag=True, help="Write a graph for ONNX Runtime.")
@click.option(
    "--c", "as_c", is_flag=True,
    help="Write plain C that any 32-bit board runs, a .c file and its header, for models that "
    "stream.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(["step", "chunk", "sequence"]),
    help="step: one sample per run, the state in and out. chunk: several samples per run, quicker "
    "per sample. sequence: whole sequences, also for models that cannot stream.  "
    "[default: step; chunk with --chunk, and of models that answer once for several samples]",
)  # fmt: skip
@click.option(
    "--chunk", type=click.IntRange(min=1), metavar="T",
    help="Samples per run of a chunk graph, or that C computes side by side.  [default: chosen "
    "from the model's shape; 16 in C]",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="N",
    help="A step or chunk graph of N sequences side by side, 1 for a stream, every size in it a "
    "number and every operator a plain one, for converters that want that.  [default: any number]",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
    help="Of weights: fp16 halves the file; int8 does so for dense layers, with a scale per output "
    "channel. States and poles stay float32. C knows fp32 and int8.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA",
    help="With labels or targets: measure what the precision costs, and calibrate int8's "
    "activations where that is better than finding their range at every run.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="HZ",
    help="Samples per second that the model was trained on: `s4edge run` refuses recordings of "
    "another rate.",
)  # fmt: skip
@click.option(
    "--compile", "compiler", is_flag=False, flag_value="", metavar="[CC]",
    help="With --c: make a shared library of it, too, with the system's compiler or this one "
    "(\"aarch64-linux-gnu-gcc -mcpu=cortex-a72\").",
)  # fmt: skip
@click.option(
    "--package", "packages", type=click.Choice(["none", *KINDS]), multiple=True,
    help="With --c: a folder <name>-<package> beside the file, too, that such a build takes as it "
    "is, with an example that runs the self-test and streams. May be repeated.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="OUT",
    help="The file to write.  [default: <stem>.onnx or <stem>.c here, with -chunk16, -sequence, "
    "-batch1, -int8 and so on before the dot]",
)  # fmt: skip
@set_option
@terminal.json_option
@terminal.verbose_option
def export(
    model: Path | None,
    onnx: bool,
    as_c: bool,
    mode: str | None,
    chunk: int | None,
    batch: int | None,
    precision: str,
    data: str | None,
    rate: float | None,
    compiler: str | None,
    packages: tuple[str, ...],
    path: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Write MODEL as a graph that ONNX Runtime streams, or as C, checked against the model.

    MODEL is a compressed model or an upstream checkpoint; without it, the newest compressed model
    here.
    """
    if onnx == as_c:
        raise click.UsageError(
            "--onnx and --c are two formats; name one" if onnx
            else "Missing option '--onnx' (a graph) or '--c' (plain C)."
        )  # fmt: skip
    if as_c:
        for option, given in (("--mode", mode), ("--data", data), ("--batch", batch)):
            if given is not None:
                raise click.UsageError(f"{option} goes with --onnx")
        kinds = tuple(kind for kind in dict.fromkeys(packages) if kind != "none")
        write_c(model, chunk, precision, rate, compiler, kinds, path, assignments, as_json)
        return
    if packages:
        raise click.UsageError("--package goes with --c")
    if compiler is not None:
        raise click.UsageError("--compile goes with --c")
    if chunk is not None and mode not in (None, "chunk"):
        raise click.UsageError(f"--chunk goes with --mode chunk, not with --mode {mode}")
    if batch is not None and mode == "sequence":
        raise click.UsageError("--batch goes with step and chunk graphs; sequence takes any number")
    from s4edge.api import export_onnx
    from s4edge.data.dataset import load_data
    from s4edge.export.onnx.chunk_graph import choose_chunk
    from s4edge.export.onnx.onnx_file import lowered
    from s4edge.files import check_writable

    model = model or newest_model()
    samples = None if data is None else load_data(data)
    loaded = read_model(model, assignments)
    at_every_sample = loaded.config.stride == 1
    mode = mode or ("step" if chunk is None and at_every_sample else "chunk")
    if mode == "chunk" and chunk is None:
        chunk = choose_chunk(lowered(loaded, mode))
    path = path or Path(model_stem(model) + _suffix(mode, chunk, batch, precision) + ".onnx")
    check_writable(path, model)
    with terminal.progress("Measuring on the data") as progress:
        exported = export_onnx(
            loaded, path, mode, chunk=chunk, precision=precision, data=samples, progress=progress,
            rate=rate, batch=batch,
        )  # fmt: skip
    if as_json:
        terminal.emit_json(exported.to_json())
        return
    terminal.console.print(_told(exported), markup=False, highlight=False, soft_wrap=True)
    if exported.exact_samples is not None:
        terminal.note(
            f"Exact for the first {exported.exact_samples} samples of a stream: the model's "
            "kernels are cut there, a recurrence goes on."
        )


def _suffix(mode: str, chunk: int | None, batch: int | None, precision: str) -> str:
    """Of the file's stem."""
    of_mode = {"step": "", "chunk": f"-chunk{chunk}", "sequence": "-sequence"}[mode]
    of_batch = "" if batch is None else f"-batch{batch}"
    return of_mode + of_batch + ("" if precision == "fp32" else f"-{precision}")


def _told(exported: Exported) -> str:
    """The answer for people."""
    lines = [
        f"Wrote {exported.output} ({exported.bytes / 1000:,.0f} kB): {exported.mode} graph, "
        f"{exported.nodes} nodes, opset {exported.opset}, {exported.state_floats:,} floats of "
        "state."
    ]
    if exported.matrix_bytes is not None:
        lines.append(
            f"{exported.samples_per_run} samples per run; kernels and matrices for them take "
            f"{exported.matrix_bytes / 1000:,.0f} kB."
        )
    lines.append(
        f"Against the model it came from: largest difference {exported.max_abs_error:.2g} "
        f"where outputs reach {exported.max_abs_output:.3g}."
    )
    if exported.scores is not None:
        before, after = (
            f"{each.value:.2%}" if each.metric == "accuracy" else f"{each.value:.6g}"
            for each in exported.scores
        )
        metric, samples = exported.scores[0].metric, exported.scores[0].samples
        lines.append(
            f"{metric} on {samples} samples: {after} in {exported.precision}"
            + (f", activations {exported.activations}" if exported.activations else "")
            + f"; {before} in fp32."
        )
    if exported.mode != "sequence":
        lines[-1] += " Next: s4edge bench"
    return "\n".join(lines)
