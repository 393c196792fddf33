"""Answers of ``s4edge bench``, whole and valid, made up by formula: for tests of their readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def sample_result(
    model: str = "model.onnx",
    us_per_sample: float = 50.0,
    first_us_per_sample: float | None = None,
    samples_per_run: int = 1,
    rate: float | None = 4000.0,
    deadline_us: float | None = 200.0,
    rounds: int = 20,
) -> dict[str, Any]:
    """One graph's result, with the ratio to another's time per sample where that is given."""
    p50 = us_per_sample * samples_per_run
    per_round = 1000
    edges = [p50 * 0.9 * 1.05**i for i in range(41)]
    counts = [round(rounds * per_round * 0.5 * math.exp(-i / 2)) for i in range(40)]
    runs = sum(counts)
    ratio = None
    if first_us_per_sample is not None:
        value = us_per_sample / first_us_per_sample
        ratio = {"value": value, "low": 0.98 * value, "high": 1.03 * value, "confidence": 0.95}
    deadline = None
    if deadline_us is not None:
        deadline = {
            "us": deadline_us,
            "period_us": None if rate is None else samples_per_run / rate * 1e6,
            "runs": 2500,
            "missed": 5,
            "missed_fraction": 0.002,
            "response_us": {"p50": p50 + 60, "p99": p50 + 120, "max": p50 + 900},
            "jitter_us": None if rate is None else {"p50": 55.0, "p99": 80.5, "max": 700.0},
        }
    return {
        "model": model,
        "mode": "step" if samples_per_run == 1 else "chunk",
        "samples_per_run": samples_per_run,
        "threads": 1,
        "latency_us": {
            "min": 0.9 * p50,
            "p50": p50,
            "p90": 1.1 * p50,
            "p99": 1.5 * p50,
            "p999": 3.0 * p50,
            "max": 5.9 * p50,
            "mean": 1.05 * p50,
        },
        "us_per_sample": us_per_sample,
        "samples_per_second": 1e6 / us_per_sample / 1.05,
        "runs": runs,
        "state_size": 16,
        "model_bytes": 102_400,
        "state_bytes": 9_472,
        "histogram": {"edges_us": edges, "counts": counts},
        "rounds": [
            {"us_per_sample": us_per_sample * (1 + 0.01 * math.sin(i)), "runs": per_round}
            for i in range(rounds)
        ],
        "ratio": ratio,
        "rate_hz": rate,
        "real_time_factor": None if rate is None else us_per_sample * rate / 1e6,
        "deadline": deadline,
        "cold_start": {
            "first_answer_seconds": 0.41,
            "import_seconds": 0.29,
            "load_seconds": 0.021,
            "first_run_us": 310.0,
        },
        "memory": {
            "peak_rss_bytes": 61_300_000,
            "runtime_bytes": 55_000_000,
            "model_bytes": 6_290_528,
            "state_bytes": 9_472,
            "pss_bytes": 44_000_000,
            "private_bytes": 30_000_000,
        },
        "peak_rss_bytes": 61_300_000,
        "baseline_rss_bytes": 55_000_000,
        "load_seconds": 0.021,
        "energy_uj_per_sample": None,
    }


def sample_answer(
    models: Sequence[str] = ("model-s64.onnx", "model-s8.onnx"),
    us_per_sample: Sequence[float] = (64.0, 48.0),
    device: str = "Raspberry Pi 4 Model B Rev 1.4",
    warnings: Sequence[str] = (),
    rate: float | None = 4000.0,
    deadline_us: float | None = 200.0,
    **changes: Any,
) -> dict[str, Any]:
    """A whole answer. ``changes`` replace keys of the outermost object."""
    rounds = 20
    results = [
        sample_result(
            model,
            us_per_sample[index],
            us_per_sample[0] if index else None,
            rate=rate,
            deadline_us=deadline_us,
        )
        for index, model in enumerate(models)
    ]
    timeline = [
        {
            "seconds": 0.15 * (1 + index + turn * len(results)),
            "model": row["model"],
            "us_per_sample": row["rounds"][turn]["us_per_sample"],
            "temperature_c": 48.0 + 0.3 * turn,
            "clock_mhz": 1500.0,
            "throttled": False,
        }
        for turn in range(rounds)
        for index, row in enumerate(results)
    ]
    answer = {
        "format": 1,
        "device": {
            "cpu": device,
            "architecture": "aarch64",
            "cores": 4,
            "memory_bytes": 4_000_000_000,
            "os": "Linux 6.6.31",
            "python": "3.11.2",
            "numpy": "1.26.4",
            "onnxruntime": "1.20.1",
            "emulated": False,
        },
        "runtime": "onnxruntime 1.20.1",
        "threads": 1,
        "started": "2026-11-25T22:00:00+00:00",
        "interrupted": False,
        "rate_hz": rate,
        "pinned_to": [3],
        "conditions": {
            "governor": "ondemand",
            "clock_mhz": {"min": 1500.0, "max": 1500.0},
            "temperature_c": {"start": 48.0, "max": 53.7},
            "throttled": False,
            "throttle_reasons": [],
            "busy_others": 0.03,
        },
        "timeline": timeline,
        "warnings": list(warnings),
        "results": results,
    }
    return {**answer, **changes}
