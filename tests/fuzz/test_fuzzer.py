"""The fuzzer notices every kind of fault, its inputs repeat, and a short run of it finds none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzz.mutate import pickles, protobuf, zips

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, float]], Path]:
    kept = tmp_path_factory.mktemp("kept")
    script = Path(__file__).with_name("planted.py")
    done = subprocess.run(
        [sys.executable, str(script), str(kept)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), kept


def threes(name: str) -> int:
    """How many of the planted inputs are the one that shows a fault."""
    return sum(_input(name, index) == b"3" for index in range(20))


def _input(name: str, index: int) -> bytes:
    random = Random(f"0/{name}/{index}")
    random.choices((b"0",))
    return str(random.randrange(5)).encode()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crashed", "crashed the interpreter (signal 11)"),
        ("slow", "took too long"),
        ("large", "address space 1"),
        ("told_badly", "ValueError: 3"),
        ("obeyed", "os.system"),
        ("wrote", "wrote "),
    ],
)
def test_planted_faults_are_found_and_kept(
    planted: tuple[dict[str, dict[str, float]], Path], name: str, words: str
) -> None:
    tallies, kept = planted
    tally = tallies[name]
    assert tally["inputs"] == 20
    assert tally["bugs"] == threes(name) > 0
    assert tally["read"] == 20 - tally["bugs"]
    found = sorted(kept.glob(f"{name}-*.txt"))
    assert len(found) == tally["bugs"]
    for report in found:
        assert words in report.read_text()
        assert report.with_name(f"{report.stem}-input").read_bytes() == b"3"


def test_what_is_refused_is_no_fault(
    planted: tuple[dict[str, dict[str, float]], Path],
) -> None:
    tally = planted[0]["refused"]
    assert (tally["refused"], tally["bugs"], tally["read"]) == (20, 0, 0)


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    """All readers, the same inputs every time; the long runs are in docs/fuzzing.md."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", "--inputs", "2000", "--keep", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tallies = json.loads((tmp_path / "tallies.json").read_text())
    assert sum(tally["inputs"] for tally in tallies.values()) >= 1990
    # Inputs that are all refused, or none, would not get anywhere.
    assert sum(tally["read"] for tally in tallies.values()) > 150
    assert sum(tally["refused"] for tally in tallies.values()) > 800


def test_unchanged_parts_are_put_together_as_they_were() -> None:
    content = [("a/data.pkl", b"x" * 100), ("a/data/0", bytes(40))]
    packed = zips.pack(content)
    assert list(zips.members(packed).items()) == content
    stream = b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s."
    assert b"".join(pickles.instructions(stream)) == stream
    inner = b"\x08\x96\x01\x12\x03\xff\xfe\xfd"
    message = b"\x0a" + bytes([len(inner)]) + inner + b"\x15\x00\x00\x80?"
    fields = protobuf.parse(message)
    assert fields is not None
    assert isinstance(fields[0].value, list)
    assert protobuf.write(fields, {}) == message
