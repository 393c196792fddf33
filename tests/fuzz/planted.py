"""Readers with faults of every kind, for the fuzzer to find; prints what it found as JSON."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from s4edge.errors import S4EdgeError
from tools.fuzz import child
from tools.fuzz.driver import fuzz
from tools.fuzz.reader import Reader

hoard = []


def _refused(folder: Path) -> None:
    raise S4EdgeError("no")


def _crashed(folder: Path) -> None:
    if (folder / "input").read_bytes() == b"3":
        ctypes.string_at(0)


def _slow(folder: Path) -> None:
    while (folder / "input").read_bytes() == b"3":
        pass


def _large(folder: Path) -> None:
    if (folder / "input").read_bytes() == b"3":
        hoard.append(mmap.mmap(-1, 1200 << 20))  # unlike a bytearray's, never written: no time


def _told_badly(folder: Path) -> None:
    if (folder / "input").read_bytes() == b"3":
        raise ValueError("3")


def _obeyed(folder: Path) -> None:
    if (folder / "input").read_bytes() == b"3":
        os.system("touch CANARY")


def _wrote(folder: Path) -> None:
    if (folder / "input").read_bytes() == b"3":
        (folder.parent / "fuzz-elsewhere").write_bytes(b"")
        (folder.parent / "fuzz-elsewhere").unlink()


def _mutate(random: random.Random, data: bytes, _: object) -> bytes:
    return str(random.randrange(5)).encode()


def main() -> None:
    child.MOST_SECONDS = 1
    reads = (_refused, _crashed, _slow, _large, _told_badly, _obeyed, _wrote)
    readers = [
        Reader(read.__name__.strip("_"), "input", lambda: (b"0",), _mutate, read) for read in reads
    ]
    inputs = {reader.name: 20 for reader in readers}
    tallies = fuzz(readers, inputs, 0, 0, 1, Path(sys.argv[1]))
    print(json.dumps({name: dataclasses.asdict(tally) for name, tally in tallies.items()}))


if __name__ == "__main__":
    main()
