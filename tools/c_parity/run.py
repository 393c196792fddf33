#!/usr/bin/env python
"""Models that upstream wrote, as C on several machines, against what upstream's code gave.

    python tools/c_parity/run.py [NAME ...] [--folder FOLDER] [--target NAME ...] [--json FILE]
    python tools/c_parity/run.py --show FILE ...

Every checkpoint of FOLDER (../shared/checkpoints) whose outputs upstream recorded is read, exported
to C, compiled for each target, run on the recorded inputs, half of them sample by sample and the
rest in chunks, and compared with those outputs and with the model in double precision, after each
sample; on emulated machines its first two sequences. On microcontrollers its first samples of
random ones are run (as `s4edge bench --target` does), of every so manieth fixture. NAME is one of
FOLDER's folders, or a part of a checkpoint's name. ``--show`` prints what runs have found; of a
checkpoint in several files, the last counts. Differences are relative to the largest output.
Exits with 1 if one is above a thousandth, a self-test fails or a program ends in the middle.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from fixtures import FOLDERS, Doubles, Fixture, fixture, paths
from rich import box
from rich.console import Console
from rich.table import Table

import s4edge
from s4edge.bench.cortex_m import TARGETS as BOARDS
from s4edge.bench.cortex_m import measure
from s4edge.bench.cortex_m.emulate import inputs
from s4edge.errors import S4EdgeError
from s4edge.export.lowering import lower
from s4edge.export.lowering.reference import run as reference

MAIN = Path(__file__).with_name("main.c")
SHARED = Path(os.environ.get("S4EDGE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
LIMIT = 1e-3
EMULATED_ROWS = 2


@dataclass(frozen=True)
class Machine:
    """A machine with an operating system.

    Attributes:
        compiler: the command, with flags.
        emulator: that runs its programs, empty for this machine.
        floats: how a float lies in its memory.
        every: of the fixtures one of so many.
    """

    compiler: tuple[str, ...]
    emulator: str = ""
    floats: str = "<f4"
    every: int = 1


MACHINES = {
    "x86-64, -O2": Machine(("gcc", "-O2")),
    "x86-64, -O3 -march=native": Machine(("gcc", "-O3", "-march=native")),
    "aarch64": Machine(("aarch64-linux-gnu-gcc", "-O2", "-static"), "qemu-aarch64-static"),
    "armhf": Machine(("arm-linux-gnueabihf-gcc", "-O2", "-static"), "qemu-arm-static"),
    "s390x": Machine(("s390x-linux-gnu-gcc", "-O2", "-static"), "qemu-s390x-static", ">f4", 8),
}
# Of the fixtures one of so many: floats in software take their time.
CORTEX_M = {"cortex-m4": 4, "cortex-m55": 4, "cortex-m0plus": 16}
TARGETS = (*MACHINES, *CORTEX_M)


@dataclass
class Found:
    """Of one fixture.

    Attributes:
        name: its folder and stem.
        why: it was not run; empty where it was.
        to_model: by target, the largest difference to the model in double precision.
        to_upstream: the same to what upstream recorded, where the stream gives as much.
        wrong: what is.
    """

    name: str
    why: str = ""
    to_model: dict[str, float] = field(default_factory=dict)
    to_upstream: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def off(got: Doubles, wanted: Doubles) -> float:
    """Largest difference, relative to the largest number; NaN counts as one of infinity."""
    if got.shape != wanted.shape:
        return float("inf")
    difference = float(np.abs(got - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
    return difference if difference == difference else float("inf")


def on_machine(source: Path, machine: Machine, x: Doubles, outputs: int) -> Doubles:
    """(rows, samples, outputs) of sequences. Raises S4EdgeError where the program fails."""
    program = source.with_suffix("")
    name = source.stem
    command = [
        *machine.compiler, f"-DNAME={name}", f"-DUPPER={name.upper()}", f'-DHEADER="{name}.h"',
        f"-I{source.parent}", str(MAIN), str(source), "-o", str(program), "-lm",
    ]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise S4EdgeError(f"not compiled: {made.stderr.splitlines()[0]}")
    rows, samples, _ = x.shape
    ran = subprocess.run(
        [*machine.emulator.split(), str(program), str(rows), str(samples)],
        input=np.ascontiguousarray(x, machine.floats).tobytes(), capture_output=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        what = "its self-test fails" if ran.returncode == 6 else f"it ends with {ran.returncode}"
        raise S4EdgeError(what)
    return np.frombuffer(ran.stdout, machine.floats).reshape(rows, samples, outputs).astype(float)


def on_board(source: Path, board: str, held: Fixture) -> float:
    """The difference on a microcontroller."""
    figures = measure(source, BOARDS[board])
    if figures.selftest:
        raise S4EdgeError("its self-test fails")
    program = lower(held.model)
    x = inputs(figures.samples, program.d_input, program.tokens).astype(np.float64)
    return off(figures.y.astype(np.float64), reference(program, x)[0])


def compare(number: int, path: Path, targets: Sequence[str]) -> Found:
    """One fixture on all targets."""
    torch.set_num_threads(1)
    found = Found(f"{path.parent.name}/{path.stem}")
    held = fixture(path)
    if isinstance(held, str):
        found.why = held
        return found
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "m.c")
        try:
            s4edge.export_c(held.model, source)
        except S4EdgeError as error:
            found.why = str(error)
            return found
        for target in targets:
            try:
                if target in CORTEX_M:
                    if number % CORTEX_M[target] == 0:
                        found.to_model[target] = on_board(source, target, held)
                    continue
                machine = MACHINES[target]
                if number % machine.every:
                    continue
                rows = EMULATED_ROWS if machine.emulator else len(held.x)
                got = on_machine(source, machine, held.x[:rows], held.running.shape[-1])
                found.to_model[target] = off(got, held.running[:rows])
                if held.whole and (held.model.head is None or rows == len(held.x)):
                    answers = held.answers(got)
                    found.to_upstream[target] = off(answers, held.upstream[: len(answers)])
            except S4EdgeError as error:
                found.wrong.append(f"{target}: {error}")
    found.wrong += [f"{target}: {far:.1e}" for target, far in found.to_model.items() if far > LIMIT]
    return found


def able(target: str) -> bool:
    """Whether compiler and emulator are here."""
    needed = ("arm-none-eabi-gcc", "qemu-system-arm")
    if target in MACHINES:
        machine = MACHINES[target]
        needed = (machine.compiler[0], *machine.emulator.split())
    return all(shutil.which(program) for program in needed)


def worst(results: Sequence[Found], target: str, kind: str) -> str:
    """The largest difference, and how many there are."""
    found = {each.name: getattr(each, kind)[target] for each in results
             if target in getattr(each, kind)}  # fmt: skip
    if not found:
        return "-"
    name = max(found, key=lambda each: found[each])
    middle = float(np.median(list(found.values())))
    return f"{found[name]:.1e} ({name.split('/')[-1]}), median {middle:.1e}, of {len(found)}"


def show(results: Sequence[Found], targets: Sequence[str]) -> None:
    """Print what was found."""
    console = Console(width=160)
    table = Table(box=box.MARKDOWN)
    for heading in ("target", "largest difference to the model", "to upstream's recorded output"):
        table.add_column(heading)
    for target in targets:
        table.add_row(target, *(worst(results, target, kind)
                                for kind in ("to_model", "to_upstream")))  # fmt: skip
    ran = [each for each in results if not each.why]
    console.print(table)
    console.print(f"\n{len(results)} checkpoints, {len(ran)} run as C")
    reasons = collections.defaultdict(list)
    for each in results:
        if each.why:
            reason = re.sub(r"^[\w.]+: ", "", each.why.splitlines()[0])
            reasons[re.sub(r"\b\d[\d.e+-]*\b", "#", reason)].append(each.name)
    for reason, names in sorted(reasons.items(), key=lambda each: -len(each[1])):
        console.print(f"- {len(names)}: {reason}: {', '.join(names)}", soft_wrap=True)
    for each in results:
        for what in each.wrong:
            console.print(f"WRONG {each.name}, {what}", soft_wrap=True)


def main() -> int:
    """Compare all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--folder", type=Path, default=SHARED / "checkpoints")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=Path, action="extend", nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.show:
        found = [Found(**each) for path in arguments.show for each in json.loads(path.read_text())]
        show(list({each.name: each for each in found}.values()), TARGETS)
        return int(any(each.wrong for each in found))
    targets = [each for each in arguments.target or TARGETS if able(each)]
    folders = [name for name in arguments.names if name in FOLDERS]
    parts = [name for name in arguments.names if name not in FOLDERS]
    chosen = [path for path in paths(arguments.folder, folders or FOLDERS)
              if not parts or any(part in path.stem for part in parts)]  # fmt: skip
    if not chosen:
        print(f"no checkpoint with recorded outputs in {arguments.folder}")
        return 1
    for missing in sorted(set(arguments.target or TARGETS) - set(targets)):
        print(f"no compiler or emulator for {missing}: left out")
    results = []
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(compare, *each, targets) for each in enumerate(chosen)]
        for done, each in enumerate(waiting):
            results.append(each.result())
            if sys.stderr.isatty() or (done + 1) % 25 == 0:
                print(f"{done + 1} of {len(chosen)}", file=sys.stderr, flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    show(results, targets)
    return int(any(each.wrong for each in results))


if __name__ == "__main__":
    sys.exit(main())
