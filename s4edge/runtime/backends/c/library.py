"""A model in a shared library that s4edge's C was compiled to: what it says of itself, and calls.

The library is loaded only if it is for this machine and names what all of s4edge's libraries have,
for loading a library runs code that is in it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from s4edge.arrays import Float, Single
from s4edge.errors import S4EdgeError
from s4edge.foreign import check_file
from s4edge.runtime.description import GraphInfo, read_description

HINT = "s4edge export MODEL --c --compile"
_PROCESSOR = Path("/proc/cpuinfo")
# How a description begins.
_DESCRIPTION = b'{"format": '
# Of ELF's header: numbers of machines, and what Python calls them.
_MACHINES = {
    3: ("32-bit x86", ("i386", "i486", "i586", "i686", "x86_64")),
    40: ("32-bit ARM", ("armv6l", "armv7l", "armv8l", "aarch64")),
    62: ("x86-64", ("x86_64", "amd64")),
    183: ("64-bit ARM", ("aarch64", "arm64")),
    243: ("RISC-V", ("riscv64", "riscv32")),
}


class CLibrary:
    """An opened library.

    Attributes:
        info: what it says of itself.
        compiler: that made it.
    """

    def __init__(self, library: ctypes.CDLL, info: GraphInfo, compiler: str) -> None:
        self.info = info
        self.compiler = compiler
        self._library = library

    def selftest(self) -> int:
        """0 if the embedded samples come out right, else the first that does not."""
        return int(self._library.s4edge_selftest())

    def start(self, state: Single | None = None) -> Single:
        """A state at the start of a stream, (state_floats,), new or ``state`` itself."""
        state = np.zeros(self.info.state_floats, np.float32) if state is None else state
        self._library.s4edge_init(_address(state))
        return state

    def run(self, state: Single, x: Single, y: Single | None = None) -> Single:
        """Outputs (samples, d_output) of samples (samples, d_input); the state moves on.

        Arrays are contiguous. ``y`` is where outputs go; a new array without it.
        """
        y = np.empty((len(x), self.info.d_output), np.float32) if y is None else y
        self._library.s4edge_run(_address(state), _address(x), _address(y), len(x))
        return y

    def bound(self, state: Single, x: Single, y: Single) -> Callable[[], None]:
        """A function that takes in the samples in ``x``, and puts outputs in ``y``, every time.

        The arrays stay where they are.
        """
        call, count = self._library.s4edge_run, ctypes.c_int(len(x))
        where = _address(state), _address(x), _address(y)
        return lambda: call(*where, count)

    def time(self, state: Single, x: Single) -> Float:
        """(samples,) seconds that the step of each sample takes, told by the library itself."""
        y = np.empty(self.info.d_output, np.float32)
        seconds = np.zeros(len(x), np.float64)
        self._library.s4edge_time(
            _address(state), _address(x), _address(y), len(x), _address(seconds)
        )
        return seconds


def _address(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def open_library(path: Path | str) -> CLibrary:
    """Load a library.

    Raises:
        S4EdgeError: no such file, no library, one of another machine or processor, not written by
            s4edge or by a newer one.
    """
    path = Path(path)
    _check_machine(path)
    try:
        library = ctypes.CDLL(_fresh_name(path))
        needs = library.s4edge_needs
        describe = library.s4edge_description
        compiler = library.s4edge_compiler
        for name in ("s4edge_init", "s4edge_run", "s4edge_time", "s4edge_selftest"):
            getattr(library, name)
    except OSError as error:
        reason = str(error).rpartition(f"{path.name}: ")[2]
        raise S4EdgeError(
            f"{path} cannot be loaded here ({reason}); compile its .c file on this machine"
        ) from error
    except AttributeError as error:
        raise _foreign(path) from error
    needs.restype = describe.restype = compiler.restype = ctypes.c_char_p
    library.s4edge_init.argtypes = [ctypes.c_void_p]
    library.s4edge_run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int]
    library.s4edge_time.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int, ctypes.c_void_p]
    library.s4edge_init.restype = library.s4edge_run.restype = library.s4edge_time.restype = None
    _check_processor(path, str(needs().decode()))
    made_by = bytes(compiler()).decode(errors="replace")
    return CLibrary(library, _described(path, bytes(describe())), made_by)


def read_library_info(path: Path) -> GraphInfo:
    """What a library, maybe for another machine, says of itself; it is not loaded.

    Raises:
        S4EdgeError: no such file, no library, not written by s4edge or by a newer one.
    """
    content = _read(path)
    start = content.find(_DESCRIPTION)
    end = content.find(b"\0", start)
    if start < 0 or end < 0:
        raise _foreign(path)
    return _described(path, content[start:end])


# By path, how often it was loaded.
_loaded: Counter[str] = Counter()


def _fresh_name(path: Path) -> str:
    """Another name for a file each time.

    A loader gives the old library for an old name, though another file has it by now.
    """
    full = path.resolve()
    _loaded[str(full)] += 1
    return f"{full.parent}/{'./' * _loaded[str(full)]}{full.name}"


def _read(path: Path) -> bytes:
    """A library's bytes. Raises S4EdgeError if it is none, or none of s4edge's."""
    check_file(path, "name an .so file in it", f"; make it again with: {HINT}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    if content[:4] != b"\x7fELF" or len(content) < 20:
        raise S4EdgeError(f"{path} is no shared library; make one with: {HINT}")
    if b"s4edge_description" not in content:
        raise _foreign(path)
    return content


def _check_machine(path: Path) -> None:
    """Fail where a library is for another machine; see ELF's header."""
    content = _read(path)
    little = content[5] == 1
    (number,) = struct.unpack("<H" if little else ">H", content[18:20])
    name, machines = _MACHINES.get(number, (f"another machine (number {number})", ()))
    bits = 64 if content[4] == 2 else 32
    ours = platform.machine().lower()
    if ours not in machines or bits != 8 * struct.calcsize("P"):
        raise S4EdgeError(
            f"{path} is for {name}, not for this machine ({ours}, {8 * struct.calcsize('P')} bits);"
            " compile its .c file here"
        )
    if not _is_whole(content):
        raise S4EdgeError(f"{path} is truncated; make it again with: {HINT}")


def _is_whole(content: bytes) -> bool:
    """Whether a library has all that its program headers say a loader maps."""
    wide, order = content[4] == 2, "<" if content[5] == 1 else ">"
    at, form, size = (32, f"{order}Q", 54) if wide else (28, f"{order}I", 42)
    try:
        (first,) = struct.unpack_from(form, content, at)
        each, count = struct.unpack_from(f"{order}HH", content, size)
        for header in range(first, first + each * count, max(each, 1)):
            if wide:
                offset, _, _, length = struct.unpack_from(f"{order}4Q", content, header + 8)
            else:
                offset, _, _, length = struct.unpack_from(f"{order}4I", content, header + 4)
            if offset + length > len(content):
                return False
    except struct.error:
        return False
    return True


def _check_processor(path: Path, needs: str) -> None:
    """Instructions that the compiler used and this processor lacks would end the program."""
    try:
        text = _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    has = {
        word
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
        for word in line.partition(":")[2].split()
    }
    missing = [word for word in needs.split() if word not in has]
    if has and missing:
        raise S4EdgeError(
            f"{path} was compiled for a processor with {', '.join(missing)}, which this one lacks; "
            "compile its .c file here"
        )


def _described(path: Path, text: bytes) -> GraphInfo:
    return read_description(path, text.decode(errors="replace"), HINT)


def _foreign(path: Path) -> S4EdgeError:
    return S4EdgeError(
        f"{path} is no library of s4edge, or was compiled without -DS4EDGE_LIBRARY; make one with: "
        f"{HINT}"
    )
