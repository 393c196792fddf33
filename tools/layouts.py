"""The table of layouts that s4edge reads: as a page, or measured on the fixtures.

    python tools/layouts.py page > docs/layouts.md
    python tools/layouts.py measure [--shared FOLDER]

The table is `tests/checkpoints/layouts.json`; the tests check every row of it. What published
experiments and random configurations get, `tests/checkpoints/upstream.json`, is written by
`tools/upstream/run.py`, which needs checkouts of upstream. The sections behind them are written by
hand: `docs/layouts/*.md`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import s4edge

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "checkpoints" / "layouts.json"
UPSTREAM = ROOT / "tests" / "checkpoints" / "upstream.json"

# What no table says; each file is a section of the page.
SECTIONS = ROOT / "docs" / "layouts"
VERSIONS = {
    "v4": "state-spaces/s4, main",
    "v3": "state-spaces/s4, v3.0.0",
    "v2": "state-spaces/s4, v2",
    "dss": "ag1988/dss",
}

OUTCOMES = {
    "exact": "exact",
    "refused": "refused",
    "none": "not compared",
    "told": "as assumed, not as saved",
    "WRONG": "wrong",
    "CRASH": "crashed",
}
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
        "*streams*: as a convolution, as a recurrence, as a step graph and in C (where it answers",
        "once for several samples, as a chunk graph and in C). *whole sequences only*: as a",
        "convolution and as a sequence graph; the step graph is refused with the reason.",
        "",
    ]
    for cls in sorted({row.cls for row in rows}):
        lines += [f"## `{cls}`", "", "| options | runs | |", "|---|---|---|"]
        lines += [
            f"| {row.options} | {RUNS[row.runs]} | {row.why} |" for row in rows if row.cls == cls
        ]
        lines.append("")
    written = [section.read_text().rstrip() + "\n" for section in sorted(SECTIONS.glob("*.md"))]
    figures = json.loads(UPSTREAM.read_text(encoding="utf-8"))
    return "\n".join(
        [*lines, *written, *experiments(figures["experiments"]), *drawn(figures["random"])]
    )


def experiments(rows: list[dict[str, Any]]) -> list[str]:
    """The published experiments, by name, and what happens to them."""
    lines = [
        "# Published experiments",
        "",
        "Every file of upstream's `configs/experiment`, composed with hydra as its trainer does,",
        "made small, built by upstream's code, saved as its trainer saves (`state_dict` and",
        "`hyper_parameters`), read by s4edge and compared with upstream's outputs:",
        "`python tools/upstream/run.py experiments --upstream FOLDER --version v4|v3|v2|dss`.",
        "The DSS repository's are version 2's with `model=dss` and what its README adds. *exact*:",
        "to float32's accuracy, without a word said, or with `--set` where the file does not say",
        "what matters. *streams*: sample by sample, too.",
        "",
    ]
    for version, title in VERSIONS.items():
        own = [row for row in rows if row["version"] == version]
        counts = Counter(row["outcome"] for row in own)
        told = ", ".join(f"{counts[key]} {word}" for key, word in OUTCOMES.items() if counts[key])
        lines += [f"## {title}", "", f"{told}.", "", "| experiment | | |", "|---|---|---|"]
        for row in own:
            facts = row.get("facts") or {}
            said = "".join(f" `--set {key}={json.dumps(facts[key])}`" for key in facts)
            streams = ", streams" if row.get("streams") else ""
            what = OUTCOMES[row["outcome"]]
            about = row.get("message", "").replace("|", "\\|")
            lines.append(f"| {row['name']} | {what}{said}{streams} | {about} |")
        lines.append("")
    return lines


def drawn(rows: list[dict[str, Any]]) -> list[str]:
    """How random configurations are read."""
    lines = [
        "# Random configurations",
        "",
        "Options of layer, backbone, norm, pooling, residual, encoder and decoder drawn from what",
        "upstream accepts, mostly few at a time; all parameters moved; with a sidecar, without one",
        "(what it would say is given only where s4edge asks), or as Lightning saves them; compared",
        "with upstream's outputs, as a whole and sample by sample:",
        "`python tools/upstream/run.py random --upstream FOLDER --version v4|v3|v2|dss`. *told*:",
        "the file does not hold an option, s4edge names it among what it assumed, and it was",
        "another.",
        "",
        "| upstream | models | exact | of them streamed, too | told | refused | wrong | crashed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reasons: Counter[str] = Counter()
    for row in rows:
        outcomes = Counter(row["outcomes"])
        cells = [VERSIONS[row["version"]], sum(outcomes.values()), outcomes["exact"],
                 row["streamed"], outcomes["told"], outcomes["refused"], outcomes["WRONG"],
                 outcomes["CRASH"]]  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        reasons.update(row["refused"])
    lines += ["", "Refused, of all of these:", ""]
    lines += [f"- {count}: {reason}" for reason, count in reasons.most_common()]
    return [*lines, ""]


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
                # Behind strides, when an answer is new; it is held in between.
                streamed = model.stream(x)[:, config.first_answer :: config.stride]
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
