"""A model in a shared library that s4edge's C was compiled to: what it says of itself, and calls.

The library is loaded only if it is for this machine and names what all of s4edge's libraries have,
for loading a library runs code that is in it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s4edge.errors import S4EdgeError
from s4edge.foreign import parse_json

Floats = npt.NDArray[np.float32]

HINT = "s4edge export MODEL --c --compile"
KNOWN_FORMAT = 1
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
        path: of the library.
        description: what it says of itself.
        state_bytes: of one stream.
        d_input: numbers of an input sample.
        d_output: numbers of an output sample.
    """

    def __init__(self, path: Path, library: ctypes.CDLL, description: dict[str, Any]) -> None:
        self.path = path
        self.description = description
        self.state_bytes = int(description["state_bytes"])
        self.d_input = int(description["d_input"])
        self.d_output = int(description["d_output"])
        self._library = library

    def selftest(self) -> int:
        """0 if the embedded samples come out right, else the first that does not."""
        return int(self._library.s4edge_selftest())

    def start(self, state: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """A state at the start of a stream, (state_bytes,), new or ``state`` itself."""
        state = np.zeros(self.state_bytes, np.uint8) if state is None else state
        self._library.s4edge_init(_address(state))
        return state

    def run(self, state: npt.NDArray[np.uint8], x: Floats, y: Floats | None = None) -> Floats:
        """Outputs (samples, d_output) of samples (samples, d_input); the state moves on.

        Arrays are contiguous. ``y`` is where outputs go; a new array without it.
        """
        y = np.empty((len(x), self.d_output), np.float32) if y is None else y
        self._library.s4edge_run(_address(state), _address(x), _address(y), len(x))
        return y

    def time(self, state: npt.NDArray[np.uint8], x: Floats, runs: int) -> npt.NDArray[np.float64]:
        """(runs,) seconds that each of many runs over the same samples takes, told by itself."""
        y = np.empty((len(x), self.d_output), np.float32)
        seconds = np.zeros(runs, np.float64)
        self._library.s4edge_time(
            _address(state), _address(x), _address(y), len(x), runs, _address(seconds)
        )
        return seconds


def _address(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def open_library(path: Path | str) -> CLibrary:
    """Load a library.

    Raises:
        S4EdgeError: no such file, no library, one of another machine or processor, not written by
            s4edge or by a newer one.
    """
    path = Path(path)
    _check_before_loading(path)
    try:
        library = ctypes.CDLL(_fresh_name(path))
        needs = library.s4edge_needs
        describe = library.s4edge_description
        for name in ("s4edge_init", "s4edge_run", "s4edge_time", "s4edge_selftest"):
            getattr(library, name)
    except OSError as error:
        reason = str(error).rpartition(f"{path.name}: ")[2]
        raise S4EdgeError(
            f"{path} cannot be loaded here ({reason}); compile its .c file on this machine"
        ) from error
    except AttributeError as error:
        raise _foreign(path) from error
    needs.restype = describe.restype = ctypes.c_char_p
    library.s4edge_init.argtypes = [ctypes.c_void_p]
    library.s4edge_run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int]
    library.s4edge_time.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 2 + [ctypes.c_void_p]
    library.s4edge_init.restype = library.s4edge_run.restype = library.s4edge_time.restype = None
    _check_processor(path, str(needs().decode()))
    return CLibrary(path, library, _description(path, bytes(describe())))


# By path, how often it was loaded.
_loaded: Counter[str] = Counter()


def _fresh_name(path: Path) -> str:
    """Another name for a file each time.

    A loader gives the old library for an old name, though another file has it by now.
    """
    full = path.resolve()
    _loaded[str(full)] += 1
    return f"{full.parent}/{'./' * _loaded[str(full)]}{full.name}"


def _check_before_loading(path: Path) -> None:
    if path.is_dir():
        raise S4EdgeError(f"{path} is a folder; name an .so file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise S4EdgeError(f"{path} does not exist") from error
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    if content[:4] != b"\x7fELF" or len(content) < 20:
        raise S4EdgeError(f"{path} is no shared library; make one with: {HINT}")
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
    if b"s4edge_description" not in content:
        raise _foreign(path)


def _check_processor(path: Path, needs: str) -> None:
    """Instructions that the compiler used and this processor lacks would end the program."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
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


def _description(path: Path, text: bytes) -> dict[str, Any]:
    try:
        description = parse_json(text.decode())
        written = description["format"]
        if isinstance(written, int) and written > KNOWN_FORMAT:
            raise S4EdgeError(
                f"{path} has format {written}, newer than this s4edge knows ({KNOWN_FORMAT}); "
                "upgrade it with: pip install --upgrade s4edge"
            )
        for key in ("state_bytes", "d_input", "d_output"):
            if not isinstance(description[key], int) or description[key] < 1:
                raise ValueError(key)
    except (ValueError, KeyError, TypeError) as error:
        raise S4EdgeError(
            f"{path}: its s4edge description is damaged; export it again with: {HINT}"
        ) from error
    return dict(description)


def _foreign(path: Path) -> S4EdgeError:
    return S4EdgeError(
        f"{path} is no library of s4edge, or was compiled without -DS4EDGE_LIBRARY; make one with: "
        f"{HINT}"
    )
