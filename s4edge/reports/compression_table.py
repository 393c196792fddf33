"""What a compression did, for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.model.costs import multiply_adds
from s4edge.model.history import (
    RankReduction,
    RateReduction,
    WidthReduction,
    last_compression,
    to_json,
)
from s4edge.model.sequence_model import SequenceModel

# What the history may tell beside method and layers.
_TOLD = ("allocate", "refine", "tolerance", "calibration", "output_error")


def compression_answer(
    before: SequenceModel, after: SequenceModel, path: Path, seconds: float
) -> dict[str, Any]:
    """The answer of ``s4edge compress --json``.

    Where states were reduced a layer's ``error`` and ``error_bound`` are the largest over its
    channels; the measured H-infinity error and the bound of each channel stand beside them. Where
    strides, a width or ranks alone were given it is the error of what leaves the layer. ``rate``
    tells of strides, ``width`` of the residual stream, ``rank`` of dense layers.
    """
    done = after.provenance.history[len(before.provenance.history) :]
    compression = last_compression(done)
    others = {
        key: to_json(each)
        for key, kind in (
            ("rate", RateReduction),
            ("width", WidthReduction),
            ("rank", RankReduction),
        )
        for each in done
        if isinstance(each, kind)
    }
    told: dict[str, Any] = {}
    if compression is not None:
        entry = to_json(compression)
        told = {"method": entry["method"], **{key: entry[key] for key in _TOLD if key in entry}}
        layers = [
            {**each, "error": layer.error, "error_bound": layer.error_bound}
            for each, layer in zip(entry["layers"], compression.layers, strict=True)
        ]
    else:
        *_, last = others.values()
        told = {key: last[key] for key in _TOLD if key in last}
        states = {
            block.config.name: sum(systems.real_states for systems in block.config.all_systems)
            for block in before.blocks
        }
        layers = [_as_they_were(each, states[each["name"]]) for each in last["layers"]]
    return {
        "output": str(path),
        **told,
        **others,
        "multiply_adds": {"before": multiply_adds(before), "after": multiply_adds(after)},
        "state_size": {"before": _state_size(before), "after": _state_size(after)},
        "real_states": {"before": before.config.real_states, "after": after.config.real_states},
        "parameters": {"before": before.parameter_count(), "after": after.parameter_count()},
        "bytes": path.stat().st_size,
        "seconds": seconds,
        "layers": layers,
    }


def _as_they_were(told: dict[str, Any], states: int) -> dict[str, Any]:
    """What was done to a layer beside its states."""
    kept = {"real_states_before": states, "real_states_after": states}
    return {**told, **kept, "error": told.get("error"), "error_bound": None}


def _state_size(model: SequenceModel) -> float:
    """A whole number as an int."""
    average = model.config.average_state_size
    return int(average) if average == int(average) else average


def compression_table(answer: dict[str, Any], verbose: bool = False) -> Table:
    """`compression_answer`'s answer as a table of layers; with ``verbose`` of channels too."""
    sizes, states, counts = answer["state_size"], answer["real_states"], answer["parameters"]
    # As Text, for a bracket in a name is no markup.
    table = Table(
        title=f"State size {sizes['before']:g} -> {sizes['after']:.3g} ({_how(answer)})",
        caption=Text(
            f"{states['before']:,} -> {states['after']:,} real states, {counts['before']:,} -> "
            f"{counts['after']:,} parameters, {answer['seconds']:.1f} s\n"
            f"{_output_error(answer)}"
            f"Wrote {answer['output']} ({answer['bytes'] / 1000:,.0f} kB). "
            "Next: s4edge export --onnx",
            style="table.caption",
        ),
        caption_justify="left",
    )
    calibrated = "output_error" in answer
    table.add_column("layer")
    table.add_column("real states", justify="right")
    if calibrated:
        table.add_column("output error so far\nmeasured (predicted)", justify="right")
    table.add_column("H-infinity error\nmedian channel", justify="right")
    table.add_column("worst channel", justify="right")
    table.add_column("bound", justify="right")
    for layer in answer["layers"]:
        ordered = sorted(layer["channel_error"])
        so_far = []
        if calibrated:
            error = layer["output_error"]
            so_far = [f"{error['measured']:.2%} ({error['predicted']:.2%})"]
        table.add_row(
            Text(layer["name"]),
            f"{layer['real_states_before']:,} -> {layer['real_states_after']:,}",
            *so_far,
            f"{ordered[len(ordered) // 2]:.3g}",
            f"{layer['error']:.3g}",
            _bound(layer["error_bound"]),
        )
        if verbose:
            for channel, error in enumerate(layer["channel_error"]):
                bound = layer["channel_error_bound"][channel]
                blank = ["", ""] if calibrated else [""]
                name = f"  channel {channel}"
                if "channel_real_states" in layer:
                    name += f" ({layer['channel_real_states'][channel]} states)"
                table.add_row(name, *blank, "", f"{error:.3g}", _bound(bound))
    return table


def _how(answer: dict[str, Any]) -> str:
    """The method and what was done beside it, in words."""
    words = [answer["method"]]
    words += ["calibrated"] if "calibration" in answer else []
    words += ["allocated"] if answer.get("allocate") == "sensitivity" else []
    words += ["refined"] if answer.get("refine") else []
    return ", ".join(words)


def _output_error(answer: dict[str, Any]) -> str:
    """A line on the model's output on the calibration data, where there is any."""
    if "output_error" not in answer:
        return ""
    error, data = answer["output_error"], answer["calibration"]
    same = ""
    if "same_class" in error:
        same = f"; the largest score is the same one for {error['same_class']:.1%}"
    return (
        f"The output on {data['source']} ({data['sequences']:,} sequences) differs by "
        f"{error['measured']:.2%} (predicted {error['predicted']:.2%}){same}.\n"
    )


def work_told(entry: dict[str, Any]) -> str:
    """Of an entry of the history, as JSON: its multiply-adds, and what the output lost."""
    return (
        f"{entry['multiply_adds_before']:,} -> {entry['multiply_adds_after']:,} multiply-adds per "
        f"sample\n{_output_error(entry)}"
    ).rstrip()


def _bound(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
