"""What a model is, in numbers for people."""

from __future__ import annotations

from typing import Any

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from s4edge.model.configuration import BlockConfig, backward_name
from s4edge.model.costs import costs_of, multiply_adds
from s4edge.model.dense.low_rank import LowRankConfig
from s4edge.model.history import in_short
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.reports.numbers import duration


def summarize(model: SequenceModel, rate: float | None = None) -> dict[str, Any]:
    """The answer of ``s4edge inspect --json``, but for the Hankel singular values.

    ``largest_pole`` is the largest ``|a|``, ``slowest_time_constant`` is ``-1 / log |a|`` in
    samples of the input (None for a mode that does not decay), and in seconds where the ``rate`` is
    known. A layer sees one sample for ``period`` of the input; ``multiply_adds`` are per sample of
    the input. ``ranks`` are those of a layer's dense layers that are products of two matrices, by
    name. A layer's ``backward`` is None or the same of its systems that run backward.
    """
    config, provenance = model.config, model.provenance
    layers = []
    encoder, *costs, decoder = costs_of(model)
    for block, cost in zip(model.blocks, costs, strict=True):
        name, back = block.config.name, block.backward_systems
        layers.append(
            {
                **_systems(name, block.systems, cost.period, rate),
                "backward": (
                    None if back is None else _systems(backward_name(name), back, cost.period, rate)
                ),
                "norm": f"{block.config.norm_placement}-{block.config.norm}",
                "activation": block.config.activation,
                "final_activation": block.config.final_activation,
                "stride": block.config.stride,
                "period": cost.period,
                "multiply_adds": round(cost.multiply_adds),
                "ranks": _ranks(block.config),
            }
        )
    return {
        "format": provenance.format,
        "source": provenance.source,
        "d_input": config.d_input,
        "d_output": config.d_output,
        "d_model": config.d_model,
        "pooling": config.pooling,
        "answers": config.answers,
        "head": None if config.head is None else [*config.head.widths, config.head.d_output],
        "length": config.length,
        "streams": config.streams,
        "parameters": model.parameter_count(),
        "input_stride": config.input_stride,
        "multiply_adds": multiply_adds(model),
        "multiply_adds_of": {
            "encoder": round(encoder.multiply_adds),
            "states": round(sum(cost.states for cost in costs)),
            "dense": round(sum(cost.dense for cost in costs)),
            "decoder": round(decoder.multiply_adds),
        },
        "real_states": config.real_states,
        "rate": rate,
        "inferred": provenance.inferred,
        "given": provenance.given,
        "assumed": provenance.assumed,
        "notes": provenance.notes,
        "layers": layers,
        "history": [in_short(entry) for entry in provenance.history],
    }


def _ranks(block: BlockConfig) -> dict[str, int]:
    """Of its dense layers that are products of two matrices."""
    return {
        each.name: each.kind.rank for each in block.dense if isinstance(each.kind, LowRankConfig)
    }


def _systems(name: str, systems: Systems, period: int, rate: float | None) -> dict[str, Any]:
    config = systems.config
    slowest = systems.log_radius
    constant = -period / slowest if slowest < 0 else None
    return {
        "name": name,
        "kind": config.kind,
        "channels": config.channels,
        "state_size": config.state_size,
        "real_states": config.real_states,
        **config.facts,
        "largest_pole": float(np.exp(slowest)),
        "slowest_time_constant": constant,
        "slowest_time_constant_seconds": (
            None if constant is None or rate is None else constant / rate
        ),
    }


def fact_lines(summary: dict[str, Any]) -> list[str]:
    """How it is known what the model is: inferred, given, assumed; and what else to know."""
    lines = []
    for key in ("inferred", "given"):
        facts = ", ".join(f"{name}={value}" for name, value in summary[key].items())
        lines += [f"{key}: {facts}"] if facts else []
    for name, value in summary["assumed"].items():
        # In a file of s4edge's own the assumption is made for good.
        change = "" if summary["history"] else f" (say otherwise with --set {name}=VALUE)"
        lines.append(f"assumed: {name}={value}{change}")
    return lines + [f"note: {note}" for note in summary["notes"]]


def summary_table(summary: dict[str, Any], name: str) -> Table:
    """`summarize`'s answer as a table of layers."""
    of = summary["multiply_adds_of"]
    shape = f"{summary['d_input']} -> {summary['d_model']} -> {summary['d_output']} features"
    caption = [f"format: {summary['format']}", f"{shape}; {summary['parameters']:,} parameters"]
    caption.append(
        f"{summary['multiply_adds']:,} multiply-adds per sample: {of['states']:,} of states, "
        f"{of['dense']:,} of layers' matrices, {of['encoder'] + of['decoder']:,} at the ends"
    )
    periods = [layer["period"] for layer in summary["layers"]]
    if max(periods) > 1:
        caption.append(f"layers run once for {', '.join(map(str, periods))} samples")
    caption += [
        f"{layer['name']}: {', '.join(f'{name} of rank {rank}' for name, rank in ranks.items())}"
        for layer in summary["layers"]
        if (ranks := layer["ranks"])
    ]
    if summary["head"] is not None:
        widths = " -> ".join(map(str, summary["head"]))
        caption.append(f"a head compares two sequences' features: {widths}")
    if summary["length"] is not None:
        caption.append(f"valid for sequences of {summary['length']} samples only (softmax kernels)")
    for entry in summary["history"]:
        details = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "did")
        caption.append(f"{entry['did']}: {details}")
    rows = [row for layer in summary["layers"] for row in (layer, layer["backward"]) if row]
    timed = summary["rate"] is not None
    table = layer_table(name, "\n".join(caption))
    table.add_column("kind", min_width=8, overflow="fold")
    headings = [
        "chan-\nnels",
        "state\nsize",
        "real\nstates",
        "largest\n|a|",
        "decays in\n(samples)",
    ]
    for heading in headings + ["\n(time)"] * timed:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("multiply-\nadds", justify="right", no_wrap=True)
    for layer in rows:
        constant, seconds = layer["slowest_time_constant"], layer["slowest_time_constant_seconds"]
        decays = ["grows" if constant is None else f"{constant:,.0f}"]
        decays += ["" if seconds is None else duration(seconds)] * timed
        table.add_row(
            Text(layer["name"]),
            Text(layer["kind"]),
            str(layer["channels"]),
            f"{layer['state_size']:g}",
            f"{layer['real_states']:,}",
            *(
                [f"{layer['largest_pole']:.6f}", *decays]
                if layer["real_states"]
                else [""] * (1 + len(decays))
            ),
            f"{layer['multiply_adds']:,}" if "multiply_adds" in layer else "",
        )
    return table


def layer_table(title: str, caption: str, names: int | None = None) -> Table:
    """A table with a column for layers, which is ``names`` wide at least."""
    # As Text, for a bracket in a name is no markup.
    table = Table(
        title=Text(title, style="table.title"),
        title_justify="left",
        caption=Text(caption, style="table.caption"),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("layer", overflow="fold", min_width=names)
    return table
