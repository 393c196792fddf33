"""What ``s4edge inspect`` tells of Hankel singular values, time constants and state sizes."""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import tiny_checkpoints as tiny
from models_by_hand import random_model
from s4edge_command import call, call_process, snapshot

import s4edge
from s4edge.compression.states.spectrum import Spectrum, model_spectra
from s4edge.model.systems.feedforward import FeedForward, FeedForwardConfig
from s4edge.reports.spectrum_table import bars
from s4edge.workflows import inputs

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
BARS = "▁▂▃▄▅▆▇█"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with an S4D of 2 layers, 4 channels, 3 pairs and a real pole in each."""
    tiny.write(tmp_path / "small.pt", tiny.s4d())
    tiny.write(tmp_path / "dss.pt", tiny.dss())
    tiny.write(
        tmp_path / "grows.pt",
        tiny.dss("softmax", grows=True),
        {"layer": "dss.DSS", "layer_kwargs": {"version": "softmax"}, "length": tiny.LENGTH},
    )
    return tmp_path


def inspect(folder: Path, *arguments: str) -> dict[str, Any]:
    found = call(folder, "inspect", *arguments, "--json")
    assert found.status == 0, found.stderr
    result = json.loads(found.stdout)
    assert isinstance(result, dict)
    return result


def shown(folder: Path, *arguments: str) -> str:
    found = call(folder, "inspect", *arguments)
    assert found.status == 0, found.stderr
    assert found.stderr == ""
    return found.stdout


def dense_hankel(systems: Any) -> np.ndarray:
    """(channels, states) sigma_k from Gramians by a general solver, in real coordinates."""
    modes = systems.modes()
    rows = []
    for h in range(modes.channels):
        blocks, B, C = [], [], []
        for a, w in zip(
            modes.pole[modes.channel == h], modes.weight[modes.channel == h], strict=True
        ):
            if abs(a) < 1:
                real = a.imag == 0
                blocks.append([[a.real]] if real else [[a.real, -a.imag], [a.imag, a.real]])
                B += [1] if real else [1, 0]
                C += [w.real] if real else [w.real, -w.imag]
        A = scipy.linalg.block_diag(*blocks)
        P = scipy.linalg.solve_discrete_lyapunov(A, np.outer(B, B))
        Q = scipy.linalg.solve_discrete_lyapunov(A.T, np.outer(C, C))
        values = np.sqrt(np.abs(np.linalg.eigvals(P @ Q)))
        rows.append(np.sort(values)[::-1])
    return np.array(rows)


@pytest.mark.parametrize(("name", "states"), [("small", 7), ("dss", 16), ("grows", 14)])
def test_against_dense_gramians(small: Path, name: str, states: int) -> None:
    found = inspect(small, f"{name}.pt")
    model = s4edge.load(small / f"{name}.pt")
    growing = 2 if name == "grows" else 0
    per_size = 1 if name == "small" else 2
    for layer, block in zip(found["layers"], model.blocks, strict=True):
        sigma = dense_hankel(block.systems)
        relative = sigma / sigma[:, :1]
        assert relative.shape == (tiny.D_MODEL, states)
        assert len(layer["hankel"]["median"]) == states
        # What a general solver knows.
        for key, expected in (
            ("median", np.median(relative, axis=0)), ("worst", relative.max(axis=0)),
        ):  # fmt: skip
            np.testing.assert_allclose(layer["hankel"][key], expected, rtol=1e-4, atol=1e-6)
        sizes = layer["state_sizes"]
        assert [entry["state_size"] for entry in sizes] == [4, 2, 1]
        for entry in sizes:
            assert entry["real_states"] == entry["state_size"] * per_size
            order = entry["real_states"] - growing
            if order < 1:
                assert entry["lower"] is entry["upper"] is None
                continue
            lower, upper = relative[:, order], 2 * relative[:, order:].sum(axis=1)
            for bound, values in (("lower", lower), ("upper", upper)):
                assert entry[bound]["median"] == pytest.approx(np.median(values), rel=1e-4)
                assert entry[bound]["worst"] == pytest.approx(values.max(), rel=1e-4)


def test_worst_of_the_layers(built: Path) -> None:
    found = inspect(built, "model.pt")
    assert "sigma_1" in found["errors_relative_to"]
    assert [entry["state_size"] for entry in found["state_sizes"]] == [32, 16, 8, 4]
    for index, entry in enumerate(found["state_sizes"]):
        for bound in ("lower", "upper"):
            for which in ("median", "worst"):
                each = [layer["state_sizes"][index][bound][which] for layer in found["layers"]]
                assert entry[bound][which] == max(each)


def test_measured_errors_lie_between_the_bounds(built: Path) -> None:
    """Channel by channel, what compress measured at state size 16."""
    spectra = model_spectra(s4edge.load(built / "model.pt"))
    (entry,) = s4edge.load(built / "model-s16.safetensors").provenance.history
    for spectrum, layer, block in zip(
        spectra, entry.layers, s4edge.load(built / "model.pt").blocks, strict=True
    ):
        bounds = spectrum.bounds(16)
        assert bounds is not None
        first = dense_hankel(block.systems)[:, 0]
        error = np.array(layer.channel_error) / first
        assert (bounds[0] * (1 - 1e-3) <= error).all()
        assert (error <= bounds[1] * (1 + 1e-3)).all()


def test_no_error_at_the_size_of_the_model(built: Path) -> None:
    for spectrum in model_spectra(s4edge.load(built / "model-s16.safetensors")):
        bounds = spectrum.bounds(16)
        assert bounds is not None
        assert (bounds[0] == 0).all()
        assert (bounds[1] == 0).all()


def test_sizes_that_compress_refuses_are_too_small(small: Path) -> None:
    """Growing modes are kept; what is left for the others is told the same by both."""
    for entry in inspect(small, "grows.pt")["state_sizes"]:
        size = str(entry["state_size"])
        found = call(small, "compress", "grows.pt", "--state", size, "-o", "out.safetensors")
        assert (found.status == 0) == (entry["lower"] is not None)
    text = shown(small, "grows.pt")
    assert "too small" in text
    assert "4 of its 32 modes grow" in text
    assert "stable modes only" in " ".join(text.split())


def test_silent_channels_do_not_count(small: Path) -> None:
    state = tiny.s4d()
    for name, tensor in state.items():
        if name.endswith("kernel.C"):
            tensor[1] = 0
    tiny.write(small / "one.pt", state)
    for name, tensor in state.items():
        if name.endswith("kernel.C"):
            tensor[:] = 0
    tiny.write(small / "all.pt", state)
    found = inspect(small, "one.pt")
    spectrum = model_spectra(s4edge.load(small / "one.pt"))[0]
    assert spectrum.loud.tolist() == [0, 2, 3]
    assert found["layers"][0]["hankel"]["worst"][0] == 1
    found = inspect(small, "all.pt", "--plot", "all.png")
    assert [layer["hankel"] for layer in found["layers"]] == [None, None]
    assert found["state_sizes"] == []
    assert "Hankel" not in shown(small, "all.pt")


def test_backward_systems(shared: Path, tmp_path: Path) -> None:
    path = shared / "checkpoints" / "layers" / "diag_bidir.pt"
    found = inspect(tmp_path, str(path))
    (layer,) = found["layers"]
    back = layer["backward"]
    assert back["name"] == f"{layer['name']} (backward)"
    assert layer["real_states"] + back["real_states"] == found["real_states"]
    assert len(back["hankel"]["median"]) == 16
    assert back["hankel"] != layer["hankel"]
    assert "(backward)" in shown(tmp_path, str(path))


def test_layers_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in backbones of S4 and feed-forward layers in turns; the other's channels are ragged."""
    model = random_model()
    model.blocks[0].systems = FeedForward(FeedForwardConfig("feedforward", 6))
    blocks = tuple(
        dataclasses.replace(block.config, systems=block.systems.config) for block in model.blocks
    )
    model.config = dataclasses.replace(model.config, blocks=blocks)
    monkeypatch.setattr("s4edge.workflows.inputs.load", lambda *arguments: model)
    without, ragged = inspect(tmp_path, "any.pt", "--plot", "out.png")["layers"]
    assert without["hankel"] is None
    assert without["state_sizes"] == []
    most = max(np.bincount(model.blocks[1].systems.modes().channel, minlength=6) * 2)
    assert 1 < len(ragged["hankel"]["worst"]) <= most
    assert [entry["state_size"] for entry in ragged["state_sizes"]] == [6, 3, 1]
    text = shown(tmp_path, "any.pt")
    assert text.count("feedforward") == 1
    assert text.count("blocks.0") == 1  # in the table of layers only


def test_rate(built: Path) -> None:
    found = inspect(built, "model.pt", "--rate", "8000")
    assert found["rate"] == 8000
    for layer in found["layers"]:
        samples = layer["slowest_time_constant"]
        assert samples == pytest.approx(-1 / np.log(layer["largest_pole"]), rel=1e-6)
        assert layer["slowest_time_constant_seconds"] == samples / 8000
    seconds = found["layers"][0]["slowest_time_constant_seconds"]
    assert f"{1000 * seconds:.3g} ms" in shown(built, "model.pt", "--rate", "8000")
    assert f"{seconds * 80:.4g} s" in shown(built, "model.pt", "--rate", "100")
    without = inspect(built, "model.pt")
    assert without["rate"] is None
    assert without["layers"][0]["slowest_time_constant_seconds"] is None
    assert " ms" not in shown(built, "model.pt")


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e-320", "fast"])
def test_no_rate(built: Path, rate: str) -> None:
    found = call(built, "inspect", "model.pt", "--rate", rate)
    assert (found.status, found.stdout, found.crash) == (2, "", None)
    assert "--rate" in found.last_line


def test_facts_of_a_checkpoint(folder: Path) -> None:
    text = shown(folder, "model.pt")
    assert "format: example.py backbone, minimal S4D" in text
    assert "inferred: d_input=1," in text
    assert "assumed: prenorm=False (say otherwise with --set prenorm=VALUE)" in text
    text = shown(folder, "model.pt", "--set", "prenorm=true")
    assert "given: prenorm=True" in text
    assert "assumed" not in text


def test_notes_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = inputs.load

    def with_note(*arguments: Any) -> Any:
        model = load(*arguments)
        model.provenance.notes.append("averaged [bold] weights")
        return model

    monkeypatch.setattr("s4edge.workflows.inputs.load", with_note)
    assert "note: averaged [bold] weights" in shown(folder, "model.pt")
    assert inspect(folder, "model.pt")["notes"] == ["averaged [bold] weights"]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_bars_fit_the_terminal(built: Path, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = shown(built, "model.pt", "--rate", "8000")
    lines = text.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert sum(any(bar in line for bar in BARS) for line in lines) == 6
    assert all(f"k={k}" in text for k in (8, 16, 32, 64))
    assert "\u2026 15" in text  # the worst channel's upper bound at state size 32
    assert "..." not in text


def test_numbers_where_there_are_no_bars(built: Path) -> None:
    found = call_process(built, "inspect", "model.pt", "--rate", "100", environment=ASCII)
    assert found.status == 0, found.stderr
    assert found.stdout.isascii()
    assert "?" not in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert all(f"k={k}" in found.stdout for k in (1, 2, 4, 8, 16, 32, 64))
    assert "sigma_1" in found.stdout


def test_bars() -> None:
    assert bars(np.array([1, 10**-0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-9, 0]), 8) == "█▇▆▄▂   "
    # The first of each few; never more bars than values.
    assert bars(np.array([1, 1, 1e-2, 1e-3]), 2) == "█▄"
    assert bars(np.ones(3), 8) == "███"
    assert bars(np.zeros(0), 8) == ""


# Pictures


def colors_in_png(data: bytes) -> int:
    """Distinct bytes in the decompressed picture; fails on a damaged one."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels, kinds = 8, b"", []
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        (check,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert zlib.crc32(kind + body) == check
        kinds.append(kind)
        pixels += body if kind == b"IDAT" else b""
        position += 12 + length
    assert kinds[-1] == b"IEND"
    return len(set(zlib.decompress(pixels)))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
@pytest.mark.parametrize("name", ["small", "grows"])
def test_plot(small: Path, suffix: str, name: str) -> None:
    before = snapshot(small)
    picture = small / f"spectra $x^{suffix}"  # no formula
    text = shown(small, f"{name}.pt", "--plot", picture.name)
    assert f"Wrote {picture.name}." in text
    data = picture.read_bytes()
    if suffix == ".svg":
        drawn = " ".join((element.text or "") for element in ElementTree.fromstring(data).iter())
        assert "s4_layers.0" in drawn
        assert "s4_layers.1" in drawn
        assert ("grows (4)" in drawn) == (name == "grows")
    elif suffix == ".pdf":
        assert data.startswith(b"%PDF-")
        assert data.rstrip().endswith(b"%%EOF")
    else:
        assert colors_in_png(data) > 100
    picture.unlink()
    assert snapshot(small) == before  # nothing temporary is left


def test_plot_and_json(small: Path) -> None:
    assert inspect(small, "small.pt", "--plot", "out.svg")["plot"] == "out.svg"
    assert "plot" not in inspect(small, "small.pt")


@pytest.mark.parametrize("name", ["out.jpg", "out", "out.png.tmp", ".png"])
def test_plot_of_another_suffix(small: Path, name: str) -> None:
    before = snapshot(small)
    found = call(small, "inspect", "small.pt", "--plot", name)
    assert (found.status, found.stdout, found.crash) == (1, "", None)
    assert found.stderr == (
        f"Error: --plot writes .png, .svg or .pdf, by the file's suffix; {name} has none of them\n"
    )
    assert snapshot(small) == before


def test_plot_into_nowhere(small: Path) -> None:
    found = call(small, "inspect", "small.pt", "--plot", "missing/out.png")
    assert (found.status, found.stdout, found.crash) == (1, "", None)
    (line,) = found.stderr.splitlines()
    assert line.startswith("Error: cannot write missing/out.png")


def test_interrupted_plot_leaves_the_old_file(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "out.png").write_text("the old file")
    before = snapshot(small)

    def half(self: object, path: Path, **options: object) -> None:
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    found = call(small, "inspect", "small.pt", "--plot", "out.png")
    assert (found.status, found.stdout, found.crash) == (1, "", None)
    assert found.stderr == "Error: cannot write out.png: No space left on device\n"
    assert snapshot(small) == before


def test_plot_without_matplotlib(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = call(small, "inspect", "small.pt", "--plot", "out.png")
    assert (found.status, found.stdout, found.crash) == (1, "", None)
    assert found.stderr == (
        "Error: this needs matplotlib, which is not installed; "
        'type: pip install "s4edge[toolchain]"\n'
    )
    assert inspect(small, "small.pt")["layers"]  # needed for nothing else


def test_model_spectra_in_python(small: Path) -> None:
    told: list[float] = []
    spectra = model_spectra(s4edge.load(small / "dss.pt"), told.append)
    assert told == [0.5, 1]
    assert all(isinstance(spectrum, Spectrum) for spectrum in spectra)
    assert [spectrum.hankel.shape for spectrum in spectra] == [(4, 16), (4, 16)]
