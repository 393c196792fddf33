"""A narrower model fitted to what the original computes, layer by layer, along calibration data.

Every dense layer is refitted by least squares to the rows that are left of what the original's
answers, every norm's scale and shift to what leaves the original's, feature by feature, on what the
layers before deliver now; the decoder at last.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from s4edge.arrays import Float, Int
from s4edge.compression.dense.factors import Moments
from s4edge.compression.dense.places import recorded
from s4edge.compression.dense.seen import Pair, Sums
from s4edge.compression.states.calibration import Calibration, working_copy
from s4edge.compression.width.narrowing import Kept, narrowed
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import numbers
from s4edge.model.time_last import norm
from s4edge.progress import Progress

# Of the inputs' mean variance, as if white noise of that share were added: what data say little of
# stays as it is. The decoder sees one sample for each sequence where there is one answer.
_NOISE, _DECODER_NOISE = 1e-4, 1e-3


def fitted(
    model: SequenceModel, features: Int, sample: Calibration, progress: Progress
) -> tuple[SequenceModel, list[float]]:
    """A copy of a model with some features, and by layer the relative error of what leaves it.

    Args:
        model: left as it is.
        features: of the stream, ascending.
        sample: sequences.
        progress: called with the fraction done.
    """
    small, original = narrowed(model, features), working_copy(model)
    working, errors = working_copy(small), []
    kept = torch.from_numpy(features)
    with torch.no_grad():
        pair = Pair(original, working, sample)
        for index, block in enumerate(model.blocks):
            pair.reach(index)
            own = Kept.of(block, features)
            before = block.config.norm_placement == "pre"
            for name in (*["norm"] * before, *block.config.dense_names, *["norm"] * (not before)):
                sums = Sums()
                for (x, y), (reached, found) in pair.passing(index, name):
                    sums.add(*((y[:, kept], found) if name == "norm" else (x, reached)))
                layers = [each.blocks[index].get_submodule(name) for each in (small, working)]
                if name == "norm":
                    _rescale(layers, sums.moments())
                else:
                    rows, columns = own.rows(block, name), own.columns(block, name)
                    _refit(block.get_submodule(name), layers, rows, columns, sums.moments(), _NOISE)
            pair.reach(index + 1)
            errors.append(_error(pair, kept))
            progress((index + 1) / len(model.blocks))
        _rescale([small.norm, working.norm], _last(pair, kept))
        decoders = [small.decoder, working.decoder]
        rows = np.arange(model.config.d_output)
        _refit(model.decoder, decoders, rows, features, decoded(pair)[0], _DECODER_NOISE)
    return small, errors


def _refit(
    layer: nn.Module,
    layers: list[nn.Module],
    rows: Int,
    columns: Int,
    moments: Moments,
    noise: float,
) -> None:
    """Let layers come closest to some rows of what a layer made of its inputs.

    Args:
        layer: the original.
        layers: of the narrower model.
        rows: that they have of it.
        columns: that they have of it.
        moments: of the original's inputs and of theirs.
        noise: see `_NOISE`.
    """
    weight, bias = (numbers(layer.get_parameter(each)) for each in ("weight", "bias"))
    weight, bias = weight[rows], bias[rows]
    start, reached = weight[:, columns], moments.reached
    ridge = noise * max(float(np.trace(reached)) / len(reached), 1e-300)
    missing = weight @ moments.cross - start @ reached
    found = start + np.linalg.solve(reached + ridge * np.eye(len(reached)), missing.T).T
    offset = weight @ moments.mean + bias - found @ moments.reached_mean
    _set(layers, found, offset)


def _rescale(layers: list[nn.Module], moments: Moments) -> None:
    """Let norms of the narrower model come closest to the original's, feature by feature.

    Args:
        layers: norms; nothing is done to those without a scale and a shift for each feature.
        moments: of what leaves the original's and theirs.
    """
    first = layers[0]
    if not hasattr(first, "weight") or isinstance(first, nn.Identity):
        return
    power = np.diagonal(moments.reached)
    known = power > 1e-12
    slope = np.where(known, np.diagonal(moments.cross) / np.where(known, power, 1), 1.0)
    weight, bias = (numbers(first.get_parameter(each)) for each in ("weight", "bias"))
    shift = moments.mean - slope * moments.reached_mean
    _set(layers, slope * weight, slope * bias + shift)


def _set(layers: list[nn.Module], weight: Float, bias: Float) -> None:
    for layer in layers:
        layer.get_parameter("weight").copy_(torch.from_numpy(weight))
        layer.get_parameter("bias").copy_(torch.from_numpy(bias))


def _last(pair: Pair, kept: Tensor) -> Moments:
    sums = Sums()
    for hidden, lengths in pair.parts():
        y, found = (norm(m.norm, h) for m, h in zip(pair.models, hidden, strict=True))
        sums.add(pair.counted(y, lengths)[:, kept], pair.counted(found, lengths))
    return sums.moments()


def decoded(pair: Pair) -> tuple[Moments, int]:
    """Of what enters the decoders, where both models have come to their ends, and how often."""
    sums = Sums()
    for hidden, lengths in pair.parts():
        seen = []
        for model, h in zip(pair.models, hidden, strict=True):
            with recorded(model, "decoder") as recorder:
                model.decode(norm(model.norm, h), pair.calibration.length, lengths)
            assert recorder.seen is not None
            x = recorder.seen[0]
            each = model.config.answers_each_sample and x.ndim == 3
            seen.append(pair.counted(x, lengths) if each else x.reshape(-1, x.shape[-1]).double())
        sums.add(*seen)
    return sums.moments(), sums.count


def _error(pair: Pair, kept: Tensor) -> float:
    lost = power = 0.0
    for (y, found), lengths in pair.parts():
        aim = pair.counted(y, lengths)[:, kept]
        lost += float((pair.counted(found, lengths) - aim).square().sum())
        power += float(aim.square().sum())
    return float(np.sqrt(lost / power)) if power else 0.0
