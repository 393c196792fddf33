"""The table of layouts that s4edge reads: as a page, or measured on the fixtures.

    python tools/layouts.py page > docs/layouts.md
    python tools/layouts.py measure [--shared FOLDER]

The table is `tests/checkpoints/layouts.json`; the tests check every row of it. The sections behind
it are written by hand: `docs/layouts/*.md`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import s4edge

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "checkpoints" / "layouts.json"

# What no table says; each file is a section of the page.
SECTIONS = ROOT / "docs" / "layouts"

RUNS = {
    "stream": "streams",
    "cut": "streams up to a length",
    "sequence": "whole sequences only",
    "refused": "refused",
}


@dataclass(frozen=True)
class Row:
    """One layout.

    Attributes:
        name: of its fixture.
        cls: the upstream class.
        options: its constructor's arguments, in words.
        runs: a key of `RUNS`.
        why: where it does not stream, a part of the reason that s4edge gives.
    """

    name: str
    cls: str
    options: str
    runs: str
    why: str


def table() -> list[Row]:
    """All layouts."""
    rows = json.loads(TABLE.read_text())
    return [Row(r["name"], r["class"], r["options"], r["runs"], r["why"]) for r in rows]


def page() -> str:
    """The page in Markdown."""
    rows = table()
    lines = [
        "# Layouts that s4edge reads",
        "",
        "Written by `python tools/layouts.py page` from the table that the tests check row by row",
        "against outputs recorded from upstream's own code (`tests/checkpoints/layouts.json`).",
        "Layouts of the same families with other options are read by the same readers; what a",
        "reader does not know, it refuses by name.",
        "",
        "*streams*: as a convolution, as a recurrence, as a step graph. *whole sequences only*: as",
        "a convolution and as a sequence graph; the step graph is refused with the reason.",
        "",
    ]
    for cls in sorted({row.cls for row in rows}):
        lines += [f"## `{cls}`", "", "| options | runs | |", "|---|---|---|"]
        lines += [
            f"| {row.options} | {RUNS[row.runs]} | {row.why} |" for row in rows if row.cls == cls
        ]
        lines.append("")
    written = [section.read_text().rstrip() + "\n" for section in sorted(SECTIONS.glob("*.md"))]
    return "\n".join([*lines, *written])


@dataclass(frozen=True)
class Measured:
    """How right one fixture is read.

    Attributes:
        recognized: the format in words, or why it is refused.
        convolution: largest difference to the recorded output, relative to its largest; or None.
        stream: the same as a recurrence, or None.
        upstream: upstream's own difference between float32 and float64, relative.
        why: why there is no stream.
    """

    recognized: str
    convolution: float | None
    stream: float | None
    upstream: float
    why: str


def measure(checkpoint: Path) -> Measured:
    """Read a checkpoint and compare it with the outputs recorded beside it."""
    sidecar = json.loads(checkpoint.with_suffix(".json").read_text())
    with np.load(checkpoint.with_suffix(".npz")) as content:
        x, y = torch.from_numpy(content["x"]), content["y" if "y" in content else "logits"]
    scale = float(np.abs(y).max())
    upstream = sidecar.get("float32_error", 1e-4) / scale
    try:
        model = s4edge.load(checkpoint)
    except s4edge.S4EdgeError as error:
        return Measured(str(error).removeprefix(f"{checkpoint}: "), None, None, upstream, "")
    config = model.config
    why, stream = config.cannot_stream or "", None
    with torch.inference_mode():
        convolution = float(np.abs(model(x).numpy() - y).max()) / scale
        if not why:
            try:
                streamed = model.stream(x)
                streamed = streamed if config.pooling == "none" else streamed[:, -1]
                stream = float(np.abs(streamed.numpy() - y).max()) / scale
            except s4edge.S4EdgeError as error:
                why = str(error)
    return Measured(model.provenance.format, convolution, stream, upstream, why)


def fixtures(folder: Path) -> list[Path]:
    """The checkpoints of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".pt", ".ckpt"))


def print_measured(shared: Path) -> None:
    """One line per fixture and trained checkpoint."""
    for folder in ("layers", "trained"):
        for path in fixtures(shared / "checkpoints" / folder):
            found = measure(path)
            if found.convolution is None:
                print(f"{path.name:38} refused: {found.recognized}")
                continue
            stream = f"{found.stream:.1e}" if found.stream is not None else found.why
            print(
                f"{path.name:38} {found.recognized:52} {found.convolution:.1e} "
                f"(float32 {found.upstream:.0e})  {stream}"
            )


def main() -> None:
    """Print the page or the measured table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["page", "measure"])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    arguments = parser.parse_args()
    if arguments.what == "page":
        print(page(), end="")
    else:
        print_measured(arguments.shared)


if __name__ == "__main__":
    main()
