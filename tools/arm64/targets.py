"""The boards that are emulated: which Debian, which qemu, which processors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Processor:
    """One that qemu knows, and what Linux tells of it in ``/proc/cpuinfo``."""

    name: str
    board: str
    part: int
    architecture: int
    features: str

    def cpuinfo(self, cores: int) -> str:
        """The kernel's file for so many cores.

        qemu before 8.1 shows the guest the host's own, an x86's, and onnxruntime from 1.31 on dies
        of it at import: it takes its count of ARM processors from there.
        """
        facts = {
            "BogoMIPS": "108.00", "Features": self.features, "CPU implementer": "0x41",
            "CPU architecture": self.architecture, "CPU variant": "0x0",
            "CPU part": f"{self.part:#x}", "CPU revision": 3,
        }  # fmt: skip
        lines = "".join(f"{key}\t: {value}\n" for key, value in facts.items())
        return "".join(f"processor\t: {core}\n{lines}\n" for core in range(cores))


_V8 = "fp asimd evtstrm crc32 cpuid"


@dataclass(frozen=True)
class Target:
    """An architecture of Debian's.

    Attributes:
        arch: its name there.
        triple: the folder of its libraries.
        qemu: the emulator.
        processors: the first is the one that all is run on.
        packages: what apt brings.
        wheels: tag of its wheels on PyPI; None where numpy and onnxruntime have none there, and
            come as Debian's packages.
    """

    arch: str
    triple: str
    qemu: str
    processors: tuple[Processor, ...]
    packages: tuple[str, ...]
    wheels: str | None


_PYTHON = ("python3", "python3-venv", "libstdc++6")
TARGETS = {
    "arm64": Target(
        "arm64", "aarch64-linux-gnu", "qemu-aarch64-static",
        (
            Processor("cortex-a72", "Raspberry Pi 4", 0xD08, 8, _V8),
            Processor("cortex-a53", "Raspberry Pi 3", 0xD03, 8, _V8),
            Processor(
                "cortex-a76", "Raspberry Pi 5", 0xD0B, 8,
                "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
                "lrcpc dcpop asimddp",
            ),
        ),
        _PYTHON, "aarch64",
    ),
    "armhf": Target(
        "armhf", "arm-linux-gnueabihf", "qemu-arm-static",
        (
            Processor(
                "cortex-a7", "Raspberry Pi 2", 0xC07, 7,
                "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm",
            ),
        ),
        (*_PYTHON, "python3-numpy", "python3-onnxruntime"), None,
    ),
}  # fmt: skip
