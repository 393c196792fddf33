"""``s4edge export --c``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from s4edge.cli import terminal
from s4edge.cli.models import model_stem, newest_model, read_model

if TYPE_CHECKING:
    from s4edge.export.c.c_file import ExportedC


def write_c(
    model: Path | None,
    chunk: int | None,
    precision: str,
    rate: float | None,
    compiler: str | None,
    packages: tuple[str, ...],
    path: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write MODEL as C. Arguments are the options; an empty ``compiler`` is the system's."""
    if precision == "fp16":
        raise click.UsageError("--c knows the precisions fp32 and int8")
    from s4edge.api import export_c
    from s4edge.files import check_writable

    if compiler and model is None and Path(compiler).is_file() and not os.access(compiler, os.X_OK):
        # `--compile model.pt`: the last word is the model.
        model, compiler = Path(compiler), ""
    model = model or newest_model()
    loaded = read_model(model, assignments)
    suffix = "" if precision == "fp32" else f"-{precision}"
    path = path or Path(f"{model_stem(model)}{suffix}.c")
    check_writable(path, model)
    exported = export_c(
        loaded, path, chunk=chunk, precision=precision, compiler=compiler or None,
        compiled=compiler is not None, rate=rate, packages=packages,
    )  # fmt: skip
    if as_json:
        terminal.emit_json(exported.to_json())
        return
    terminal.console.print(_told(exported), markup=False, highlight=False, soft_wrap=True)


def _told(exported: ExportedC) -> str:
    """The answer for people."""
    files = f"{exported.output} ({exported.bytes / 1000:,.0f} kB), {exported.header}"
    if exported.library is not None:
        files += f" and {exported.library}"
    lines = [
        f"Wrote {files}: {exported.weight_bytes / 1000:,.1f} kB of weights, "
        f"{exported.state_bytes:,} bytes of state, {exported.multiply_adds:,} multiply-adds a "
        "sample.",
        f"On the stack: {exported.step_scratch_bytes:,} bytes for a sample, "
        f"{exported.chunk_scratch_bytes:,} for {exported.chunk} side by side.",
    ]
    if exported.max_abs_error is None:
        lines.append(
            f"Not checked against the model: {exported.unchecked}. Its self-test will tell."
        )
    else:
        lines.append(
            f"Against the model it came from: largest difference {exported.max_abs_error:.2g} "
            f"where outputs reach {exported.max_abs_output:.3g} (compiled with "
            f"{exported.compiler})."
        )
    if exported.packages:
        folders = ", ".join(map(str, exported.packages.values()))
        lines.append(f"Packages: {folders}; each has a README.md that says where to put it.")
    if exported.exact_samples is not None:
        lines.append(
            f"Exact for the first {exported.exact_samples} samples of a stream: the model's "
            "kernels are cut there, a recurrence goes on."
        )
    return "\n".join(lines)
