"""Every fixture against upstream's recorded outputs, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import layouts
import pytest

import s4edge

ROWS = layouts.table()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fixture_is_read_as_the_table_says(shared: Path, row: layouts.Row) -> None:
    folder = shared / "checkpoints" / "layers"
    path = next(p for p in layouts.fixtures(folder) if p.stem == row.name)
    found = layouts.measure(path)
    if row.runs == "refused":
        assert found.convolution is None
        assert row.why.partition(":")[0].rstrip("s") in found.recognized
        return
    # Where upstream's own float32 error is larger, that is what can be asked for.
    tolerance = max(1e-5, 1.5 * found.upstream)
    assert found.convolution is not None
    assert found.convolution < tolerance
    if row.runs == "stream":
        assert found.stream is not None
        assert found.stream < tolerance
    else:
        assert found.stream is None
        assert {"cut": "kernels are cut"}.get(row.runs, row.why) in found.why


def test_no_fixture_is_left_out(shared: Path) -> None:
    here = {path.stem for path in layouts.fixtures(shared / "checkpoints" / "layers")}
    assert here == {row.name for row in ROWS}


def test_the_page_is_up_to_date() -> None:
    assert (layouts.ROOT / "docs" / "layouts.md").read_text() == layouts.page(), (
        "run: python tools/layouts.py page > docs/layouts.md"
    )


@pytest.mark.parametrize("row", [r for r in ROWS if r.runs == "sequence"], ids=lambda r: r.name)
def test_what_cannot_stream_compresses_and_exports_whole(
    shared: Path, row: layouts.Row, tmp_path: Path
) -> None:
    folder = shared / "checkpoints" / "layers"
    model = s4edge.load(next(p for p in layouts.fixtures(folder) if p.stem == row.name))
    small = s4edge.compress(
        model, 8 if "posreal" not in row.name and "randn" not in row.name else 15
    )
    for each in (model, small):
        exported = s4edge.export_onnx(each, tmp_path / "m.onnx", mode="sequence")
        assert exported.max_abs_error < 1e-4 * exported.max_abs_output
        with pytest.raises(s4edge.S4EdgeError, match="no step graph can be written"):
            s4edge.export_onnx(each, tmp_path / "m.onnx")
