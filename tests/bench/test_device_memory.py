from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_graph import WriteGraph

from s4edge.bench import describe_device, peak_rss_bytes
from s4edge.bench.machine.memory import MemoryUse, memory_use
from s4edge.bench.worker_process import WorkerProcess
from s4edge.runtime import read_info


def child_peaks(megabytes: int) -> tuple[int, int]:
    """Peak memory of a child before and after it writes and drops an array."""
    program = (
        "import json, numpy; from s4edge.bench.machine.memory import peak_rss_bytes as peak; "
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


def test_memory_from_inside_is_that_from_outside(write_graph: WriteGraph) -> None:
    """Of a process that streams, read while it waits for its next command."""
    with WorkerProcess(read_info(write_graph()), 1, None) as worker:
        worker.ask("run 0.1")
        found = worker.ask("memory")
        process = Path(f"/proc/{worker._process.pid}")
        if not (process / "smaps_rollup").exists():
            pytest.skip("this kernel has no smaps_rollup")
        outside = {}
        for name in ("status", "smaps_rollup"):
            for line in (process / name).read_text().splitlines():
                key, _, value = line.partition(":")
                if value.endswith(" kB"):
                    outside[key] = 1024 * int(value.split()[0])
        # The kernel counts resident pages in batches for each core.
        batches = 64 * 4096 * (os.cpu_count() or 1)
        assert found["peak_rss_bytes"] == pytest.approx(outside["VmHWM"], abs=batches)
        assert found["pss_bytes"] == pytest.approx(outside["Pss"], abs=batches)
        private = outside["Private_Clean"] + outside["Private_Dirty"]
        assert found["private_bytes"] == pytest.approx(private, abs=batches)
        assert worker.started["runtime_bytes"] < outside["Rss"] <= outside["VmHWM"] + batches


def test_memory_without_proc(tmp_path: Path) -> None:
    assert memory_use(tmp_path) == MemoryUse(None, None, None)


def test_memory_of_kernels_without_smaps_rollup(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython3\nVmHWM:\t   60000 kB\nVmRSS:\t   50000 kB\n")
    assert memory_use(tmp_path) == MemoryUse(50_000 * 1024, None, None)
    assert peak_rss_bytes(tmp_path / "status") == 60_000 * 1024


def test_parts_of_the_memory_are_told_apart(write_graph: WriteGraph) -> None:
    """A process that has read a heavy graph: its weight is the model's, not the runtime's."""
    memories = []
    for path in (write_graph("light.onnx"), heavy_graph(write_graph("heavy.onnx"), 40_000_000)):
        with WorkerProcess(read_info(path), 1, None) as worker:
            worker.ask("run 0.05")
            memories.append((worker.started["runtime_bytes"], worker.ask("memory")))
    (light_runtime, light), (heavy_runtime, heavy) = memories
    assert heavy_runtime == pytest.approx(light_runtime, rel=0.05)
    grown = heavy["peak_rss_bytes"] - light["peak_rss_bytes"]
    assert 38e6 < grown < 170e6  # once, and what reading it takes for a moment


def heavy_graph(path: Path, size: int) -> Path:
    """The same graph with a large table of which it adds one entry, zero, to its output."""
    model = onnx.load(path)
    graph = model.graph
    table = np.zeros((size // 16, 4), np.float32)
    table[1:] = np.random.default_rng(0).standard_normal((len(table) - 1, 4))
    graph.initializer.extend(
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([0]), "entry"),
        ]
    )
    last = next(node for node in graph.node if node.output[0] == "y")
    last.output[0] = "y_before"
    graph.node.extend(
        [
            helper.make_node("Gather", ["table", "entry"], ["row"]),
            helper.make_node("Add", ["y_before", "row"], ["y"]),
        ]
    )
    onnx.save(model, path)
    return path
