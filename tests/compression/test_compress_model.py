from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from s4edge.compression.compress import compress_model
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.file import load_model, save_model
from s4edge.model.history import Compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes

LENGTH = 400
BOUNDED = ["balanced", "complex-balanced"]


def model_of(
    *counts: tuple[list[int], list[int], list[int]],
    states_per_size: int = 1,
    length: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    backward: bool = False,
) -> SequenceModel:
    """A model with random tensors; each layer's counts are pairs, reals and growing modes."""
    blocks = []
    for index, (pairs, reals, growing) in enumerate(counts):
        states = np.max(2 * np.array(pairs) + reals + 2 * np.array(growing))
        systems = DiagonalConfig(
            kind="s4d",
            state_size=-(-int(states) // states_per_size),
            states_per_size=states_per_size,
            pairs=tuple(pairs),
            reals=tuple(reals),
            growing=tuple(growing),
        )
        blocks.append(
            BlockConfig(
                name=f"layers.{index}",
                systems=systems,
                norm="layer",
                norm_placement="pre",
                norm_epsilon=1e-5,
                residual=True,
                activation="gelu",
                mixing="linear",
                final_activation="glu",
                backward=systems if backward else None,
            )
        )
    config = ModelConfig(
        d_input=1,
        d_output=3,
        d_model=len(counts[0][0]),
        encoder="linear",
        blocks=tuple(blocks),
        pooling="mean",
        decoder="linear",
        length=length,
    )
    torch.manual_seed(seed)
    model = SequenceModel(config).to(dtype)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, DiagonalSystems):
                randomize(module)
    return model.eval()


def randomize(systems: DiagonalSystems) -> None:
    systems.pair_log_decay.uniform_(-6, -0.5)
    systems.pair_angle.uniform_(0.05, 3)
    systems.pair_weight.normal_()
    systems.real_log_decay.uniform_(-6, -0.5)
    systems.real_weight.normal_()
    systems.real_sign.copy_(torch.where(torch.rand_like(systems.real_sign) < 0.5, -1, 1))
    systems.growing_log_rate.uniform_(0.001, 0.02)
    systems.growing_angle.uniform_(0.05, 3)
    systems.growing_weight.normal_()
    systems.D.normal_()


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_identical(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name]), name


def stable(systems: DiagonalSystems) -> Modes:
    modes = systems.modes()
    return modes.select(modes.is_stable)


RAGGED = ([5, 2, 1, 0, 3], [0, 1, 4, 2, 1], [0] * 5), ([4, 4, 4, 4, 4], [0, 0, 1, 2, 3], [0] * 5)
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_full_size_every_tensor_stays_to_the_bit(method: str, dtype: torch.dtype) -> None:
    model = model_of(*RAGGED, dtype=dtype)
    small = compress_model(model, 11, method)
    assert_identical(tensors_of(small), tensors_of(model))
    assert small.config == model.config
    for layer in small.provenance.history[-1].layers:
        assert layer.channel_error == layer.channel_error_bound == (0,) * 5


@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("state", [1, 4, 6])
def test_errors_are_measured_and_within_their_bounds(
    method: str, dtype: torch.dtype, state: int
) -> None:
    model = model_of(*RAGGED, dtype=dtype)
    small = compress_model(model, state, method)
    (entry,) = small.provenance.history
    assert (type(entry), entry.method, entry.state) == (Compression, method, state)
    for before, after, layer in zip(model.blocks, small.blocks, entry.layers, strict=True):
        original, kept = before.systems.modes(), after.systems.modes()
        assert (kept.real_states <= state).all()
        assert layer.name == before.config.name
        assert layer.real_states_before == original.real_states.sum()
        assert layer.real_states_after == kept.real_states.sum()
        error, bound = np.array(layer.channel_error), np.array(layer.channel_error_bound)
        gain = hinf_distance(original, Modes.make([], [], [], 5))
        np.testing.assert_allclose(error, hinf_distance(original, kept), atol=1e-12 * gain.max())
        assert (error <= bound + 1e-10 * gain).all()
        # No sample of a kernel is off by more than the H-infinity norm of the error.
        difference = (before.systems.kernel(2000) - after.systems.kernel(2000)).abs().amax(dim=1)
        assert (difference.detach().numpy() <= error + 1e-10 * gain).all()
        if method == "balanced":
            for sigma, found in zip(hankel_singular_values(original), error, strict=True):
                assert state >= len(sigma) or found >= sigma[state] * (1 - 1e-6)


def test_rounding_to_the_stored_numbers_counts_in_the_bound() -> None:
    model = model_of(([3, 3], [0, 0], [0, 0]))
    systems = model.blocks[0].systems
    with torch.no_grad():
        # Two modes with one pole: four states are enough, all that is lost is rounding.
        for first in (0, 3):
            systems.pair_log_decay[first + 1] = systems.pair_log_decay[first]
            systems.pair_angle[first + 1] = systems.pair_angle[first]
    entry = compress_model(model, 4).provenance.history[-1].layers[0]
    error, bound = np.array(entry.channel_error), np.array(entry.channel_error_bound)
    gain = hinf_distance(systems.modes(), Modes.make([], [], [], 2))
    assert (error > 1e-9 * gain).all()
    # Both are found by a search; of differences this small relative to the gain, to 1e-4.
    assert (error <= bound * (1 + 1e-4)).all()
    assert (bound < 1e-4 * gain).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_within_the_size_and_all_else_stay_to_the_bit(dtype: torch.dtype) -> None:
    model = model_of(*RAGGED, dtype=dtype)
    before = model.blocks[0].systems
    with torch.no_grad():
        # Next to 0 the logarithm of an exponential has lost digits.
        before.pair_log_decay *= 1e-3
        before.real_log_decay *= 1e-3
    small = compress_model(model, 5)
    after = small.blocks[0].systems
    states = before.modes().real_states
    assert states.tolist() == [10, 5, 6, 2, 7]
    for channel in np.flatnonzero(states <= 5):
        for kind in ("pair", "real"):
            chosen = getattr(before, f"{kind}_channel") == channel
            found = getattr(after, f"{kind}_channel") == channel
            names = [name for name in before.state_dict() if name.startswith(kind)]
            assert len(names) == 3
            for name in names:
                old, new = getattr(before, name)[chosen], getattr(after, name)[found]
                assert torch.equal(old, new), name
    others = {n: t for n, t in tensors_of(model).items() if "pair_" not in n and "real_" not in n}
    assert others.keys() <= small.state_dict().keys()
    assert_identical(others, {name: small.state_dict()[name] for name in others})


def test_a_kept_pair_whose_pole_is_exactly_real_keeps_its_kernel() -> None:
    model = model_of(([4, 2], [0, 0], [0, 0]))
    with torch.no_grad():
        model.blocks[0].systems.pair_angle[4:] = 0
    small = compress_model(model, 4)
    before, after = model.blocks[0].systems.kernel(300), small.blocks[0].systems.kernel(300)
    np.testing.assert_allclose(before[1].detach(), after[1].detach(), atol=1e-6)


def test_the_original_is_left_as_it_is() -> None:
    model = model_of(*RAGGED)
    config, tensors = model.config, tensors_of(model)
    provenance = copy.deepcopy(model.provenance)
    compress_model(model, 3)
    assert model.config == config
    assert [block.config for block in model.blocks] == list(config.blocks)
    assert_identical(tensors_of(model), tensors)
    assert model.provenance == provenance


def test_compressing_twice_adds_to_the_history() -> None:
    small = compress_model(compress_model(model_of(*RAGGED), 6), 2)
    assert [entry.state for entry in small.provenance.history] == [6, 2]
    assert [block.systems.config.state_size for block in small.blocks] == [2, 2]


def test_layers_are_reduced_by_themselves() -> None:
    model = model_of(*RAGGED)
    both = compress_model(model, 4)
    for index in range(2):
        alone = copy.deepcopy(model)
        alone.config = ModelConfig(
            **{**vars(model.config), "blocks": (model.config.blocks[index],)}
        )
        alone.blocks = torch.nn.ModuleList([model.blocks[index]])
        found = compress_model(alone, 4).blocks[0].systems
        assert_identical(tensors_of(found), tensors_of(both.blocks[index].systems))


def test_the_sizes_of_dss_count_two_real_states_each() -> None:
    model = model_of(([6, 6], [0, 0], [0, 0]), states_per_size=2)
    assert model.blocks[0].systems.config.state_size == 6
    small = compress_model(model, 3)
    assert small.blocks[0].systems.modes().real_states.tolist() == [6, 6]
    assert small.blocks[0].systems.config.state_size == 3


def test_a_layer_without_weights_is_left_with_no_modes(tmp_path: Path) -> None:
    model = model_of(([3, 3], [1, 1], [0, 0]), ([2, 2], [0, 0], [0, 0]))
    with torch.no_grad():
        model.blocks[0].systems.pair_weight.zero_()
        model.blocks[0].systems.real_weight.zero_()
    small = compress_model(model, 2)
    assert small.blocks[0].systems.config.real_states == 0
    x = torch.randn(2, 50, 1)
    save_model(small, tmp_path / "small.safetensors")
    with torch.no_grad():
        expected = small(x)
        assert torch.isfinite(expected).all()
        assert torch.equal(load_model(tmp_path / "small.safetensors")(x), expected)
        torch.testing.assert_close(small.stream(x)[:, -1], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [None, LENGTH])
def test_a_compressed_ragged_model_is_saved_loaded_and_run(
    tmp_path: Path, dtype: torch.dtype, length: int | None
) -> None:
    growing = [0, 1, 0, 0, 2] if length else [0] * 5
    model = model_of((RAGGED[0][0], RAGGED[0][1], growing), RAGGED[1], length=length, dtype=dtype)
    small = compress_model(model, 5)
    save_model(small, tmp_path / "small.safetensors")
    loaded = load_model(tmp_path / "small.safetensors")
    assert loaded.config == small.config
    assert loaded.provenance == small.provenance
    assert_identical(tensors_of(loaded), tensors_of(small))
    x = torch.randn(2, LENGTH, 1, dtype=dtype)
    with torch.no_grad():
        expected = small(x)
        assert torch.equal(loaded(x), expected)
        if length is None:
            close = 1e-3 if dtype == torch.float32 else 1e-10
            streamed = small.stream(x)[:, -1]
            torch.testing.assert_close(streamed, expected, atol=close, rtol=close)


def test_systems_that_run_backward_are_reduced_too() -> None:
    model = model_of(RAGGED[0], backward=True)
    small = compress_model(model, 4)
    layers = small.provenance.history[-1].layers
    assert len(layers) == 2
    for name, layer in zip(("systems", "backward_systems"), layers, strict=True):
        before, after = getattr(model.blocks[0], name), getattr(small.blocks[0], name)
        error = hinf_distance(before.modes(), after.modes())
        np.testing.assert_allclose(layer.channel_error, error, rtol=1e-9, atol=1e-12)
        assert (after.modes().real_states <= 4).all()
    assert small.config.blocks[0].backward == small.blocks[0].backward_systems.config


# Errors of the user's


@pytest.mark.parametrize("state", [0, -1, True, False, 2.0, 2.5, float("nan"), "4"])
def test_a_state_size_that_is_no_count_is_refused(state: object) -> None:
    with pytest.raises(S4EdgeError, match="whole number from 1 up"):
        compress_model(model_of(*RAGGED), state)


def test_a_state_size_above_the_models_is_refused() -> None:
    with pytest.raises(S4EdgeError, match=r"state size 12 is larger than the model's 11"):
        compress_model(model_of(*RAGGED), 12)


def test_numpy_whole_numbers_will_do() -> None:
    small = compress_model(model_of(*RAGGED), np.int64(3))
    assert small.provenance.history[-1].state == 3
    assert type(small.provenance.history[-1].state) is int


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(S4EdgeError, match=r"'krylov' is unknown; known: balanced"):
        compress_model(model_of(*RAGGED), 3, "krylov")


# Growing modes


GROWING = ([3, 1, 4, 0], [1, 0, 0, 0], [2, 1, 0, 2])


@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("state", [5, 6, 8])
def test_growing_modes_are_kept_and_the_others_reduced(
    method: str, dtype: torch.dtype, state: int
) -> None:
    model = model_of(GROWING, length=LENGTH, dtype=dtype)
    small = compress_model(model, state, method)
    before, after = model.blocks[0].systems, small.blocks[0].systems
    assert after.config.growing == before.config.growing
    for name in ("growing_log_rate", "growing_angle", "growing_weight"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    states = 2 * np.array(after.config.pairs) + after.config.reals
    assert (states + 2 * np.array(after.config.growing) <= state).all()
    layer = small.provenance.history[-1].layers[0]
    bound = np.array(layer.channel_error_bound)
    difference = (before.kernel(LENGTH) - after.kernel(LENGTH)).detach().numpy()
    # The error's norm bounds its largest sample and its energy.
    gain = hinf_distance(stable(before), Modes.make([], [], [], 4))
    assert (np.linalg.norm(difference, axis=1) <= bound + 1e-9 * gain + 1e-12).all()
    assert (np.array(layer.channel_error) <= bound + 1e-9 * gain).all()
    assert layer.channel_error[3] == 0
    assert (difference[3] == 0).all()


@pytest.mark.parametrize(("states_per_size", "least"), [(1, 5), (2, 3)])
def test_growing_modes_that_leave_no_room_are_refused_with_the_least_size(
    states_per_size: int, least: int
) -> None:
    model = model_of(GROWING, length=LENGTH, states_per_size=states_per_size)
    message = (
        r"layers\.0: channels have up to 2 growing modes .* length of 400 samples only.*"
        rf"no infinite-horizon Gramian.* state size of at least {least}$"
    )
    with pytest.raises(S4EdgeError, match=message):
        compress_model(model, least - 1)
    compress_model(model, least)


def test_a_channel_of_growing_modes_only_needs_just_their_room() -> None:
    model = model_of(([0, 3], [0, 0], [2, 1]), length=LENGTH)
    small = compress_model(model, 4)
    assert small.blocks[0].systems.config.growing == (2, 1)
    assert small.blocks[0].systems.config.pairs == (0, 1)
    with pytest.raises(S4EdgeError, match=r"at least 4$"):
        compress_model(model, 3)


def test_at_full_size_a_model_of_growing_modes_stays_to_the_bit() -> None:
    model = model_of(([0, 0], [0, 0], [2, 2]), length=LENGTH)
    assert_identical(tensors_of(compress_model(model, 4)), tensors_of(model))


# Progress


def test_progress_rises_to_1() -> None:
    seen: list[float] = []
    compress_model(model_of(*RAGGED), 3, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
