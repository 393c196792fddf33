"""The answer of a benchmark as one HTML file: numbers with their units, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s4edge.bench import words
from s4edge.reports import frame, palette
from s4edge.reports.bench import cells, plots
from s4edge.reports.bench.columns import Column, Row, count, name, number, scaled, table
from s4edge.reports.bench.device import EMULATED, conditions
from s4edge.reports.frame import Html, html, paragraph
from s4edge.reports.numbers import bytes_text, counted, digits, short_percent

# Rows of a table that only programs read.
_MOST_ROWS = 500
_LATENCIES = (
    ("min", "min"), ("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"),
    ("max", "max"), ("mean", "mean"),
)  # fmt: skip


def bench_page(answer: words.Answer) -> str:
    """Write the page of one answer."""
    results = _named(answer)
    sections = [
        ("time", "Time per sample", _times(results, answer)),
        ("latency", "Latency of a run", _latencies(results)),
    ]
    if any(row.get("deadline") for row in results):
        sections.append(("deadlines", "Deadlines", _deadlines(results)))
    if len(answer["timeline"]) > 1:
        sections.append(("timeline", "Over time", _timeline(answer)))
    sections += [
        ("memory", "Memory", _memory(results, answer)),
        ("start", "Start", _start(results)),
    ]
    cpu = words.clean(answer["device"]["cpu"])
    header = html(
        Html(f"<h1>{html(cpu)}</h1>\n"), paragraph(_what(answer)), _alarms(answer), _facts(answer)
    )
    return frame.document(f"{cpu}: s4edge bench", header, sections)


# What it is


def _named(answer: words.Answer) -> list[dict[str, Any]]:
    """The results, each with the name it is shown by."""
    names = words.names([row["model"] for row in answer["results"]])
    return [dict(row, name=name) for row, name in zip(answer["results"], names)]


def _what(answer: words.Answer) -> str:
    count = len(answer["results"])
    models = "One model" if count == 1 else f"{count} models, measured in turns,"
    started = words.clean(answer["started"]).replace("T", " ").replace("+00:00", " UTC")
    threads = counted(answer["threads"], "thread")
    return (
        f"{models} on {threads}; started {started}. Models stream one sequence, each in a process "
        "of its own."
    )


def _alarms(answer: words.Answer) -> Html:
    """What must be read before the numbers."""
    found = [EMULATED] if words.is_emulated(answer) else []
    found += ["Interrupted: results until then."] if answer.get("interrupted") else []
    told = [paragraph(text, "alarm") for text in found]
    return html(*told, cells.warnings(answer["warnings"]))


def _facts(answer: words.Answer) -> Html:
    device = answer["device"]
    facts = [
        ("Architecture", words.clean(device["architecture"]), ""),
        ("Cores", str(device["cores"]), ""),
        ("Memory", bytes_text(device["memory_bytes"]), ""),
        ("System", words.clean(device["os"]), ""),
        (
            "Runtime",
            words.clean(answer["runtime"]),
            f"Python {words.clean(device['python'])}, numpy {words.clean(device['numpy'])}",
        ),
        ("Threads", str(answer["threads"]), _pinned(answer)),
    ]
    facts += [(name, value, "") for name, value in conditions(answer)]
    return frame.tiles(facts)


def _pinned(answer: words.Answer) -> str:
    cores = answer.get("pinned_to")
    if not isinstance(cores, list) or not cores:
        return ""
    return f"on core{'' if len(cores) == 1 else 's'} {', '.join(map(str, cores))}"


# Sections


def _times(results: Sequence[Row], answer: words.Answer) -> Html:
    shown = []
    for row in results:
        rounds = [turn["us_per_sample"] for turn in row["rounds"]]
        told = f"{row['name']}: {digits(row['us_per_sample'])} µs per sample"
        shown.append(
            plots.Bar(
                row["name"],
                [("s0", row["us_per_sample"], told)],
                f"{digits(row['us_per_sample'])} µs",
                (min(rounds), max(rounds)) if len(rounds) > 1 else None,
            )
        )
    figures = [
        frame.figure(
            "Time per sample",
            html(
                "Shorter is faster. The median of a run over its samples; the thin line goes from "
                "the fastest to the slowest round.",
                _emulated(answer),
            ),
            plots.bars("Time per sample", shown, "µs per sample"),
        )
    ]
    ratios = [(row["name"], row["ratio"]) for row in results if row.get("ratio")]
    if ratios:
        level = short_percent(ratios[0][1]["confidence"])
        figures.append(
            frame.figure(
                f"Ratio to {results[0]['name']}",
                html(
                    f"Left of the line is faster than the first model; {level} intervals, paired "
                    "by round.",
                    _emulated(answer),
                ),
                plots.intervals("Ratio to the first model", ratios, "ratio of time per sample"),
            )
        )
    columns: list[Column] = [
        ("model", name("name")),
        ("mode", lambda row: row["mode"]),
        ("samples\nper run", count("samples_per_run")),
        ("time per\nsample, µs", number("us_per_sample")),
        ("samples\nper second", number("samples_per_second")),
    ]
    if ratios:
        columns.append(("ratio to\nthe first", lambda row: cells.ratio(row.get("ratio"))))
    if any(row.get("real_time_factor") is not None for row in results):
        columns += [
            ("sample\nrate, Hz", lambda row: cells.setting(row.get("rate_hz"))),
            ("real-time\nfactor", number("real_time_factor")),
        ]
    if any(row.get("energy_uj_per_sample") is not None for row in results):
        columns.append(("energy per\nsample, µJ", number("energy_uj_per_sample")))
    columns += [
        ("runs", count("runs")),
        ("threads", count("threads")),
        ("state size", lambda row: cells.setting(row.get("state_size"))),
    ]
    rounds = [
        dict(turn, name=row["name"], round=str(index + 1))
        for row in results
        for index, turn in enumerate(row["rounds"])
    ]
    details = _details(
        "round",
        [
            ("model", name("name")),
            ("round", lambda turn: turn["round"]),
            ("µs per sample", number("us_per_sample")),
            ("runs", count("runs")),
        ],
        rounds,
    )
    return html(frame.grid(figures), table(columns, results), details)


def _emulated(answer: words.Answer) -> Html:
    return Html(" <b>Emulated: no speed.</b>" if words.is_emulated(answer) else "")


def _latencies(results: Sequence[Row]) -> Html:
    edges = [edge for row in results for edge in row["histogram"]["edges_us"] if edge > 0]
    figures = [
        frame.figure(
            row["name"],
            f"{counted(row['runs'], 'run')} of {counted(row['samples_per_run'], 'sample')}",
            plots.histogram(row, min(edges), max(edges)),
        )
        for row in results
        if edges
    ]
    columns: list[Column] = [
        ("model, µs per run", name("name")),
        *((name, number("latency_us", key)) for key, name in _LATENCIES),
    ]
    told = (
        "How many runs took how long. Both axes are logarithmic, and the one of time is the same "
        "for all models."
    )
    return html(paragraph(told), frame.grid(figures), table(columns, results))


def _deadlines(results: Sequence[Row]) -> Html:
    told = [row for row in results if row.get("deadline")]
    columns: list[Column] = [
        ("model", name("name")),
        ("deadline,\nµs", number("deadline", "us")),
        ("period,\nµs", number("deadline", "period_us")),
        ("runs", count("deadline", "runs")),
        ("missed", count("deadline", "missed")),
        ("missed, %", lambda row: cells.share(row["deadline"]["missed_fraction"])),
    ]
    for key, what in (("response_us", "response, µs"), ("jitter_us", "jitter, µs")):
        for at in ("p50", "p99", "max"):
            columns.append((f"{what}\n{at}", number("deadline", key, at)))
    what = (
        "The response goes from when a run was due to when its answer was there; the jitter is how "
        "late a run began that was waited for. Without a period each run is due when the one "
        "before is over."
    )
    return html(paragraph(what), table(columns, told))


def _timeline(answer: words.Answer) -> Html:
    turns = answer["timeline"]
    paths = list(dict.fromkeys(turn["model"] for turn in turns))
    shown = dict(zip(paths, words.names(paths)))
    keys = [(f"s{index % palette.SERIES}", name) for index, name in enumerate(shown.values())]
    throttled = any(turn["throttled"] for turn in turns)
    note = "Throttled where the ground is red. " if throttled else ""
    if any((row["deadline"] or {}).get("period_us") for row in answer["results"]):
        note += "Between the stretches runs were paced: see Deadlines."
    columns: list[Column] = [
        ("seconds", number("seconds")),
        ("model", lambda turn: shown[turn["model"]]),
        ("µs per sample", number("us_per_sample")),
        ("°C", number("temperature_c")),
        ("MHz", number("clock_mhz")),
        (
            "throttled",
            lambda turn: {None: words.NOTHING, True: "yes", False: "no"}[turn["throttled"]],
        ),
    ]
    told = html(note.strip(), _emulated(answer))
    figure = frame.figure("Turn by turn", told, plots.timeline(turns, shown), keys)
    return html(frame.grid([figure]), _details("turn", columns, turns))


def _memory(results: Sequence[Row], answer: words.Answer) -> Html:
    *first, last = words.before_a_model(answer["runtime"])
    kinds = (("s0", "runtime_bytes", "runtime"), ("s1", "model_bytes", "model"),
             ("s2", "state_bytes", "state"))  # fmt: skip
    shown = []
    for row in results:
        memory = row["memory"]
        parts = [
            (kind, memory[key] / 1e6, f"{name}: {bytes_text(memory[key])}")
            for kind, key, name in kinds
        ]
        rest = memory["peak_rss_bytes"] - sum(memory[key] for _, key, _ in kinds)
        if rest > 0:
            told = f"other: {bytes_text(rest)}"
            parts.append(("s-machine", rest / 1e6, told))
        peak = f"{digits(memory['peak_rss_bytes'] / 1e6)} MB"
        shown.append(plots.Bar(row["name"], parts, peak))
    keys = [(kind, name) for kind, _, name in kinds]
    if any(part[0] == "s-machine" for bar in shown for part in bar.parts):
        keys.append(("s-machine", "other"))
    figure = frame.figure(
        "Peak resident memory",
        f"of a process that streams this model alone; the runtime is {', '.join(first)} and {last} "
        "without a graph.",
        plots.bars("Peak resident memory", shown, "MB (10^6 bytes)"),
        keys,
    )
    columns = [
        ("model", name("name")),
        ("peak\nresident, MB", scaled(1e6, "memory", "peak_rss_bytes")),
        ("runtime,\nMB", scaled(1e6, "memory", "runtime_bytes")),
        ("model,\nMB", scaled(1e6, "memory", "model_bytes")),
        ("state,\nMB", scaled(1e6, "memory", "state_bytes")),
        ("proportional\n(PSS), MB", scaled(1e6, "memory", "pss_bytes")),
        ("private,\nMB", scaled(1e6, "memory", "private_bytes")),
        ("graph’s file,\nkB", scaled(1e3, "model_bytes")),
        ("kept per\nstream, kB", scaled(1e3, "state_bytes")),
    ]
    return html(frame.grid([figure]), table(columns, results))


def _start(results: Sequence[Row]) -> Html:
    columns: list[Column] = [
        ("model", name("name")),
        ("first\nanswer, s", number("cold_start", "first_answer_seconds")),
        ("import, s", number("cold_start", "import_seconds")),
        ("load the\ngraph, s", number("cold_start", "load_seconds")),
        ("first run,\nµs", number("cold_start", "first_run_us")),
    ]
    told = (
        "From the start of a process to its first answer, with the parts of it that are known; "
        "files may have been in the system’s cache."
    )
    return html(paragraph(told), table(columns, results))


def _details(what: str, columns: Sequence[Column], rows: Sequence[Row]) -> Html:
    """A table that is folded away."""
    left_out = len(rows) - _MOST_ROWS
    more = paragraph(f"{left_out:,} more are in the JSON.", "quiet") if left_out > 0 else ""
    return frame.folded(counted(len(rows), what), html(table(columns, rows[:_MOST_ROWS]), more))
