"""The processors that are emulated."""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.errors import S4EdgeError

_SOFT = ("-mfloat-abi=soft",)


@dataclass(frozen=True)
class Target:
    """A processor and the board that qemu has it on.

    Attributes:
        name: of it.
        flags: of arm-none-eabi-gcc.
        machine: of qemu-system-arm.
        floats: how it computes with floats, in words.
        memory: where code, constants and RAM begin, and how long each may be, in bytes.
    """

    name: str
    flags: tuple[str, ...]
    machine: str
    floats: str
    memory: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (
        (0x0, 0x80000),
        (0x80000, 0x380000),
        (0x20000000, 0x400000),
    )


_ALL = (
    # The M3 runs the M0+'s instructions; a board with an M0+ and room for a model qemu has not.
    Target("cortex-m0plus", ("-mcpu=cortex-m0plus", "-masm-syntax-unified", *_SOFT),
           "mps2-an385", "in software"),
    Target("cortex-m3", ("-mcpu=cortex-m3", *_SOFT), "mps2-an385", "in software"),
    Target("cortex-m4", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
           "mps2-an386", "FPU"),
    Target("cortex-m7", ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-mfloat-abi=hard"),
           "mps2-an500", "FPU"),
    Target("cortex-m55", ("-mcpu=cortex-m55", "-mfloat-abi=hard"), "mps3-an547",
           "FPU, vectors of 4",
           ((0x10000000, 0x80000), (0x11000000, 0x200000), (0x31000000, 0x400000))),
)  # fmt: skip
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}


def find_target(name: str) -> Target:
    """The target of a name. Raises S4EdgeError if there is none."""
    if name not in TARGETS:
        raise S4EdgeError(f"the target {name!r} is unknown; known: {', '.join(TARGETS)}")
    return TARGETS[name]
