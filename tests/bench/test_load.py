from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from s4edge.bench.machine.load import Others, cpu_times


def write_stat(root: Path, *cores: tuple[int, ...]) -> Path:
    """``/proc/stat`` with these columns for each core, and their sum."""
    lines = [f"cpu{number} {' '.join(map(str, core))}" for number, core in enumerate(cores)]
    whole = [sum(column) for column in zip(*cores, strict=True)]
    path = root / "proc/stat"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"cpu  {' '.join(map(str, whole))}", *lines, "intr 1 2", "ctxt 3"]))
    return root


def test_what_others_used(tmp_path: Path) -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice; hundredths of a second.
    before = cpu_times(write_stat(tmp_path, (0,) * 10, (0,) * 10))
    # Core 0: 1 s idle and waiting. Core 1: 80 busy, in six ways, of which guests' are no more.
    after = cpu_times(
        write_stat(
            tmp_path, (0, 0, 0, 60, 40, 0, 0, 0, 0, 0), (30, 10, 20, 20, 0, 5, 5, 10, 30, 10)
        )
    )
    assert Others().plus(before, after, 0.0).share == pytest.approx(0.4)
    assert Others().plus(before, after, 0.5).share == pytest.approx(0.15)
    assert Others().plus(before, after, 0.5, cores=[1]).share == pytest.approx(0.3)
    assert Others().plus(before, after, 0.5, cores=[0, 1]).share == pytest.approx(0.15)
    # Ticks are coarse: the bench may seem to have used more than there was.
    assert Others().plus(before, after, 0.9).share == 0
    twice = Others().plus(before, after, 0.5).plus(before, after, 0.1)
    assert twice.share == pytest.approx((0.3 + 0.7) / 4)


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    assert cpu_times(tmp_path) is None
    some = cpu_times(write_stat(tmp_path, (5,) * 10))
    assert Others().plus(None, some, 0.0).share is None
    assert Others().plus(some, None, 0.0).share is None
    assert Others().plus(some, some, 0.0, cores=[7]).share is None
    # Too short for hundredths of a second.
    assert Others().plus(some, some, 0.0).share is None
    (tmp_path / "proc/stat").write_text("cpu  a b c\n")
    assert cpu_times(tmp_path) is None
    (tmp_path / "proc/stat").write_bytes(b"\xff\xfe")
    assert cpu_times(tmp_path) is None


def test_columns_of_old_kernels(tmp_path: Path) -> None:
    before = cpu_times(write_stat(tmp_path, (0, 0, 0, 0)))
    after = cpu_times(write_stat(tmp_path, (50, 0, 0, 50)))
    assert Others().plus(before, after, 0.0).share == pytest.approx(0.5)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat")
def test_sees_a_busy_process() -> None:
    """Of real ticks: a process that spins for half a second has used that much."""
    program = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    before, begin = cpu_times(), time.perf_counter()
    subprocess.run([sys.executable, "-S", "-c", program], check=True)
    spent = time.perf_counter() - begin
    after = cpu_times()
    assert before is not None
    assert after is not None
    others = Others().plus(before, after, 0.0)
    assert others.used > 0.4
    assert others.spent == pytest.approx(spent * len(after.cores), rel=0.5)
