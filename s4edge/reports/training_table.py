"""What a training did, for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from s4edge.model.history import to_json
from s4edge.model.sequence_model import SequenceModel


def finetune_answer(
    before: SequenceModel, after: SequenceModel, path: Path, log: Path | None, seconds: float
) -> dict[str, Any]:
    """The answer of ``s4edge finetune --json``.

    A layer's ``error`` and ``error_bound`` are None: training moves a layer, it does not
    approximate it.
    """
    entry = to_json(after.provenance.history[-1])
    layers = []
    for old, new in zip(before.config.blocks, after.config.blocks, strict=True):
        layers.append(
            {
                "name": new.name,
                "real_states_before": sum(each.real_states for each in old.all_systems),
                "real_states_after": sum(each.real_states for each in new.all_systems),
                "error": None,
                "error_bound": None,
            }
        )
    return {
        "output": str(path),
        "log": None if log is None else str(log),
        **{key: value for key, value in entry.items() if key != "did"},
        "state_size": {
            "before": before.config.average_state_size, "after": after.config.average_state_size
        },
        "real_states": {"before": before.config.real_states, "after": after.config.real_states},
        "parameters": {"before": before.parameter_count(), "after": after.parameter_count()},
        "bytes": path.stat().st_size,
        "seconds": seconds,
        "layers": layers,
    }  # fmt: skip


def finetune_table(answer: dict[str, Any]) -> Table:
    """`finetune_answer`'s answer for people."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("trained", f"{answer['epochs']} epochs on {answer['samples']:,} sequences")
    table.add_row("best epoch", str(answer["best_epoch"]))
    for key, value in answer.items():
        if key.startswith("validation_"):
            shown = f"{value:.2%}" if key == "validation_accuracy" else f"{value:.6g}"
            table.add_row(key.replace("_", " "), shown)
    states = answer["real_states"]
    table.add_row("real states", f"{states['before']:,} -> {states['after']:,}")
    return table


def finetune_told(entry: dict[str, Any]) -> str:
    """A training's entry of the history, in a line."""
    scores = [
        f"{key.replace('_', ' ')} {value:.4g}"
        for key, value in entry.items()
        if key.startswith("validation_")
    ]
    return ", ".join(
        [f"Trained for {entry['epochs']} epochs on {entry['samples']:,} sequences", *scores]
    )


def finetune_lines(answer: dict[str, Any]) -> list[str]:
    """Where things are and what comes next."""
    return [
        f"Wrote {answer['output']} ({answer['bytes'] / 1000:,.0f} kB) in "
        f"{answer['seconds']:.1f} s; its epochs are in {answer['log']}.",
        f"Next: s4edge export {answer['output']} --onnx",
    ]
