"""AdamW with the usual rates of state-space models, warm-up and half a cosine.

Poles and step sizes have rates of their own and no weight decay, as in upstream's training code
(state-spaces/s4, ``setup_optimizer``).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from s4edge.training.settings import TrainingSettings
from s4edge.training.trainable import Trainable

_POLES = ("decay", "angle", "real_decay")


def make_optimizer(trainable: Trainable, settings: TrainingSettings) -> torch.optim.AdamW:
    """Groups: dense weights, biases and norms, weights of the systems, poles, step sizes."""
    poles: list[nn.Parameter] = []
    steps: list[nn.Parameter] = []
    dense: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in trainable.named_parameters():
        if not parameter.requires_grad or not parameter.numel():
            continue
        last = name.rpartition(".")[2]
        if name.startswith("coordinates."):
            (poles if last in _POLES else steps if last == "step" else plain).append(parameter)
        else:
            (dense if parameter.ndim >= 2 else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": dense, "lr": settings.rate, "weight_decay": settings.weight_decay},
        {"params": plain, "lr": settings.rate},
        {"params": poles, "lr": settings.pole_rate},
        {"params": steps, "lr": settings.step_rate},
    ]
    for group in groups:
        group["full_rate"] = group["lr"]
    return torch.optim.AdamW([each for each in groups if each["params"]], weight_decay=0.0)


def check_moments(optimizer: torch.optim.AdamW) -> None:
    """Check what was read back: the moments of each parameter are of its shape, the rates there.

    Raises:
        ValueError: they are not.
    """
    rates = ("lr", "full_rate", "eps", "weight_decay")
    for group in optimizer.param_groups:
        if not all(isinstance(group.get(key), (int, float)) for key in rates):
            raise ValueError("its optimizer lacks a rate")
        for parameter in group["params"]:
            moments = optimizer.state.get(parameter, {})
            if moments and not (
                moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
                and moments["exp_avg"].shape == moments["exp_avg_sq"].shape == parameter.shape
                and moments["step"].numel() == 1
            ):
                raise ValueError("its optimizer's moments are of another model")


def set_rate(optimizer: torch.optim.AdamW, done: float, warmup: float) -> float:
    """For a fraction ``done`` of all steps: linear up to ``warmup``, then half a cosine to zero.

    Returns:
        The factor on every group's full rate.
    """
    if done < warmup:
        factor = done / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1 - warmup, 1e-9)))
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * factor
    return factor


def clip(module: nn.Module, largest: float) -> None:
    """Scale all gradients down together, to a norm of ``largest`` at most; 0 for any."""
    if largest:
        torch.nn.utils.clip_grad_norm_(module.parameters(), largest)
