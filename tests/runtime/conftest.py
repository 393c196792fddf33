from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_graph import DESCRIPTION, Rotation, WriteGraph, write_model


@pytest.fixture
def rotation() -> Rotation:
    return Rotation()


@pytest.fixture
def write_graph(tmp_path: Path) -> WriteGraph:
    """Write a step graph: ``write_graph(name, batch=..., output_name=..., **description)``.

    A description key given as ``...`` is left out; ``text=`` replaces the whole description.
    """

    def write(
        name: str = "model.onnx",
        *,
        batch: int | str = "batch",
        output_name: str = "y",
        text: str | None = "",
        **changes: Any,
    ) -> Path:
        kept = {k: v for k, v in (DESCRIPTION | changes).items() if v is not ...}
        return write_model(
            tmp_path / name, json.dumps(kept) if text == "" else text, batch, output_name
        )

    return write
