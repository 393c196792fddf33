"""What ``torch.save`` writes, opened without torch's own reader.

A zip archive: one pickle, and beside it a member for each storage, with checksums that torch writes
and never looks at. Before 2020, pickles one after another and then the storages. Here checksums
are compared, nothing is unpacked to many times its size, and a tensor is made only once its
description fits the numbers that are there.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s4edge.checkpoints.stored import Storage, StoredTensor, WithoutValues
from s4edge.checkpoints.unpickle import CodeNeededError, Unpickler, load
from s4edge.errors import S4EdgeError

# How files of torch.save begin, new and old.
_ZIP, _PICKLE = b"PK", b"\x80"
# The first two things in an old one.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# What may be made of a file: so many times its size, or so much.
_MOST_TIMES, _MOST_BYTES = 16, 1 << 28


class _DamagedError(Exception):
    """A file is not what it should be; the text says why."""


@dataclass(frozen=True)
class TorchFile:
    """An opened file.

    Attributes:
        path: the file.
        content: what was saved, its tensors not read yet.
    """

    path: Path
    content: Any
    _bytes: Callable[[str], bytes]
    _size: int
    _swapped: bool = False
    _read: dict[str, bytearray] = field(default_factory=dict)

    def read(self, stored: StoredTensor | WithoutValues) -> Tensor:
        """One of its tensors; those of one storage share memory.

        Raises:
            S4EdgeError: the file does not hold what the tensor is described as.
        """
        with _told(self.path):
            self._check(stored)
            if isinstance(stored, WithoutValues):
                return stored.tensor()
            storage = stored.storage
            if storage.key not in self._read:
                self._read[storage.key] = bytearray(self._bytes(storage.key))
            data = self._read[storage.key]
            if len(data) < storage.bytes:
                raise _DamagedError(f"storage {storage.key} is shorter than it should be")
            return stored.tensor(data, self._swapped)

    def read_all(self, stored: Mapping[str, StoredTensor | WithoutValues]) -> dict[str, Tensor]:
        """Tensors by name. Raises as `read`."""
        with _told(self.path):
            numbers = sum(each.numbers for each in stored.values())
            # As float64, which readers make of them.
            if 8 * numbers > max(_MOST_TIMES * self._size, _MOST_BYTES):
                raise _DamagedError(f"{numbers:,} numbers are said to be in {self._size:,} bytes")
        return {name: self.read(each) for name, each in stored.items()}

    def _check(self, stored: StoredTensor | WithoutValues) -> None:
        if stored.damage is not None:
            raise _DamagedError(f"a tensor has {stored.damage}")


@contextlib.contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a file that is there.

    Raises:
        S4EdgeError: it is truncated, damaged or none of torch's, or holds what only running code
            could restore.
    """
    with _told(path):
        file = open(path, "rb")  # noqa: SIM115
    with file:
        with _told(path):
            start = file.read(2)
            if start == _ZIP:
                opened = _open_zip(path, file)
            elif start[:1] == _PICKLE:
                opened = _open_pickles(path)
            else:
                raise _DamagedError("it does not begin like one")
        yield opened


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever damage raises into one line."""
    try:
        yield
    except CodeNeededError as error:
        raise S4EdgeError(
            f"{path} holds Python objects ({error.name}) that only running code from the file "
            "could restore; refused. Re-save the weights alone: "
            f"torch.save({{'model': model.state_dict()}}, '{path.name}')"
        ) from error
    except pickle.UnpicklingError as error:
        raise _unreadable(path, f"its pickle cannot be followed: {error}") from error
    except _DamagedError as error:
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror or error}") from error


def _unreadable(path: Path, reason: str) -> S4EdgeError:
    reason = " ".join(reason.split())[:120]
    return S4EdgeError(
        f"{path} is no readable PyTorch checkpoint ({reason}); it is truncated, damaged or another "
        "kind of file: fetch or save it again"
    )


def _open_zip(path: Path, file: Any) -> TorchFile:
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(file)
        members = {member.filename: member for member in archive.infolist()}
        _check_members(archive, members, size)
    except (_DamagedError, MemoryError):
        raise
    except Exception as error:  # zipfile and the decompressors have a dozen kinds for damage
        raise _DamagedError(str(error) or type(error).__name__) from error
    found = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise _DamagedError("a zip archive without data.pkl")
    folder = found[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise CodeNeededError("TorchScript")

    def read(name: str) -> bytes:
        if folder + name not in members:
            raise _DamagedError(f"it lacks {name}")
        return archive.read(members[folder + name])

    order = read("byteorder") if f"{folder}byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise _DamagedError("its byte order is unknown")

    def storage(described: tuple[Any, ...]) -> Storage:
        if len(described) != 4:
            raise pickle.UnpicklingError("a storage is not described as torch does")
        dtype, key, _, count = described
        return _storage(dtype, key, count)

    content = Unpickler(BytesIO(read("data.pkl")), storage).load()
    swapped = order.decode() != sys.byteorder
    return TorchFile(path, content, lambda key: read(f"data/{key}"), size, swapped)


def _check_members(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], size: int
) -> None:
    """Read everything once, which compares the checksums, if there are any."""
    infos = archive.infolist()
    if len(members) < len(infos):
        raise _DamagedError("two of its members have one name")
    if sum(info.compress_size for info in infos) > size:
        raise _DamagedError("its members overlap")
    total = sum(info.file_size for info in infos)
    if total > max(_MOST_TIMES * size, _MOST_BYTES):
        raise _DamagedError(f"{size:,} bytes that would unpack to {total:,}")
    # As written after torch.serialization.set_crc32_options(False).
    unchecked = not any(info.CRC for info in infos)
    for info in infos:
        if unchecked:
            info.CRC = None  # type: ignore[assignment]
        with archive.open(info) as member:
            there = 0
            while data := member.read(1 << 20):
                there += len(data)
            if there != info.file_size:
                raise _DamagedError(f"{info.filename} ends too early")


def _storage(dtype: Any, key: Any, count: Any, view: Any = None) -> Storage:
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
        raise pickle.UnpicklingError("a storage without a type or name")
    first = 0
    if view is not None:
        if not isinstance(view, tuple) or len(view) != 3:
            raise pickle.UnpicklingError("a part of a storage is not described as torch does")
        _, first, count = view
    if not all(type(each) is int and 0 <= each < 1 << 60 for each in (first, count)):
        raise pickle.UnpicklingError(f"storage {key} has an impossible size")
    return Storage(key, dtype, count, first)


def _open_pickles(path: Path) -> TorchFile:
    raw = path.read_bytes()
    file = BytesIO(raw)
    # Before anything else: another program's pickle may need code.
    if load(file) != _MAGIC or load(file) != _PROTOCOL:
        raise _DamagedError("a pickle, but not torch's")
    system = load(file)
    widths: dict[str, int] = {}

    def storage(described: tuple[Any, ...]) -> Storage:
        if len(described) != 5:
            raise pickle.UnpicklingError("a storage is not described as torch does")
        dtype, key, _, count, view = described
        made = _storage(dtype, key, count, view)
        widths[made.key] = made.dtype.itemsize
        return made

    content = Unpickler(file, storage).load()
    keys = load(file)
    if not isinstance(keys, list) or not all(key in widths for key in map(str, keys)):
        raise _DamagedError("its storages are not listed")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        start, length = file.tell(), count * widths[key]
        if not 0 <= length <= len(raw) - start:
            raise _DamagedError("it ends too early")
        places[key] = start, length
        file.seek(length, 1)

    def read(key: str) -> bytes:
        if key not in places:
            raise _DamagedError(f"it lacks storage {key}")
        start, length = places[key]
        return raw[start : start + length]

    little = system.get("little_endian", True) if isinstance(system, dict) else True
    return TorchFile(path, content, read, len(raw), little is not (sys.byteorder == "little"))
