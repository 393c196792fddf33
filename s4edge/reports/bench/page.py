"""The answer of a benchmark as one HTML file: numbers with their units, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from s4edge.bench import words
from s4edge.reports import page
from s4edge.reports.bench import cells, plots

Row = Mapping[str, Any]
# A heading, and the cell of a row; both HTML.
Column = tuple[str, Callable[[Row], str]]

# Rows of a table that only programs read.
_MOST_ROWS = 500
_LATENCIES = (
    ("min", "min"), ("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"),
    ("max", "max"), ("mean", "mean"),
)  # fmt: skip


def bench_page(answer: words.Answer) -> str:
    """Write the page of one answer.

    Every text in it is escaped: names of models are a user's, a device's name is a board's.
    """
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
        ("memory", "Memory", _memory(results)),
        ("start", "Start", _start(results)),
    ]
    cpu = words.clean(answer["device"]["cpu"])
    header = f"<h1>{escape(cpu)}</h1>\n<p>{_what(answer)}</p>\n{_alarms(answer)}{_facts(answer)}"
    return page.document(f"{cpu}: s4edge bench", header, sections)


# What it is


def _named(answer: words.Answer) -> list[dict[str, Any]]:
    """The results, each with the name it is shown by."""
    names = words.names([row["model"] for row in answer["results"]])
    return [dict(row, name=name) for row, name in zip(answer["results"], names)]


def _what(answer: words.Answer) -> str:
    count = len(answer["results"])
    models = "One model" if count == 1 else f"{count} models, measured in turns,"
    started = words.clean(answer["started"]).replace("T", " ").replace("+00:00", " UTC")
    threads = words.counted(answer["threads"], "thread")
    return escape(
        f"{models} on {threads}; started {started}. Models stream one sequence, each in a process "
        "of its own."
    )


def _alarms(answer: words.Answer) -> str:
    """What must be read before the numbers."""
    found = ""
    if words.is_emulated(answer):
        found += f'<p class="alarm">{escape(words.EMULATED)}</p>'
    if answer.get("interrupted"):
        found += '<p class="alarm">Interrupted: results until then.</p>'
    return found + cells.warnings(answer["warnings"])


def _facts(answer: words.Answer) -> str:
    device = answer["device"]
    facts = [
        ("Architecture", words.clean(device["architecture"]), ""),
        ("Cores", str(device["cores"]), ""),
        ("Memory", words.bytes_text(device["memory_bytes"]), ""),
        ("System", words.clean(device["os"]), ""),
        (
            "Runtime",
            words.clean(answer["runtime"]),
            f"Python {words.clean(device['python'])}, numpy {words.clean(device['numpy'])}",
        ),
        ("Threads", str(answer["threads"]), _pinned(answer)),
    ]
    facts += [(name, value, "") for name, value in words.conditions(answer)]
    return page.tiles((name, escape(value), escape(told)) for name, value, told in facts)


def _pinned(answer: words.Answer) -> str:
    cores = answer.get("pinned_to")
    if not isinstance(cores, list) or not cores:
        return ""
    return f"on core{'' if len(cores) == 1 else 's'} {', '.join(map(str, cores))}"


# Sections


def _times(results: Sequence[Row], answer: words.Answer) -> str:
    shown = []
    for row in results:
        rounds = [turn["us_per_sample"] for turn in row["rounds"]]
        told = f"{row['name']}: {words.digits(row['us_per_sample'])} µs per sample"
        shown.append(
            plots.Bar(
                row["name"],
                [("s0", row["us_per_sample"], told)],
                f"{words.digits(row['us_per_sample'])} µs",
                (min(rounds), max(rounds)) if len(rounds) > 1 else None,
            )
        )
    figures = [
        page.figure(
            "Time per sample",
            "Shorter is faster. The median of a run over its samples; the thin line goes from the "
            "fastest to the slowest round." + _emulated(answer),
            plots.bars("Time per sample", shown, "µs per sample"),
        )
    ]
    ratios = [(row["name"], row["ratio"]) for row in results if row.get("ratio")]
    if ratios:
        level = words.percent(ratios[0][1]["confidence"])
        figures.append(
            page.figure(
                f"Ratio to {escape(results[0]['name'])}",
                f"Left of the line is faster than the first model; {level} intervals, paired by "
                "round." + _emulated(answer),
                plots.intervals("Ratio to the first model", ratios, "ratio of time per sample"),
            )
        )
    columns: list[Column] = [
        ("model", _name),
        ("mode", lambda row: escape(row["mode"])),
        ("samples<br>per run", lambda row: cells.count(row["samples_per_run"])),
        ("time per<br>sample, µs", lambda row: cells.number(row["us_per_sample"])),
        ("samples<br>per second", lambda row: cells.number(row["samples_per_second"])),
    ]
    if ratios:
        columns.append(("ratio to<br>the first", lambda row: cells.ratio(row.get("ratio"))))
    if any(row.get("real_time_factor") is not None for row in results):
        columns += [
            ("sample<br>rate, Hz", lambda row: cells.setting(row.get("rate_hz"))),
            ("real-time<br>factor", lambda row: cells.number(row.get("real_time_factor"))),
        ]
    if any(row.get("energy_uj_per_sample") is not None for row in results):
        columns.append(
            ("energy per<br>sample, µJ", lambda row: cells.number(row.get("energy_uj_per_sample")))
        )
    columns += [
        ("runs", lambda row: cells.count(row["runs"])),
        ("threads", lambda row: cells.count(row["threads"])),
        ("state size", lambda row: cells.setting(row.get("state_size"))),
    ]
    rounds = [
        [_name(row), str(index + 1), cells.number(turn["us_per_sample"]), cells.count(turn["runs"])]
        for row in results
        for index, turn in enumerate(row["rounds"])
    ]
    return (
        page.grid(figures)
        + _table(columns, results)
        + _details("round", ["model", "round", "µs per sample", "runs"], rounds)
    )


def _emulated(answer: words.Answer) -> str:
    return " <b>Emulated: no speed.</b>" if words.is_emulated(answer) else ""


def _latencies(results: Sequence[Row]) -> str:
    edges = [edge for row in results for edge in row["histogram"]["edges_us"] if edge > 0]
    figures = [
        page.figure(
            escape(row["name"]),
            f"{words.counted(row['runs'], 'run')} of "
            f"{words.counted(row['samples_per_run'], 'sample')}",
            plots.histogram(row, min(edges), max(edges)),
        )
        for row in results
        if edges
    ]
    columns: list[Column] = [
        ("model, µs per run", _name),
        *((name, _latency(key)) for key, name in _LATENCIES),
    ]
    return (
        "<p>How many runs took how long. Both axes are logarithmic, and the one of time is the "
        "same for all models.</p>" + page.grid(figures) + _table(columns, results)
    )


def _latency(key: str) -> Callable[[Row], str]:
    return lambda row: cells.number(row["latency_us"][key])


def _deadlines(results: Sequence[Row]) -> str:
    told = [row for row in results if row.get("deadline")]
    columns: list[Column] = [
        ("model", _name),
        ("deadline,<br>µs", lambda row: cells.number(row["deadline"]["us"])),
        ("period,<br>µs", lambda row: cells.number(row["deadline"]["period_us"])),
        ("runs", lambda row: cells.count(row["deadline"]["runs"])),
        ("missed", lambda row: cells.count(row["deadline"]["missed"])),
        ("missed, %", lambda row: cells.share(row["deadline"]["missed_fraction"])),
    ]
    for key, what in (("response_us", "response, µs"), ("jitter_us", "jitter, µs")):
        for at in ("p50", "p99", "max"):
            columns.append((f"{what}<br>{at}", _deadline(key, at)))
    return (
        "<p>The response goes from when a run was due to when its answer was there; the jitter is "
        "how late a run began that was waited for. Without a period each run is due when the one "
        "before is over.</p>" + _table(columns, told)
    )


def _deadline(key: str, at: str) -> Callable[[Row], str]:
    return lambda row: cells.number((row["deadline"][key] or {}).get(at))


def _timeline(answer: words.Answer) -> str:
    turns = answer["timeline"]
    paths = list(dict.fromkeys(turn["model"] for turn in turns))
    shown = dict(zip(paths, words.names(paths)))
    keys = "".join(
        f'<span><i class="key s{index % plots.SERIES}"></i>{escape(name)}</span>'
        for index, name in enumerate(shown.values())
    )
    throttled = any(turn["throttled"] for turn in turns)
    note = "Throttled where the ground is red. " if throttled else ""
    if any((row["deadline"] or {}).get("period_us") for row in answer["results"]):
        note += "Between the stretches runs were paced: see Deadlines."
    rows = [
        [
            cells.number(turn["seconds"]),
            escape(shown[turn["model"]]),
            cells.number(turn["us_per_sample"]),
            cells.number(turn["temperature_c"]),
            cells.number(turn["clock_mhz"]),
            words.NOTHING if turn["throttled"] is None else ("yes" if turn["throttled"] else "no"),
        ]
        for turn in turns
    ]
    head = ["seconds", "model", "µs per sample", "°C", "MHz", "throttled"]
    return page.grid(
        [
            page.figure(
                "Turn by turn",
                f'{note.strip()}{_emulated(answer)}</span><span class="keys">{keys}',
                plots.timeline(turns, shown),
            )
        ]
    ) + _details("turn", head, rows)


def _memory(results: Sequence[Row]) -> str:
    kinds = (("s0", "runtime_bytes", "runtime"), ("s1", "model_bytes", "model"),
             ("s2", "state_bytes", "state"))  # fmt: skip
    shown = []
    for row in results:
        memory = row["memory"]
        parts = [
            (kind, memory[key] / 1e6, f"{name}: {words.bytes_text(memory[key])}")
            for kind, key, name in kinds
        ]
        rest = memory["peak_rss_bytes"] - sum(memory[key] for _, key, _ in kinds)
        if rest > 0:
            told = f"other: {words.bytes_text(rest)}"
            parts.append(("s-machine", rest / 1e6, told))
        peak = f"{words.digits(memory['peak_rss_bytes'] / 1e6)} MB"
        shown.append(plots.Bar(row["name"], parts, peak))
    keys = "".join(f'<span><i class="key {kind}"></i>{name}</span>' for kind, _, name in kinds)
    if any(part[0] == "s-machine" for bar in shown for part in bar.parts):
        keys += '<span><i class="key s-machine"></i>other</span>'
    figure = page.figure(
        "Peak resident memory",
        "of a process that streams this model alone; the runtime is Python, numpy and "
        f'onnxruntime without a graph.</span><span class="keys">{keys}',
        plots.bars("Peak resident memory", shown, "MB (10^6 bytes)"),
    )
    columns: list[Column] = [("model", _name)]
    for key, heading in (
        ("peak_rss_bytes", "peak<br>resident, MB"),
        ("runtime_bytes", "runtime,<br>MB"),
        ("model_bytes", "model,<br>MB"),
        ("state_bytes", "state,<br>MB"),
        ("pss_bytes", "proportional<br>(PSS), MB"),
        ("private_bytes", "private,<br>MB"),
    ):
        columns.append((heading, _megabytes(key)))
    columns += [
        ("graph’s file,<br>kB", lambda row: cells.scaled(row["model_bytes"], 1e3)),
        ("kept per<br>stream, kB", lambda row: cells.scaled(row["state_bytes"], 1e3)),
    ]
    return page.grid([figure]) + _table(columns, results)


def _megabytes(key: str) -> Callable[[Row], str]:
    return lambda row: cells.scaled(row["memory"][key], 1e6)


def _start(results: Sequence[Row]) -> str:
    columns: list[Column] = [
        ("model", _name),
        ("first<br>answer, s", lambda row: cells.number(row["cold_start"]["first_answer_seconds"])),
        ("import, s", lambda row: cells.number(row["cold_start"]["import_seconds"])),
        ("load the<br>graph, s", lambda row: cells.number(row["cold_start"]["load_seconds"])),
        ("first run,<br>µs", lambda row: cells.number(row["cold_start"]["first_run_us"])),
    ]
    return (
        "<p>From the start of a process to its first answer, with the parts of it that are known; "
        "files may have been in the system’s cache.</p>" + _table(columns, results)
    )


# Cells


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    head = [heading for heading, _ in columns]
    return page.table(head, [[cell(row) for _, cell in columns] for row in rows])


def _details(what: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is folded away."""
    left_out = len(rows) - _MOST_ROWS
    more = f'<p class="quiet">{left_out:,} more are in the JSON.</p>' if left_out > 0 else ""
    return (
        f"<details><summary>{words.counted(len(rows), what)}</summary>"
        f"{page.table(head, rows[:_MOST_ROWS])}{more}</details>"
    )


def _name(row: Row) -> str:
    return f'<span class="name">{escape(row["name"])}</span>'
