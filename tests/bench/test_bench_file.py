from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sample_answer import sample_answer

from s4edge.bench.file import read_bench, write_bench
from s4edge.errors import S4EdgeError


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    for answer in (
        sample_answer(),
        sample_answer(("größe.onnx",), (50.0,), rate=None, deadline_us=None),
        sample_answer(rate=None, later="a key of tomorrow"),
    ):
        write_bench(tmp_path / "a.json", answer)
        assert read_bench(tmp_path / "a.json") == answer
    assert os.listdir(tmp_path) == ["a.json"]


def test_reads_what_was_printed(tmp_path: Path) -> None:
    """As redirected from ``--json``, and as an editor on Windows saves it."""
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(sample_answer()).encode() + b"\r\n")
    assert read_bench(path) == sample_answer()


def without(*keys: Any) -> dict[str, Any]:
    """A sample with one thing left out, however deep."""
    answer = inner = sample_answer()
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return answer


def changed(value: Any, *keys: Any) -> dict[str, Any]:
    answer = inner = sample_answer()
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (without("format"), "older s4edge"),
        (changed(2, "format"), r"format 2, newer than this s4edge knows \(1\)"),
        (changed("1", "format"), 'format is "1", not a count'),
        (without("device"), "no device and no results"),
        (without("device", "cpu"), "device.cpu is missing"),
        (without("results", 1, "latency_us", "p999"), r"results\[1\].latency_us.p999 is missing"),
        (changed("5", "results", 0, "us_per_sample"), r'\[0\].us_per_sample is "5", not a number'),
        (changed(True, "results", 0, "runs"), "runs is true, not a count"),
        (changed(-1, "results", 0, "runs"), "runs is -1, not a count"),
        (changed(None, "results", 0, "memory"), r"results\[0\].memory is no object"),
        (changed({}, "timeline"), "timeline is no list"),
        (changed([1.0], "results", 0, "histogram", "edges_us"), "1 edges around 40 counts"),
        (changed("x" * 99, "threads"), r'threads is "x{39}\.\.\., not a count'),
        ([1], "no device and no results"),
    ],
)
def test_wrong_answers_are_refused(tmp_path: Path, answer: Any, says: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(answer))
    with pytest.raises(S4EdgeError, match=says) as caught:
        read_bench(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\x7fELF\xff\xfe", "it is no text"),
        (b'{"format": 1, "device": {"cpu"', "cut short"),
        (b"[" * 100_000, "cut short"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(S4EdgeError, match=f"no answer of s4edge bench .*{says}"):
        read_bench(path)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    for name in ("NaN", "Infinity", "1e999"):
        path.write_text(json.dumps(changed("here", "threads")).replace('"here"', name))
        with pytest.raises(S4EdgeError, match="no answer of s4edge bench"):
            read_bench(path)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(S4EdgeError, match=r"none\.json does not exist"):
        read_bench(tmp_path / "none.json")
    with pytest.raises(S4EdgeError, match="cannot read"):
        read_bench(tmp_path)


def test_old_file_stays_where_the_new_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_bench(path, sample_answer())

    def full(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(S4EdgeError, match=r"cannot write .*a\.json: No space left on device"):
        write_bench(path, sample_answer(threads=2))
    assert read_bench(path)["threads"] == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_never_writes_what_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_bench(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_every_key_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    answer = sample_answer()
    for key in keys(answer):
        assert f"`{key}`" in text, key
