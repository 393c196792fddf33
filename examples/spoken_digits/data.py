"""Spoken digits as raw audio at 4 kHz, 2,048 samples a clip.

The Free Spoken Digit Dataset (Jakobovski and contributors, CC BY-SA 4.0): 3,000 clips of 6
speakers, of which those with index 0 to 4 of each speaker and digit are the test set, as usual.
Read from one `.npz` with ``audio`` (int16 at 8 kHz, end to end), ``offsets``, ``labels`` and
``index``. As a script it writes the parts as files that s4edge takes as DATA:

    python data.py SOURCE.npz [FOLDER] [--recordings N]
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import scipy.signal
from numpy.typing import NDArray

from s4edge.files import replacing

LENGTH = 2048
RATE = 4000
# Of the training clips, by index: what an epoch is chosen by.
VALIDATION_INDEX = (5, 6, 7)

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Clips:
    """Attributes: ``x`` (clips, 2048, 1) float32, largest magnitude 1; ``y`` (clips,) the digit."""

    x: Float
    y: NDArray[np.int64]


def fitted(audio: NDArray[np.float64]) -> Float:
    """At 4 kHz, scaled to a largest magnitude of 1, cut or padded at the end to 2,048 samples."""
    low = scipy.signal.decimate(audio, 2)
    low = low / np.abs(low).max()
    out = np.zeros(LENGTH, np.float32)
    out[: min(LENGTH, len(low))] = low[:LENGTH]
    return out


def load(source: Path) -> dict[str, list[tuple[NDArray[np.float64], int]]]:
    """Raw clips at 8 kHz with their labels: "train", "validation", "test"."""
    parts: dict[str, list[tuple[NDArray[np.float64], int]]] = {
        "train": [], "validation": [], "test": [],
    }  # fmt: skip
    with np.load(source) as content:
        audio, offsets = content["audio"], content["offsets"]
        labels, index = content["labels"], content["index"]
    for clip, label in enumerate(labels):
        part = "test" if index[clip] < 5 else "train"
        part = "validation" if index[clip] in VALIDATION_INDEX else part
        samples = audio[offsets[clip] : offsets[clip + 1]] / 32768
        parts[part].append((samples, int(label)))
    return parts


def clips(raw: list[tuple[NDArray[np.float64], int]]) -> Clips:
    """As the model takes them."""
    return Clips(
        np.stack([fitted(audio) for audio, _ in raw])[:, :, None],
        np.array([label for _, label in raw], dtype=np.int64),
    )


def write_wav(path: Path, audio: Float | NDArray[np.float64]) -> None:
    """Write samples within -1 and 1 at 4 kHz as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(32767 * audio).astype("<i2").tobytes())


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option(
    "--recordings", default=0, metavar="N",
    help="Also write the first N test clips as spoken-test-I-DIGIT.wav, for s4edge run.",
)  # fmt: skip
def main(source: Path, folder: Path, recordings: int) -> None:
    """Write spoken-train.npz, spoken-validation.npz and spoken-test.npz to FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in load(source).items():
        part = clips(raw)
        for index in range(min(recordings, len(part.y)) if name == "test" else 0):
            path = folder / f"spoken-test-{index}-{part.y[index]}.wav"
            write_wav(path, part.x[index, :, 0])
            click.echo(path)
        path = folder / f"spoken-{name}.npz"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, x=part.x, y=part.y)
        click.echo(f"{path}: {len(part.y)} clips")


if __name__ == "__main__":
    main()
