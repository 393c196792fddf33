"""Options of every command that trains."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli.terminal import Command


def training_options(command: Command) -> Command:
    """Add the options that `s4edge.training.settings.settings_of` takes, and where to log."""
    options = (
        click.option(
            "--validation", "validation_data", metavar="DATA",
            help="To choose the best epoch by.  [default: a part of the training data]",
        ),
        click.option(
            "--validation-fraction", "validation", type=float, metavar="F",
            help="Of the training data to hold out; 0 for none, then the last epoch is kept.  "
            "[default: 0.1]",
        ),
        click.option(
            "--task", type=click.Choice(["classification", "regression", "next"]),
            help="next: predict the next sample of x.  [default: what y says]",
        ),
        click.option("--batch", type=int, metavar="N", help="Sequences a step.  [default: 32]"),
        click.option(
            "--lr", "rate", type=float, metavar="R", help="Of dense layers and weights.  "
            "[default: 0.005]",
        ),
        click.option(
            "--pole-lr", "pole_rate", type=float, metavar="R", help="Of poles.  [default: 0.005]"
        ),
        click.option(
            "--step-lr", "step_rate", type=float, metavar="R",
            help="Of step sizes.  [default: 0.002]",
        ),
        click.option("--weight-decay", type=float, metavar="W", help="[default: 0.01]"),
        click.option(
            "--warmup", type=float, metavar="F", help="Fraction of all steps.  [default: 0.1]"
        ),
        click.option(
            "--clip", type=float, metavar="G",
            help="Largest norm of the gradient, 0 for any.  [default: 1]",
        ),
        click.option("--dropout", type=float, metavar="P", help="Of features.  [default: 0]"),
        click.option(
            "--patience", type=int, metavar="K",
            help="End after so many epochs without a better one; 0: never.  [default: 0]",
        ),
        click.option(
            "--distill", type=float, metavar="W",
            help="Weight of the teacher in the loss; labels have 1 - W.  [default: 1]",
        ),
        click.option(
            "--temperature", type=float, metavar="T",
            help="Of the teacher's class probabilities; 0 compares outputs as numbers.  "
            "[default: 0]",
        ),
        click.option(
            "--match-layers", type=float, metavar="W",
            help="Weight of what leaves each layer, against the teacher's.  [default: 0]",
        ),
        click.option(
            "--hankel", type=float, metavar="W",
            help="Weight of the Hankel nuclear norm, which makes the model easier to reduce "
            "afterwards.  [default: 0]",
        ),
        click.option(
            "--schedule", metavar="N,N,...",
            help="Reduce the model to these state sizes on the way, evenly over the epochs.",
        ),
        click.option("--seed", type=int, metavar="S", help="[default: 0]"),
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
            show_default=True,
        ),
        click.option("--bf16", "bfloat16", is_flag=True, help="Dense layers in bfloat16."),
        click.option(
            "--log", type=click.Path(path_type=Path), metavar="FILE.jsonl",
            help="One JSON line per epoch.  [default: OUT.jsonl]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
