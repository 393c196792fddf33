#!/usr/bin/env python
"""Models as C on emulated Cortex-M microcontrollers, and their outputs against this machine's.

    python tools/cortex_m/run.py [MODEL ...] [--target NAME ...] [--json FILE] [--skip-unable]

Without MODEL: the shipped examples, as they are, with 8 states in each channel, and that in int8.
Exits with 1 if an output is further off than a ten-thousandth of the largest, a self-test fails, a
program has more than 6 kB of code on a processor that is no M0+, or its RAM is more than the state
and 1 kB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import s4edge
from s4edge.bench.cortex_m import TARGETS, Figures, measure
from s4edge.bench.cortex_m.emulate import inputs
from s4edge.export.c.c_file import ExportedC
from s4edge.runtime.backends.c.library import open_library

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDED = ("arm-none-eabi-gcc", "qemu-system-arm", "cc")
LARGEST_DIFFERENCE, LARGEST_CODE, LARGEST_EXTRA_RAM = 1e-4, 6144, 1024


def examples() -> dict[str, tuple[Any, str]]:
    """By name, a model and a precision."""
    found = {}
    for name, file in (("digits", "model.pt"), ("spoken_digits", "model.safetensors")):
        model = s4edge.load(EXAMPLES / name / file)
        small = s4edge.compress(model, 8)
        found |= {
            name: (model, "fp32"), f"{name}_s8": (small, "fp32"), f"{name}_s8_int8": (small, "int8")
        }  # fmt: skip
    return found


def difference(exported: ExportedC, figures: Figures) -> float:
    """Largest, relative to the largest output, to the library on this machine."""
    library = open_library(exported.library)  # type: ignore[arg-type]
    x = inputs(figures.samples, library.info.d_input, library.info.tokens)
    y = library.run(library.start(), x)
    return float(np.abs(y - figures.y).max() / np.abs(y).max())


def faults(exported: ExportedC, figures: Figures, off: float) -> list[str]:
    """What is wrong."""
    found = []
    if off > LARGEST_DIFFERENCE:
        found.append(f"outputs differ by {off:.2g}")
    if figures.selftest:
        found.append(f"the self-test fails at sample {figures.selftest}")
    if figures.code_bytes > LARGEST_CODE and figures.target != "cortex-m0plus":
        found.append(f"{figures.code_bytes} bytes of code")
    if figures.ram_bytes > exported.state_bytes + LARGEST_EXTRA_RAM:
        found.append(f"{figures.ram_bytes - exported.state_bytes} bytes of RAM beside the state")
    return found


def main() -> int:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-unable", action="store_true")
    arguments = parser.parse_args()
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        print(f"Skipped: {', '.join(missing)} not here.")
        return 0 if arguments.skip_unable else 1
    models = {
        path.stem.replace("-", "_"): (s4edge.load(path), "fp32") for path in arguments.models
    } or examples()
    rows, wrong = [], 0
    print("model, target: instructions a sample (in chunks), per multiply-add; flash, of it code; "
          "RAM; stack (in chunks); difference to this machine")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, precision) in models.items():
            path = Path(folder, f"{name}.c")
            exported = s4edge.export_c(model, path, precision=precision, compiled=True)
            for target in arguments.target or TARGETS:
                figures = measure(path, TARGETS[target])
                off = difference(exported, figures)
                bad = faults(exported, figures, off)
                wrong += bool(bad)
                per = figures.instructions_per_sample / exported.multiply_adds
                print(
                    f"{name}, {target}: {figures.instructions_per_sample:,.0f} "
                    f"({figures.chunk_instructions_per_sample:,.0f}), {per:.2f}; "
                    f"{figures.flash_bytes:,}, {figures.code_bytes:,}; {figures.ram_bytes:,}; "
                    f"{figures.step_stack_bytes:,} ({figures.chunk_stack_bytes:,}); {off:.1e}"
                    + "".join(f"  WRONG: {each}" for each in bad),
                    flush=True,
                )
                rows.append({
                    "model": name, "precision": precision, "multiply_adds": exported.multiply_adds,
                    "state_bytes": exported.state_bytes, "weight_bytes": exported.weight_bytes,
                    "difference": off, **figures.to_json(),
                })  # fmt: skip
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
