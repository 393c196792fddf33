"""Everything that a block can have, against the same computed naively, and as graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from models_by_hand import random_modes

import s4edge
from s4edge.model.configuration import (
    BlockConfig,
    GateConfig,
    HeadConfig,
    ModelConfig,
)
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems

WIDTH, LENGTH = 4, 60


def systems_of(seed: int, channels: int, feedthrough: bool = True, **options: Any):
    rng = np.random.default_rng(seed)
    modes = random_modes(rng, channels, slowest=1e-2)
    modes = dataclasses.replace(modes, weight=modes.weight * -np.expm1(modes.log_pole.real))
    D = rng.standard_normal(channels) if feedthrough else None
    return DiagonalSystems.from_modes(
        modes, D, kind="random", state_size=13, states_per_size=1, **options
    )


BLOCKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hyper": {"channels": 2 * WIDTH, "hyper": "sigmoid"},
    "glu inside": {"channels": 2 * WIDTH, "activation": "glu"},
    "heads": {"channels": 3 * WIDTH},
    "gate": {"gate": GateConfig(6, "silu", "glu"), "multiplied_activation": "gelu"},
    "no mixing": {"mixing": "none", "final_activation": "identity"},
    "glu-gelu": {"final_activation": "glu-gelu"},
    "sqrelu and laplace": {"activation": "sqrelu", "final_activation": "glu-laplace"},
    "projection": {"mixing_width": 10, "final_activation": "relu", "projection": "linear"},
    "decaying residual": {"residual_weights": (0.6, 0.8)},
    "no residual": {"residual": False},
    "standardize": {"norm": "standardize", "norm_epsilon": 0.0},
    "affine, post": {"norm": "affine", "norm_placement": "post"},
    "instance": {"norm": "instance"},
    "group": {"norm": "group"},
    "backward": {"backward": True},
    "cut": {"kernel_length": 20},
    "stride": {"stride": 4},
    "batch": {"norm": "batch"},
    "scaled residual": {"residual_form": "scaled", "residual_weights": (0.5, 1.0)},
    "highway": {"residual_form": "highway", "residual_weights": (1.732, 1.0)},
    "narrower": {"residual": False, "d_output": 3, "norm_placement": "post"},
    "sample": {"stride": 7, "downsampling": "sample"},
    "stack": {"stride": 4, "downsampling": "stack", "widening": 5},
    "stack alone": {"stride": 2, "downsampling": "stack"},
    "repeat": {"repeat": 3},
    "widening": {"widening": 7},
    "mean and widening": {"stride": 3, "repeat": 2, "widening": 7},
}


def model_of(name: str, **changes: Any) -> SequenceModel:
    options = dict(BLOCKS[name])
    torch.manual_seed(3)
    channels = options.pop("channels", WIDTH)
    inputs = tuple(i % WIDTH for i in range(channels)) if channels != WIDTH else ()
    cut = options.pop("kernel_length", None)
    forward = systems_of(1, channels, inputs=inputs, kernel_length=cut)
    backward = None
    if options.pop("backward", False):
        backward = systems_of(2, channels, feedthrough=False, inputs=inputs)
    plain = {
        "norm": "layer", "norm_placement": "pre", "norm_epsilon": 1e-5, "residual": True,
        "activation": "gelu", "mixing": "linear", "final_activation": "glu",
    }  # fmt: skip
    block = BlockConfig(
        name="block", systems=forward.config, backward=backward and backward.config,
        **{**plain, **options},
    )  # fmt: skip
    config = ModelConfig(
        d_input=2, d_output=3, d_model=WIDTH, encoder="linear", blocks=(block,), pooling="mean",
        decoder="linear", length=None, final_norm="layer",
    )  # fmt: skip
    model = SequenceModel(dataclasses.replace(config, **changes))
    model.blocks[0].systems, model.blocks[0].backward_systems = forward, backward
    block = model.blocks[0]
    for parameter in block.norm.parameters():
        torch.nn.init.normal_(parameter, 1.0, 0.2)
    if block.config.residual_form == "scaled":
        torch.nn.init.normal_(block.residual_scale)
    return model.eval()


def sequences(batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, LENGTH, 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", [n for n in BLOCKS if model_of(n).config.streams])
def test_recurrence_agrees_with_convolution(name: str) -> None:
    model, x = model_of(name).double(), sequences()
    x = x[:, : model.config.exact_samples]
    with torch.inference_mode():
        expected = model.running(x)
        torch.testing.assert_close(model.stream(x), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", BLOCKS)
def test_graphs_agree_with_the_model(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    streamed = () if not model.config.streams else ("step", "chunk")
    for mode in (*(streamed if model.config.stride == 1 else streamed[1:]), "sequence"):
        exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode)
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output, mode
    if not model.config.streams or model.config.stride != 1:
        with pytest.raises(s4edge.S4EdgeError, match="no step graph"):
            s4edge.export_onnx(model, tmp_path / "m.onnx")


@pytest.mark.parametrize("pooling", ["none", "mean", "sum", "last", "first"])
def test_poolings_stream_and_export(pooling: str, tmp_path: Path) -> None:
    model, x = model_of("plain", pooling=pooling), sequences()
    for mode in ("step", "sequence"):
        exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode)
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output
    model = model.double()
    with torch.inference_mode():
        streamed = model.stream(x)
        torch.testing.assert_close(streamed, model.running(x), rtol=0, atol=1e-11)
        last = streamed if pooling == "none" else streamed[:, -1]
        torch.testing.assert_close(last, model(x), rtol=0, atol=1e-11)
        if pooling != "none":
            lengths = torch.tensor([LENGTH, 7])
            alone = model(x[1:, :7])[0]
            torch.testing.assert_close(model(x, lengths)[1], alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize("pooling", ["mean", "sum", "last", "first"])
@pytest.mark.parametrize("answers", [1, 5, None])
def test_several_answers_stream_and_export(
    pooling: str, answers: int | None, tmp_path: Path
) -> None:
    model, x = model_of("plain", pooling=pooling, answers=answers), sequences()
    for mode in ("step", "chunk", "sequence"):
        exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode)
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output
    model = model.double()
    count = LENGTH if answers is None else answers
    # One answer is held to the end, of several each is given as it comes.
    several = pooling == "first" and count > 1
    part = slice(0, count) if several else slice(LENGTH - count, LENGTH)
    with torch.inference_mode():
        streamed = model.stream(x)
        torch.testing.assert_close(streamed, model.running(x), rtol=0, atol=1e-11)
        torch.testing.assert_close(model(x), streamed[:, part], rtol=0, atol=1e-11)
        if answers is not None:
            lengths = torch.tensor([LENGTH, 7])
            alone = model(x[1:, :7])[0]
            torch.testing.assert_close(model(x, lengths)[1], alone, rtol=0, atol=1e-11)


def left_by_hand(name: str, x: torch.Tensor, y: torch.Tensor, block: Any) -> torch.Tensor:
    """What leaves a block of its input and what its layer gives, by torch's own layers."""
    F = torch.nn.functional
    if name == "scaled residual":
        return 0.5 * x + block.residual_scale * y
    if name == "highway":
        h = F.linear(y, block.highway.output.weight, block.highway.output.bias)
        r = torch.sigmoid(F.linear(x, block.highway.input.weight, block.highway.input.bias) + h)
        return 1.732 * (1 - r) * x + r * h
    y = x + y
    if name == "sample":
        return torch.stack([y[:, i] for i in range(0, LENGTH, 7)], dim=1)
    if name == "stack":
        # A convolution with as many taps as samples are joined.
        weight = block.widening.weight.unflatten(1, (WIDTH, 4))
        return F.conv1d(y.mT, weight, block.widening.bias, stride=4).mT
    if name == "repeat":
        return torch.stack([y] * 3, dim=-1).flatten(-2)
    if name == "mean and widening":
        mean = F.avg_pool1d(y.mT, 3).mT
        return block.widening(torch.stack([mean] * 2, dim=-1).flatten(-2))
    assert name == "widening"
    return block.widening(y)


@pytest.mark.parametrize(
    "name",
    ["scaled residual", "highway", "sample", "stack", "repeat", "widening", "mean and widening"],
)
def test_what_leaves_a_block_by_definition(name: str) -> None:
    block = model_of(name).double().blocks[0]
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    plain = dataclasses.replace(
        block.config, residual=False, residual_form="sum", stride=1, repeat=1, widening=None
    )
    with torch.inference_mode():
        got = block(x)
        kept, highway, widening = block.config, block.highway, block.widening
        block.config, block.highway, block.widening = plain, None, torch.nn.Identity()
        y = block(x)
        block.config, block.highway, block.widening = kept, highway, widening
        torch.testing.assert_close(got, left_by_hand(name, x, y, block), rtol=0, atol=1e-12)


def test_a_batch_norm_without_statistics_is_torchs() -> None:
    block = model_of("batch").double().blocks[0]
    norm = torch.nn.BatchNorm1d(WIDTH, track_running_stats=False).double()
    norm.load_state_dict(block.norm.state_dict())
    x = 3 + 2 * torch.randn(3, LENGTH, WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(block.norm(x), norm.eval()(x.mT).mT)


def test_samples_that_cannot_be_joined_are_refused() -> None:
    with pytest.raises(s4edge.S4EdgeError, match="joins 4 samples each, which 58 are no multiple"):
        model_of("stack")(torch.zeros(1, 58, 2))


def test_a_head_compares_the_halves_of_a_batch(tmp_path: Path) -> None:
    config = HeadConfig((6, 5), "gelu", 3, contrasts=True)
    model = model_of("plain", decoder="none", d_output=WIDTH, head=config).double()
    x = sequences(4)
    with torch.no_grad():
        u, v = model.answer(x).chunk(2)
        y = torch.cat([u, v, u - v, u * v], dim=-1)
        first, second, last = model.head.layers
        y = last(torch.nn.functional.gelu(second(torch.nn.functional.gelu(first(y)))))
        torch.testing.assert_close(model(x), y)
        torch.testing.assert_close(model.stream(x)[:, -1], model.answer(x), rtol=0, atol=1e-11)
    with pytest.raises(s4edge.S4EdgeError, match="first half of a batch with the second, got 3"):
        model(x[:3])
    exported = s4edge.export_onnx(model.float(), tmp_path / "m.onnx")
    assert exported.to_json()["head"] == str(tmp_path / "m-head.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m-head.onnx")
    (got,) = session.run(["y"], {"first": u.float().numpy(), "second": v.float().numpy()})
    np.testing.assert_allclose(got, y.numpy(), rtol=1e-4, atol=1e-5)
    s4edge.save(model, tmp_path / "m.safetensors")
    back = s4edge.load(tmp_path / "m.safetensors")
    assert back.config == model.config
    with torch.no_grad():
        torch.testing.assert_close(back(x.float()), model(x.float()))


def test_an_embedding_takes_tokens(tmp_path: Path) -> None:
    model = model_of("plain", encoder="embedding", d_input=11)
    tokens = torch.randint(0, 11, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    for mode in ("step", "sequence"):
        exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode)
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output
    with torch.inference_mode():
        torch.testing.assert_close(model.stream(tokens)[:, -1], model(tokens), rtol=0, atol=1e-5)
    for wrong in (tokens + 5, tokens.double(), tokens[..., None]):
        with pytest.raises(s4edge.S4EdgeError, match="tokens from 0 to 10"):
            model(wrong)


def test_backward_systems_by_the_sum() -> None:
    forward, backward = systems_of(1, WIDTH), systems_of(2, WIDTH, feedthrough=False)
    model = model_of("backward").double()
    block = model.blocks[0]
    u = sequences().new_tensor(np.random.default_rng(0).standard_normal((1, 30, WIDTH)))
    k0, k1 = forward.modes().kernel(30), backward.modes().kernel(30)
    D = forward.D.detach().double().numpy()
    expected = D * u[0].numpy()
    for t in range(30):
        for s in range(30):
            expected[t] += (k0[:, t - s] if s <= t else k1[:, s - t - 1]) * u[0, s].numpy()
    seen = {}
    block.after = lambda x, u, y: seen.setdefault("y", y)  # type: ignore[method-assign]
    block.before = lambda x: x  # type: ignore[method-assign]
    with torch.inference_mode():
        block(u)
    np.testing.assert_allclose(seen["y"][0].numpy(), expected, atol=1e-10)


def test_a_cut_kernel_is_zero_from_there_and_streams_up_to_there() -> None:
    model, x = model_of("cut").double(), sequences()
    assert model.config.exact_samples == 20
    kernel = model.blocks[0].systems.modes().kernel(LENGTH)
    kernel[:, 20:] = 0
    u = torch.randn(1, LENGTH, WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        got = model.blocks[0].systems(u)[0].numpy()
        expected = model.blocks[0].systems.D.numpy() * u[0].numpy()
        for t in range(LENGTH):
            for k in range(t + 1):
                expected[t] += kernel[:, k] * u[0, t - k].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-10)
        with pytest.raises(s4edge.S4EdgeError, match="cut at 20 samples"):
            model.stream(x)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_variant_is_saved_and_compressed(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    small = s4edge.compress(model, 4)
    s4edge.save(small, tmp_path / "m.safetensors")
    back = s4edge.load(tmp_path / "m.safetensors")
    assert back.config == small.config
    with torch.inference_mode():
        torch.testing.assert_close(back(sequences().float()), small(sequences().float()))
    for layer in small.provenance.history[-1].layers:
        for error, bound in zip(layer.channel_error, layer.channel_error_bound, strict=True):
            assert error <= bound * (1 + 1e-6) + 1e-9


def test_channels_first_is_the_same_transposed() -> None:
    model = model_of("plain", pooling="none").double()
    bare = model_of("plain", pooling="none", channels_first=True).double()
    x = sequences()
    with torch.inference_mode():
        torch.testing.assert_close(bare(x.mT), model(x).mT)
        torch.testing.assert_close(bare.stream(x.mT), model.stream(x).mT)


def test_systems_without_modes_are_a_scale() -> None:
    counts = (0,) * WIDTH
    systems = DiagonalSystems(DiagonalConfig("feedforward", 0, 1, counts, counts, counts))
    u = torch.randn(1, 9, WIDTH)
    systems.D.data.fill_(2)
    with torch.inference_mode():
        torch.testing.assert_close(systems(u), 2 * u)
