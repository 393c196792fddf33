"""What holds of every model in s4edge's own form; each takes a `RandomModel` and asserts.

Used by the tests beside this file and by ``tools/random_models.py``.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume
from model_strategies import RandomModel, as_the_model_takes_it
from naive_model import Naive
from rich.console import Console

import s4edge
from s4edge import S4EdgeError
from s4edge.model.configuration import ModelConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.reports.model_summary import fact_lines, summarize, summary_table

# What a layer rounds by, relative to its values, in each precision.
DOUBLE, SINGLE = 1e-12, 1e-6
# Above this tolerance in single precision, relative to the outputs, nothing can be told.
_SENSITIVE = 0.05


def outputs(model: SequenceModel, x: np.ndarray, how: str = "forward", **options: Any) -> Any:
    """(batch, ...) of a model in its own dtype, time before features."""
    with torch.no_grad():
        y = getattr(model, how)(as_the_model_takes_it(model.config, x, model.dtype), **options)
    return (y.mT if model.config.channels_first else y).double().numpy()


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert np.isfinite(wanted).all()
    error = float(np.abs(found - wanted).max(initial=0))
    assert error <= tolerance, f"off by {error:.3g}, where {tolerance:.3g} would be rounding"


def assert_one_line(error: S4EdgeError, *words: str) -> None:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 400
    for word in words:
        assert word in text


def reference(model: SequenceModel, x: np.ndarray) -> Naive:
    """The model run naively; models that feel rounding too much to be compared are passed over."""
    naive = Naive(model)
    tolerance, largest = naive.tolerance(x, SINGLE), np.abs(naive.running(x)).max()
    assume(np.isfinite(tolerance) and tolerance <= _SENSITIVE * max(largest, 1e-3))
    return naive


# Running


def check_convolution(drawn: RandomModel) -> None:
    """`forward` and `running` are the naive recurrence, in float64, float32 and the fast order."""
    model, x = drawn.build(), drawn.inputs()
    naive = reference(model, x)
    wanted, running = naive.run(x), naive.running(x)
    exact = copy.deepcopy(model).double()
    tolerance = naive.tolerance(x, DOUBLE)
    assert_close(outputs(exact, x), wanted, tolerance)
    assert_close(outputs(exact, x, "running"), running, tolerance)
    tolerance = naive.tolerance(x, SINGLE)
    assert_close(outputs(model, x), wanted, tolerance)
    fast = copy.deepcopy(model).float().set_fast(True)
    assert_close(outputs(fast, x), wanted, naive.tolerance(x, 100 * SINGLE))


def check_padding(drawn: RandomModel) -> None:
    """Sequences of several lengths, padded: each as if it came alone, or refused with a reason."""
    model, x = drawn.build().double(), drawn.inputs(batch=4)
    rng = np.random.default_rng(drawn.numbers.seed)
    config = drawn.config
    answers = max(1, config.answers or 0)
    # Held, answers are to samples.
    least = max(answers, config.stride) if config.held else answers * config.stride
    least = min(least, drawn.samples)
    lengths = rng.integers(least, drawn.samples + 1, 4)
    if drawn.config.length is not None:
        lengths[:] = drawn.config.length
    told = torch.from_numpy(lengths)
    if (lengths == drawn.samples).all():
        naive = reference(model, x)
        assert_close(outputs(model, x, lengths=told), naive.run(x), naive.tolerance(x, DOUBLE))
        return
    if not config.takes_padding:
        with pytest.raises(S4EdgeError) as refused:
            outputs(model, x, lengths=told)
        assert_one_line(refused.value, "without padding")
        return
    found = outputs(model, x, "answer", lengths=told)
    naive = reference(model, x)
    for row, length, its in zip(x, lengths, found, strict=True):
        alone = row[None, :length]
        wanted = naive.answer(alone)[0]
        its = its[: len(wanted)] if drawn.config.answers_each_sample else its
        assert_close(its, wanted, naive.tolerance(alone, DOUBLE))


def check_stream(drawn: RandomModel) -> None:
    """`stream` and `step` give what `running` gives, or say why there is no recurrence."""
    model, x = drawn.build().double(), drawn.inputs()
    if model.config.cannot_stream is not None:
        with pytest.raises(S4EdgeError) as refused:
            outputs(model, x, "stream")
        assert_one_line(refused.value, model.config.cannot_stream)
        return
    exact = model.config.exact_samples
    if exact is not None and exact < drawn.samples:
        with pytest.raises(S4EdgeError) as refused:
            outputs(model, x, "stream")
        assert_one_line(refused.value, f"{exact} samples")
        x = x[:, :exact]
    naive = reference(model, x)
    wanted, tolerance = naive.running(x), naive.tolerance(x, DOUBLE)
    assert_close(outputs(model, x, "stream"), wanted, tolerance)
    state = model.initial_state(len(x))
    for t in range(x.shape[1]):
        sample = torch.from_numpy(x[:, t])
        with torch.no_grad():
            y, state = model.step(sample, state)
        assert_close(y.double().numpy(), wanted[:, t], tolerance)
    assert_close(outputs(model.float(), x, "stream"), wanted, naive.tolerance(x, SINGLE))


def check_wrong_inputs(drawn: RandomModel) -> None:
    """Sequences that the model does not take are refused in one line."""
    model, x = drawn.build(), drawn.inputs()
    wrong = [x[:, :0], x[0], np.concatenate([x, x], axis=-1)[..., None], x + 0.5]
    if drawn.config.encoder == "embedding":
        wrong += [x + drawn.config.d_input, -x - 1]
    else:
        wrong = [*wrong[:-1], np.concatenate([x, x], axis=2)]
    if drawn.config.stride > 1 and not drawn.config.samples_entering(drawn.config.stride - 1)[-1]:
        wrong.append(x[:, : drawn.config.stride - 1])
    if drawn.config.head is not None:
        wrong.append(x[:1])
    if drawn.config.length is not None:
        wrong.append(np.concatenate([x, x], axis=1))
    for each in wrong:
        with pytest.raises(S4EdgeError) as refused:
            model(as_the_model_takes_it(drawn.config, each, model.dtype))
        assert_one_line(refused.value)


# Files and descriptions


def assert_same_model(found: SequenceModel, wanted: SequenceModel) -> None:
    assert found.config == wanted.config
    theirs, ours = found.state_dict(), wanted.state_dict()
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        assert theirs[name].dtype == tensor.dtype, name
        assert torch.equal(theirs[name], tensor), name


def saved_and_loaded(model: SequenceModel) -> SequenceModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        s4edge.save(model, path)
        return s4edge.load(path)


def check_file(drawn: RandomModel) -> None:
    """Saved and loaded a model is the same to the bit, and gives the same to the bit."""
    model, x = drawn.build(), drawn.inputs()
    back = saved_and_loaded(model)
    assert_same_model(back, model)
    assert back.provenance == model.provenance
    np.testing.assert_array_equal(outputs(back, x), outputs(model, x))


def without_defaults(value: Any) -> Any:
    """A configuration as JSON, as a version would have written it that knew no optional field."""
    if dataclasses.is_dataclass(value):
        told = {
            field.name: without_defaults(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        tag = getattr(value, "TAG", "diagonal")
        return told if tag == "diagonal" else {"tag": tag, **told}
    return [without_defaults(each) for each in value] if isinstance(value, tuple) else value


def check_configuration(drawn: RandomModel) -> None:
    """Through JSON and back it is the same, with and without what older files leave out."""
    config = drawn.config
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert ModelConfig.from_json(json.loads(json.dumps(without_defaults(config)))) == config
    for field in dataclasses.fields(config):
        with pytest.raises(S4EdgeError) as refused:
            ModelConfig.from_json({**config.to_json(), field.name: object()})
        assert_one_line(refused.value)


def check_summary(drawn: RandomModel) -> None:
    """What ``inspect`` tells is JSON, counts what there is, and is a table for people."""
    model = drawn.build()
    for rate in (None, 16000.0):
        told = summarize(model, rate)
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert told["streams"] == (model.config.cannot_stream is None)
        assert told["parameters"] == sum(p.numel() for p in model.parameters())
        assert [layer["name"] for layer in told["layers"]] == [b.name for b in model.config.blocks]
        for layer, block in zip(told["layers"], model.blocks, strict=True):
            states = 0
            if isinstance(block.systems, DiagonalSystems):
                states = int(block.systems.modes().real_states.sum())
            assert layer["real_states"] >= states  # a pair with a real pole costs one
            assert layer["largest_pole"] >= 0
        Console(file=io.StringIO(), width=100).print(summary_table(told, "model"))
        assert all("\n" not in line for line in fact_lines(told))
