"""Options that commands which reduce have in common, and what they mean."""

from __future__ import annotations

import re

import click

from s4edge.cli.terminal import Command

# As in s4edge.compression.states.methods.registry, which --help must not import; a test compares
# them.
METHOD_NAMES = (
    "balanced", "singular-perturbation", "modal", "h2", "hankel", "finite-horizon",
    "shared-modes", "complex-balanced",
)  # fmt: skip


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def bytes_of(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Bytes of ``2G``, ``500M`` or ``1.5 GB``; for click's options."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", text.lower())
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"{text!r} is no amount of memory: give it as 2G or 500M")
    return int(float(found[1]) * _UNITS[found[2]])


def reduction_options(command: Command) -> Command:
    """Add ``--method``, ``--calibrate``, ``--memory``, ``--allocate`` and what refines."""
    options = (
        click.option(
            "--method", default="balanced", show_default=True, type=click.Choice(METHOD_NAMES),
            help="balanced: balanced truncation of the real system. singular-perturbation: "
            "keeps the gain at frequency 0. modal: keeps the modes of largest peak gain. h2: least "
            "energy of the kernel's error. hankel: optimal in the Hankel norm. finite-horizon: "
            "balanced over --horizon samples. shared-modes: one set of modes for a layer (DSS). "
            "complex-balanced: of the complex half-system, the source paper's way, to compare.",
        ),
        click.option(
            "--calibrate", "calibrate", metavar="DATA",
            help="Sequences like those that the model will see (.npz or package.module:callable); "
            "labels are not used. What matters is then the error on them.",
        ),
        click.option(
            "--memory", metavar="SIZE", callback=bytes_of,
            help="What --calibrate may take beside the model and the data, as 2G or 500M; with "
            "less it looks at fewer sequences, which -v tells.  [default: half of what is free]",
        ),
        click.option(
            "--allocate", default="uniform", show_default=True,
            type=click.Choice(["uniform", "sensitivity"]),
            help="uniform: N for every channel. sensitivity: N on average, spent where the model's "
            "output needs it; takes --calibrate.",
        ),
        click.option(
            "--refine/--no-refine", "refine", default=None,
            help="Move poles, weights and D so that each layer's output on the calibration data "
            "comes close.  [default: with --calibrate]",
        ),
        click.option(
            "--horizon", type=click.IntRange(min=1), metavar="L",
            help="Samples for which kernels are used, for finite-horizon.  [default: the model's "
            "own length, or that of the calibration data]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
