"""Where `s4edge run` takes samples from, block by block: recordings, arrays, tables, pipes."""

from __future__ import annotations

from s4edge.runtime.sources.opening import FORMATS, open_source
from s4edge.runtime.sources.source import Source

__all__ = ["FORMATS", "Source", "open_source"]
