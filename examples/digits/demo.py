"""The whole path on the shipped example: compress, fine-tune, eval, export, bench, and one table.

    python demo.py [FOLDER]

Every line it prints with a `$` is a command that can be typed in FOLDER (default: demo-out).
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

PLAIN_STATES = ("16", "8")
CALIBRATED_STATES = ("8", "4", "2", "1")
TRAINED_STATES = ("2", "1")
TRAIN, TEST = "digits-train.npz", "digits-test.npz"
EPOCHS = "10"
# Of the training part, without its labels.
CALIBRATION = ("--calibrate", TRAIN, "--allocate", "sensitivity")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="demo-out")
def main(folder: Path) -> None:
    """Run the demo in FOLDER."""
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "data.py"), str(folder)], check=True)
    for name in ("model.pt", "model.json"):
        shutil.copyfile(HERE / name, folder / name)
    shell = Shell(folder, console)

    rows = [measured(shell, "original, state 64", "model.pt", TEST)]
    for state in PLAIN_STATES:
        small = f"model-s{state}.safetensors"
        shell.run("compress", "model.pt", "--state", state, "-o", small)
        rows.append(measured(shell, f"state {state}", small, TEST))
    for state in CALIBRATED_STATES:
        small = f"model-c{state}.safetensors"
        shell.run("compress", "model.pt", "--state", state, *CALIBRATION, "-o", small)
        rows.append(measured(shell, f"state {state}, calibrated", small, TEST))
    for state in TRAINED_STATES:
        small = f"model-f{state}.safetensors"
        shell.run(
            "finetune", f"model-c{state}.safetensors", "--data", TRAIN, "--epochs", EPOCHS,
            "-o", small,
        )  # fmt: skip
        rows.append(measured(shell, f"state {state}, trained", small, TEST))
    timings = bench(shell, rows)
    console.print()
    tested = (
        "500 held-out digits. Calibrated: states are allocated and channels refined on "
        f"{TRAIN}, without labels. Trained: the same, then {EPOCHS} epochs on it with labels."
    )
    title = "8x8 digits as sequences of 64 samples: one model, fewer and fewer states"
    console.print(table(title, tested, rows, timings))


if __name__ == "__main__":
    main()
