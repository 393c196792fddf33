"""Archives of arrays, ``.npz``: what a member holds is known before it is unpacked."""

from __future__ import annotations

import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from s4edge.errors import S4EdgeError

# A member may unpack to so many times its size, or to so much. What deflate makes of a few bytes is
# a thousand times as much; of numbers that say anything, ten times.
_MOST_TIMES, _MOST_BYTES = 100, 96 << 20


def open_archive(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Open an ``.npz`` file.

    Args:
        file: open for reading.
        name: of it, for messages.

    Raises:
        S4EdgeError: it is none, or two of its arrays have one name.
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # zipfile has several kinds for damaged directories
        raise unreadable(name, error) from error
    members = archive.namelist()
    if len(set(members)) < len(members):
        raise S4EdgeError(f"{name} is no readable .npz file (two of its arrays have one name)")
    return archive


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays in an archive."""
    return [member[:-4] for member in archive.namelist() if member.endswith(".npy")]


def open_array(archive: zipfile.ZipFile, array: str, name: str) -> IO[bytes]:
    """The bytes of one array, in numpy's own format.

    Raises:
        S4EdgeError: it cannot be unpacked, or would be a hundred times as large then.
    """
    try:
        member = archive.getinfo(array + ".npy")
        if member.file_size > max(_MOST_TIMES * member.compress_size, _MOST_BYTES):
            raise S4EdgeError(
                f"{name}: the array {array} would unpack from {member.compress_size:,} to "
                f"{member.file_size:,} bytes; if it is meant, write it with numpy.savez"
            )
        return archive.open(member)
    except S4EdgeError:
        raise
    except Exception as error:  # encrypted, or packed in a way that this Python does not know
        raise unreadable(name, error) from error


def read_array(archive: zipfile.ZipFile, array: str, name: str) -> NDArray[Any]:
    """The whole of one array.

    Raises:
        S4EdgeError: it is damaged, holds objects, or less than it says.
    """
    try:
        with open_array(archive, array, name) as file:
            shape, _, dtype = read_header(file)
        there = archive.getinfo(array + ".npy").file_size
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > there:
            raise ValueError(f"the array {array} is shorter than its shape {shape}")
        with open_array(archive, array, name) as file:
            found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            while file.read(1 << 20):  # to the end, where the checksum is compared
                pass
        return found
    except S4EdgeError:
        raise
    except Exception as error:  # numpy and zlib have a dozen kinds for damage
        raise unreadable(name, error) from error


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis varies fastest, and type of an array that begins here.

    Raises:
        Exception: of many kinds, where it is damaged.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version}")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
    return found


def unreadable(name: str, error: Exception) -> S4EdgeError:
    """The one line for what numpy or zipfile raised."""
    reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
    return S4EdgeError(f"{name} is no readable .npz file ({reason[:100]})")
