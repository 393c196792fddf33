"""The command ``s4edge``: which commands there are, and how errors end."""

from __future__ import annotations

import codecs
import errno
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from s4edge.errors import MissingExtraError, S4EdgeError, means_no_memory
from s4edge.version import VERSION

# Modules are imported when their command is called, so that --help is fast.
_COMMANDS = {
    "inspect": "Show what a model is: layers, state sizes, poles, what was assumed.",
    "compress": "Reduce the state size of a trained model.",
    "finetune": "Train a model further, on labels or towards a teacher.",
    "sweep": "What a range of state sizes costs and loses, in one run.",
    "eval": "Accuracy or error of a checkpoint, compressed model or graph.",
    "export": "Write a model as a recurrent ONNX graph.",
    "bench": "Measure latency and memory of exported graphs on this machine.",
    "run": "Stream a recording or a live signal through a graph.",
}
# Installed with s4edge[toolchain] only.
_TOOLCHAIN = ("torch", "scipy", "threadpoolctl", "onnx", "safetensors", "loky", "cloudpickle")


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"s4edge.cli.{name}"), name if name != "eval" else "evaluate"
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except S4EdgeError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _TOOLCHAIN:
                raise
            raise click.ClickException(str(MissingExtraError(package, "toolchain"))) from error
        except (MemoryError, RuntimeError, ImportError) as error:
            # torch's own is a RuntimeError; a library that does not fit fails to be imported.
            if not means_no_memory(error):
                raise
            raise click.ClickException("out of memory; close other programs") from error
        except OSError as error:
            # Click ends quietly when whoever reads the output has gone.
            if error.errno == errno.EPIPE:
                raise
            raise click.ClickException(str(error)) from error


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="s4edge")
def cli() -> None:
    """Compress trained S4 / S4D / DSS models and stream them on small CPUs.

    \b
    Three calls, one after another in one folder:
      s4edge compress model.pt --state 16
      s4edge export --onnx
      s4edge bench
    """  # noqa: D301


def main() -> None:
    """Entry point of the console script."""
    # rich and click both write UTF-8; a board's locale may be plain ASCII.
    codecs.register_error("s4edge", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="s4edge")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        cli(prog_name="s4edge")
    finally:
        _drop_what_cannot_be_written()


def _drop_what_cannot_be_written() -> None:
    """What is left in a buffer would fail again as the interpreter ends, with its own status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Stand-ins for signs that a terminal does not know."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join({"µ": "u", "×": "x", "°": " deg "}.get(sign, "?") for sign in signs), error.end


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, like Ctrl-C, so that temporary files are removed on the way out.
    sys.exit(128 + number)
