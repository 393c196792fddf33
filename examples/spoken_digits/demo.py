"""The flagship before and after: eval, compress, distil, export, bench, and one table.

    python demo.py SOURCE.npz [FOLDER]

SOURCE is the data set (see data.py). Every line it prints with a `$` is a command that can be typed
in FOLDER (default: demo-out).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from demo_table import Shell, bench, measured, table  # noqa: E402

STATES = ("8", "2")
TRAIN, VALIDATION, TEST = (f"spoken-{part}.npz" for part in ("train", "validation", "test"))


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="demo-out")
@click.option("--epochs", default=2, show_default=True, help="Of distillation.")
def main(source: Path, folder: Path, epochs: int) -> None:
    """Run the demo in FOLDER."""
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "data.py"), str(source), str(folder)], check=True)
    shutil.copyfile(HERE / "model.safetensors", folder / "model.safetensors")
    shell = Shell(folder, console)
    rows = [measured(shell, "original, state 64", "model.safetensors", TEST)]
    for state in STATES:
        small, trained = f"model-s{state}.safetensors", f"model-s{state}-ft.safetensors"
        shell.run(
            "compress", "model.safetensors", "--state", state, "--calibrate", TRAIN,
            "--allocate", "sensitivity", "-o", small,
        )  # fmt: skip
        rows.append(measured(shell, f"state {state}", small, TEST))
        shell.run(
            "finetune", small, "--data", TRAIN, "--validation", VALIDATION, "--teacher",
            "model.safetensors", "--lr", "0.002", "--pole-lr", "0.002", "--epochs", str(epochs),
            "-o", trained,
        )  # fmt: skip
        rows.append(measured(shell, f"state {state}, distilled", trained, TEST))
    timings = bench(shell, rows)
    console.print()
    tested = (
        "300 held-out clips of the usual split, at 4 kHz. Reduced on the training clips without "
        f"labels; distilled: {epochs} epochs towards the original, without labels."
    )
    title = "Spoken digits from raw audio: one model, fewer and fewer states"
    console.print(table(title, tested, rows, timings))


if __name__ == "__main__":
    main()
