"""Sources against what wrote them: the standard library's wave and struct, numpy, text."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s4edge.errors import S4EdgeError
from s4edge.runtime import GraphInfo, Source, open_source

RATE = 4000


def info(d_input: int = 1, tokens: int | None = None, rate: float | None = None) -> GraphInfo:
    return GraphInfo(
        path=Path("model.onnx"), format=1, mode="step", samples_per_run=1, d_input=d_input,
        d_output=2, tokens=tokens, state_floats=2, pooling="none", length=None, exact_samples=None,
        source="", state_size=None, version="", model_bytes=0, rate=rate,
    )  # fmt: skip


def read(source: Source) -> np.ndarray:
    return np.concatenate(list(source))


def refused(*arguments: Any, **options: Any) -> str:
    """What it says; an error may come with the opening or with the reading."""
    with pytest.raises(S4EdgeError) as caught:
        list(open_source(*arguments, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def piped(data: bytes, **options: Any) -> Source:
    graph = options.pop("graph", info())
    return open_source("-", graph, stdin=io.BytesIO(data), **options)


def write_wav(path: Path, frames: bytes, width: int, channels: int = 1, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return path


def integers(bits: int, count: int = 1000) -> list[int]:
    """The largest, the smallest, and others."""
    top = 1 << (bits - 1)
    rng = np.random.default_rng(bits)
    return [-top, top - 1, 0, -1, 1, *rng.integers(-top, top, count - 5).tolist()]


def pcm(values: list[int], bits: int) -> bytes:
    if bits == 8:  # WAV's are unsigned
        return bytes(value + 128 for value in values)
    return b"".join(value.to_bytes(bits // 8, "little", signed=True) for value in values)


def riff(*chunks: tuple[bytes, bytes], size: int | None = None, kind: bytes = b"RIFF") -> bytes:
    body = b"WAVE"
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def fmt(tag: int, channels: int, bits: int, *more: bytes, container: int | None = None) -> bytes:
    frame = channels * (container or bits) // 8
    return struct.pack("<HHIIHH", tag, channels, RATE, RATE * frame, frame, bits) + b"".join(more)


def extensible(tag: int, channels: int, valid: int, container: int) -> bytes:
    guid = struct.pack("<IHH", tag, 0, 16) + bytes((0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71))
    return fmt(0xFFFE, channels, container, struct.pack("<HHI", 22, valid, 0), guid)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wav_that_the_standard_library_wrote(tmp_path: Path, bits: int, channels: int) -> None:
    values = integers(bits, 996)
    path = write_wav(tmp_path / "a.wav", pcm(values, bits), bits // 8, channels)
    source = open_source(path, info(channels))
    wanted = np.array(values, np.float64).reshape(-1, channels) / 2.0 ** (bits - 1)
    assert np.array_equal(read(source), wanted)
    assert np.array_equal(read(source), wanted)  # once more, from the start
    assert source.rate == RATE
    assert (wanted.min(), wanted.max() < 1) == (-1, True)
    for channel in range(1, channels + 1):
        picked = read(open_source(path, info(), channel=channel))
        assert np.array_equal(picked, wanted[:, channel - 1 : channel])
    with open(path, "rb") as file:
        assert np.array_equal(read(open_source("-", info(channels), stdin=file)), wanted)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("header", ["plain", "extensible"])
def test_float_wav(tmp_path: Path, bits: int, header: str) -> None:
    values = np.random.default_rng(0).standard_normal((500, 2)).astype(f"<f{bits // 8}")
    start = fmt(3, 2, bits, b"\0\0") if header == "plain" else extensible(3, 2, bits, bits)
    path = tmp_path / "a.wav"
    # With chunks around it, one of an odd size, as recorders write.
    path.write_bytes(
        riff((b"JUNK", b"abc"), (b"fmt ", start), (b"fact", bytes(4)), (b"data", values.tobytes()),
             (b"LIST", b"INFOISFT"))
    )  # fmt: skip
    source = open_source(path, info(2, rate=RATE))
    assert np.array_equal(read(source), values)
    assert source.warnings == []


def test_extensible_wav_of_fewer_bits_than_bytes(tmp_path: Path) -> None:
    """24 bits in 32 stand at the top."""
    values = integers(24)
    path = tmp_path / "a.wav"
    data = b"".join(struct.pack("<i", value << 8) for value in values)
    path.write_bytes(riff((b"fmt ", extensible(1, 1, 24, 32)), (b"data", data)))
    found = read(open_source(path, info()))
    assert np.array_equal(found[:, 0], np.array(values) / 2.0**23)


@pytest.mark.parametrize("size", [0, 0x7FFFFF00, 0x80000000, 0xFFFFFFFF])
def test_wav_without_a_length(tmp_path: Path, size: int) -> None:
    """As recorders write it into a pipe, and leave it when they are killed."""
    values = integers(16)
    whole = riff((b"fmt ", fmt(1, 1, 16)), (b"data", b""), size=(36 + size) & 0xFFFFFFFF)
    data = whole[:-4] + struct.pack("<I", size) + pcm(values, 16)
    (tmp_path / "a.wav").write_bytes(data)
    graph = info(rate=RATE)
    for source in (piped(data, graph=graph), open_source(tmp_path / "a.wav", graph)):
        assert np.array_equal(read(source)[:, 0] * 2**15, values)
        assert (source.rate, source.warnings) == (RATE, [])


def test_wav_larger_than_32_bits_can_say() -> None:
    values = integers(16)
    sizes = struct.pack("<QQQI", 0, 2 * len(values), len(values), 0)
    start = riff((b"ds64", sizes), (b"fmt ", fmt(1, 1, 16)), kind=b"RF64", size=0xFFFFFFFF)
    data = start + b"data\xff\xff\xff\xff" + pcm(values, 16)
    found = read(piped(data + b"LIST\4\0\0\0abcd"))
    assert np.array_equal(found[:, 0] * 2**15, values)


def test_empty_wav_is_not_one_without_a_length() -> None:
    data = riff((b"fmt ", fmt(1, 1, 16)), (b"data", b""), (b"LIST", b"abcdefgh"))
    assert list(piped(data)) == []


@pytest.mark.parametrize("cut", [1, 2, 3, 200])
def test_wav_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = write_wav(tmp_path / "a.wav", pcm(integers(16), 16), 2)
    path.write_bytes(path.read_bytes()[:-cut])
    source = open_source(path, info(rate=RATE))
    left = 1000 - (cut + 1) // 2
    assert len(read(source)) == len(read(source)) == left
    assert source.warnings == [
        f"{path} is cut off: its header promises 1000 samples, {left} are there"
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello, this is text\n" * 9, "is no WAV file (it does not begin like one)"),
        (b"RIFF\0\0\0\0AVI " + bytes(99), "is no WAV file"),
        (b"RIFF", "is no WAV file"),
        (riff(kind=b"RIFX"), "is big-endian (RIFX); convert it with: ffmpeg"),
        (riff((b"data", b"ab")), "its samples come before its format"),
        (riff((b"fmt ", fmt(1, 1, 16))), "it ends before its samples"),
        (riff((b"LIST", b"ab")), "it ends before its format"),
        (riff((b"LIST", bytes(99)))[:40], "it ends within its header"),
        (riff((b"fmt ", fmt(1, 1, 16)[:10]), (b"data", b"")), "its format takes 10 bytes"),
        (riff((b"fmt ", fmt(1, 0, 16)), (b"data", b"")), "is damaged: 0 channels"),
        (riff((b"fmt ", fmt(1, 3, 8, container=8)[:-4] + b"\7\0\x10\0"), (b"data", b"")),
         "is damaged: 3 channels of 16 bits in 7 bytes"),
        (riff((b"fmt ", fmt(1, 1, 0, container=16)), (b"data", b"")),
         "is damaged: 1 channels of 0 bits in 2 bytes"),
        (riff((b"fmt ", fmt(7, 1, 8)), (b"data", b"")), "holds µ-law, which is not read"),
        (riff((b"fmt ", fmt(0x55, 1, 16)), (b"data", b"")), "holds MP3, which is not read"),
        (riff((b"fmt ", fmt(3, 1, 16)), (b"data", b"")), "holds 16-bit float, which is not read"),
        (riff((b"fmt ", fmt(1, 1, 64)), (b"data", b"")), "holds 64-bit PCM, which is not read"),
        (riff((b"fmt ", extensible(6, 1, 8, 8)), (b"data", b"")), "holds A-law"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_wavs(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a b.wav").write_bytes(content)
    message = refused(tmp_path / "a b.wav", info())
    assert says in message
    if "ffmpeg" in message:  # can be typed
        assert f"ffmpeg -i '{tmp_path / 'a b.wav'}' -c:a pcm_s16le new.wav" in message


def test_channels(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", bytes(12), 2, 2)
    says = "has 2 channels, the graph takes 1: pick one with --channel 1 to 2"
    assert says in refused(path, info())
    assert "has 2 channels, the graph takes 3" in refused(path, info(3))
    assert "so there is no --channel 3" in refused(path, info(), channel=3)
    assert "picks one channel, the graph takes 2" in refused(path, info(2), channel=1)
    assert "takes whole tokens from 0 to 4" in refused(path, info(1, tokens=5))


STRUCT = {"s8": "b", "u8": "B", "s16le": "<h", "s32le": "<i", "f32le": "<f", "f64le": "<d"}


@pytest.mark.parametrize("kind", [*STRUCT, "s24le"])
@pytest.mark.parametrize("d_input", [1, 3])
def test_raw_samples(tmp_path: Path, kind: str, d_input: int) -> None:
    bits = int(kind.strip("sufle"))
    values: list[Any] = integers(bits, 996)
    full: float = 2.0 ** (bits - 1)
    wanted = np.array(values, np.float64) / full
    if kind.startswith("f"):
        wanted = np.random.default_rng(0).standard_normal(996).astype(f"f{bits // 8}")
        values = wanted.tolist()
    if kind == "u8":
        values = [value + 128 for value in values]
    data = b"".join(
        value.to_bytes(3, "little", signed=True) if kind == "s24le"
        else struct.pack(STRUCT[kind], value) for value in values
    )  # fmt: skip
    (tmp_path / "a.raw").write_bytes(data)
    for source in (
        piped(data, graph=info(d_input), format=kind, rate=RATE),
        open_source(tmp_path / "a.raw", info(d_input), format=kind, rate=RATE),
    ):
        assert np.array_equal(read(source), wanted.reshape(-1, d_input))
        assert (source.rate, source.warnings) == (RATE, [])


def test_raw_samples_are_16_bits_if_nobody_says() -> None:
    assert np.array_equal(read(piped(pcm(integers(16), 16)))[:, 0] * 2**15, integers(16))


def test_bytes_that_are_left_over() -> None:
    source = piped(bytes(101), graph=info(3))
    assert len(read(source)) == 16
    assert source.warnings == [
        "standard input ends in the middle of a sample: 5 of 6 bytes are left over"
    ]


def test_a_header_is_no_sample(tmp_path: Path) -> None:
    """``arecord`` writes a WAV file where nobody asks for raw samples."""
    path = write_wav(tmp_path / "a.wav", pcm(integers(16), 16), 2)
    data = path.read_bytes()
    assert np.array_equal(read(piped(data, format="s16le")), read(open_source(path, info())))


def test_raw_tokens() -> None:
    graph = info(tokens=256)
    assert read(piped(bytes(range(256)), graph=graph, format="u8"))[:, 0].tolist() == [*range(256)]
    words = struct.pack("<4h", 3, 1, 255, 0)
    assert read(piped(words, graph=graph, format="s16le"))[:, 0].tolist() == [3, 1, 255, 0]
    assert "say how they are written with --format u8" in refused("-", graph, stdin=io.BytesIO())


def test_a_pipe_is_read_as_it_comes() -> None:
    """Without waiting for a block to be full."""
    reading, writing = os.pipe()
    with open(reading, "rb") as here, open(writing, "wb", buffering=0) as there:
        there.write(pcm([1, 2, 3], 16) + b"\4")
        blocks = iter(open_source("-", info(), stdin=here))
        seen: list[float] = []
        while len(seen) < 3:
            seen += (next(blocks)[:, 0] * 2**15).tolist()
        there.write(b"\0" + pcm([5], 16))
        while len(seen) < 5:
            seen += (next(blocks)[:, 0] * 2**15).tolist()
        there.close()
        assert list(blocks) == []
    assert seen == [1, 2, 3, 4, 5]


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    data = riff((b"fmt ", fmt(1, 1, 16)), (b"data", pcm(integers(16), 16)))
    writer = threading.Thread(target=(tmp_path / "a").write_bytes, args=(data,))
    writer.start()
    source = open_source(tmp_path / "a", info())
    assert not source.again
    assert np.array_equal(read(source)[:, 0] * 2**15, integers(16))
    writer.join()


X = np.random.default_rng(1).standard_normal((4, 6000, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 200, (4, 9000))


def in_npy(array: np.ndarray, path: Path) -> Path:
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


def in_npz(array: np.ndarray, path: Path) -> Path:
    np.savez(path.with_suffix(".npz"), y=np.zeros(3), x=array)
    return path.with_suffix(".npz")


def packed(array: np.ndarray, path: Path) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), some_name=array)
    return path.with_suffix(".npz")


@pytest.mark.parametrize("write", [in_npy, in_npz, packed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "<i2", "u1", "bool"])
def test_arrays(
    tmp_path: Path, write: Callable[[np.ndarray, Path], Path], order: Any, dtype: str
) -> None:
    x = np.asarray((10 * np.abs(X)).astype(dtype), order=order)
    several = write(x, tmp_path / "several")
    for index in (0, 3):
        assert np.array_equal(read(open_source(several, info(3), index=index)), x[index])
    one = write(np.asarray(x[1], order=order), tmp_path / "one")
    assert np.array_equal(read(open_source(one, info(3))), x[1])
    assert len(list(open_source(one, info(3)))) > 1 or x[1].nbytes < 65_536  # in blocks
    kept = write(np.asarray(x[1:2], order=order), tmp_path / "kept")
    assert np.array_equal(read(open_source(kept, info(3))), x[1])
    rows = write(np.asarray(x[:, :, 0], order=order), tmp_path / "rows")
    assert np.array_equal(read(open_source(rows, info(1), index=2))[:, 0], x[2, :, 0])
    flat = write(x[0, :, 0], tmp_path / "flat")
    assert np.array_equal(read(open_source(flat, info(1)))[:, 0], x[0, :, 0])


@pytest.mark.parametrize("order", ["C", "F"])
def test_token_arrays(tmp_path: Path, order: Any) -> None:
    graph = info(tokens=200)
    path = in_npy(np.asarray(TOKENS, order=order), tmp_path / "a")
    assert np.array_equal(read(open_source(path, graph, index=2))[:, 0], TOKENS[2])
    for one in (TOKENS[1], TOKENS[1:2]):
        found = read(open_source(in_npy(one, tmp_path / "b"), graph))
        assert np.array_equal(found[:, 0], TOKENS[1])
    says = "the graph takes (length,) or (samples, length) whole tokens"
    assert says in refused(in_npy(X, tmp_path / "c"), graph)
    assert says in refused(in_npy(TOKENS.astype(float), tmp_path / "d"), graph)


def test_lengths_of_sequences(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, lengths=np.array([6000, 7, 0, 5]))
    assert np.array_equal(read(open_source(tmp_path / "a.npz", info(3), index=1)), X[1, :7])
    assert list(open_source(tmp_path / "a.npz", info(3), index=2)) == []
    np.savez(tmp_path / "b.npz", x=X, lengths=np.array([6001, 7]))
    assert "lengths does not fit" in refused(tmp_path / "b.npz", info(3), index=0)


def test_an_array_through_a_pipe() -> None:
    for order in ("C", "F"):
        file = io.BytesIO()
        np.save(file, np.asarray(X, order=order))  # type: ignore[call-overload]
        assert np.array_equal(read(piped(file.getvalue(), graph=info(3), index=1)), X[1])


@pytest.mark.parametrize(
    ("array", "d_input", "index", "says"),
    [
        (X, 2, None, "shape (4, 6000, 3); the graph takes (length, 2) or (samples, length, 2)"),
        (X, 3, None, "4 sequences: pick one with --index 0 to 3"),
        (X, 3, 4, "4 sequences: there is no --index 4"),
        (X[0], 3, 0, "one sequence: there is none to pick with --index"),
        (X[:, :, 0], 1, None, "4 sequences: pick one with --index 0 to 3"),
        (X[0, 0, 0], 1, None, "shape ()"),
        (X[0, :, 0], 3, None, "shape (6000,)"),
        (X.astype(complex), 3, None, "holds complex128, expected real numbers"),
        (np.array([None]), 1, None, "holds object, expected real numbers"),
        (np.array(["a"]), 1, None, "holds <U1, expected real numbers"),
    ],
)
def test_arrays_that_do_not_fit(
    tmp_path: Path, array: np.ndarray, d_input: int, index: int | None, says: str
) -> None:
    for write in (in_npy, in_npz):
        path = write(array, tmp_path / "a")
        assert says in refused(path, info(d_input), index=index)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_that_are_cut_off(tmp_path: Path, order: Any) -> None:
    path = in_npy(np.asarray(X[0], order=order), tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-1000])
    assert f"{path} is cut off" in refused(path, info(3))


def test_damaged_arrays(tmp_path: Path) -> None:
    npy, npz = tmp_path / "a.npy", tmp_path / "a.npz"
    for content in (b"text", b"\x93NUMPY\1\0\x20\0hello", b"\x93NUMPY\7\0"):
        npy.write_bytes(content)
        assert f"{npy} is no readable .npy file" in refused(npy, info())
    for content in (b"text", b"PK\3\4" + bytes(100)):
        npz.write_bytes(content)
        assert f"{npz} is no readable .npz file" in refused(npz, info())
    whole = packed(X[0], tmp_path / "b").read_bytes()
    middle = len(whole) // 2
    npz.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    assert f"{npz} is damaged" in refused(npz, info(3))
    np.savez(npz, a=X, b=X)
    assert f"{npz} holds the arrays a, b: expected x, or one array only" in refused(npz, info())
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert f"{npz} holds no array" in refused(npz, info())
    assert "cannot be read from a pipe" in refused(
        "-", info(), format="npz", stdin=io.BytesIO(whole)
    )


TABLE = np.array([[1, -2.5, 3e-3], [0.1, 1 / 3, -7e20], [4, 5, 6]])


def table(delimiter: str = ",", names: str = "", end: str = "\n", comma: bool = False) -> str:
    rows = [delimiter.join(repr(float(value)) for value in row) for row in TABLE]
    text = end.join([*([names] if names else []), *rows]) + end
    return text.replace(".", ",") if comma else text


@pytest.mark.parametrize(
    "text",
    [
        table(),
        table().rstrip("\n"),
        table(";"),
        table("\t"),
        table(end="\r\n"),
        table(end="\n\n"),
        table(names="a,b,c"),
        table(names='"a, quoted",b,"c"'),
        table(";", names="a;b;c"),
        table("\t", names="a\tb\tc"),
        table(";", comma=True),
        table("\t", "a\tb\tc", comma=True),
        table(", "),
        "\ufeff" + table(names="a,b,c"),
        "# recorded\n# a,b,c\n" + table(),
        table(names="größe,b,c"),
        table() + "# the end\n",
    ],
)
def test_tables(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert np.array_equal(read(open_source(path, info(3))), TABLE)
    assert np.array_equal(read(piped(text.encode(), graph=info(3), format="csv", rate=100)), TABLE)


def test_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("value\n1\n2.5\n\n-3\n")
    assert read(open_source(path, info())).tolist() == [[1], [2.5], [-3]]


def test_what_numpy_writes(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", TABLE, delimiter=",", header="a,b,c")
    for columns in (["c", "a"], ["3", "1"], ["c", "1"]):
        found = read(open_source(tmp_path / "a.txt", info(2), columns=columns))
        assert np.array_equal(found, TABLE[:, [2, 0]])


def test_long_tables(tmp_path: Path) -> None:
    """Many blocks, whose borders fall anywhere."""
    values = np.random.default_rng(0).standard_normal((30_000, 2))
    np.savetxt(tmp_path / "a.csv", values, delimiter=",")
    source = open_source(tmp_path / "a.csv", info(2))
    assert len(list(source)) > 10
    assert np.allclose(read(source), values, rtol=1e-15)


def test_missing_cells_are_nan(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,\nnan,2\n")
    found = read(open_source(tmp_path / "a.csv", info(2)))
    assert np.array_equal(found, [[1, np.nan], [np.nan, 2]], equal_nan=True)


@pytest.mark.parametrize(
    ("content", "columns", "says"),
    [
        (b"a,b,c\n1,2,3\n", None, "has 3 columns (a, b, c), the graph takes 2: pick with "
         "--columns, as in --columns 1,2"),
        (b"1\n2\n", None, "has 1 column, the graph takes 2"),
        (b"a,b\n1,2\n", ["a", "x"], "has 2 columns (a, b), none is 'x'"),
        (b"1,2\n", ["1", "3"], "has 2 columns, none is '3'"),
        (b"1,2\n", ["0", "1"], "none is '0'"),
        (b"1,2\n", ["1"], "--columns names 1, the graph takes 2"),
        (b"1,2\n3\n", None, "line 2 has 1 cell, the first has 2"),
        (b"a,b\n\n1,2\n3,4,5\n", None, "line 4 has 3 cells, the first has 2"),
        (b"1,2\n3,four\n", None, "line 2 holds 'four', no number"),
        (b"1,2\n3,\xff\n", None, "is no UTF-8 text (line 2)"),
        ("1,2\n".encode("utf-16"), None, "is no UTF-8 text (line 1)"),
        (b"1,2\n\0\0,3\n", None, "is no text (line 2 holds zero bytes)"),
        (b"a" * 3_000_000, None, "line 1 does not end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_tables(tmp_path: Path, content: bytes, columns: list[str] | None, says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    message = refused(path, info(2), columns=columns)
    assert says in message
    assert str(path) in message or "--columns names" in message


def test_rows_before_a_bad_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1\n2\n3\nx\n5\n")
    blocks = iter(open_source(tmp_path / "a.csv", info()))
    assert next(blocks)[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(S4EdgeError, match="line 4 holds 'x'"):
        next(blocks)


def test_lines_come_as_they_are_written() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as here, open(writing, "wb", buffering=0) as there:
        there.write(b"a,b\n1,2\n3,")
        blocks = iter(open_source("-", info(2), format="csv", stdin=here))
        assert next(blocks).tolist() == [[1, 2]]
        there.write(b"4\n5,6")
        assert next(blocks).tolist() == [[3, 4]]
        there.close()
        assert next(blocks).tolist() == [[5, 6]]


def test_other_files(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no.wav'} does not exist" in refused(tmp_path / "no.wav", info())
    assert f"{tmp_path} is a folder" in refused(tmp_path, info())
    for name, content, says in (
        ("empty.wav", b"", "is empty"),
        ("a.mp3", b"ID3", "convert it: ffmpeg -i"),
        ("a.raw", b"1234", "what {} holds is unknown; known by name: .csv, .npy, .npz, .tsv, .txt"),
        ("a.raw", b"1234", "as in --format s16le"),
    ):
        (tmp_path / name).write_bytes(content)
        assert says.format(tmp_path / name) in refused(tmp_path / name, info())
    write_wav(tmp_path / "sound", pcm([1, 2], 16), 2)
    assert len(read(open_source(tmp_path / "sound", info()))) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "a.wav").chmod(0)
    assert "a.wav: Permission denied" in refused(tmp_path / "a.wav", info())


def test_a_disk_that_fails() -> None:
    class Failing(io.RawIOBase):
        def readinto(self, buffer: Any) -> int:
            raise OSError(5, "Input/output error")

        def readable(self) -> bool:
            return True

    says = refused("-", info(), stdin=io.BufferedReader(Failing()))
    assert says == "cannot read standard input: Input/output error"


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", bytes(8), 2)
    assert "--index picks from an array" in refused(path, info(), index=0)
    assert "--columns picks from a table" in refused(path, info(), columns=["1"])
    npy = in_npy(X[0], tmp_path / "a")
    assert "--channel picks from a .wav" in refused(npy, info(3), channel=1)
    assert "standard input is closed" in refused("-", info())


def test_rates(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a b.wav", bytes(8), 2, rate=16_000)
    assert open_source(path, info(rate=16_000)).warnings == []
    assert open_source(path, info(), rate=16_000).warnings == []
    unsure = open_source(path, info())
    assert unsure.rate == 16_000
    assert "does not say which sample rate it expects" in unsure.warnings[0]
    quoted = f"'{path}'"
    wrong = refused(path, info(rate=4000))
    assert f"{path} has 16000 samples per second, model.onnx expects 4000" in wrong
    assert f"ffmpeg -i {quoted} -ar 4000 resampled.wav" in wrong
    assert f"sox {quoted} -r 4000 resampled.wav" in wrong
    assert "--rate says 4000" in refused(path, info(), rate=4000)
    assert "leave --rate out" in refused(path, info(rate=16_000), rate=4000)
    with open(path, "rb") as file:
        assert "arecord -r 4000" in refused("-", info(rate=4000), stdin=file)
    raw = refused("-", info(2, rate=4000), format="s24le", rate=8000, stdin=io.BytesIO(bytes(6)))
    assert "ffmpeg -f s24le -ar 8000 -ac 2 -i - -f s24le -ar 4000 -" in raw
    assert "sox -t raw -r 8000 -e signed -b 24 -c 2 - -t raw -r 4000 -" in raw
    assert piped(b"", graph=info(rate=4000)).rate == 4000
    assert piped(b"", graph=info()).rate is None


def test_the_peak(tmp_path: Path) -> None:
    values = np.array([[1.0], [-7.5], [np.nan], [-np.inf], [3]])
    assert open_source(in_npy(values, tmp_path / "a"), info()).peak() == 7.5
    assert open_source(in_npy(values[:0], tmp_path / "b"), info()).peak() == 0


FLAT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_sources import info
from s4edge.runtime import open_source
source = open_source(sys.argv[1], info(int(sys.argv[2])), stdin=sys.stdin.buffer, index=None)
blocks = iter(source)
next(blocks)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(block) for block in blocks)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["raw", "wav", "npz", "csv"])
def test_memory_stays_flat(tmp_path: Path, kind: str) -> None:
    """A hundred megabytes of samples, more than three hours at 4 kHz, or many lines of text."""
    megabytes, count = (2, 500_000) if kind == "csv" else (100, 50_000_000)
    source, feed = "-", b"0.5\n" * 250_000 if kind == "csv" else bytes(1_000_000)
    start = riff((b"fmt ", fmt(1, 1, 16)))[:-4] if kind == "wav" else b""
    if kind == "wav":
        start = riff((b"fmt ", fmt(1, 1, 16))) + b"data\xff\xff\xff\xff"
    if kind == "npz":
        source = str(tmp_path / "a.npz")
        np.savez_compressed(source, x=np.zeros(count, np.int16))
        megabytes = 0
    if kind == "csv":
        source = str(tmp_path / "a.csv")
        with open(source, "wb") as file:
            for _ in range(megabytes):
                file.write(feed)
        megabytes = 0
    code = FLAT.format(here=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, source, "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=False,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(start)
    for _ in range(megabytes):
        process.stdin.write(feed)
    out, _ = process.communicate()
    found, kilobytes = map(int, out.split())
    assert abs(found - count) <= 1 << 16  # the first block is not in it
    assert kilobytes < 8_000
