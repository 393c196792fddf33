"""WAV files and raw samples."""

from __future__ import annotations

from pathlib import Path

from s4edge.runtime.sources import open_source

from .. import seeds
from ..mutate import raw
from ..reader import Reader
from . import sources


def _wav(folder: Path) -> object:
    path = folder / "sound.wav"
    channel = 1 if path.stat().st_size % 2 else None
    return sources.drain(open_source(path, sources.INFO, channel=channel))


def _pcm(folder: Path) -> object:
    path = folder / "sound.pcm"
    encoding = ("s16le", "s24le", "f32le", "f64le", "u8")[path.stat().st_size % 5]
    info = sources.TOKENS if encoding == "u8" else sources.INFO
    return sources.drain(open_source(path, info, format=encoding))


READERS = (
    Reader("wav", "sound.wav", seeds.recordings, raw.mutate, _wav, weight=2),
    Reader("pcm", "sound.pcm", seeds.recordings, raw.mutate, _pcm, weight=1),
)
