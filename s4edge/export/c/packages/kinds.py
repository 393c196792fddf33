"""The kinds of packages: where each wants a model's two files, and which names it refuses.

What else is in one is its folder of ``templates``, file by file. A path there has NAME where the
model's name goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s4edge.errors import S4EdgeError

# Headers of C and POSIX: a folder of includes with one of these in it hides the system's.
_SYSTEM = """
alloca assert complex ctype dirent endian errno fcntl features fenv float getopt glob inttypes
iso646 limits locale malloc math memory netdb poll pthread pwd regex sched search semaphore setjmp
signal stdalign stdarg stdatomic stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string
strings syslog tar termios tgmath threads time uchar ulimit unistd utime wait wchar wctype
"""
# Headers that Arduino's cores and the libraries beside them have, in lower case: some file systems
# know no difference.
_ARDUINO = """
binary client eeprom ethernet ipaddress keyboard mouse pins_arduino print printable sd server servo
spi stream udp usbapi variant wifi wire wprogram wstring
"""


@dataclass(frozen=True)
class Kind:
    """A kind of package.

    Attributes:
        told: what it is, for people.
        source: the folder of the ``.c`` file, relative to the package.
        header: that of the ``.h`` file.
        refuses: why a model cannot have a name there, in words, or None.
    """

    told: str
    source: str
    header: str
    refuses: Callable[[str], str | None] = lambda name: None


def _refused_by_arduino(name: str) -> str | None:
    if name.lower().startswith("arduino"):
        return "names that begin with Arduino are kept for Arduino's own libraries"
    if name.lower() in _ARDUINO.split():
        return f"its header {name}.h would hide one of Arduino's own"
    return None


def _refused_by_platformio(name: str) -> str | None:
    return "names of its libraries have at most 50 letters" if len(name) > 50 else None


KINDS = {
    "cmake": Kind("a CMake project", "src", "include"),
    "arduino": Kind("an Arduino library", "src", "src", _refused_by_arduino),
    "platformio": Kind("a PlatformIO library", "src", "include", _refused_by_platformio),
    "esp-idf": Kind("an ESP-IDF component", "src", "include"),
    "zephyr": Kind("a Zephyr module", "src", "include"),
}


def find_kind(kind: str) -> Kind:
    """The kind of that name. Raises S4EdgeError if there is none."""
    if kind not in KINDS:
        raise S4EdgeError(f"the package {kind!r} is unknown; known: {', '.join(KINDS)}")
    return KINDS[kind]


def check_name(kind: str, name: str) -> None:
    """Fail where a model cannot have a name in a kind of package.

    Raises:
        S4EdgeError: it cannot, or there is no such kind.
    """
    why = find_kind(kind).refuses(name)
    if name.lower() in _SYSTEM.split():
        why = f"its header {name}.h would hide the C library's <{name.lower()}.h>"
    if why is not None:
        raise S4EdgeError(
            f"{KINDS[kind].told} cannot be named {name}: {why}; name another file with -o"
        )
