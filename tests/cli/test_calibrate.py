"""``s4edge compress`` on calibration data."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints as tiny
import torch
from s4edge_command import Outcome, call, snapshot

from s4edge import load
from s4edge.model.history import to_json
from s4edge.model.sequence_model import SequenceModel

COUNT = 10
PARTS = {
    "output", "method", "allocate", "refine", "calibration", "output_error", "state_size",
    "real_states", "parameters", "bytes", "seconds", "layers",
}  # fmt: skip
LAYER_PARTS = {"name", "real_states_before", "real_states_after", "error", "error_bound"}
CERTIFICATES = (
    "channel_lower_bound", "channel_error", "channel_error_bound", "channel_h2_error",
)  # fmt: skip
SOFTMAX = ("--set", f"length={tiny.LENGTH}")
CALIBRATED = ("--calibrate", "x.npz")


def sequences(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny checkpoint of each kind and data for them, to read only."""
    folder = tmp_path_factory.mktemp("files")
    for name, state in (
        ("s4d", tiny.s4d()), ("s4block", tiny.s4block()), ("dss", tiny.dss()),
        ("softmax", tiny.dss("softmax")), ("growing", tiny.dss("softmax", grows=True)),
    ):  # fmt: skip
        tiny.write(folder / f"{name}.pt", state)
    x = sequences(COUNT, tiny.LENGTH, 1)
    y = np.random.default_rng(1).integers(0, tiny.D_OUTPUT, COUNT)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "xy.npz", x=x, y=y)
    np.savez(folder / "long.npz", x=sequences(COUNT, 2 * tiny.LENGTH, 1))
    np.savez(folder / "wide.npz", x=sequences(COUNT, tiny.LENGTH, 2))
    np.savez(folder / "tokens.npz", x=np.ones((COUNT, tiny.LENGTH), np.int64))
    np.savez(folder / "nan.npz", x=np.where(np.abs(x) > 2, np.nan, x))
    np.savez(folder / "huge.npz", x=1e30 * x)
    np.savez(folder / "zeros.npz", x=np.zeros_like(x))
    return folder


@pytest.fixture
def small(tmp_path: Path, files: Path) -> Path:
    """The same, to write there."""
    return Path(shutil.copytree(files, tmp_path / "small"))


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    outcome = call(folder, "compress", *arguments, "-o", "out.safetensors", "--json")
    assert outcome.crash is None
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    check(found)
    return found


def check(found: dict[str, Any]) -> None:
    """What holds of every answer."""
    assert found["real_states"]["after"] <= found["real_states"]["before"]
    layers = found["layers"]
    assert sum(layer["real_states_after"] for layer in layers) == found["real_states"]["after"]
    for layer in layers:
        assert layer.keys() >= LAYER_PARTS
        for lower, error, bound, h2 in zip(*(layer[name] for name in CERTIFICATES), strict=True):
            assert all(map(math.isfinite, (lower, error, bound, h2)))
            assert lower <= error * 1.001 + 1e-6
            assert h2 <= error * 1.001 + 1e-6
            assert error <= bound * 1.001 + 1e-6
        assert layer["error"] == max(layer["channel_error"])
    if "calibration" in found:
        error = found["output_error"]
        assert 0 <= error["predicted"] < math.inf
        assert 0 <= error["measured"] < math.inf
        assert layers[-1]["output_error"]["measured"] == pytest.approx(error["measured"], rel=1e-3)


def relative_error(original: SequenceModel, reduced: SequenceModel, x: np.ndarray) -> float:
    with torch.no_grad():
        aim, y = (model(torch.from_numpy(x)).double() for model in (original, reduced))
    return float((y - aim).norm() / aim.norm())


def refused(outcome: Outcome, says: str, status: int = 1) -> None:
    assert outcome.crash is None
    assert outcome.status == status
    assert outcome.stdout == ""
    assert outcome.last_line.startswith("Error: ")
    assert says in outcome.last_line
    assert len(outcome.last_line) < 400


# What it does


def test_shipped_checkpoint(tmp_path: Path, built: Path) -> None:
    """Reduced, written, exported and evaluated."""
    with np.load(built / "digits.npz") as data:
        np.savez(tmp_path / "few.npz", x=data["x"][::15])
    outcome = call(
        tmp_path, "compress", str(built / "model.pt"), "--state", "16", "--calibrate", "few.npz",
        "-o", "out.safetensors", "--json",
    )  # fmt: skip
    assert outcome.status == 0
    found = json.loads(outcome.stdout)
    check(found)
    assert found.keys() >= PARTS
    assert found["calibration"] == {
        "source": "few.npz", "sequences": 10, "given": 10, "length": 64,
    }  # fmt: skip
    assert (found["allocate"], found["refine"]) == ("uniform", True)
    assert found["real_states"] == {"before": 9216, "after": 9216 // 4}
    assert found["output_error"]["measured"] < 0.05
    assert found["output_error"]["same_class"] == 1
    assert found["bytes"] == (tmp_path / "out.safetensors").stat().st_size

    (history,) = map(to_json, load(tmp_path / "out.safetensors").provenance.history)
    assert history["output_error"] == found["output_error"]
    for entry, layer in zip(history["layers"], found["layers"], strict=True):
        assert all(entry[name] == layer[name] for name in CERTIFICATES)
        assert sum(entry["channel_real_states"]) == layer["real_states_after"]

    exported = call(tmp_path, "export", "out.safetensors", "--onnx", "--json")
    assert exported.status == 0
    graph = json.loads(exported.stdout)
    assert graph["max_abs_error"] < 1e-3 * graph["max_abs_output"]
    scores = [
        json.loads(
            call(tmp_path, "eval", name, "--data", str(built / "digits.npz"), "--json").stdout
        )
        for name in ("out.safetensors", "out.onnx")
    ]
    assert scores[0]["value"] == scores[1]["value"] > 0.95


@pytest.mark.parametrize("model", ["s4d", "dss"])
@pytest.mark.parametrize("state", ["1", "5", "8"])
def test_budget_is_not_exceeded(small: Path, model: str, state: str) -> None:
    arguments = (f"{model}.pt", "--state", state, *CALIBRATED, "--no-refine")
    uniform = answer(small, *arguments)
    allocated = answer(small, *arguments, "--allocate", "sensitivity")
    assert 0 < allocated["real_states"]["after"] <= uniform["real_states"]["after"]
    (history,) = map(to_json, load(small / "out.safetensors").provenance.history)
    orders = [order for layer in history["layers"] for order in layer["channel_real_states"]]
    assert sum(orders) == allocated["real_states"]["after"]
    if state == "5":
        assert len(set(orders)) > 1
    if state == "8":
        assert allocated["output_error"]["measured"] == 0


@pytest.mark.parametrize("tolerance", [0.02, 1e-7])
@pytest.mark.parametrize("refine", ["--refine", "--no-refine"])
def test_tolerance_holds(small: Path, tolerance: float, refine: str) -> None:
    found = answer(small, "s4block.pt", "--tolerance", str(tolerance), *CALIBRATED, refine)
    assert found["tolerance"] == tolerance
    assert found["allocate"] == "sensitivity"
    assert found["output_error"]["measured"] <= tolerance
    before, after = load(small / "s4block.pt"), load(small / "out.safetensors")
    with np.load(small / "x.npz") as data:
        again = relative_error(before, after, data["x"])
    assert again == pytest.approx(found["output_error"]["measured"], rel=1e-2, abs=1e-6)
    assert (found["real_states"]["after"] < 32) == (tolerance > 0.01)


def test_default_name_by_tolerance(small: Path) -> None:
    outcome = call(small, "compress", "s4d.pt", "--tolerance", "0.05", *CALIBRATED, "--json")
    assert json.loads(outcome.stdout)["output"] == "s4d-t0.05.safetensors"
    assert (small / "s4d-t0.05.safetensors").exists()


@pytest.mark.parametrize("allocate", ["uniform", "sensitivity"])
def test_refinement_pays(small: Path, allocate: str) -> None:
    arguments = ("s4block.pt", "--state", "2", *CALIBRATED, "--allocate", allocate)
    refined, plain = answer(small, *arguments), answer(small, *arguments, "--no-refine")
    assert (refined["refine"], plain["refine"]) == (True, False)
    assert refined["output_error"]["measured"] < plain["output_error"]["measured"]


def test_nothing_changes_where_nothing_is_lost(small: Path) -> None:
    found = answer(small, "s4d.pt", "--state", "8", *CALIBRATED)
    assert found["output_error"]["measured"] == 0
    before, after = load(small / "s4d.pt"), load(small / "out.safetensors")
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(one, other)


def test_methods_are_those_of_the_command_line() -> None:
    from s4edge.cli.reduction import METHOD_NAMES
    from s4edge.compression.states.methods.registry import METHODS

    assert len(set(METHOD_NAMES)) == len(METHOD_NAMES)
    assert set(METHOD_NAMES) == set(METHODS)


@pytest.mark.parametrize("calibrate", [(), CALIBRATED])
@pytest.mark.parametrize(
    "method",
    ["balanced", "singular-perturbation", "modal", "h2", "hankel", "finite-horizon",
     "shared-modes", "complex-balanced"],
)  # fmt: skip
def test_every_method(small: Path, method: str, calibrate: tuple[str, ...]) -> None:
    horizon = ("--horizon", "12") if method == "finite-horizon" and not calibrate else ()
    found = answer(small, "dss.pt", "--state", "4", "--method", method, *calibrate, *horizon)
    assert found["method"] == method
    assert found["real_states"] == {"before": 128, "after": 64}
    assert ("output_error" in found) == bool(calibrate)
    if calibrate:
        assert found["output_error"]["measured"] < 0.2


def test_report(small: Path) -> None:
    arguments = ("s4d.pt", "--state", "4", *CALIBRATED, "--report", "page.html")
    assert answer(small, *arguments)["report"] == "page.html"
    assert "<html" in (small / "page.html").read_text()[:1000]


def test_for_people(small: Path) -> None:
    outcome = call(small, "compress", "s4d.pt", "--state", "4", *CALIBRATED, "-v")
    assert outcome.status == 0
    for words in ("balanced, calibrated, refined", "(10 sequences)", "predicted", "channel 3"):
        assert words in outcome.stdout


# Models and data out of the ordinary


def test_padding_does_not_matter(small: Path) -> None:
    """Neither what stands there nor how much."""
    x = sequences(COUNT, tiny.LENGTH, 1)
    lengths = np.random.default_rng(2).integers(3, tiny.LENGTH, COUNT)
    longer = 1000 * sequences(COUNT, 2 * tiny.LENGTH, 1, seed=3)
    for row, end in enumerate(lengths):
        longer[row, :end] = x[row, :end]
    np.savez(small / "short.npz", x=x, lengths=lengths)
    np.savez(small / "longer.npz", x=longer, lengths=lengths)
    errors, models = [], []
    for name in ("short.npz", "longer.npz"):
        found = answer(
            small, "s4d.pt", "--state", "4", "--calibrate", name, "--allocate", "sensitivity"
        )
        errors.append(found["output_error"])
        models.append(load(small / "out.safetensors").state_dict())
    assert errors[0] == errors[1]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_padding_of_models_that_take_none(small: Path) -> None:
    """A softmax model of one length takes sequences that are all of it, padded or not."""
    longer = 1000 * sequences(COUNT, 2 * tiny.LENGTH, 1, seed=3)
    longer[:, : tiny.LENGTH] = sequences(COUNT, tiny.LENGTH, 1)
    np.savez(small / "longer.npz", x=longer, lengths=np.full(COUNT, tiny.LENGTH))
    arguments = ("softmax.pt", *SOFTMAX, "--state", "4", "--calibrate")
    first, second = (answer(small, *arguments, name) for name in ("x.npz", "longer.npz"))
    assert first["output_error"] == second["output_error"]
    np.savez(small / "short.npz", x=sequences(2, tiny.LENGTH, 1), lengths=np.array([5, 12]))
    refused(call(small, "compress", *arguments, "short.npz"), "not valid for sequences of 5")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize("size", [("--state", "3"), ("--tolerance", "0.05")])
def test_little_data(small: Path, shape: tuple[int, ...], size: tuple[str, str]) -> None:
    np.savez(small / "few.npz", x=sequences(*shape))
    answer(small, "s4d.pt", *size, "--calibrate", "few.npz")


@pytest.mark.parametrize(
    "arguments",
    [("--state", "3"), ("--state", "3", "--allocate", "sensitivity", "--no-refine")],
)
@pytest.mark.parametrize("what", ["weights", "input", "one output", "constant", "zero data"])
def test_channels_that_do_nothing(small: Path, what: str, arguments: tuple[str, ...]) -> None:
    state, data = tiny.s4d(), "x.npz"
    if what == "weights":
        state["s4_layers.0.kernel.C"][1] = 0
        state["s4_layers.1.kernel.C"][2] = 0
        state["s4_layers.1.D"][2] = 0
    elif what == "input":
        state["encoder.weight"][1] = state["encoder.bias"][1] = 0
    elif what == "one output":
        for name in ("decoder.weight", "decoder.bias"):
            state[name] = state[name][:1].clone()
    elif what == "constant":
        state["decoder.weight"][:] = 0
    else:
        data = "zeros.npz"
    tiny.write(small / "odd.pt", state)
    found = answer(small, "odd.pt", *arguments, "--calibrate", data)
    assert found["output_error"]["measured"] < 0.2
    assert ("same_class" in found["output_error"]) == (what != "one output")


def test_growing_modes_are_kept(small: Path) -> None:
    arguments = ("growing.pt", *SOFTMAX, *CALIBRATED)
    uniform = answer(small, *arguments, "--state", "4")
    allocated = answer(small, *arguments, "--state", "4", "--allocate", "sensitivity")
    assert uniform["real_states"] == allocated["real_states"] == {"before": 128, "after": 64}
    assert answer(small, *arguments, "--tolerance", "0.01")["output_error"]["measured"] <= 0.01
    for block in load(small / "out.safetensors").blocks:
        assert block.config.systems.growing == (1,) * tiny.D_MODEL
    answer(small, "growing.pt", *SOFTMAX, "--state", "4", "--method", "shared-modes")
    refused(call(small, "compress", *arguments, "--state", "1"), "a state size of at least 2")


@pytest.mark.parametrize(
    "name",
    ["full_lra_batch_trF_pre_nplr.pt", "full_lra_batch_trT_pre.ckpt", "diag_bidir.pt",
     "diag_channels2.pt", "seq_ffn.pt", "dss_softmax.pt", "v3_diag_gate.pt", "dss_exp_maxk24.pt",
     "diag_is_real_dss.pt"],
)  # fmt: skip
def test_upstream_layouts(tmp_path: Path, shared: Path, name: str) -> None:
    """Bidirectional ones, tokens, bare layers, outputs per sample."""
    path = shared / "checkpoints" / "layers" / name
    with np.load(path.with_suffix(".npz")) as data:
        x = data["x"]
    generator, shape = np.random.default_rng(0), (6, *x.shape[1:])
    if x.dtype.kind == "f":
        np.savez(tmp_path / "x.npz", x=generator.standard_normal(shape).astype(np.float32))
    else:
        np.savez(tmp_path / "x.npz", x=generator.integers(x.min(), x.max() + 1, shape))
    arguments = (str(path), "--state", "5", *CALIBRATED)
    uniform = answer(tmp_path, *arguments, "--no-refine")
    allocated = answer(tmp_path, *arguments, "--no-refine", "--allocate", "sensitivity")
    assert allocated["real_states"]["after"] <= uniform["real_states"]["after"]
    assert allocated["output_error"]["measured"] < uniform["output_error"]["measured"] + 1e-4


# What is refused

NEEDS = "needs calibration data: add --calibrate DATA"
STATE = "--state 4"
REFUSED = [
    (f"s4d.pt {STATE} --allocate sensitivity", NEEDS),
    ("s4d.pt --tolerance 0.1", NEEDS),
    (f"s4d.pt {STATE} --refine", NEEDS),
    *(
        (f"s4d.pt --tolerance {each} --calibrate x.npz", "a relative error between 0 and 1")
        for each in ("0", "1", "-1", "nan", "inf")
    ),
    *(
        (f"s4d.pt {STATE} --calibrate {data}", says)
        for data, says in (
            ("gone.npz", "the data gone.npz does not exist"),
            ("no_module:here", "the data no_module:here cannot be found"),
            ("s4d.pt", "s4d.pt holds no array 'x'"),
            ("wide.npz", "wide.npz does not fit: the model takes (batch, length, 1)"),
            ("tokens.npz", "tokens.npz does not fit: the model takes (batch, length, 1)"),
            ("nan.npz", "nan.npz: x holds NaN or infinite values"),
            ("huge.npz", "the model's output on huge.npz is NaN or infinite in places"),
        )
    ),
    (f"softmax.pt --set length=12 {STATE} --calibrate long.npz", "long.npz does not fit: "),
    (f"s4d.pt {STATE} --method finite-horizon", "give a horizon"),
    (f"s4d.pt {STATE} --method shared-modes", "do not share their modes"),
    (f"dss.pt {STATE} --method shared-modes --calibrate x.npz --allocate sensitivity",
     "no allocation by sensitivity"),
    ("dss.pt --tolerance 0.1 --method shared-modes --calibrate x.npz", "shared modes are as many"),
    (f"s4d.pt {STATE} --format upstream --calibrate x.npz", "not --calibrate"),
    ("s4d.pt --tolerance 0.1 --format upstream", "not --tolerance"),
    (f"s4d.pt {STATE} --format upstream --horizon 9", "not --horizon"),
    (f"s4d.pt {STATE} --report no/page.html", "the folder no does not exist"),
    (f"s4d.pt {STATE} --report page.txt", "--report writes .html"),
    (f"s4d.pt {STATE} --report a.html -o ./a.html", "cannot write a.html: it is used here, too"),
    (f"s4d.pt {STATE} --calibrate x.npz -o x.npz", "cannot write x.npz: it is used here, too"),
]  # fmt: skip
MISUSED = [
    ("s4d.pt", "give either --state N or --tolerance E"),
    (f"s4d.pt {STATE} --tolerance 0.1 --calibrate x.npz", "give either --state N or --tolerance"),
    ("s4d.pt --tolerance much", "Invalid value for '--tolerance'"),
    (f"s4d.pt {STATE} --horizon 0", "Invalid value for '--horizon'"),
    (f"s4d.pt {STATE} --method none", "Invalid value for '--method'"),
    (f"s4d.pt {STATE} --allocate all", "Invalid value for '--allocate'"),
]


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [*((*each, 1) for each in REFUSED), *((*each, 2) for each in MISUSED)],
)
def test_refused(files: Path, arguments: str, says: str, status: int) -> None:
    before = snapshot(files)
    refused(call(files, "compress", *arguments.split(), "--json"), says, status)
    assert snapshot(files) == before


def test_output_that_is_zero(small: Path) -> None:
    state = tiny.s4d()
    state["decoder.weight"][:] = state["decoder.bias"][:] = 0
    tiny.write(small / "silent.pt", state)
    before = snapshot(small)
    outcome = call(small, "compress", "silent.pt", "--state", "4", *CALIBRATED)
    refused(outcome, "the model's output on x.npz is zero throughout")
    assert snapshot(small) == before
