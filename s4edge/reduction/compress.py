"""Reduction of a whole model, with what was lost."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.modes import Modes
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems
from s4edge.reduction.balanced import balanced_truncation
from s4edge.reduction.base import Float, Int, Method
from s4edge.reduction.complex_balanced import complex_balanced_truncation
from s4edge.reduction.hinf import hinf_distance

BoolArray = NDArray[np.bool_]

METHODS: dict[str, Method] = {
    "balanced": balanced_truncation,
    "complex-balanced": complex_balanced_truncation,
}


def compress_model(
    model: SequenceModel,
    state: int,
    method: str = "balanced",
    progress: Callable[[float], None] = lambda fraction: None,
) -> SequenceModel:
    """A copy of a model whose channels keep ``state`` states each.

    Channels that have no more than that are kept to the bit. The copy's provenance tells for every
    channel the measured H-infinity error and its bound.

    Args:
        model: left as it is.
        state: the new state size, in the checkpoint's own count of ``d_state``.
        method: a key of `METHODS`.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: the state size is below 1 or above the model's, the method is unknown, or
            modes that grow leave no room.
    """
    if method not in METHODS:
        raise S4EdgeError(f"method {method!r} is unknown; known: {', '.join(METHODS)}")
    if isinstance(state, bool) or not isinstance(state, int | np.integer) or state < 1:
        raise S4EdgeError(f"the state size must be a whole number from 1 up, got {state}")
    largest = max(each.state_size for block in model.config.blocks for each in block.all_systems)
    if state > largest:
        raise S4EdgeError(
            f"the state size {state} is larger than the model's {largest:g}: "
            "reduction takes states away; choose a smaller one"
        )
    small = copy.deepcopy(model)
    layers: list[dict[str, Any]] = []
    # The matrices are small: BLAS threads would only wait for each other.
    with threadpool_limits(1):
        for index, block in enumerate(small.blocks):
            layers += _compress_block(block, int(state), METHODS[method])
            progress((index + 1) / len(small.blocks))
    small.config = dataclasses.replace(
        model.config, blocks=tuple(block.config for block in small.blocks)
    )
    entry = {"did": "compress", "method": method, "state": int(state), "layers": layers}
    small.provenance.history.append(entry)
    return small


def _compress_block(block: Block, state: int, method: Method) -> list[dict[str, Any]]:
    """Replace a block's systems by reduced ones; returns their entries in the history."""
    name = block.config.name
    block.systems, entry = _compress_systems(name, block.systems, state, method)
    block.config = dataclasses.replace(block.config, systems=block.systems.config)
    if block.backward_systems is None:
        return [entry]
    block.backward_systems, back = _compress_systems(
        f"{name} (backward)", block.backward_systems, state, method
    )
    block.config = dataclasses.replace(block.config, backward=block.backward_systems.config)
    return [entry, back]


def _compress_systems(
    name: str, before: DiagonalSystems, state: int, method: Method
) -> tuple[DiagonalSystems, dict[str, Any]]:
    modes = before.modes()
    stable, growing = modes.select(modes.is_stable), modes.select(~modes.is_stable)
    orders = _orders(name, before, stable, state)
    reduced, bound = _reduce(stable, orders, method)
    after = DiagonalSystems.from_modes(
        Modes.concatenate([reduced, growing]),
        before.D.detach().double().numpy() if before.config.feedthrough else None,
        kind=before.config.kind,
        state_size=min(state, before.config.state_size),
        states_per_size=before.config.states_per_size,
        length=before.length,
        inputs=before.config.inputs,
        kernel_length=before.config.kernel_length,
        dtype=before.D.dtype,
    )
    error = np.zeros(modes.channels)
    changed = np.flatnonzero(stable.real_states > orders)
    if len(changed):
        _keep_to_the_bit(before, after, stable.real_states <= orders)
        # What counts is what is stored: rounding to the parameters' dtype adds to the bound.
        kept = after.modes()
        kept = kept.select(kept.is_stable).of_channels(changed)
        error[changed] = hinf_distance(stable.of_channels(changed), kept)
        bound[changed] += hinf_distance(reduced.of_channels(changed), kept)
    else:
        after = before
    return after, {
        "name": name,
        "real_states_before": before.config.real_states,
        "real_states_after": after.config.real_states,
        "channel_error": error.tolist(),
        "channel_error_bound": [value if np.isfinite(value) else None for value in bound],
    }


def _keep_to_the_bit(before: DiagonalSystems, after: DiagonalSystems, kept: BoolArray) -> None:
    """Copy the parameters of growing modes and of the channels ``kept``, (channels,).

    Through `Modes` their logarithms were rounded once more.
    """
    parameters = dict(before.named_parameters())
    everyone = np.ones_like(kept)
    for kind, counts, wanted in (
        ("pair", "pairs", kept),
        ("real", "reals", kept),
        ("growing", "growing", everyone),
    ):
        # They differ where a pair's pole was exactly real.
        same = np.equal(getattr(before.config, counts), getattr(after.config, counts))
        chosen = torch.from_numpy(wanted & same)
        into, out_of = (chosen[getattr(systems, f"{kind}_channel")] for systems in (after, before))
        with torch.no_grad():
            for name, parameter in after.named_parameters():
                if name.startswith(f"{kind}_"):
                    parameter[into] = parameters[name][out_of]


def _orders(name: str, systems: DiagonalSystems, stable: Modes, state: int) -> Int:
    """(channels,) real states that the stable modes of each channel may keep."""
    needed = 2 * np.asarray(systems.config.growing)
    least_of_each = needed + (stable.real_states > 0)
    allowed = state * systems.config.states_per_size
    if (least_of_each > allowed).any():
        most = int(needed.max()) // 2
        least = -(-int(least_of_each.max()) // systems.config.states_per_size)
        raise S4EdgeError(
            f"{name}: channels have up to {most} growing modes (|a| >= 1, meaningful up to the "
            f"kernel's length of {systems.length} samples only); they have no infinite-horizon "
            f"Gramian, cannot be reduced and are kept, which takes a state size of at least {least}"
        )
    return np.asarray(allowed - needed, dtype=np.int64)


def _reduce(stable: Modes, orders: Int, method: Method) -> tuple[Modes, Float]:
    """Reduce the channels that have more states than their order; keep the others."""
    bound = np.zeros(stable.channels)
    too_large = stable.real_states > orders
    if not too_large.any():
        return stable, bound
    chosen = np.flatnonzero(too_large)
    result = method(stable.of_channels(chosen), orders[chosen])
    bound[chosen] = result.error_bound
    back = dataclasses.replace(
        result.modes, channel=chosen[result.modes.channel], channels=stable.channels
    )
    untouched = stable.select(~np.isin(stable.channel, chosen))
    return Modes.concatenate([back, untouched]), bound
