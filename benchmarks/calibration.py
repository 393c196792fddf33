"""Calibrated, allocated and refined reduction: time, memory, accuracy and output error.

Every case is compressed in a process of its own, twice in turn where ``--against`` names the Python
of another checkout (its environment's ``bin/python``): time and processor time are those of the
compression, memory is the process's peak; accuracy and error are those on the test set of the
trained checkpoints in ``--shared``. Calibration sees 1,000 samples and no label, as in
`reduction_table`.

    python benchmarks/calibration.py [--shared FOLDER] [--against PYTHON] [--only NAME]...
                                     [--busy N] [--threads N] [--json FILE]

``--only`` takes the name of a case or of a group: trained, large, channels, length, sequences,
layers, widest. ``--busy N`` runs every case a second time with N busy loops beside it. ``--list``
tells the cases.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """What is compressed, on what, to what state size.

    Attributes:
        name: of the case.
        group: of it.
        checkpoint: stem of a trained checkpoint; empty for a model of random weights.
        state: the new size.
        layers: of a model of random weights, as the rest: state 64, ten classes.
        channels: of each layer.
        length: of its sequences, of noise in an envelope.
        sequences: how many.
    """

    name: str
    group: str
    checkpoint: str = ""
    state: int = 8
    layers: int = 6
    channels: int = 128
    length: int = 16_000
    sequences: int = 512


LARGE = Case("large", "large")
SMALL = Case("", "", layers=3, channels=64, length=2_000, sequences=256)
CASES = [
    Case("digits-8", "trained", "spoken_digits_s4d", 8),
    Case("digits-2", "trained", "spoken_digits_s4d", 2),
    Case("mnist-8", "trained", "mnist_s4d", 8),
    Case("mnist-2", "trained", "mnist_s4d", 2),
    Case("dss-exp-8", "trained", "mnist_dss_exp", 8),
    Case("dss-exp-2", "trained", "mnist_dss_exp", 2),
    Case("dss-softmax-8", "trained", "mnist_dss_softmax", 8),
    LARGE,
    *(replace(SMALL, name=f"channels-{n}", group="channels", channels=n) for n in (32, 128, 256)),
    *(replace(SMALL, name=f"length-{n}", group="length", length=n) for n in (1000, 4000, 16_000)),
    *(replace(SMALL, name=f"sequences-{n}", group="sequences", sequences=n) for n in (128, 1024)),
    *(replace(SMALL, name=f"layers-{n}", group="layers", layers=n) for n in (1, 2, 6)),
    replace(LARGE, name="widest", group="widest", layers=12, channels=512),
]  # fmt: skip


def compress_case(case: Case, shared: Path, threads: int | None) -> dict[str, Any]:
    """In this process. What is imported and read is not counted."""
    if threads:
        import torch

        torch.set_num_threads(threads)
    import s4edge
    from s4edge.bench.machine.memory import peak_rss_bytes
    from s4edge.model.history import to_json

    model, samples, test = trained(case, shared) if case.checkpoint else random(case)
    s4edge.compress(model, 8)  # what is loaded late is not counted either
    out = {"bytes_before": peak_rss_bytes()}
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    small = s4edge.compress(model, case.state, calibration=samples, allocate="sensitivity")
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    entry = to_json(small.provenance.history[-1])
    out |= {
        "seconds": seconds,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "bytes": peak_rss_bytes(),
        "real_states": small.config.real_states,
        "sequences": entry["calibration"]["sequences"],
        **{
            key: entry["output_error"].get(key)
            for key in ("predicted", "layer_by_layer", "measured")
        },
    }
    if test is not None:
        from s4edge.compression.states.calibration import working_copy
        from s4edge.data.metrics import score
        from s4edge.training.evaluate import predict

        before_it, after_it = (predict(working_copy(each), test) for each in (model, small))
        out["accuracy_before"], out["accuracy"] = (
            score(each, test).value for each in (before_it, after_it)
        )
        lost = np.linalg.norm(after_it.astype(float) - before_it)
        out["error_on_test"] = float(lost / np.linalg.norm(before_it.astype(float)))
    return out


def trained(case: Case, shared: Path) -> tuple[Any, np.ndarray, Any]:
    """A checkpoint, calibration samples, test data."""
    from reduction_table import calibration
    from trained_checkpoints import load_test

    import s4edge

    model = s4edge.load(shared / "checkpoints" / "trained" / f"{case.checkpoint}.pt")
    return model, calibration(shared, case.checkpoint), load_test(shared, case.checkpoint)


def random(case: Case) -> tuple[Any, np.ndarray, None]:
    """A model of random weights, and low-passed noise that rises and fades."""
    from scipy.signal import lfilter

    from s4edge.training.initial import initial_model

    model = initial_model(
        1, 10, d_model=case.channels, layers=case.layers, state=64, seed=0, start="lin"
    )
    rng = np.random.default_rng(0)
    noise = lfilter([1], [1, -0.9], rng.normal(size=(case.sequences, case.length)))
    middle = rng.uniform(0.2, 0.8, (case.sequences, 1))
    time_of = np.arange(case.length) / case.length
    x = noise * np.exp(-(((time_of - middle) / 0.2) ** 2))
    return model, x[..., None].astype(np.float32), None


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Others on this machine."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(case: Case, python: Path, busy: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own."""
    command = [str(python), __file__, "--one", json.dumps(asdict(case))]
    command += ["--shared", str(arguments.shared)]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    with busy_loops(busy):
        started = time.perf_counter()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=arguments.limit, check=False
            )
        except subprocess.TimeoutExpired:
            return {"case": case.name, "busy": busy, "stopped_after": time.perf_counter() - started}
    if done.returncode:
        return {"case": case.name, "busy": busy, "failed": done.stderr[-2000:]}
    return {"case": case.name, "busy": busy, **json.loads(done.stdout.splitlines()[-1])}


def told(row: dict[str, Any], of: str) -> list[str]:
    """The cells of one run."""
    head = [row["case"] + (f" ({row['busy']} busy)" if row["busy"] else ""), of]
    if "seconds" not in row:
        after = row.get("stopped_after")
        return [*head, "failed" if after is None else f"> {after:.0f}", *[""] * 7]

    def percent(key: str) -> str:
        return "" if row.get(key) is None else f"{100 * row[key]:.2f}"

    return [
        *head, f"{row['seconds']:.1f}", f"{row['processor']:.1f}", f"{row['bytes'] / 1e6:.0f}",
        str(row["sequences"]), percent("predicted"), percent("measured"), percent("error_on_test"),
        percent("accuracy"),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--against", type=Path, help="the Python of another checkout")
    parser.add_argument("--only", action="append", help="a case or a group; may be repeated")
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside a second run")
    parser.add_argument("--threads", type=int, help="of torch, instead of its own choice")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one run may take")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--list", action="store_true", help="tell the cases only")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        case = Case(**json.loads(arguments.one))
        print(json.dumps(compress_case(case, arguments.shared, arguments.threads)))
        return
    from rich.console import Console
    from rich.table import Table

    wanted = arguments.only
    cases = [case for case in CASES if not wanted or {case.name, case.group} & set(wanted)]
    if arguments.list:
        for case in cases:
            print(case)
        return
    pythons = {"here": Path(sys.executable)}
    if arguments.against:
        pythons = {"before": arguments.against, "after": pythons["here"]}
    console = Console(width=140)
    rows = []
    table = Table(title=f"Calibrated, allocated, refined; {os.cpu_count()} cores")
    for heading in ("case", "of", "seconds", "processor\nseconds", "peak\nMB", "sequences",
                    "predicted\n%", "output\nerror %", "on test\n%", "accuracy\n%"):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("case", "of") else "right")
    for case in cases:
        for busy in sorted({0, arguments.busy}):
            for of, python in pythons.items():
                row = {**measure(case, python, busy, arguments), "of": of}
                rows.append(row)
                table.add_row(*told(row, of))
                print(*told(row, of), row.get("failed", ""), file=sys.stderr, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main()
