"""``s4edge run``: recordings and pipes through step and chunk graphs, and what ends them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from s4edge_command import SCRIPT, call, call_process, read_terminal, snapshot

from s4edge.runtime import open_graph, predict

RATE = 100
GRAPHS = ("step.onnx", "chunk16.onnx")
LABELS = "zero,one,two,three,four,five,six,seven,eight,nine"
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """Graphs that know their rate, and a recording of 257 samples: no whole number of chunks."""
    folder = tmp_path_factory.mktemp("recorded")
    for path, options in (
        ("step.onnx", ["--rate", str(RATE)]),
        ("chunk16.onnx", ["--chunk", "16", "--rate", str(RATE)]),
        ("unknown.onnx", []),
        ("sequence.onnx", ["--mode", "sequence", "--rate", str(RATE)]),
    ):
        model = str(built / "model-s16.safetensors")
        assert call(folder, "export", model, "--onnx", "-o", path, *options).status == 0
    with np.load(built / "digits.npz") as content:
        x = content["x"]
    sound = np.round(32767 * np.concatenate(x[:5])[:257, 0]).astype("<i2")
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())
    with wave.open(str(folder / "fast.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.tobytes())
    (folder / "a.raw").write_bytes(sound.tobytes())
    np.save(folder / "a.npy", sound / np.float32(2**15))
    np.savez(folder / "digits.npz", x=x)
    np.savetxt(folder / "a.csv", np.stack([np.arange(257), sound / 2**15], 1), "%.9g", ",",
               header="time,value", comments="")  # fmt: skip
    bad = (sound / np.float32(2**15)).astype(np.float32)
    bad[200] = np.nan
    np.save(folder / "bad.npy", bad)
    return folder


@pytest.fixture
def work(tmp_path: Path, recorded: Path) -> Path:
    for path in recorded.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def answers(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The lines of a call that must succeed."""
    found = call(folder, "run", *arguments)
    assert (found.status, found.crash) == (0, None), found.stderr
    return lines(found.stdout)


def expected(folder: Path, graph: str, samples: list[int]) -> np.ndarray:
    """What the model says of so many samples, by another way through it."""
    x = np.load(folder / "a.npy")[None, :, None]
    lengths = np.array(samples)
    return predict(open_graph(folder / graph), np.repeat(x, len(samples), 0), lengths)


def close(found: Any, wanted: np.ndarray) -> bool:
    return bool(np.abs(np.array(found) - wanted).max() < 1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    "source",
    [["a.wav"], ["a.npy"], ["a.csv", "--columns", "value"], ["a.csv", "--columns", "2"],
     ["a.raw", "--format", "s16le"]],
    ids=str,
)  # fmt: skip
def test_lines_in_a_pipe(recorded: Path, graph: str, source: list[str]) -> None:
    found = answers(recorded, graph, *source)
    samples = [*range(10, 257, 10), 257]
    assert [line["sample"] for line in found] == samples
    assert [line["seconds"] for line in found] == [n / RATE for n in samples]
    wanted = expected(recorded, graph, samples)
    assert close([line["y"] for line in found], wanted)
    assert [line["class"] for line in found] == wanted.argmax(axis=1).tolist()
    assert set(found[0]) == {"sample", "seconds", "class", "y"}


def test_options(recorded: Path) -> None:
    whole = answers(recorded, "step.onnx", "a.wav", "--every", "1")
    assert len(whole) == 257
    # Without a rate, every sample and no time.
    assert answers(recorded, "unknown.onnx", "a.npy") == [
        {key: value for key, value in line.items() if key != "seconds"} for line in whole
    ]
    by_time = answers(recorded, "unknown.onnx", "a.npy", "--rate", "100", "--every", "0.5s")
    assert by_time == [*whole[49::50], whole[-1]]
    assert answers(recorded, "step.onnx", "a.wav", "--last") == [whole[-1]]
    assert answers(recorded, "step.onnx", "a.wav", "--every", "40", "--take", "1s") == [
        whole[39], whole[79], whole[99],
    ]  # fmt: skip
    (named,) = answers(recorded, "step.onnx", "a.wav", "--last", "--labels", LABELS)
    assert named["label"] == LABELS.split(",")[named["class"]]
    (bare,) = answers(recorded, "step.onnx", "a.wav", "--last", "--no-classes")
    assert "class" not in bare
    scaled = answers(recorded, "step.onnx", "a.wav", "--last", "--scale", "32768", "--offset", "3")
    x = np.load(recorded / "a.npy")[None, :, None] * 32768 + 3
    assert close([scaled[0]["y"]], predict(open_graph(recorded / "step.onnx"), x))


def test_normalize(work: Path) -> None:
    quiet = np.load(work / "a.npy") / 50
    np.save(work / "quiet.npy", quiet)
    (found,) = answers(work, "step.onnx", "quiet.npy", "--normalize", "--last")
    x = (quiet / np.abs(quiet).max())[None, :, None]
    assert close([found["y"]], predict(open_graph(work / "step.onnx"), x))
    np.save(work / "silence.npy", np.zeros(20))
    assert len(answers(work, "step.onnx", "silence.npy", "--normalize")) == 2


@pytest.mark.parametrize("graph", GRAPHS)
def test_one_sequence_after_another(recorded: Path, graph: str) -> None:
    """The same digits one after another in a recording, and from data that is so to begin with."""
    found = answers(recorded, graph, "a.wav", "--reset", "64", "--every", "500")
    assert [(a["sample"], a["sequence"], a["end"]) for a in found] == [
        (64, 1, True), (128, 2, True), (192, 3, True), (256, 4, True), (257, 5, False),
    ]  # fmt: skip
    for index, line in enumerate(found[:4]):
        (alone,) = answers(recorded, graph, "digits.npz", "--index", str(index), "--last")
        assert alone["class"] == line["class"]
        assert np.abs(np.array(alone["y"]) - line["y"]).max() < 0.02  # 16 bits
    padded = answers(recorded, graph, "a.wav", "--reset", "64", "--every", "500", "--pad")
    assert (padded[:4], padded[4]["end"]) == (found[:4], True)


def test_one_object(recorded: Path) -> None:
    found = call(recorded, "run", "step.onnx", "a.wav", "--json", "-v", "--labels", LABELS)
    assert found.status == 0
    assert found.stdout.count("\n") == 1
    answer = json.loads(found.stdout)
    (last,) = answers(recorded, "step.onnx", "a.wav", "--last", "--labels", LABELS)
    assert {key: answer[key] for key in last} == last
    assert (answer["model"], answer["input"], answer["output"]) == ("step.onnx", "a.wav", None)
    assert (answer["samples"], answer["answers"], answer["seconds"]) == (257, 26, 2.57)
    assert (answer["warnings"], answer["interrupted"], answer["error"]) == ([], False, None)
    assert 0 < answer["us_per_sample"] < 1e5
    assert answer["real_time_factor"] == pytest.approx(answer["us_per_sample"] * RATE / 1e6)
    assert found.stderr.startswith("257 samples, ")
    assert " per sample, real-time factor 0.0" in found.stderr
    plain = json.loads(call(recorded, "run", "unknown.onnx", "a.npy", "--json").stdout)
    assert plain["seconds"] is plain["real_time_factor"] is None


def test_into_a_file(work: Path) -> None:
    (work / "out.jsonl").write_text("old")
    before = snapshot(work)
    found = call(work, "run", "step.onnx", "a.wav", "-o", "out.jsonl")
    assert (found.status, found.stdout) == (0, "")
    assert found.stderr == "Wrote out.jsonl: 26 answers.\n"
    assert lines((work / "out.jsonl").read_text()) == answers(work, "step.onnx", "a.wav")
    assert set(snapshot(work)) == set(before)  # and nothing beside it
    found = call(work, "run", "step.onnx", "a.wav", "-o", "out.jsonl", "--json", "--last")
    assert (json.loads(found.stdout)["output"], found.stderr) == ("out.jsonl", "")
    assert len(lines((work / "out.jsonl").read_text())) == 1


def test_warnings(work: Path) -> None:
    (work / "cut.wav").write_bytes((work / "a.wav").read_bytes()[:-3])
    says = "cut.wav is cut off: its header promises 257 samples, 255 are there"
    found = call(work, "run", "step.onnx", "cut.wav", "--last")
    assert (found.status, found.stderr) == (0, f"Warning: {says}.\n")
    assert lines(found.stdout)[0]["sample"] == 255
    found = call(work, "run", "step.onnx", "cut.wav", "--json")
    assert json.loads(found.stdout)["warnings"] == [says]
    found = call(work, "run", "unknown.onnx", "a.wav", "--last")
    assert "Warning: unknown.onnx does not say which sample rate it expects" in found.stderr
    assert call(work, "run", "unknown.onnx", "a.wav", "--rate", "100", "--last").stderr == ""


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command with pipes as its streams; killed if a test leaves it behind."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(
        [str(SCRIPT), "run", *arguments], cwd=folder, bufsize=0, **{**pipes, **options}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def line_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Its next line, which must come while it waits for input."""
    assert process.stdout is not None
    data = b""
    while not data.endswith(b"\n"):
        assert select.select([process.stdout], [], [], 60)[0], "no answer came"
        part = os.read(process.stdout.fileno(), 1)
        assert part, "it ended"
        data += part
    return json.loads(data)  # type: ignore[no-any-return]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_live_pipe_is_answered_at_once(recorded: Path, graph: str) -> None:
    sound = (recorded / "a.raw").read_bytes()
    with running(recorded, graph, "-", "--every", "32") as process:
        assert process.stdin is not None
        process.stdin.write(sound[:65])  # half a sample more than 32
        first = line_of(process)
        process.stdin.write(sound[65:129])
        second = line_of(process)
        out, said = process.communicate(sound[129:], timeout=60)
    assert (process.returncode, said) == (0, b"")
    found = [first, second, *lines(out.decode())]
    assert found == answers(recorded, graph, "a.wav", "--every", "32")


def test_a_wav_through_a_pipe(recorded: Path) -> None:
    """With the length that a recorder writes that does not know when it will end."""
    data = bytearray((recorded / "a.wav").read_bytes())
    data[4:8], data[40:44] = b"\x24\xff\xff\x7f", b"\x00\xff\xff\x7f"
    done = subprocess.run(
        [str(SCRIPT), "run", "step.onnx", "-"], cwd=recorded, input=bytes(data),
        capture_output=True, check=True,
    )  # fmt: skip
    assert lines(done.stdout.decode()) == answers(recorded, "step.onnx", "a.wav")


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("options", [[], ["--last"]], ids=str)
def test_asked_to_stop(
    work: Path, graph: str, number: int, status: int, options: list[str]
) -> None:
    """What came so far is answered to the last sample, and the file gets its name."""
    (work / "out.jsonl").write_text("old")
    sound = (work / "a.raw").read_bytes()[:250]
    with running(work, graph, "-", "-o", "out.jsonl", *options) as process:
        assert process.stdin is not None
        process.stdin.write(sound)
        _until_it_waits(process)
        assert (work / "out.jsonl").read_text() == "old"
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, b"")
    found = lines((work / "out.jsonl").read_text())
    assert found == answers(work, graph, "a.wav", "--take", "125", *options)
    count = len(found)
    told = f"Wrote out.jsonl: {count} answer{'' if count == 1 else 's'}.\n"
    told += "Interrupted after 125 samples.\n" if number == signal.SIGINT else ""
    assert said.decode() == told


def _until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Until it has taken all that was written and wants more."""
    assert process.stdin is not None
    state = Path(f"/proc/{process.pid}/stat")
    if not state.exists():
        pytest.skip("no /proc tells what a process does")
    end = time.monotonic() + 60
    quiet = 0
    while quiet < 5:
        assert time.monotonic() < end, "it does not read"
        size = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
        waiting = int.from_bytes(size, sys.byteorder)
        asleep = state.read_text().rpartition(")")[2].split()[0] == "S"
        quiet = quiet + 1 if asleep and not waiting else 0
        time.sleep(0.02)


def test_asked_to_stop_before_the_first_sample(work: Path) -> None:
    with running(work, "step.onnx", "-", "-o", "out.jsonl") as process:
        assert process.stdin is not None
        process.stdin.write(b"R")  # half a sample, or the start of RIFF
        _until_it_waits(process)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert said == b"Interrupted before the first sample.\n"
    assert not (work / "out.jsonl").exists()


def test_stopped_with_one_object(recorded: Path) -> None:
    with running(recorded, "chunk16.onnx", "-", "--json") as process:
        assert process.stdin is not None
        process.stdin.write((recorded / "a.raw").read_bytes()[:250])
        _until_it_waits(process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert (process.returncode, answer["interrupted"], answer["samples"]) == (130, True, 125)
    (wanted,) = answers(recorded, "chunk16.onnx", "a.wav", "--take", "125", "--last")
    assert answer["y"] == wanted["y"]


def test_nan(work: Path) -> None:
    """One line, and what came before it is kept."""
    fine = answers(work, "step.onnx", "a.wav", "--take", "200")
    says = (
        "Error: sample 201 of bad.npy is nan (at 2 s); go on past such samples with --on-nan skip "
        "or --on-nan zero\n"
    )
    found = call(work, "run", "step.onnx", "bad.npy")
    assert (found.status, found.stderr, lines(found.stdout)) == (1, says, fine)
    found = call(work, "run", "step.onnx", "bad.npy", "--last", "-o", "out.jsonl")
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr == "Wrote out.jsonl: 1 answer.\n" + says
    assert lines((work / "out.jsonl").read_text()) == fine[-1:]
    found = call(work, "run", "step.onnx", "bad.npy", "--json")
    assert (found.status, found.stderr) == (1, says)
    assert json.loads(found.stdout)["error"] == says[7:-1]
    for option, did in (("skip", "skipped"), ("zero", "taken as zero")):
        found = call(work, "run", "step.onnx", "bad.npy", "--on-nan", option, "--last")
        assert found.status == 0
        assert found.stderr == (
            f"Warning: bad.npy: 1 sample was NaN or infinite and {did}, the first is sample 201.\n"
        )
        assert lines(found.stdout)[0]["sample"] == 257


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _half_a_graph(folder: Path) -> None:
    whole = (folder / "step.onnx").read_bytes()
    (folder / "half.onnx").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (None, "step.onnx none.wav", "none.wav does not exist"),
        (None, "step.onnx .", ". is a folder; name a recording in it"),
        (None, "none.onnx a.wav", "none.onnx does not exist"),
        (_half_a_graph, "half.onnx a.wav", "cannot load half.onnx"),
        (None, "sequence.onnx a.wav", "sequence.onnx takes whole sequences and cannot be streamed; "
         "export a step graph with: s4edge export MODEL --onnx"),
        (_write("b.wav", b""), "step.onnx b.wav", "b.wav is empty"),
        (_write("b.wav", b"hello\n"), "step.onnx b.wav", "b.wav is no WAV file"),
        (_write("b.csv", b"x\n"), "step.onnx b.csv", "b.csv holds no sample"),
        (_write("b.csv", b"1,2\n"), "step.onnx b.csv", "b.csv has 2 columns, the graph takes 1"),
        (_write("b.flac", b"fLaC"), "step.onnx b.flac", "ffmpeg -i b.flac -c:a pcm_s16le new.wav"),
        (None, "step.onnx digits.npz", "150 sequences: pick one with --index 0 to 149"),
        (None, "step.onnx fast.wav", "ffmpeg -i fast.wav -ar 100 resampled.wav"),
        (None, "step.onnx a.npy --rate 50", "has 50 samples per second as --rate says"),
        (None, "step.onnx a.wav --labels a,b", "--labels names 2 classes, step.onnx has 10"),
        (None, "unknown.onnx a.npy --every 0.1s", "--every is in seconds, but no rate is known"),
        (None, "step.onnx a.wav --pad", "say how long one is with reset"),
        (None, "step.onnx a.wav -o no/out", "the folder no does not exist"),
        (None, "step.onnx a.wav -o a.wav", "cannot write a.wav: it is used here, too"),
        (None, "step.onnx a.wav -o step.onnx", "it is the model that is read"),
        (None, "step.onnx a.wav -o .", "it is a folder; name a file"),
        (None, "step.onnx - --normalize", "--normalize reads a recording twice"),
        (None, "step.onnx -", "standard input holds no sample"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_mistakes(
    work: Path, make: Callable[[Path], object] | None, arguments: str, says: str
) -> None:
    if make is not None:
        make(work)
    before = snapshot(work)
    found = call(work, "run", *arguments.split())
    assert (found.status, found.crash, found.stdout) == (1, None, "")
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("Error: ")
    assert says in found.stderr
    assert snapshot(work) == before


@pytest.mark.parametrize(
    "options", ["--every 5 --last", "--every 0", "--every 1.5", "--reset x", "--channel 0"]
)
def test_wrong_usage(recorded: Path, options: str) -> None:
    assert call(recorded, "run", "step.onnx", "a.wav", *options.split()).status == 2


def test_reader_gone(recorded: Path) -> None:
    """As in ``s4edge run ... | head -1``."""
    with running(recorded, "step.onnx", "-", "--every", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write((recorded / "a.raw").read_bytes()[:2])
        line_of(process)
        process.stdout.close()
        process.stdin.write((recorded / "a.raw").read_bytes()[2:])
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("options", [[], ["--json"], ["--last"]], ids=str)
def test_nowhere_to_write(recorded: Path, options: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(SCRIPT), "run", "step.onnx", "a.wav", *options],
            cwd=recorded, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert "No space left on device" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_devices_and_pipes_are_not_replaced(work: Path) -> None:
    found = call(work, "run", "step.onnx", "a.wav", "-o", "/dev/full")
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr == "Error: cannot write /dev/full: No space left on device\n"
    assert Path("/dev/full").is_char_device()
    os.mkfifo(work / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((work / "pipe").read_text()))
    reader.start()
    assert call(work, "run", "step.onnx", "a.wav", "-o", "pipe").status == 0
    reader.join(60)
    assert lines(read[0]) == answers(work, "step.onnx", "a.wav")


def test_disk_full(work: Path) -> None:
    """Stood in for by a limit on the size of files: whole lines are kept."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        found = call(work, "run", "step.onnx", "a.wav", "-o", "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = lines((work / "out.jsonl").read_text())
    assert 5 < len(kept) < 26
    assert kept == answers(work, "step.onnx", "a.wav")[: len(kept)]
    assert (found.status, found.crash, found.stdout) == (1, None, "")
    assert found.last_line == (
        f"Error: cannot write out.jsonl: File too large; the {len(kept)} answers before are kept "
        "there"
    )


def test_disk_full_in_the_middle_of_a_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, []

    def write(descriptor: int, data: Any) -> int:
        calls.append(descriptor)
        if len(calls) == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # Each line in two parts.
        return real(descriptor, data[: len(data) // 2] if len(calls) % 2 else data)

    monkeypatch.setattr("s4edge.runtime.answer_file.os.write", write)
    found = call(work, "run", "step.onnx", "a.wav", "-o", "out.jsonl")
    monkeypatch.undo()
    kept = lines((work / "out.jsonl").read_text())
    assert len(kept) == 5
    assert kept == answers(work, "step.onnx", "a.wav")[:5]
    assert found.last_line == (
        f"Error: cannot write out.jsonl: No space left on device; the {len(kept)} answers before "
        "are kept there"
    )


def test_without_an_answer_the_old_file_stays(work: Path) -> None:
    np.save(work / "b.npy", np.full(3, np.nan))
    (work / "out.jsonl").write_text("old")
    before = snapshot(work)
    found = call(work, "run", "step.onnx", "b.npy", "-o", "out.jsonl")
    assert (found.status, found.stdout, found.stderr.count("\n")) == (1, "", 1)
    assert "sample 1 of b.npy is nan (at 0 s)" in found.stderr
    assert snapshot(work) == before


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> str:
    """What a person sees."""
    here, there = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"} | environment
    with running(folder, *arguments, stdout=there, env=env) as process:
        os.close(there)
        assert process.stdin is not None
        process.stdin.close()
        shown = read_terminal(here)
        assert process.wait(60) == 0
    os.close(here)
    return shown.decode()


def test_one_live_line_on_a_terminal(recorded: Path) -> None:
    (last,) = answers(recorded, "step.onnx", "a.wav", "--last", "--labels", LABELS)
    shown = on_a_terminal(recorded, "step.onnx", "a.wav", "--labels", LABELS)
    assert "{" not in shown
    final = shown.rstrip("\x1b[?25h\r\n").split("\r")[-1]
    assert f"2.57 s  {last['label']}" in final
    assert "█" in final
    assert "% " in final
    assert "real-time factor 0.0" in final
    assert shown.count("\n") == 1


def test_a_terminal_that_knows_ascii_only(recorded: Path) -> None:
    for graph, source in (("step.onnx", "a.wav"), ("unknown.onnx", "a.npy")):
        shown = on_a_terminal(recorded, graph, source, "-v", **ASCII)
        assert shown.isascii()
        assert "#" in shown
        assert "?" not in shown.replace("\x1b[?25", "")
    assert "us per sample" in shown
    shown = on_a_terminal(recorded, "step.onnx", "a.wav", "--no-classes", **ASCII)
    assert "y = " in shown


def test_a_pipe_that_knows_ascii_only(work: Path) -> None:
    (work / "größe.npy").write_bytes((work / "a.npy").read_bytes())
    found = call_process(work, "run", "step.onnx", "größe.npy", "-v", environment=ASCII)
    assert found.status == 0
    assert found.stderr.isascii()
    assert "us per sample" in found.stderr
    assert lines(found.stdout) == answers(work, "step.onnx", "a.npy")
    found = call_process(work, "run", "step.onnx", "größe.wav", environment=ASCII)
    assert (found.status, found.stderr.count("\n")) == (1, 1)


HOUR = """
import resource, sys
from s4edge.cli.main import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_an_hour_of_audio_takes_the_memory_of_a_second(work: Path, built: Path) -> None:
    """At 4 kHz, through a pipe; in large chunks, which are quick."""
    _export_cheap(work / "cheap.onnx", 4096)
    peaks = []
    for seconds in (2, 3600):
        with subprocess.Popen(
            [sys.executable, "-c", HOUR, "run", "cheap.onnx", "-", "--rate", "4000"],
            cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            _feed_and_count(process, seconds)
            peaks.append(int(process.stderr.read().split()[-1]))
    assert peaks[1] - peaks[0] < 10_000  # kB


def _feed_and_count(process: subprocess.Popen[bytes], seconds: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    second = np.zeros(4000, "<i2").tobytes()

    def feed() -> None:
        assert process.stdin is not None
        for _ in range(seconds):
            process.stdin.write(second)
        process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    last = b""
    count = 0
    for line in process.stdout:
        last = line
        count += 1
    feeder.join()
    assert count == seconds * 10
    assert json.loads(last)["sample"] == seconds * 4000


def _export_cheap(path: Path, chunk: int) -> None:
    """A chunk graph by hand: y = x, and the state adds up."""

    def port(name: str, *shape: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["state", "sum"], ["next_state"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    model = helper.make_model(
        helper.make_graph(
            nodes, "cheap", [port("x", chunk, 1), port("state", 1)],
            [port("y", chunk, 1), port("next_state", 1)], [axis],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    description = {
        "format": 1, "mode": "chunk", "samples_per_run": chunk, "d_input": 1, "d_output": 1,
        "state_floats": 1, "pooling": "none", "length": None, "exact_samples": None,
        "tokens": None, "source": "by hand", "state_size": 1, "version": "0.1.0",
    }  # fmt: skip
    helper.set_model_props(model, {"s4edge": json.dumps(description)})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def test_on_a_board(recorded: Path) -> None:
    """Without torch, scipy and onnx."""
    from test_without_toolchain import COMMAND, python

    found = python(recorded, COMMAND, "run", "chunk16.onnx", "a.wav")
    assert (found.status, found.stderr) == (0, "")
    assert lines(found.stdout) == answers(recorded, "chunk16.onnx", "a.wav")


def test_a_spoken_digit(tmp_path: Path, shared: Path) -> None:
    """The flagship on a recording as its data are prepared: the class that its data's row gets."""
    examples = Path(__file__).resolve().parents[2] / "examples" / "spoken_digits"
    sys.path.insert(0, str(examples))
    try:
        import data
    finally:
        sys.path.remove(str(examples))
    clip = data.load(shared / "data" / "spoken_digits.npz")["test"][7]
    clips = data.clips([clip])
    data.write_wav(tmp_path / "digit.wav", clips.x[0, :, 0])
    model = str(examples / "model.safetensors")
    found = []
    for path, options in (("step.onnx", []), ("chunk.onnx", ["--chunk", "16"])):
        export = ["export", model, "--onnx", "--rate", "4000", "-o", path, *options]
        assert call(tmp_path, *export).status == 0
        (answer,) = answers(tmp_path, path, "digit.wav", "--last")
        assert answer["class"] == clips.y[0]
        found.append(np.array(answer["y"]))
    wanted = predict(open_graph(tmp_path / "step.onnx"), clips.x)[0]
    assert np.abs(found[0] - found[1]).max() < 1e-4
    assert np.abs(found[0] - wanted).max() < 0.01  # 16 bits
