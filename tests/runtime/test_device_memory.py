from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from s4edge.runtime import describe_device, peak_rss_bytes


def child_peaks(megabytes: int) -> tuple[int, int]:
    """Peak memory of a child before and after it writes and drops an array."""
    program = (
        "import json, numpy; from s4edge.runtime.memory import peak_rss_bytes as peak; "
        f"a = peak(); numpy.ones({megabytes * 1_000_000 // 8}); print(json.dumps([a, peak()]))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    before, after = json.loads(found.stdout)
    return before, after


def test_peak_grows_by_what_is_allocated() -> None:
    before, after = child_peaks(100)
    assert 10e6 < before < 200e6
    assert 95e6 < after - before < 110e6


def test_peak_is_not_inherited_from_a_fat_parent() -> None:
    ballast = np.ones(300_000_000 // 8)
    assert peak_rss_bytes() > 300e6
    before, _ = child_peaks(0)
    assert before < 200e6
    del ballast


def test_peak_without_proc(tmp_path: Path) -> None:
    fallback = peak_rss_bytes(tmp_path / "status")
    assert fallback == pytest.approx(peak_rss_bytes(), rel=0.5)


def test_describes_this_device() -> None:
    device = describe_device()
    assert json.loads(json.dumps(device)) == device
    assert set(device) == {
        *("cpu", "architecture", "cores", "memory_bytes"),
        *("os", "python", "numpy", "onnxruntime", "emulated"),
    }
    assert device["cpu"]
    assert isinstance(device["cores"], int)
    assert device["cores"] >= 1
    assert isinstance(device["memory_bytes"], int)
    assert device["memory_bytes"] > 1e8
    assert device["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("files", "cpu"),
    [
        (
            {"cpuinfo": "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) N100\n"},
            "Intel(R) N100",
        ),
        ({"cpuinfo": "model name\t: ARMv7 Processor\nHardware\t: BCM2711\n"}, "BCM2711"),
        (
            {"cpuinfo": "Hardware\t: BCM2711\nModel\t\t: Raspberry Pi 4 Model B\n"},
            "Raspberry Pi 4 Model B",
        ),
        (
            {"device-tree/model": "Raspberry Pi 5\0", "cpuinfo": "model name\t: ARMv8\n"},
            "Raspberry Pi 5",
        ),
    ],
)
def test_names_of_processors_and_boards(tmp_path: Path, files: dict[str, str], cpu: str) -> None:
    for name, text in files.items():
        path = tmp_path / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert describe_device(tmp_path)["cpu"] == cpu


def test_works_without_proc(tmp_path: Path) -> None:
    assert describe_device(tmp_path)["cpu"]
