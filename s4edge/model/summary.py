"""What a model is, in numbers for people."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from s4edge.model.sequence_model import SequenceModel


def summarize(model: SequenceModel) -> dict[str, Any]:
    """The answer of ``s4edge inspect --json``.

    ``largest_pole`` is the largest ``|a|``, ``slowest_time_constant`` is ``-1 / log |a|`` in
    samples (None for a mode that does not decay).
    """
    config, provenance = model.config, model.provenance
    layers = []
    for block in model.blocks:
        systems, modes = block.systems.config, block.systems.modes()
        slowest = float(modes.log_pole.real.max(initial=-np.inf))
        layers.append(
            {
                "name": block.config.name,
                "kind": systems.kind,
                "channels": systems.channels,
                "state_size": systems.state_size,
                "real_states": systems.real_states,
                "real_poles": sum(systems.reals),
                "growing_modes": sum(systems.growing),
                "largest_pole": float(np.exp(slowest)),
                "slowest_time_constant": -1 / slowest if slowest < 0 else None,
                "norm": f"{block.config.norm_placement}-{block.config.norm}",
                "activation": block.config.activation,
                "final_activation": block.config.final_activation,
            }
        )
    return {
        "format": provenance.format,
        "source": provenance.source,
        "d_input": config.d_input,
        "d_output": config.d_output,
        "d_model": config.d_model,
        "pooling": config.pooling,
        "length": config.length,
        "streams": config.streams,
        "parameters": model.parameter_count(),
        "real_states": config.real_states,
        "inferred": provenance.inferred,
        "given": provenance.given,
        "assumed": provenance.assumed,
        "layers": layers,
        "history": [
            {key: value for key, value in entry.items() if key != "layers"}
            for entry in provenance.history
        ],
    }


def summary_table(summary: dict[str, Any], name: str) -> Table:
    """`summarize`'s answer as a table of layers."""
    shape = f"{summary['d_input']} -> {summary['d_model']} -> {summary['d_output']} features"
    caption = [f"{summary['format']}; {shape}; {summary['parameters']:,} parameters"]
    if summary["length"] is not None:
        caption.append(f"valid for sequences of {summary['length']} samples only (softmax kernels)")
    for entry in summary["history"]:
        details = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "did")
        caption.append(f"{entry['did']}: {details}")
    table = Table(title=name, caption="\n".join(caption), caption_justify="left")
    table.add_column("layer", no_wrap=True)
    table.add_column("kind")
    for column in ("channels", "state size", "real states", "largest |a|", "decays in\n(samples)"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in summary["layers"]:
        constant = layer["slowest_time_constant"]
        table.add_row(
            layer["name"],
            layer["kind"],
            str(layer["channels"]),
            f"{layer['state_size']:g}",
            f"{layer['real_states']:,}",
            f"{layer['largest_pole']:.6f}",
            "grows" if constant is None else f"{constant:,.0f}",
        )
    return table
