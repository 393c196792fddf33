"""One reader in each module, and the list of them."""

from __future__ import annotations

from ..reader import Reader
from . import (
    answers,
    arrays,
    batches,
    checkpoints,
    commands,
    graphs,
    hubs,
    models,
    pickles,
    recordings,
    run_states,
    sidecars,
    tables,
    torch_files,
)

READERS: dict[str, Reader] = {
    reader.name: reader
    for module in (
        pickles, torch_files, checkpoints, sidecars, models, graphs, arrays, recordings, tables,
        answers, run_states, hubs, batches, commands,
    )
    for reader in module.READERS
}  # fmt: skip
