from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_machine
import pytest
from fake_machine import put
from test_load import write_stat

from s4edge.bench import GraphResult
from s4edge.bench.conditions import MachineWatch, machine_warnings, model_warnings
from s4edge.bench.results import ColdStart, Conditions, Histogram, Memory, Round

BOARD: dict[str, Any] = {"cores": 4, "emulated": False}


def test_watches_a_board(tmp_path: Path) -> None:
    root = fake_machine.raspberry_pi(tmp_path)
    zone = "sys/class/thermal/thermal_zone0/temp"
    watch = MachineWatch([3], root)
    write_stat(root, *[(0,) * 10] * 4)
    put(root, {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 3"})
    watch.begin(1.0)
    for degrees, clock, alarm in ((60, 1500, 0), (81, 1000, 1), (75, 1500, 0)):
        put(root, {zone: degrees * 1000})
        put(root, {"sys/class/hwmon/hwmon0/temp1_input": degrees * 1000})
        put(root, {f"{fake_machine.CPU}/cpu3/cpufreq/scaling_cur_freq": clock * 1000})
        put(root, {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": alarm})
        watch.turn("a.onnx", 50.0 + degrees)
    # In 10 s core 0 was busy for 4, core 3 for 9, of which the models took 8.
    idle = (0, 0, 0, 1000)
    write_stat(root, (400, 0, 0, 600), idle, idle, (900, 0, 0, 100))
    watch.end(9.0)
    put(root, {"sys/fs/cgroup/cpu.stat": "usage_usec 8\nnr_periods 30\nnr_throttled 10"})
    found = watch.conditions()
    assert found.governor == "ondemand"
    assert found.temperature_c == {"start": 48.212, "max": 81.0}
    assert found.clock_mhz == {"min": 1000.0, "max": 1500.0}
    assert (found.throttled, found.throttle_reasons) == (True, ["under-voltage"])
    # Less what this test itself used meanwhile.
    assert found.busy_others == pytest.approx(5 / 40, abs=0.02)
    assert found.busy_others_same_cores == pytest.approx(0.1)
    assert found.stopped_by_limit == 7
    assert [turn.temperature_c for turn in watch.timeline] == [60.0, 81.0, 75.0]
    assert [turn.throttled for turn in watch.timeline] == [False, True, False]
    assert [turn.us_per_sample for turn in watch.timeline] == [110.0, 131.0, 125.0]
    seconds = [turn.seconds for turn in watch.timeline]
    assert seconds[0] >= 0
    assert seconds == sorted(seconds)


def test_a_single_core_is_the_bench_s_own_too(tmp_path: Path) -> None:
    watch = MachineWatch([0], write_stat(tmp_path, (0,) * 10))
    watch.begin(0.0)
    begin = os.times()
    while os.times().user - begin.user < 0.2:  # the bench itself at work
        pass
    write_stat(tmp_path, (20, 0, 0, 80))
    watch.end(0.0)
    assert watch.conditions().busy_others_same_cores == pytest.approx(0, abs=0.03)


def test_nothing_is_known_without_sys_and_proc(tmp_path: Path) -> None:
    watch = MachineWatch(None, tmp_path)
    watch.begin(0.0)
    watch.turn("a.onnx", 50.0)
    watch.end(0.0)
    assert watch.conditions() == Conditions(throttle_reasons=[])
    assert machine_warnings(BOARD, watch.conditions(), watch.since_boot, 1, [3]) == []


def warnings(
    conditions: Conditions | None = None,
    since_boot: Sequence[str] = (),
    threads: int = 1,
    pinned_to: Sequence[int] | None = (3,),
    **device: Any,
) -> str:
    found = machine_warnings(
        {**BOARD, **device}, conditions or Conditions(), since_boot, threads, pinned_to
    )
    assert all("\n" not in line for line in found)
    return "; ".join(found)


def test_a_quiet_machine_has_nothing_to_say() -> None:
    assert not warnings(
        Conditions(
            governor="performance", throttled=False, busy_others=0.02, busy_others_same_cores=0.04
        )
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"emulated": True}, "an emulator runs this"),
        ({"cores": 1}, "one core only"),
        ({"threads": 8}, "8 threads share 4 cores .* --threads 4 or less"),
        ({"pinned_to": None}, "may not be pinned"),
        ({"conditions": Conditions(busy_others=0.2)}, "others used 20% of all CPU time while mea"),
        (
            {"conditions": Conditions(busy_others=0.03, busy_others_same_cores=0.11)},
            r"others used 3% of all CPU time while measuring \(11% of the cores that measured\)",
        ),
        ({"conditions": Conditions(throttled=True, throttle_reasons=["throttled"])}, "cool it"),
        (
            {"conditions": Conditions(throttled=True, throttle_reasons=["under-voltage"])},
            r"held back while measuring \(under-voltage\); use a stronger power supply",
        ),
        ({"conditions": Conditions(stopped_by_limit=7)}, "stopped it 7 times .* raise the limit"),
        ({"since_boot": ["frequency capped"]}, "since it was started.* frequency capped"),
        *(
            ({"conditions": Conditions(governor=name)}, f'"{name}" lowers .* sudo tee /sys/dev')
            for name in ("powersave", "ondemand", "schedutil", "conservative")
        ),
    ],
)
def test_what_makes_figures_worth_less_is_said(given: dict[str, Any], says: str) -> None:
    assert re.search(says, warnings(**given))


def test_what_happened_again_is_said_once() -> None:
    said = warnings(
        Conditions(throttled=True, throttle_reasons=["under-voltage"]), ["under-voltage"]
    )
    assert said.count("under-voltage") == 1


@pytest.fixture
def row() -> GraphResult:
    return GraphResult(
        model="a.onnx",
        mode="step",
        samples_per_run=1,
        threads=1,
        latency_us={},
        us_per_sample=50.0,
        samples_per_second=2e4,
        runs=5000,
        histogram=Histogram([], []),
        rounds=[],
        ratio=None,
        rate_hz=None,
        real_time_factor=None,
        deadline=None,
        cold_start=ColdStart(1, 1, 1, 1),
        memory=Memory(1, 1, 1, 1, None, None),
        model_bytes=1,
        state_bytes=1,
        state_size=1,
        energy_uj_per_sample=None,
    )


def rounds(*times: float) -> list[Round]:
    return [Round(time, 100) for time in times]


def test_a_model_that_drifts_is_named(row: GraphResult) -> None:
    for times, says in (
        (
            [50, 51, 50, 53, 55, 57, 58, 59, 60],
            "a.onnx got 18% slower .* (50.0 to 59.0 µs per sample)",
        ),
        ([60, 60, 60, 50, 50, 50, 50, 50, 50], "a.onnx got 17% faster"),
        ([50, 52, 49, 51, 50, 54, 51, 50, 52], None),
        # A single disturbed turn is no drift.
        ([50, 50, 50, 50, 50, 50, 50, 50, 500], None),
        # Too few to say.
        ([50, 80, 80], None),
    ):
        found = model_warnings(dataclasses.replace(row, rounds=rounds(*times)), steady=True)
        assert len(found) == (says is not None)
        for part in (says or "").split(" .* "):
            assert part in "".join(found)


def test_few_runs_and_restless_starts_are_told(row: GraphResult) -> None:
    few = dataclasses.replace(row, runs=99)
    assert "made 99 runs only" in model_warnings(few, steady=True)[0]
    assert "did not become steady" in model_warnings(row, steady=False)[0]
    assert "took 12 MB more" in model_warnings(row, steady=True, grown_bytes=12_000_000)[0]
    assert model_warnings(row, steady=True, grown_bytes=1_000_000) == []
