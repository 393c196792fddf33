"""What an environment with the base install only must do: the checks, and what they are made of.

`tools/base_install.py` asks it of fresh virtual environments here, `tools/arm64/run.py` of one on
an emulated ARM processor. Expected outputs are those of the calling environment.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from parity import CHECK, EXAMPLES, spoken_model

import s4edge
from s4edge.data.dataset import load_data
from s4edge.data.metrics import score
from s4edge.runtime import Stream, open_graph, predict

ROOT = Path(__file__).resolve().parent.parent
# Of the toolchain; none may come with the base.
HEAVY = (
    "torch", "scipy", "onnx", "matplotlib", "onnxscript", "safetensors", "sklearn", "loky",
)  # fmt: skip
CHUNK = 16
RATE, EVERY = 4000, 256

# Runs there: {name: [version, bytes, bytes of compiled Python]} of what is installed, and which
# heavy packages are there. Bytes are those of the files that the packages list as their own.
PACKAGES = f"""
import importlib.metadata, importlib.util, json, os
sizes = {{}}
for package in importlib.metadata.distributions():
    sizes[package.metadata["Name"].lower()] = found = [package.version, 0, 0]
    for each in package.files or []:
        path = package.locate_file(each)
        if os.path.exists(path):
            found[1 + (each.suffix == ".pyc")] += os.path.getsize(path)
heavy = [each for each in {HEAVY!r} if importlib.util.find_spec(each)]
print(json.dumps([sizes, heavy]))
"""
IMPORT = """
import sys, time
start = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - start)
"""
# What installs packages is no package of ours.
NOT_OURS = ("pip", "setuptools")


@dataclass(frozen=True)
class Board:
    """An environment with the base install.

    Attributes:
        python: its interpreter.
        environment: variables that go with it.
        emulated: whether another processor is emulated; a bench must say so.
    """

    python: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    emulated: bool = False

    def call(
        self, *arguments: object, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call its Python; nothing of the caller's own Python is handed on.

        Raises:
            CalledProcessError: it failed.
        """
        return self._call(self.python, *arguments, folder=folder)

    def s4edge(self, *arguments: object, folder: Path) -> str:
        """What the installed command prints. Raises as `call` does."""
        return self._call(self.python.with_name("s4edge"), *arguments, folder=folder).stdout

    def _call(self, *command: object, folder: Path | None) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return subprocess.run(
            [str(part) for part in command], cwd=folder, check=True, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, env={**kept, **self.environment},
        )  # fmt: skip

    def packages(self) -> tuple[dict[str, tuple[str, int, int]], list[str]]:
        """Of what is installed version, bytes, and bytes of compiled Python; what of `HEAVY` is."""
        sizes, heavy = json.loads(self.call("-c", PACKAGES).stdout)
        return {name: tuple(facts) for name, facts in sizes.items() if name not in NOT_OURS}, heavy

    def import_seconds(self, module: str, times: int = 5) -> float:
        """The median time to import a module in a new process."""
        return statistics.median(
            float(self.call("-c", IMPORT, module).stdout) for _ in range(times)
        )

    def help_seconds(self, folder: Path, times: int = 5) -> float:
        """The median time of ``s4edge --help``, from its call to its end."""

        def once() -> float:
            start = time.perf_counter()
            self.s4edge("--help", folder=folder)
            return time.perf_counter() - start

        return statistics.median(once() for _ in range(times))

    def parity(self, graphs: Path) -> tuple[str, dict[str, float]]:
        """Onnxruntime's version there, and largest differences, as `parity.CHECK` gives them."""
        version, errors = json.loads(self.call("-c", CHECK, graphs).stdout)
        return version, errors


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel into ``folder``, from a copy: a build leaves files behind."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "s4edge"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(
            ROOT / "s4edge", copy / "s4edge", ignore=shutil.ignore_patterns("__pycache__")
        )
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("s4edge-*.whl"):
            old.unlink()
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
        subprocess.run([*pip, "--no-deps", "--wheel-dir", folder, copy], check=True)
    (wheel,) = folder.glob("s4edge-*.whl")
    return wheel


@dataclass(frozen=True)
class Samples:
    """Graphs, data and a recording in a folder, with what this machine makes of them.

    Attributes:
        folder: holds the digits' graphs that `accuracy` names, ``digits.npz``, and
            ``spoken.onnx`` with ``recording.wav``.
        accuracy: of graphs on ``digits.npz``.
        spoken: (answers, classes), outputs after every `EVERY` samples of the recording.
    """

    folder: Path
    accuracy: Mapping[str, float]
    spoken: np.ndarray[Any, np.dtype[np.float32]]


def write_samples(folder: Path) -> Samples:
    """Write what `checks` takes, from the shipped examples."""
    folder.mkdir(parents=True, exist_ok=True)
    model = s4edge.load(EXAMPLES / "digits" / "model.pt")
    s4edge.export_onnx(model, folder / "step.onnx")
    s4edge.export_onnx(model, folder / "chunk.onnx", "chunk", chunk=CHUNK)
    s4edge.export_onnx(model, folder / "int8.onnx", "chunk", chunk=CHUNK, precision="int8")
    s4edge.export_onnx(spoken_model(), folder / "spoken.onnx")
    data = (sys.executable, EXAMPLES / "digits" / "data.py", folder)
    subprocess.run(data, check=True, stdout=subprocess.DEVNULL)
    (folder / "digits-train.npz").unlink()
    (folder / "digits-test.npz").rename(folder / "digits.npz")
    samples = load_data(folder / "digits.npz")
    accuracy = {
        name: score(predict(open_graph(folder / name), samples.x), samples).value
        for name in ("step.onnx", "int8.onnx")
    }
    return Samples(folder, accuracy, _answers(folder / "spoken.onnx", _record(folder)))


def _record(folder: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Half a second of something like a voice: harmonics that glide, in noise."""
    t = np.arange(RATE // 2) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 60 * np.sin(5 * t)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 9))
    noise = np.random.default_rng(0).standard_normal(len(t))
    sound = (8000 * (voice * np.hanning(len(t)) + 0.05 * noise)).astype("<i2")
    with wave.open(str(folder / "recording.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())
    return sound


def _answers(
    graph: Path, sound: np.ndarray[Any, np.dtype[np.int16]]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    outputs = Stream(open_graph(graph)).extend((sound / np.float32(32768))[:, None])[0]
    return outputs[EVERY - 1 :: EVERY]


Row = tuple[str, str, bool]
"""What was checked, what was found, and whether it is as it must be."""


def checks(board: Board, samples: Samples, duration: float) -> Iterable[Row]:
    """Call every command of a board and compare its answers."""
    for name, check in (
        ("s4edge --version", _version), ("s4edge bench", _bench), ("s4edge eval", _eval),
        ("s4edge run", _run), ("s4edge compress", _refusal),
    ):  # fmt: skip
        try:
            found, ok = check(board, samples, duration)
        except subprocess.CalledProcessError as error:
            found, ok = last_line(error), False
        yield name, found, ok


def last_line(error: subprocess.CalledProcessError) -> str:
    """How a command that failed ended."""
    said = (error.stderr or error.stdout or "").strip().splitlines()
    return f"exit status {error.returncode}: {said[-1] if said else 'nothing said'}"


Check = Callable[[Board, Samples, float], tuple[str, bool]]


def _version(board: Board, samples: Samples, duration: float) -> tuple[str, bool]:
    said = board.s4edge("--version", folder=samples.folder).strip()
    return said, said.endswith(s4edge.__version__)


def _bench(board: Board, samples: Samples, duration: float) -> tuple[str, bool]:
    call = ("bench", "step.onnx", "chunk.onnx", "--duration", duration, "--json")
    answer = json.loads(board.s4edge(*call, folder=samples.folder))
    rows, device = answer["results"], answer["device"]
    emulated = bool(device.get("emulated"))
    times = ", ".join(f"{row['mode']} {row['us_per_sample']:.1f} µs" for row in rows)
    where = f"{device['cpu']}, {device['architecture']}, Python {device['python']}"
    ok = [row["mode"] for row in rows] == ["step", "chunk"] and all(
        row["runs"] > 0 and row["us_per_sample"] > 0 and row["peak_rss_bytes"] > 1e6 for row in rows
    )
    label = "emulated, no speed: " if emulated else ""
    return f"{label}{times} a sample ({where})", ok and emulated == board.emulated


def _eval(board: Board, samples: Samples, duration: float) -> tuple[str, bool]:
    found, all_ok = [], True
    for name, here in samples.accuracy.items():
        call = ("eval", name, "--data", "digits.npz", "--json")
        answer = json.loads(board.s4edge(*call, folder=samples.folder))
        found.append(f"{name} {answer['value']:.2%} (here {here:.2%})")
        # One sample may lie on the edge between two classes.
        all_ok &= abs(answer["value"] - here) < 1.5 / answer["samples"]
    return f"accuracy on 500 digits: {', '.join(found)}", all_ok


def _run(board: Board, samples: Samples, duration: float) -> tuple[str, bool]:
    call = ("run", "spoken.onnx", "recording.wav", "--rate", RATE, "--every", EVERY)
    lines = board.s4edge(*call, folder=samples.folder).splitlines()
    answers = [json.loads(line) for line in lines]
    found = np.array([each["y"] for each in answers], np.float32)
    expected = samples.spoken
    if len(found) < len(expected):
        return f"{len(found)} answers, expected {len(expected)}", False
    error = float(np.abs(found[: len(expected)] - expected).max() / np.abs(expected).max())
    return f"{len(found)} answers, largest difference {error:.1e}", error < 1e-4


def _refusal(board: Board, samples: Samples, duration: float) -> tuple[str, bool]:
    """A command of the toolchain says in one line what is missing."""
    try:
        board.s4edge("compress", "model.pt", "--state", 4, folder=samples.folder)
    except subprocess.CalledProcessError as error:
        line = error.stderr.strip()
        return line, error.returncode == 1 and line.startswith("Error: ") and "\n" not in line
    return "it was carried out", False
