"""Families that s4edge does not read whole, as their own classes: what is read, and in place."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import s4edge
from upstream.checkout import Checkout

BACKBONES = "src.models.sequence.backbones"
MODULES = "src.models.sequence.modules"


@dataclass(frozen=True)
class Member:
    """A module of a family.

    Attributes:
        name: for people.
        build: makes it.
        shape: of an input.
        state: its ``d_state``.
        cls: of a class that is read, its dotted name.
        config: of one, its constructor's arguments.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    state: int
    cls: str = ""
    config: dict[str, Any] = field(default_factory=dict)


def members(upstream: Checkout) -> list[Member]:
    """Of version 4: SaShiMi, S4ND and Mega's block; of version 3: SaShiMi."""
    if upstream.version == "v3":
        return _sashimi(upstream.get("src.models.sequence.sashimi.Sashimi"), "measure", l_max=64)
    _mend_averages()
    return [
        *_sashimi(upstream.get(f"{BACKBONES}.sashimi.Sashimi"), "init"),
        *_s4nd(upstream.get(f"{MODULES}.s4nd.S4ND")),
        *_mega(upstream.get(f"{MODULES}.megablock.MegaBlock")),
    ]


def _sashimi(cls: Callable[..., nn.Module], init: str, **more: Any) -> list[Member]:
    """``init`` is the version's word for how poles are initialized."""
    found = []
    for words, layer in (
        ("S4D", {"_name_": "s4", "mode": "diag", init: "diag-lin", "d_state": 16}),
        ("S4-LegS", {"_name_": "s4", "mode": "nplr", init: "legs", "d_state": 16, "l_max": 64}),
    ):
        for transposed in (True, False):
            options = {
                "pool": [2, 2], "expand": 2, "ff": 2, "prenorm": True, "norm": "layer",
                "layer": layer, "transposed": transposed, **more,
            }  # fmt: skip
            axes = "channels first" if transposed else "channels last"
            name = f"SaShiMi of {words}, {axes}"
            build = functools.partial(_built, cls, 8, 2, **options)
            found.append(Member(name, build, (2, 64, 8), 16))
    return found


def _built(cls: Callable[..., nn.Module], *sizes: int, **options: Any) -> nn.Module:
    # Upstream takes its options apart.
    return cls(*sizes, **copy.deepcopy(options))


def _s4nd(cls: Callable[..., nn.Module]) -> list[Member]:
    found = []
    for mode, init in (("diag", "diag-lin"), ("nplr", "legs")):
        for both in (False, True):
            build = functools.partial(
                cls, 8, d_state=16, dim=2, l_max=[12, 14], mode=mode, init=init,
                bidirectional=both, contract_version=0,
            )  # fmt: skip
            name = f"S4ND in 2-D, {mode}" + ", bidirectional" * both
            found.append(Member(name, build, (2, 8, 12, 14), 16))
    return found


def _mega(cls: Callable[..., nn.Module]) -> list[Member]:
    return [
        Member(
            f"Mega's block, mode {mode}",
            functools.partial(cls, 8, 4, 8, 8, mode=mode),
            (2, 30, 8),
            8,
        )
        for mode in ("mega", "ema", "diag", "nplr")
    ]


def _mend_averages() -> None:
    """Upstream's EMAKernel calls a function that its module does not import."""
    kernel: Any = importlib.import_module("src.models.sequence.kernels.kernel")
    kernel.rearrange = importlib.import_module("einops").rearrange


def averages(upstream: Checkout) -> list[Member]:
    """Mega's averages, alone and as a kernel of S4Block."""
    _mend_averages()
    found = []
    cls = f"{MODULES}.megablock.MultiHeadEMA"
    for both in (False, True):
        config = {"d_model": 4, "d_state": 3, "bidirectional": both}
        found.append(
            Member(
                "ema" + "_bidirectional" * both,
                lambda c=config: upstream.get(cls)(**c),
                (1, 20, 4),
                3,
                cls,
                config,
            )
        )
    block = f"{MODULES}.s4block.S4Block"
    for name, more in (
        ("block_ema", {}),
        ("block_ema_channels", {"channels": 2, "dt_tie": True}),
        ("block_ema_bidirectional", {"bidirectional": True}),
        ("block_ema_efficient", {"bidirectional": True, "efficient_bidirectional": True}),
    ):
        config = {"d_model": 4, "d_state": 3, "mode": "ema", **more}
        found.append(
            Member(name, lambda c=config: upstream.get(block)(**c), (1, 4, 20), 3, block, config)
        )
    return found


def members_of_h3(upstream: Checkout) -> list[Member]:
    """Of HazyResearch/H3."""
    h3 = upstream.get("src.models.ssm.h3.H3")
    # Its fast product needs an extension.
    diagonal: Any = importlib.import_module("src.models.ssm.ss_kernel_diag")
    diagonal.log_vandermonde_fast = None
    found = []
    for disc in ("bilinear", "zoh"):
        for heads in (1, 2):
            options = {
                "d_state": 16,
                "head_dim": heads,
                "mode": "diag",
                "measure": "diag-lin",
                "disc": disc,
            }
            found.append(
                Member(
                    f"H3, {disc}, head_dim {heads}", lambda o=options: h3(8, **o), (2, 50, 8), 16
                )
            )
    return found


def told(member: Member) -> str:
    """A line: how its checkpoint is refused, and what is lost where its layers are reduced."""
    torch.manual_seed(0)
    module = member.build().eval()
    x = torch.randn(member.shape)
    before = _run(module, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(module.state_dict(), path)
        try:
            s4edge.load(path)
            refused = "READ"
        except s4edge.S4EdgeError as error:
            refused = str(error).removeprefix(f"{path}: ").partition(": ")[0]
    parts = []
    for state in (member.state, member.state // 2):
        small = copy.deepcopy(module)
        layers = s4edge.compress_(small, state)
        error = float((_run(small, x) - before).abs().max() / before.abs().max())
        parts.append(f"{len(layers)} replaced at state {state}: {error:.1e}")
    return f"{member.name}: {refused}; {'; '.join(parts)}"


def _run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = module(x)
    output: Tensor = y[0] if isinstance(y, tuple) else y
    return output


def record(found: list[Member], path: Path) -> None:
    """State dicts, configurations, inputs and outputs of what is read, in one file."""
    arrays: dict[str, Any] = {}
    for member in found:
        torch.manual_seed(0)
        module = member.build().eval()
        x = torch.randn(member.shape)
        arrays |= {f"{member.name}/state/{k}": v.numpy() for k, v in module.state_dict().items()}
        arrays |= {f"{member.name}/x": x.numpy(), f"{member.name}/y": _run(module, x).numpy()}
        arrays[f"{member.name}/sidecar"] = np.array(
            json.dumps({"cls": member.cls, "config": member.config})
        )
    np.savez_compressed(path, **arrays)
