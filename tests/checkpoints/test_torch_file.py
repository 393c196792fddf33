"""What torch.save writes is read as torch reads it, and hostile files are refused cheaply."""

from __future__ import annotations

import contextlib
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4edge.checkpoints import unpickle
from s4edge.checkpoints.container import read_container
from s4edge.checkpoints.plain import plain
from s4edge.checkpoints.unpickle import load
from s4edge.errors import S4EdgeError

TENSORS = {
    "encoder.weight": torch.arange(6.0).reshape(2, 3),
    "encoder.bias": torch.ones(2),
    "half": torch.arange(4).to(torch.bfloat16),
    "count": torch.tensor(7),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype
        for name in other
    )


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_kind_are_read_as_they_were(path: Path, zipped: bool) -> None:
    base = torch.arange(24).reshape(4, 6)
    tensors = {
        **TENSORS,
        "rows": base[1:3],
        "columns": base.T[2:, ::2],
        "expanded": torch.ones(3, 1).expand(3, 5),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
        "negative": torch.randn(3, dtype=torch.complex64).conj().imag,
        "truth": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 4),
        "number": torch.tensor(2.5),
        "short": torch.tensor([1, 2, 3], dtype=torch.uint16),
        "eight": torch.ones(3, dtype=torch.float8_e5m2),
    }
    torch.save({"model": tensors}, path, _use_new_zipfile_serialization=zipped)
    read = read_container(path).tensors
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert read[name].tolist() == tensor.tolist()
    # Parts of one storage share memory, as they did.
    assert read["rows"].data_ptr() - read["columns"].data_ptr() == (6 - 2) * 8


def test_a_changed_tensor_is_told_by_its_checksum(path: Path) -> None:
    torch.save({"model": TENSORS}, path)
    content = path.read_bytes()
    position = content.index(TENSORS["encoder.weight"].numpy().tobytes())
    path.write_bytes(content[: position + 3] + b"\x41" + content[position + 4 :])
    with pytest.raises(S4EdgeError, match=r"Bad CRC-32 for file 'model/data/0'"):
        read_container(path)


def test_a_file_that_torch_wrote_without_checksums_is_read(path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": TENSORS}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert not any(info.CRC for info in archive.infolist())
    assert same(read_container(path).tensors, TENSORS)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_was_packed_again_is_read(path: Path, compression: int) -> None:
    torch.save({"model": TENSORS}, path)
    write_zip(path, members(path), compression)
    assert same(read_container(path).tensors, TENSORS)


def test_an_archive_with_sizes_of_64_bits_is_read(path: Path) -> None:
    torch.save({"model": TENSORS}, path)
    content = members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert same(read_container(path).tensors, TENSORS)


def test_numbers_of_a_big_endian_machine(path: Path) -> None:
    torch.save({"model": {"a": torch.arange(3.0), "b": torch.tensor([1 + 2j])}}, path)
    content = members(path)
    for name, data in content.items():
        if "/data/" in name:
            content[name] = np.frombuffer(data, ">f4").astype("<f4").tobytes()
        if name.endswith("byteorder"):
            content[name] = b"big"
    write_zip(path, content)
    tensors = read_container(path).tensors
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b"].tolist() == [1 + 2j]


def test_an_archive_that_would_unpack_to_more_is_refused_before_it_does(path: Path) -> None:
    torch.save({"model": TENSORS}, path)
    content = members(path) | {"model/data/9": bytes(257 << 20)}
    write_zip(path, content, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(S4EdgeError, match="bytes that would unpack to 26"):
        read_container(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_members_of_one_name_or_in_one_place_are_refused(path: Path) -> None:
    torch.save({"model": TENSORS}, path)
    content = members(path)
    write_zip(path, content)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/data/0", b"other")
    with pytest.raises(S4EdgeError, match="two of its members have one name"):
        read_container(path)


def crafted(path: Path, instructions: bytes) -> None:
    """A state dict ``{"a": ...}`` with what the instructions leave on the stack."""
    torch.save({"a": torch.zeros(4)}, path)
    content = members(path)
    content["model/data.pkl"] = b"\x80\x02}X\x01\x00\x00\x00a" + instructions + b"s."
    write_zip(path, content)


def tensor_of(
    offset: int = 0,
    size: tuple[Any, ...] = (4,),
    stride: tuple[Any, ...] = (1,),
    count: int = 4,
    key: str = "0",
) -> bytes:
    """Instructions that describe a tensor."""

    def value(each: Any) -> bytes:
        return pickle.dumps(each, 2)[2:-1]

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + value(key)
    storage += value("cpu") + value(count) + b"tQ"
    shape = value(offset) + value(size) + value(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + shape + b"\x89}tR"


def test_a_tensor_as_it_should_be_described(path: Path) -> None:
    crafted(path, tensor_of())
    assert read_container(path).tensors["a"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"size": (5,)}, "numbers beyond those that are stored"),
        ({"offset": 1}, "numbers beyond those that are stored"),
        ({"size": (2, 2), "stride": (3, 1)}, "numbers beyond those that are stored"),
        ({"offset": -1}, "impossible shape"),
        ({"size": (-4,)}, "impossible shape"),
        ({"stride": (-1,)}, "impossible shape"),
        ({"size": (4.0,)}, "impossible shape"),
        ({"size": (1 << 62,)}, "impossible shape"),
        ({"size": (1,) * 65, "stride": (1,) * 65}, "without a shape"),
        ({"size": (1 << 31, 1 << 31), "stride": (0, 0)}, "numbers are said to be in"),
        ({"size": (1 << 26,), "stride": (0,)}, "67,108,864 numbers are said to be in"),
        ({"size": (2, 2)}, "2 axes with 1 strides"),
        ({"count": 5}, "storage 0 is shorter than it should be"),
        ({"count": -1}, "impossible size"),
        ({"count": 1 << 61}, "impossible size"),
        ({"key": "1"}, "it lacks data/1"),
        ({"key": "../version"}, "it lacks data/../version"),
    ],
)
def test_tensors_that_do_not_fit_their_numbers_are_refused(
    path: Path, described: dict[str, Any], says: str
) -> None:
    crafted(path, tensor_of(**described))
    with pytest.raises(S4EdgeError, match=says):
        read_container(path)


MANY = struct.pack("<Q", 1 << 40)
NESTED = b")" + b"\x85" * 200_000
LIST_OF = b"(" + b"N" * 9_999 + b"lq\x000"
TEXT_OF = b"X\x00\x00\x01\x00" + b"a" * (1 << 16) + b"q\x000"
CALLED_AGAIN = b"(" + b"h\x01h\x00\x85R" * 9_000 + b"l"
# Each of these few bytes would take gigabytes, hours or the interpreter.
BOMBS = {
    "a hash of deep tuples": b"}" + NESTED + b"Ns",
    "a hash of wide tuples": b"})" + b"2\x86" * 200 + b"Ns",
    "a set of deep tuples": b"(" + NESTED + b"\x91",
    "a large place in the memo": b"Nr\xff\xff\xff\xff",
    "a long name in the memo": b"Np" + b"9" * 4000 + b"\n",
    "long bytes": b"\x8e" + MANY,
    "a long array": b"\x96" + MANY,
    "a long text": b"\x8d" + MANY,
    "a long number": b"\x8b\xff\xff\xff\x7f",
    "a long frame": b"\x95" + MANY + b"N",
    "many sets": b"\x8f" * 300_000,
    "a list again and again": LIST_OF + b"c__builtin__\nlist\nq\x010" + CALLED_AGAIN,
    "a text again and again": TEXT_OF
    + b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x0200("
    + b"h\x01h\x00h\x02\x86R" * 9_000
    + b"l",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_costs_much_is_not_done(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "_MOST_WORK", 100_000)
    tracemalloc.start()
    try:
        with contextlib.suppress(pickle.UnpicklingError):  # some end in nothing
            load(BytesIO(b"\x80\x04" + BOMBS[name] + b"."))
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


def test_the_last_instruction_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = b"\x80\x04NNN00."  # a byte each, the version two
    monkeypatch.setattr(unpickle, "_MOST_WORK", 8)
    assert load(BytesIO(stream)) is None
    monkeypatch.setattr(unpickle, "_MOST_WORK", 7)
    with pytest.raises(pickle.UnpicklingError, match="more than 7 instructions"):
        load(BytesIO(stream))


def test_colliding_keys_are_refused() -> None:
    numbers = [(1 << 61) - 1 << shift for shift in (4, 5)]
    with pytest.raises(pickle.UnpicklingError, match="a key that is a int"):
        load(BytesIO(pickle.dumps(dict.fromkeys(numbers), 2)))


def test_a_configuration_that_grows_when_it_is_written_out() -> None:
    inner: Any = {"d_model": 4}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    found = plain(inner)
    text = str(found)
    assert len(text) < 10_000_000
    assert "values>" in text
    chain: Any = []
    for _ in range(5):
        parts = [chain]
        for _ in range(60):
            chain = [chain]
        parts.append(chain)
        chain = parts
    with pytest.raises(S4EdgeError, match="nested more than"):
        plain(chain)


def test_numbers_may_take_16_times_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a byte they become 8; those that an expanded tensor repeats are allowed up to that."""
    monkeypatch.setattr("s4edge.checkpoints.torch_file._MOST_BYTES", 0)
    bytes_ = torch.arange(100, dtype=torch.uint8)
    tensors = {"a": bytes_.expand(20, 100)}
    torch.save({"model": tensors}, path)
    size = path.stat().st_size
    assert 16 * size > 8 * 2000
    assert same(read_container(path).tensors, tensors)
    torch.save({"model": {"a": bytes_.expand(20 * size, 100)}}, path)
    with pytest.raises(S4EdgeError, match="numbers are said to be in"):
        read_container(path)


def test_limits_of_a_configuration() -> None:
    """A list counts with its values; 100 containers may lie in each other."""
    most = [0] * 99_999
    assert plain(most) == most
    assert plain([*most, 0]) == "<100,001 values>"
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    assert plain(nested) == nested
    with pytest.raises(S4EdgeError, match="nested more than 100 deep"):
        plain([nested])


def test_numbers_and_text_that_no_file_holds() -> None:
    assert plain({"big": 10**5000, "ok": 1 << 40, "text": "a\ud800b"}) == {
        "big": "<a number of 16610 bits>",
        "ok": 1 << 40,
        "text": "a?b",
    }


def test_attributes_of_what_stands_for_functions_are_not_set() -> None:
    # It would change the reader itself.
    stream = b"c__builtin__\nset\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."
    with pytest.raises(pickle.UnpicklingError, match="a state for a _Known"):
        load(BytesIO(b"\x80\x02" + stream))


@pytest.mark.parametrize("change", [lambda raw: raw[:-9], lambda raw: raw + b"more"])
def test_old_files_cut_short_or_longer(path: Path, change: Callable[[bytes], bytes]) -> None:
    torch.save({"model": TENSORS}, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    path.write_bytes(change(raw))
    if len(path.read_bytes()) > len(raw):
        assert same(read_container(path).tensors, TENSORS)
    else:
        with pytest.raises(S4EdgeError, match="it ends too early"):
            read_container(path)
