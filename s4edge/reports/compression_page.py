"""A report of a compression as one HTML file: what was done, what it costs, how it is known.

Each section is a template in ``templates`` and the facts of `s4edge.reports.compression_sections`
that it is filled with. Whatever is text in them is escaped.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4edge.arrays import Float, Int
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.spectrum import model_spectra
from s4edge.compression.trade_off import TradeOff, trade_off
from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.files import check_writable, write_text
from s4edge.model.history import Compression, last_compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.reports import compression_sections as sections
from s4edge.reports import frame, numbers
from s4edge.reports.reduced_layers import layer_pairs, worst_first

if TYPE_CHECKING:
    from jinja2 import Environment

# Headings and facts, by the names of templates.
_SECTIONS = {
    "trade-off": ("Trade-off", sections.trade_off_facts),
    "hankel": ("Hankel singular values by layer", sections.hankel_facts),
    "budget": ("Where the budget went", sections.budget_facts),
    "kernels": ("Kernels before and after", sections.kernel_facts),
    "poles": ("Poles before and after", sections.pole_facts),
    "certificates": ("Certificates", sections.certificate_facts),
}


def check_report(path: Path) -> None:
    """Fail before any work if no report can be written there.

    Raises:
        S4EdgeError: the suffix is not .html, the folder cannot be written, or matplotlib or jinja2
            is not installed.
    """
    if path.suffix.lower() != ".html":
        raise S4EdgeError(f"--report writes .html, by the file's suffix; {path} has not that one")
    check_writable(path)
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "toolchain")


def write_report(
    path: Path,
    before: SequenceModel,
    after: SequenceModel,
    points: list[TradeOff],
    predicted: tuple[Int | Float, Float] | None = None,
    title: str = "",
) -> None:
    """Write the report of ``after``, which `compress_model` made of ``before``.

    Args:
        path: the file to write.
        before: left as it is.
        after: left as it is.
        points: sizes and what they cost, in any order; those of ``before`` and ``after`` may be
            among them.
        predicted: totals of real states and the output's relative errors predicted there.
        title: the model's name; by default its file's.

    Raises:
        S4EdgeError: as `check_report`, or ``after`` was not made of ``before``.
    """
    check_report(path)
    entry = _compression(after)
    layers = layer_pairs(before, after, entry)
    told = sections.Reported(
        name=title or before.provenance.source or "model",
        before=before,
        after=after,
        entry=entry,
        layers=layers,
        worst_first=worst_first(layers),
        points=points or [trade_off(after)],
        predicted=predicted,
        spectra=[spectrum for spectrum in model_spectra(before) if len(spectrum.hankel)],
    )
    page = frame.document(
        f"{told.name}: compression report",
        filled("summary", entry, **sections.summary_facts(told)),
        [
            (key, head, filled(key, entry, **facts(told)))
            for key, (head, facts) in _SECTIONS.items()
        ],
    )
    write_text(path, page)


def _compression(after: SequenceModel) -> Compression:
    entry = last_compression(after.provenance.history)
    if entry is not None and entry.layers:
        return entry
    raise S4EdgeError(
        "there is nothing to report: the model's history has no compression with its layers"
    )


def filled(template: str, entry: Compression, **facts: Any) -> frame.Html:
    """A template's HTML, with what is computed of a compression."""
    found = _templates().get_template(f"{template}.html.j2")
    return frame.Html(found.render(entry=entry, method=find_method(entry.method), **facts))


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("s4edge.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        # A paragraph's lines as one, which is how a browser shows them.
        flow=lambda text: frame.Html(" ".join(text.split())),
        number=numbers.number,
        percent=numbers.percent,
        counted=numbers.counted,
        grouped="{:,}".format,
        fraction=sections.fraction,
    )
    found.globals.update(figure=frame.figure, table=frame.table, tiles=frame.tiles)
    return found
