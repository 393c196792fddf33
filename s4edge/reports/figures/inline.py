"""A figure as inline SVG that takes its colours from the page's style sheet."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from s4edge.reports.figures.drawing import new_figure
from s4edge.reports.frame import Html
from s4edge.reports.palette import DRAWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150


def drawn(height: float, draw: Callable[[Axes], None]) -> Html:
    """A figure of one pair of axes, which ``draw`` draws on; the height is in inches."""
    with new_figure(height) as figure:
        draw(figure.subplots())
        return inline(figure)


def inline(figure: Figure) -> Html:
    """The figure as an element of a page."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", dpi=_DPI, transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )  # fmt: skip
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Names of namespaces are URLs, and HTML needs none.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    text = re.sub(r"<svg[^>]*>", f'<svg {box[0]} aria-hidden="true">', text, count=1)
    text = re.sub(r'(?<= d=")[^"]*', _rounded, text)
    for name, color in DRAWN.items():
        text = text.replace(color, f"var(--{name}, {color})")
    # No two figures of a page may share a name.
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    return Html(re.sub(r"\n\s*", "\n", text))


def _rounded(path: re.Match[str]) -> str:
    short = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", path[0])
    return re.sub(r"\s+", " ", short).strip()
