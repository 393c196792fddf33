"""The page is parsed and held to the history; how it looks is for eyes in a browser."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import escape
from page_parser import Parsed

import s4edge
from s4edge.compression.compress import compress_model
from s4edge.compression.states.methods.registry import METHODS
from s4edge.compression.trade_off import TradeOff
from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.history import Compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.reports import compression_page as html_report
from s4edge.reports import compression_sections
from s4edge.reports.compression_page import check_report, write_report

SECTIONS = ["trade-off", "hankel", "budget", "kernels", "poles", "certificates"]


class Page(Parsed):
    """Sections with their text, and tables as rows of (text, exact value)."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.read_text(encoding="utf-8"))
        self.tables = self.cells

    def figures(self, section: str) -> int:
        part = re.search(rf'<section id="{section}">.*?</section>', self.source, re.DOTALL)
        assert part is not None
        return part[0].count("<svg")


def checked(path: Path, model: SequenceModel) -> Page:
    """A page that holds what every page must."""
    page = Page(path)
    assert [s for s in page.tables if s in SECTIONS] == SECTIONS
    # Nothing is fetched: what is named is in the page itself.
    assert not re.search(r"https?:|src=|@import|javascript:", page.source)
    assert not re.search(r'href="(?!#|data:)|url\((?!#)', page.source)
    assert "script" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("href", "clip-path"):
            target = re.match(r"(?:url\()?#([^)]*)", attributes.get(name) or "")
            assert target is None or target[1] in page.ids
    # Text that a browser's font would displace.
    assert "mathdefault" not in page.source
    layers = model.provenance.history[-1].layers
    for section in ("budget", "hankel"):
        for layer in layers:
            if section == "budget" or max(layer.channel_error) > 0:
                assert layer.name in page.text[section]
    (table,) = page.tables["budget"]
    for row, layer in zip(table[1:], layers, strict=False):
        assert row[0][0] == layer.name
        before, after = layer.real_states_before, layer.real_states_after
        assert row[1][0] == f"{before:,} → {after:,}"
        keys = ("channel_error", "channel_error_bound", "channel_lower_bound")
        for (_, found), key in zip(row[4:7], keys, strict=True):
            known = [value for value in getattr(layer, key) if value is not None]
            assert found == max(known)
        errors = sorted(layer.channel_error)
        assert row[3][1] == errors[len(errors) // 2]
        if layer.output_error is not None:
            assert row[7][1] == layer.output_error.predicted
            assert row[8][1] == layer.output_error.measured
    by_name = {layer.name: layer for layer in layers}
    for table in page.tables["certificates"]:
        for row in table[1:]:
            layer, h = by_name[row[0][0]], int(row[1][0])
            assert row[2][0].endswith(f" → {layer.channel_real_states[h]}")
            assert row[3][1] == layer.channel_error[h]
            assert row[5][1] == layer.channel_lower_bound[h]
        shares = [row[6][1] for row in table[1:]]
        assert shares == sorted(shares, key=lambda share: -share)
    return page


def small_model(
    layers: int = 2, channels: int = 4, pairs: int = 4, names: tuple[str, ...] = ()
) -> SequenceModel:
    systems = DiagonalConfig(
        kind="s4d", state_size=2 * pairs, states_per_size=1,
        pairs=(pairs,) * channels, reals=(0,) * channels, growing=(0,) * channels,
    )  # fmt: skip
    blocks = tuple(
        BlockConfig(
            name=names[index] if names else f"layers.{index}", systems=systems, norm="layer",
            norm_placement="pre", norm_epsilon=1e-5, residual=True, activation="gelu",
            mixing="linear", final_activation="glu",
        )
        for index in range(layers)
    )  # fmt: skip
    config = ModelConfig(
        d_input=1, d_output=3, d_model=channels, encoder="linear", blocks=blocks, pooling="mean",
        decoder="linear", length=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = SequenceModel(config)
    model.provenance.source = "made.pt"
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, DiagonalSystems):
                module.pair_log_decay.uniform_(-6, -0.5)
                module.pair_angle.uniform_(0.05, 3)
                module.pair_weight.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    return small_model()


@pytest.fixture(scope="module")
def small(model: SequenceModel) -> SequenceModel:
    return compress_model(model, 3)


def point(real_states: int, **known: Any) -> TradeOff:
    return TradeOff(**{
        "real_states": real_states, "state": None, "parameters": 100, "output_error": None,
        "predicted": None, "metric": None, "value": None, **known,
    })  # fmt: skip


def test_a_plain_compression(tmp_path: Path, model: SequenceModel, small: SequenceModel) -> None:
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    page = checked(path, small)
    told = page.text["summary"]
    assert "made.pt" in told
    for fact in ("8 → 3", "64 → 24", "without calibration", "same state size"):
        assert fact in told
    assert f"{model.parameter_count()} → {small.parameter_count()}" in told
    assert "output error" not in told
    assert [page.figures(section) for section in SECTIONS] == [1, 2, 0, 3, 2, 0]
    assert "Every channel of every layer keeps 3 real states" in page.text["budget"]
    assert "to the right of a mark was cut" in page.text["hankel"]
    assert len(page.tables["certificates"][0]) == 1 + 8
    # Narrow enough for phones, and coloured by the page.
    boxes = [a["viewBox"] for tag, a in page.tags if tag == "svg" and "viewBox" in a]
    boxes += [a["viewbox"] for tag, a in page.tags if tag == "svg" and "viewbox" in a]
    assert boxes
    assert all(float(str(box).split()[2]) <= 300 for box in boxes)
    assert "var(--after" in page.source
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_models_give_the_same_page(
    tmp_path: Path, model: SequenceModel, small: SequenceModel
) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, model, small, [])
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_calibrated_allocated_and_refined(tmp_path: Path, model: SequenceModel) -> None:
    x = np.random.default_rng(0).standard_normal((24, 40, 1)).astype(np.float32)
    small = s4edge.compress(model, 3, calibration=x, allocate="sensitivity")
    entry = small.provenance.history[-1]
    error = entry.output_error
    states = small.config.real_states
    points = [
        point(64, state=8, output_error=0.0, metric="accuracy", value=0.75),
        point(states, state=3, output_error=error.measured, predicted=error.predicted,
              metric="accuracy", value=0.5),
    ]  # fmt: skip
    totals = np.arange(1, 5000)
    predicted = (totals, 1 / totals**2)
    path = tmp_path / "report.html"
    write_report(path, model, small, points, predicted, title="other")
    page = checked(path, small)
    told = page.text["summary"]
    for fact in ("other", "calibrated on 24 sequences of the calibration data", "on average",
                 "50.0 %", "before 75.0 %", "refined", "Same class"):  # fmt: skip
        assert fact in told
    assert "made.pt" not in told
    assert page.figures("trade-off") == 2
    (table,) = page.tables["trade-off"]
    assert [row[0][1] for row in table[1:]] == [64, states]
    assert [row[3][1] for row in table[1:]] == [0, error.measured]
    assert table[2][4][1] == error.predicted
    assert [row[-1][1] for row in table[1:]] == [0.75, 0.5]
    assert "did not cut by these values" in page.text["hankel"]


def test_one_point_without_a_curve_is_told_in_words(
    tmp_path: Path, model: SequenceModel, small: SequenceModel
) -> None:
    path = tmp_path / "report.html"
    write_report(path, model, small, [point(24, output_error=0.1)])
    page = checked(path, small)
    assert page.figures("trade-off") == 0
    assert "One size was made" in page.text["trade-off"]


def test_mean_squared_errors(tmp_path: Path, model: SequenceModel, small: SequenceModel) -> None:
    path = tmp_path / "report.html"
    points = [point(64, metric="mse", value=1e-3), point(24, metric="mse", value=2e-3)]
    write_report(path, model, small, points)
    page = checked(path, small)
    assert "Mean squared error" in page.text["summary"]
    assert page.tables["trade-off"][0][2][-1][1] == 2e-3


def retell(model: SequenceModel, layer: int | None = None, **told: Any) -> None:
    """Change what the last entry of the history tells of one layer, or of all."""
    entry = model.provenance.history[-1]
    layers = tuple(
        dataclasses.replace(each, **told) if layer in (None, index) else each
        for index, each in enumerate(entry.layers)
    )
    model.provenance.history[-1] = dataclasses.replace(entry, layers=layers)


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ('<script>alert("1")</script> & $x_1$', "b'\"<b>&amp;$")
    model = small_model(names=names)
    small = compress_model(model, 3)
    # Other orders in every channel, for the heat map to be there.
    retell(small, channel_real_states=(1, 2, 3, 3))
    title = "<script>evil()</script> & $\\frac{a}{$ </title>"
    path = tmp_path / "report.html"
    write_report(path, model, small, [], title=title)
    page = checked(path, small)
    assert title in page.text["summary"]
    assert page.figures("budget") == 1
    for name in names:
        for section in ("hankel", "budget", "poles", "certificates"):
            assert name in page.text[section]


def test_a_layer_that_lost_nothing(tmp_path: Path) -> None:
    model = small_model()
    small = compress_model(model, 8)
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    page = checked(path, small)
    assert "No channel was reduced" in page.text["kernels"]
    assert "all 8 are kept to the bit" in page.text["certificates"]

    mixed = compress_model(model, 3)
    untouched = model.blocks[0]
    mixed.blocks[0] = copy.deepcopy(untouched)  # type: ignore[index]
    nothing = {
        f"channel_{key}": (0.0,) * 4 for key in ("error", "error_bound", "h2_error", "lower_bound")
    }
    retell(mixed, 0, channel_real_states=(8,) * 4, real_states_after=32, **nothing)
    write_report(path, model, mixed, [])
    page = checked(path, mixed)
    assert "4 channels of 8 lost nothing" in page.text["certificates"]
    assert page.figures("budget") == 1


def test_what_is_not_known_is_a_dash(tmp_path: Path, model: SequenceModel) -> None:
    small = compress_model(model, 3)
    bounds = list(small.provenance.history[-1].layers[0].channel_error_bound)
    bounds[1], bounds[2] = None, float("nan")
    retell(small, 0, channel_error_bound=tuple(bounds))
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    checked(path, small)
    assert "<td>–</td>" in path.read_text()


def test_rows_are_counted(
    tmp_path: Path, model: SequenceModel, small: SequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression_sections, "_MOST_ROWS", 5)
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    page = checked(path, small)
    assert len(page.tables["certificates"][0]) == 1 + 5
    assert "The 3 better ones are left out" in page.text["certificates"]


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("diag_bidir", 8),
        ("dss_softmax", 8),
        ("dss_softmax_randn_sepF", 12),
        ("dss_exp-no-scale_bidir", 2),
        ("diag_init_diag-real", 4),
    ],
)
def test_upstreams_layers(tmp_path: Path, shared: Path, name: str, state: int) -> None:
    model = s4edge.load(shared / "checkpoints" / "layers" / f"{name}.pt")
    small = s4edge.compress(model, state)
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    page = checked(path, small)
    told = page.text["budget"]
    assert ("(backward)" in told) == any(block.config.backward for block in model.blocks)
    growing = any(sum(s.growing) for block in model.config.blocks for s in block.all_systems)
    assert ("grow" in page.text["hankel"] + page.text["poles"]) == growing


def test_a_model_without_feedthrough(tmp_path: Path) -> None:
    model = small_model(layers=1)
    (block,) = model.config.blocks
    bare = dataclasses.replace(block.systems, feedthrough=False)
    config = dataclasses.replace(model.config, blocks=(dataclasses.replace(block, systems=bare),))
    without = SequenceModel(config)
    without.load_state_dict(model.state_dict(), strict=False)
    for method in ("balanced", "singular-perturbation"):
        small = compress_model(without, 3, method)
        path = tmp_path / f"{method}.html"
        write_report(path, without, small, [])
        checked(path, small)


def test_many_channels_stay_small(tmp_path: Path) -> None:
    model = small_model(layers=4, channels=64, pairs=32)
    small = compress_model(model, 8)
    path = tmp_path / "report.html"
    write_report(path, model, small, [])
    checked(path, small)
    assert path.stat().st_size < 1.5e6


# Errors of the user's


def one_line(error: pytest.ExceptionInfo[S4EdgeError]) -> None:
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["report.pdf", "report", "no/such/report.html", "folder.html"])
def test_where_no_report_can_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(S4EdgeError, match=r"report|folder") as error:
        check_report(tmp_path / name)
    one_line(error)


def test_matplotlib_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_report, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install") as error:
        check_report(tmp_path / "report.html")
    one_line(error)


def test_models_that_do_not_belong_together(
    tmp_path: Path, model: SequenceModel, small: SequenceModel
) -> None:
    for before, after, why in (
        (model, model, "no compression"),
        (small_model(layers=1), small, "do not belong together"),
        (small_model(names=("a", "b")), small, "do not belong together"),
    ):
        with pytest.raises(S4EdgeError, match=why) as error:
            write_report(tmp_path / "report.html", before, after, [])
        one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_page(
    tmp_path: Path, model: SequenceModel, small: SequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, text: str, **options: Any) -> int:
        with builtins.open(self, "w") as file:
            file.write(text[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(S4EdgeError, match="No space left on device") as error:
        write_report(path, model, small, [])
    one_line(error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_told_in_words(name: str) -> None:
    sentence = html_report.filled("done", Compression(method=name))
    assert sentence.startswith(f"Reduced by {escape(METHODS[name].told)}, without calibration data")
