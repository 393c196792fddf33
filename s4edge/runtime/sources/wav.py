"""WAV files: PCM of 8 to 32 bits and floats, plain or extensible, also while they are written.

The standard library's `wave` reads neither floats nor a header without a length.
"""

from __future__ import annotations

import shlex
import struct
from dataclasses import dataclass

from s4edge.errors import S4EdgeError
from s4edge.runtime.sources.byte_stream import ByteStream
from s4edge.runtime.sources.pcm import ENCODINGS, Encoding, pcm_blocks
from s4edge.runtime.sources.source import Begun

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# By the kind and the bytes that a number takes.
_NAMES = {
    (_PCM, 1): "u8", (_PCM, 2): "s16le", (_PCM, 3): "s24le", (_PCM, 4): "s32le",
    (_FLOAT, 4): "f32le", (_FLOAT, 8): "f64le",
}  # fmt: skip
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
# How the identifier of a format in an extensible header goes on.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# A recorder that does not know how long it will go on writes about the most that fits.
_UNKNOWN = 0x7FFF0000


@dataclass(frozen=True)
class Header:
    """What stands before the samples. ``data_bytes`` is None where the writer did not know."""

    encoding: Encoding
    channels: int
    rate: int
    data_bytes: int | None


# Of 32-bit sizes, of larger ones, of big-endian numbers.
MAGICS = (b"RIFF", b"RF64", b"RIFX")


def is_wav(start: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is a WAV file."""
    return start[:4] in MAGICS and start[8:12] == b"WAVE"


def begin_wav(stream: ByteStream, d_input: int, channel: int | None, warnings: list[str]) -> Begun:
    """Read the header, pick the channels.

    Args:
        stream: at the start of the file.
        d_input: channels that the graph takes.
        channel: the one to take, from 1, or None for all.
        warnings: is told of what is left over or missing.

    Raises:
        S4EdgeError: it is no WAV file, or of a kind that is not read, or has other channels.
    """
    header = read_header(stream)
    _check_channels(stream.name, header.channels, d_input, channel)
    blocks = pcm_blocks(
        stream, header.encoding, header.channels, header.data_bytes, False, warnings
    )
    if channel is not None:
        return Begun((block[:, channel - 1 : channel] for block in blocks), header.rate)
    return Begun(blocks, header.rate)


def read_header(stream: ByteStream) -> Header:
    """Read up to the first sample. Raises S4EdgeError as `begin_wav` does."""
    name = stream.name
    start = stream.exactly(12)
    if not is_wav(start):
        raise S4EdgeError(
            f"{name} is no WAV file (it does not begin like one); if it is sound, convert it with: "
            f"{_convert(name)}"
        )
    if start[:4] == b"RIFX":
        raise S4EdgeError(f"{name} is big-endian (RIFX); convert it with: {_convert(name)}")
    position, end = 12, struct.unpack("<I", start[4:8])[0] + 8
    data_size: int | None = None
    found: tuple[Encoding, int, int] | None = None
    while True:
        head = stream.exactly(8)
        if len(head) < 8:
            what = "its samples" if found else "its format"
            raise S4EdgeError(f"{name} is damaged: it ends before {what}")
        kind, size = struct.unpack("<4sI", head)
        position += 8
        if kind == b"data":
            break
        if kind in (b"fmt ", b"ds64"):
            body = stream.exactly(min(size, 1 << 16))
            complete = len(body) == size
            if kind == b"fmt ":
                found = _read_format(name, body)
            elif len(body) >= 16:  # of RF64: sizes that 32 bits cannot hold
                data_size = struct.unpack("<Q", body[8:16])[0]
            complete = complete and (size % 2 == 0 or stream.skip(1))
        else:
            complete = stream.skip(size + size % 2)
        if not complete:
            raise S4EdgeError(f"{name} is damaged: it ends within its header")
        position += size + size % 2
    if found is None:
        raise S4EdgeError(f"{name} is damaged: its samples come before its format")
    if size == 0xFFFFFFFF and data_size is not None:
        return Header(*found, data_size if data_size < 1 << 62 else None)
    # A recorder that was killed, or writes into a pipe, has no length in its header.
    unknown = size >= _UNKNOWN or (size == 0 and end <= position)
    return Header(*found, None if unknown else size)


def _read_format(name: str, body: bytes) -> tuple[Encoding, int, int]:
    """Encoding, channels and rate."""
    if len(body) < 16:
        raise S4EdgeError(f"{name} is damaged: its format takes {len(body)} bytes, not 16")
    tag, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 40:
        # Fewer bits than the container has are at its top, so that they need no care.
        tag = struct.unpack("<H", body[24:26])[0] if body[26:40] == _GUID_TAIL else tag
    if not channels or not rate or frame % channels or not frame or not 0 < bits <= 64:
        raise S4EdgeError(
            f"{name} is damaged: {channels} channels of {bits} bits in {frame} bytes at {rate} Hz"
        )
    kind = _NAMES.get((tag, frame // channels))
    if kind is None or bits > 8 * frame // channels:
        what = {_PCM: f"{bits}-bit PCM", _FLOAT: f"{bits}-bit float"}.get(
            tag, _OTHERS.get(tag, f"format {tag}")
        )
        raise S4EdgeError(f"{name} holds {what}, which is not read; convert it: {_convert(name)}")
    return ENCODINGS[kind], channels, rate


def _check_channels(name: str, channels: int, d_input: int, channel: int | None) -> None:
    has = f"{name} has {channels} channel{'' if channels == 1 else 's'}"
    if channel is not None:
        if channel > channels:
            raise S4EdgeError(f"{has}, so there is no --channel {channel}")
        if d_input != 1:
            raise S4EdgeError(f"--channel picks one channel, the graph takes {d_input}")
    elif channels != d_input:
        if d_input == 1:
            raise S4EdgeError(f"{has}, the graph takes 1: pick one with --channel 1 to {channels}")
        raise S4EdgeError(f"{has}, the graph takes {d_input}")


def _convert(name: str) -> str:
    if name == "standard input":
        return "ffmpeg -i - -c:a pcm_s16le -f wav -"
    return f"ffmpeg -i {shlex.quote(name)} -c:a pcm_s16le new.wav"
