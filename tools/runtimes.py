"""Exported graphs in other runtimes: onnxruntime 1.16 to the newest, and onnxruntime-web in Node.

Writes graphs of the shipped digits example in every mode and precision, with inputs and this
machine's outputs, then runs them elsewhere and compares. Each version gets a virtual environment of
its own under FOLDER (kept, so that a second call is quick); onnxruntime-web comes from npm.

    python tools/runtimes.py [--versions 1.16.3,1.23.2,newest,web] [--folder FOLDER]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from parity import CHECK, LIMITS, digit_models, too_far, worst, write_graphs
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
VERSIONS = "1.16.3,1.17.3,1.18.1,1.19.2,1.20.1,1.21.1,1.22.1,1.23.2,1.26.0,newest,web"


def in_python(version: str, graphs: Path, folder: Path) -> tuple[str, dict[str, float]]:
    """Version that ran and relative errors; raises CalledProcessError where it does not run."""
    home = folder / f"onnxruntime-{version}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        # Before 1.19 onnxruntime was built for numpy 1.
        old = version != "newest" and tuple(map(int, version.split(".")[:2])) < (1, 19)
        wanted = ["onnxruntime" + ("" if version == "newest" else f"=={version}")]
        wanted += ["numpy<2"] if old else []
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True, capture_output=True)
        (home / "ready").touch()
    done = subprocess.run([python, "-c", CHECK, graphs], check=True, capture_output=True, text=True)
    found, errors = json.loads(done.stdout)
    return f"onnxruntime {found}", errors


def in_node(graphs: Path, folder: Path) -> tuple[str, dict[str, float]]:
    """onnxruntime-web in Node, on its WebAssembly backend. Raises as `in_python` does."""
    home = folder / "web"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "web_runtime.mjs", home / "web_runtime.mjs")
    if not (home / "node_modules" / "onnxruntime-web").exists():
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "onnxruntime-web"],
            cwd=home, check=True, capture_output=True,
        )  # fmt: skip
    done = subprocess.run(
        ["node", "web_runtime.mjs", graphs.resolve()], cwd=home, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    found, errors = json.loads(done.stdout.splitlines()[-1])
    return f"onnxruntime-web {found}", errors


@click.command()
@click.option("--versions", default=VERSIONS, show_default=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=".runtimes")
def main(versions: str, folder: Path) -> None:
    """Compare and print; exit status 1 where a graph does not run or differs."""
    console = Console(width=140)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        graphs = Path(scratch)
        write_graphs(graphs, digit_models())
        out = Table(title="Largest difference to this machine's outputs, relative to the largest")
        for heading in ("", "graphs", *LIMITS):
            out.add_column(heading, justify="right" if heading else "left")
        for version in versions.split(","):
            try:
                run = in_node(graphs, folder) if version == "web" else in_python(
                    version, graphs, folder
                )  # fmt: skip
            except subprocess.CalledProcessError as error:
                last = (error.stderr or "").strip().splitlines()[-1:] or ["?"]
                last = last if isinstance(last[0], str) else [str(last[0], errors="replace")]
                out.add_row(version, "does not run", last[0][:80])
                failed = True
                continue
            name, errors = run
            failed |= bool(too_far(errors))
            out.add_row(name, str(len(errors)), *(f"{worst(errors, each):.1e}" for each in LIMITS))
    console.print(out)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
