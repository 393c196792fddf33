"""Which reader a source takes."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from s4edge.arrays import Samples
from s4edge.errors import S4EdgeError
from s4edge.runtime.description import GraphInfo
from s4edge.runtime.sources.arrays import Wanted, begin_npy, begin_npz
from s4edge.runtime.sources.byte_stream import ByteStream
from s4edge.runtime.sources.pcm import ENCODINGS, pcm_blocks
from s4edge.runtime.sources.rates import agreed_rate
from s4edge.runtime.sources.source import Begun, Source
from s4edge.runtime.sources.table import begin_table
from s4edge.runtime.sources.wav import MAGICS as WAV_MAGICS
from s4edge.runtime.sources.wav import begin_wav, is_wav

FORMATS = (*ENCODINGS, "wav", "npy", "npz", "csv")
_SUFFIXES = {
    ".wav": "wav", ".wave": "wav", ".npy": "npy", ".npz": "npz", ".csv": "csv", ".tsv": "csv",
    ".txt": "csv",
}  # fmt: skip
_STDIN = "standard input"
# Raw samples where nobody says what they are: what arecord's -f S16_LE and most microphones give.
_DEFAULT = "s16le"


def open_source(
    source: str | Path,
    info: GraphInfo,
    *,
    format: str | None = None,
    rate: float | None = None,
    channel: int | None = None,
    columns: Sequence[str] | None = None,
    index: int | None = None,
    stdin: IO[bytes] | None = None,
) -> Source:
    """Find out what a source holds, check that the graph takes it, read nothing but its beginning.

    PCM comes as -1 <= x < 1, all else as the numbers that are there.

    Args:
        source: a file, or ``-`` for ``stdin``.
        info: of the graph: how many numbers or which tokens it takes, and how many a second.
        format: one of `FORMATS`; None to tell by name and beginning. Raw samples are interleaved,
            ``info.d_input`` numbers each.
        rate: samples per second of a source that does not state it; of one that does, what the
            graph expects.
        channel: of a WAV file, the one to take, from 1.
        columns: of a table, names or numbers (from 1).
        index: of an array of sequences, the one to take, from 0.
        stdin: an open binary file.

    Raises:
        S4EdgeError: it cannot be read, is damaged, is not what the graph takes, or is of another
            rate.
    """
    begin = functools.partial(
        _begin, info=info, channel=channel, columns=columns, wanted=_wanted(info, index)
    )
    warnings: list[str] = []
    if str(source) == "-":
        if stdin is None:
            raise S4EdgeError("standard input is closed: pipe samples into it, or name a file")
        with contextlib.suppress(OSError, ValueError):
            if stdin.isatty():
                raise S4EdgeError(
                    "standard input is a terminal: pipe samples into it, as in arecord -t raw "
                    "-f S16_LE -r 4000 | s4edge run MODEL.onnx -"
                )
        kind, begun = _begun_once(stdin, _STDIN, format, info, begin, warnings)
        held = agreed_rate(info, _STDIN, kind, begun.rate, rate, warnings)
        return Source(_STDIN, lambda: begun.blocks, held, False, warnings)
    path = Path(source)
    if not _is_regular(path):
        # A named pipe, or what a shell's <(...) gives: it is there once.
        file = _open(path)
        kind, begun = _begun_once(file, str(path), format, info, begin, warnings)
        held = agreed_rate(info, str(path), kind, begun.rate, rate, warnings)
        return Source(str(path), lambda: begun.blocks, held, False, warnings)
    with _open(path) as file:
        stream = ByteStream(file, str(path))
        kind = format or _kind(path, stream.peek(12))
        begun = begin(kind, stream, file, warnings)
        held = agreed_rate(info, str(path), kind, begun.rate, rate, warnings)

    def read() -> Iterator[Samples]:
        with _open(path) as file:
            yield from begin(kind, ByteStream(file, str(path)), file, warnings).blocks

    return Source(str(path), read, held, True, warnings)


def _wanted(info: GraphInfo, index: int | None) -> Wanted:
    return Wanted(info.d_input, info.tokens is not None, index)


def _begun_once(
    file: IO[bytes],
    name: str,
    format: str | None,
    info: GraphInfo,
    begin: Callable[[str, ByteStream, IO[bytes], list[str]], Begun],
    warnings: list[str],
) -> tuple[str, Begun]:
    """The format and the beginning of what cannot be read twice."""
    stream = ByteStream(file, name)
    if format == "npz":
        raise S4EdgeError(f"an .npz cannot be read from a pipe ({name}); name the file")
    # Even where raw samples were announced: a header is none.
    kind = format
    if kind is None or kind in ENCODINGS:
        start = _look(stream)
        kind = "wav" if is_wav(start) else kind
        if kind is None and start.startswith(b"\x93NUM"):
            kind = "npy"
    if kind is None and info.tokens is not None:
        raise S4EdgeError(f"{info.path} takes tokens: say how they are written with --format u8")
    kind = kind or _DEFAULT
    return kind, begin(kind, stream, file, warnings)


def _look(stream: ByteStream) -> bytes:
    """As much of the beginning as may be a header's: samples are not waited for."""
    start = b""
    for count in range(1, 13):
        start = stream.peek(count)
        known = any(each.startswith(start[:4]) for each in (*WAV_MAGICS, b"\x93NUM"))
        if len(start) < count or not known:
            break
    return start


def _begin(
    kind: str,
    stream: ByteStream,
    file: IO[bytes],
    warnings: list[str],
    *,
    info: GraphInfo,
    channel: int | None,
    columns: Sequence[str] | None,
    wanted: Wanted,
) -> Begun:
    """Read a source's beginning in the format ``kind``."""
    for option, given, fits in (
        ("--channel", channel is not None, kind == "wav"),
        ("--columns", columns is not None, kind == "csv"),
        ("--index", wanted.index is not None, kind in ("npy", "npz")),
    ):
        if given and not fits:
            what = {"--channel": "a .wav", "--columns": "a table", "--index": "an array"}[option]
            raise S4EdgeError(f"{option} picks from {what}, which {stream.name} is not")
    if kind == "npz":
        return begin_npz(file, stream.name, wanted)
    if kind == "npy":
        return begin_npy(stream, wanted)
    if kind == "csv":
        return begin_table(stream, info.d_input, columns)
    if kind == "wav":
        if info.tokens is not None:
            raise S4EdgeError(
                f"{info.path} takes whole tokens from 0 to {info.tokens - 1}, {stream.name} holds "
                "sound"
            )
        return begin_wav(stream, info.d_input, channel, warnings)
    return Begun(pcm_blocks(stream, ENCODINGS[kind], info.d_input, None, wanted.tokens, warnings))


def _kind(path: Path, start: bytes) -> str:
    """What a file is, by its name, else by its beginning."""
    kind = _SUFFIXES.get(path.suffix.lower())
    if not start:
        raise S4EdgeError(f"{path} is empty")
    if kind is None and is_wav(start):
        kind = "wav"
    if kind is None and start.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        kind = "npy" if start.startswith(b"\x93") else "npz"
    if kind is None and path.suffix.lower() in (
        ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".au", ".w64",
    ):  # fmt: skip
        raise S4EdgeError(
            f"{path} is of a kind that is not read; convert it: ffmpeg -i {shlex.quote(str(path))} "
            "-c:a pcm_s16le new.wav"
        )
    if kind is None:
        raise S4EdgeError(
            f"what {path} holds is unknown; known by name: {', '.join(sorted(_SUFFIXES))}. Of raw "
            f"samples say how they are written, as in --format {_DEFAULT}"
        )
    return kind


def _is_regular(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True  # opening it says what is wrong
    if stat.S_ISDIR(mode):
        raise S4EdgeError(f"{path} is a folder; name a recording in it")
    return stat.S_ISREG(mode)


def _open(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise S4EdgeError(f"{path} does not exist") from error
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise S4EdgeError(f"cannot read {str(path)!r}: {error}") from error
