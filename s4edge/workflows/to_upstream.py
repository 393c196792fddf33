"""A smaller checkpoint in upstream's own layout, from file to file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.checkpoints.write_upstream import check_source_and_output, compress_upstream
from s4edge.files import check_writable
from s4edge.reports.compression_table import compression_answer
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import read_model


def compress_to_upstream(
    model: Path,
    state: int,
    output: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    method: str = "balanced",
    audience: Audience = NOBODY,
) -> dict[str, Any]:
    """Read an upstream checkpoint, reduce it, and write it for the same upstream class.

    Args:
        model: the checkpoint.
        state: the new ``d_state``.
        output: the file to write; its sidecar gets the same name with ``.json``.
        facts: as for `s4edge.load`.
        method: for layers in which each channel has its own poles.
        audience: who is told on the way.

    Returns:
        The answer of ``s4edge compress --format upstream --json``.

    Raises:
        S4EdgeError: upstream's layout cannot hold the result, or a file cannot be read or written.
    """
    check_writable(output, model)
    started = time.perf_counter()
    check_source_and_output(model, output)
    original = read_model(model, facts, audience)
    with audience.progress("Reducing") as progress:
        small = compress_upstream(model, state, output, facts, method=method, progress=progress)
    answer = compression_answer(original, small, output, time.perf_counter() - started)
    return {**answer, "sidecar": str(output.with_suffix(".json"))}
