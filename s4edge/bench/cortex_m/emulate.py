"""A model's C on an emulated Cortex-M: compiled with arm-none-eabi-gcc, run by qemu-system-arm.

Instructions are counted, not cycles: qemu's clock moves one nanosecond with each (``-icount
shift=0``), the same at every run. How many cycles they take is the chip's affair.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s4edge.bench.cortex_m.targets import Target
from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.c.source import header_of, read_c_description
from s4edge.runtime.description import GraphInfo

Floats = npt.NDArray[np.float32]

_FOLDER = Path(__file__).parent
_GCC, _SIZE, _QEMU = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
_PACKAGES = {
    _GCC: "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    _SIZE: "binutils-arm-none-eabi",
    _QEMU: "qemu-system-arm",
}
_MOST_SAMPLES = 16
# What qemu's 24-bit timer can hold, with floats in software at most so many a multiply-add.
_MOST_INSTRUCTIONS, _PER_MULTIPLY_ADD = 4e8, 200
_LONGEST = 600  # seconds


@dataclass(frozen=True)
class Figures:
    """What a model takes on a target.

    Attributes:
        target: name of it.
        samples: that were run.
        instructions_per_sample: one sample at a time.
        chunk_instructions_per_sample: by the chunk function.
        flash_bytes: of the least program that streams the model: code, constants, start.
        code_bytes: of that, what is no constant.
        ram_bytes: static: the state of one stream and what that program has besides.
        step_stack_bytes: deepest that the stack went for one sample.
        chunk_stack_bytes: for a chunk.
        selftest: 0, or the first embedded sample that came out wrong.
        y: (samples, d_output) what it gave for `inputs`.
    """

    target: str
    samples: int
    instructions_per_sample: float
    chunk_instructions_per_sample: float
    flash_bytes: int
    code_bytes: int
    ram_bytes: int
    step_stack_bytes: int
    chunk_stack_bytes: int
    selftest: int
    y: Floats

    def to_json(self) -> dict[str, Any]:
        """Without the outputs."""
        return {key: value for key, value in self.__dict__.items() if key != "y"}


def inputs(samples: int, d_input: int, tokens: int | None) -> Floats:
    """(samples, d_input) the numbers that main.c makes, too."""
    values = np.empty(samples * d_input, np.float32)
    random = 1
    for index in range(len(values)):
        random = (random * 1664525 + 1013904223) % 2**32
        values[index] = (random >> 8) % tokens if tokens else ((random >> 8) - 2**23) / 2**22
    return values.reshape(samples, d_input)


def measure(source: Path, target: Target, optimize: str = "-O2") -> Figures:
    """Compile and run a C file that s4edge wrote, its header beside it.

    Args:
        source: the ``.c`` file.
        target: to run it on.
        optimize: the compiler's option.

    Raises:
        S4EdgeError: a program is not installed, the file is none of s4edge's, or the model is too
            large for the emulated board or computes nothing there.
    """
    info = read_c_description(source)
    header_of(source)
    for program, packages in _PACKAGES.items():
        if shutil.which(program) is None:
            raise S4EdgeError(f"{program} is not here; install it: apt install {packages}")
    samples = _MOST_INSTRUCTIONS / (_PER_MULTIPLY_ADD * max(info.extra["multiply_adds"], 1))
    samples = int(np.clip(samples, 1, _MOST_SAMPLES))
    # Whole windows of layers that run once for several samples.
    samples += -samples % info.period
    with tempfile.TemporaryDirectory(prefix="s4edge-") as folder:
        build = _Build(Path(folder), source.resolve(), target, info, optimize)
        firmware = build.link("firmware.c")
        sizes = _sizes(firmware)
        found = _run(build.link("main.c", f"-DSAMPLES={samples}", "-DSELFTEST"), target, source)
    per_tick = 2_000_000 / found["ticks_of_2000000"][0]
    y = struct.unpack(f"<{len(found['y'])}f", struct.pack(f"<{len(found['y'])}I", *found["y"]))
    constants = sizes.get(".rodata", 0)
    flash = sizes.get(".text", 0) + constants + sizes.get(".data", 0) + sizes.get(".exidx", 0)
    return Figures(
        target=target.name,
        samples=samples,
        instructions_per_sample=found["step_ticks"][0] * per_tick / samples,
        chunk_instructions_per_sample=found["chunk_ticks"][0] * per_tick / samples,
        flash_bytes=flash,
        code_bytes=flash - constants,
        ram_bytes=sizes.get(".data", 0) + sizes.get(".bss", 0),
        step_stack_bytes=found["step_stack"][0],
        chunk_stack_bytes=found["chunk_stack"][0],
        selftest=found["selftest"][0],
        y=np.array(y, np.float32).reshape(samples, -1),
    )


@dataclass(frozen=True)
class _Build:
    """Programs of a model for a target, in a folder."""

    folder: Path
    source: Path
    target: Target
    info: GraphInfo
    optimize: str

    def link(self, main: str, *options: str) -> Path:
        """One of the programs beside this file."""
        name = self.info.extra["name"]
        script = self.folder / "link.ld"
        text = (_FOLDER / "link.ld").read_text(encoding="utf-8")
        for region, (at, length) in zip(("FLASH", "CONSTANTS", "RAM"), self.target.memory):
            text = text.replace(f"{region}_AT", hex(at)).replace(f"{region}_BYTES", hex(length))
        script.write_text(text, encoding="utf-8")
        program = self.folder / f"{main}.elf"
        command = [
            _GCC, self.optimize, "-mthumb", *self.target.flags, f"-I{self.source.parent}",
            f"-DNAME={name}", f"-DUPPER={name.upper()}", f'-DHEADER="{self.source.stem}.h"',
            f"-DTOKENS={self.info.tokens or 0}", *options,
            "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-nostartfiles",
            "-T", str(script), str(_FOLDER / "start.c"), str(_FOLDER / main), str(self.source),
            "-lm", "--specs=nosys.specs", "-o", str(program),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, check=False, errors="replace")
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            if "will not fit in region" in done.stderr:
                raise S4EdgeError(
                    f"{self.source.name} needs more memory than the emulated board of "
                    f"{self.target.name} has"
                )
            reason = (lines or done.stderr.splitlines() or ["it gave no reason"])[0].strip()
            raise S4EdgeError(f"{_GCC} cannot compile {self.source.name}: {reason}")
        return program


def _sizes(program: Path) -> dict[str, int]:
    """Bytes of each section."""
    done = subprocess.run([_SIZE, "-A", str(program)], capture_output=True, check=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[0].startswith(".")}


def _run(program: Path, target: Target, source: Path) -> dict[str, list[int]]:
    """What main.c says, by its first word."""
    command = [
        _QEMU, "-M", target.machine, "-icount", "shift=0", "-semihosting-config",
        "enable=on,target=native", "-nographic", "-monitor", "none", "-serial", "null",
        "-kernel", str(program),
    ]  # fmt: skip
    what = f"{source.name} on an emulated {target.name}"
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, errors="replace", timeout=_LONGEST,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise S4EdgeError(f"{what} is not done after {_LONGEST // 60} minutes") from error
    found: dict[str, list[int]] = {}
    # qemu's semihosting says it on one of the two.
    for line in (done.stdout + done.stderr).splitlines():
        key, _, value = line.strip().partition(" ")
        if len(value) == 8:
            found.setdefault(key, []).append(int(value, 16))
    if "chunk_stack" not in found:
        raise S4EdgeError(
            f"{what} ends in the middle: {(done.stderr or 'it said nothing').strip()}"
        )
    return found
