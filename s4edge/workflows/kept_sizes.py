"""What a sweep has finished, in a folder: a model for each size, and one table of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from s4edge.compression.trade_off import TradeOff
from s4edge.errors import S4EdgeError
from s4edge.files import write_text
from s4edge.foreign import parse_json, read_text
from s4edge.model.file import load_model, save_model
from s4edge.model.sequence_model import SequenceModel

_TABLE = "sweep.json"


@dataclass
class KeptSizes:
    """Sizes that are done, and where they are kept.

    Attributes:
        folder: of the files; None where nothing is kept.
        stem: that the models' names begin with.
        what: the sweep, by everything that a result depends on.
        points: by size.
        latest: the smallest model that was made in this call, and its size.
    """

    folder: Path | None
    stem: str
    what: dict[str, Any]
    points: dict[int, TradeOff] = field(default_factory=dict)
    latest: tuple[int, SequenceModel] | None = None

    @staticmethod
    def open(folder: Path | None, stem: str, what: Mapping[str, Any]) -> KeptSizes:
        """Those that an earlier call left, or an empty folder.

        Raises:
            S4EdgeError: the folder cannot be made, or what is in it is damaged or of another sweep.
        """
        kept = KeptSizes(folder, stem, dict(what))
        if folder is None:
            return kept
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise S4EdgeError(f"cannot write {folder}: {error.strerror}") from error
        table = folder / _TABLE
        if not table.exists():
            return kept
        try:
            said = parse_json(read_text(table))
            before = dict(said["what"])
            points = {int(size): TradeOff(**point) for size, point in said["points"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise S4EdgeError(
                f"{table} is damaged; delete it or name another folder with --keep"
            ) from error
        differ = sorted(key for key in before.keys() | what if before.get(key) != what.get(key))
        if differ:
            raise S4EdgeError(
                f"{folder} keeps another sweep ({', '.join(differ)} differ): call it as before, or "
                "name another folder with --keep"
            )
        kept.points = {size: each for size, each in points.items() if kept.path(size).exists()}
        return kept

    def path(self, size: int) -> Path:
        """Of a model."""
        assert self.folder is not None
        return self.folder / f"{self.stem}-s{size}.safetensors"

    def model(self, size: int) -> SequenceModel:
        """One that is done. Raises S4EdgeError if its file cannot be read."""
        if self.latest is not None and self.latest[0] == size:
            return self.latest[1]
        return load_model(self.path(size))

    def add(self, size: int, point: TradeOff, model: SequenceModel) -> None:
        """One more: written at once, each file as a whole. Raises S4EdgeError if it cannot be."""
        self.points[size] = point
        if self.latest is None or size < self.latest[0]:
            self.latest = size, model
        if self.folder is None:
            return
        save_model(model, self.path(size))
        points = {str(each): asdict(known) for each, known in sorted(self.points.items())}
        text = json.dumps({"what": self.what, "points": points}, indent=1)
        write_text(self.folder / _TABLE, text + "\n")
