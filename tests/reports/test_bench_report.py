from __future__ import annotations

import dataclasses

import pytest
from rich.console import Console

from s4edge.bench import BenchResult, GraphResult
from s4edge.bench.intervals import Ratio
from s4edge.bench.results import (
    ColdStart,
    Conditions,
    Deadline,
    Histogram,
    Memory,
    Round,
)
from s4edge.reports.bench.table import bench_report, bench_table

LATE = Deadline(
    us=200,
    period_us=250,
    runs=4000,
    missed=3,
    response_us={"p50": 150.0, "p99": 181.5, "max": 23_456.7},
    jitter_us={"p50": 55.0, "p99": 71.25, "max": 20_000.0},
)


@pytest.fixture
def result() -> BenchResult:
    row = GraphResult(
        model="out/speech-commands-s16.onnx",
        mode="step",
        samples_per_run=1,
        threads=1,
        latency_us={
            "min": 87.123,
            "p50": 94.312,
            "p90": 1020.5,
            "p99": 12345.6,
            "p999": 123_456.7,
            "max": 234_567.8,
            "mean": 345.6,
        },
        us_per_sample=94.312,
        samples_per_second=10432.1,
        runs=31_000,
        histogram=Histogram([80, 90, 300_000], [15_000, 16_000]),
        rounds=[Round(94.312, 3100)] * 10,
        ratio=None,
        rate_hz=4000.0,
        real_time_factor=0.3772,
        deadline=LATE,
        cold_start=ColdStart(1.234, 0.987, 0.0123, 4321.0),
        memory=Memory(61_300_000, 48_000_000, 13_234_464, 65_536, 44_400_000, 33_300_000),
        model_bytes=1_234_567,
        state_bytes=65_536,
        state_size=16,
        energy_uj_per_sample=None,
    )
    device = {
        "cpu": "Raspberry Pi 4 Model B Rev 1.4",
        "architecture": "aarch64",
        "cores": 4,
        "memory_bytes": 4_000_000_000,
    }
    small = dataclasses.replace(
        row, model="small.onnx", state_bytes=8, ratio=Ratio(0.7531, 0.7418, 0.7666)
    )
    conditions = Conditions(
        governor="ondemand",
        clock_mhz={"min": 600.0, "max": 1500.0},
        temperature_c={"start": 48.2, "max": 71.9},
        throttled=True,
        throttle_reasons=["under-voltage"],
        busy_others=0.031,
    )
    return BenchResult(
        device,
        "onnxruntime 1.20.1",
        1,
        "2026-11-25T22:00:00+00:00",
        [row, small],
        conditions,
        pinned_to=[3],
    )


def printed(result: BenchResult, width: int, verbose: bool = True) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for part in bench_report(result, verbose):
            console.print(part)
    return capture.get()


@pytest.mark.parametrize("width", [80, 100])
def test_table_is_whole_in_a_pipe(result: BenchResult, width: int) -> None:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(bench_table(result))
    text = capture.get()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    numbers = ("87.1", "94.3", "1,020", "12,346", "10,432", "61.3", "1,235", "65.5")
    (row,) = (line for line in text.splitlines() if "87.1" in line and "65.5" in line)
    assert all(number in row.split() for number in numbers)
    # A long name wraps, and is all there.
    assert "speech-commands-s16.onnx" in "".join(
        line.split()[0] for line in text.splitlines()[3:] if line.strip()
    )
    for words in ("small.onnx", "Raspberry Pi 4", "4 cores", "1 thread", "onnxruntime 1.20.1"):
        assert words in " ".join(text.split())


def test_all_of_it_fits_80_columns(result: BenchResult) -> None:
    energy = dataclasses.replace(result.results[0], energy_uj_per_sample=1234.5)
    text = printed(dataclasses.replace(result, results=[energy, result.results[1]]), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    words = text.split()
    for number in (
        # The ratio with its interval, real time, deadline.
        *("0.753", "0.742", "0.767", "37.7", "0.075", "182", "23,457", "71.2"),
        # Tails, starts, energy.
        *("31,000", "346", "123,457", "234,568", "1.23", "0.99", "12.3", "4,321", "1,234"),
        # Memory.
        *("61.300", "48.000", "13.234", "0.066", "44.400", "33.300"),
    ):
        assert number in words, number
    said = " ".join(words)
    for phrase in (
        "core 3",
        "governor ondemand",
        "clock 600 to 1,500 MHz",
        "48 °C at the start, 72 °C at most",
        "throttled: under-voltage",
        "others used 3% of the CPU time",
        "runs not over 200 µs after they were due at that rate",
        "taken at 4,000 samples per s",
    ):
        assert phrase in said


def test_says_little_of_one_model(result: BenchResult) -> None:
    alone = dataclasses.replace(
        result, results=[dataclasses.replace(result.results[0], deadline=None, rate_hz=None)]
    )
    assert len(bench_report(alone)) == 1
    assert len(bench_report(result)) == 2


def test_what_is_not_known_is_no_number(result: BenchResult) -> None:
    first, second = result.results
    unknown = dataclasses.replace(
        second,
        ratio=Ratio(0.75, None, None),
        deadline=dataclasses.replace(LATE, period_us=None, jitter_us=None),
        memory=dataclasses.replace(second.memory, pss_bytes=None, private_bytes=None),
    )
    text = printed(
        dataclasses.replace(
            result,
            results=[first, unknown],
            conditions=Conditions(),
            pinned_to=None,
        ),
        80,
    )
    assert "None" not in text
    assert "nothing known about the machine" in text


def test_emulated_times_are_labelled(result: BenchResult) -> None:
    assert "EMULATED" not in printed(result, 80)
    emulated = dataclasses.replace(result, device={**result.device, "emulated": True})
    assert "EMULATED: these times are no speed of any board" in printed(emulated, 80, False)


def test_table_shows_paths_where_names_repeat(result: BenchResult) -> None:
    first, second = result.results
    same = dataclasses.replace(
        result, results=[first, dataclasses.replace(second, model="[b]/speech-commands-s16.onnx")]
    )
    text = printed(same, 200)
    assert "out/speech-commands-s16.onnx" in text
    assert "[b]/speech-commands-s16.onnx" in text
