"""One residual block around the systems of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.model.activations import activate, output_width
from s4edge.model.configuration import BlockConfig, GateConfig
from s4edge.model.dense.registry import make_dense
from s4edge.model.dropout import Dropout
from s4edge.model.joining import join, join_step, state_widths
from s4edge.model.norms import make_norm
from s4edge.model.systems.base import Systems
from s4edge.model.systems.registry import make_systems
from s4edge.model.time_last import linear, norm

_Maker = Callable[[str, int, int], nn.Module]
"""Of a dense layer, from its name in the block, the features that enter and those that leave."""


class Gate(nn.Module):
    """See `s4edge.model.configuration.GateConfig` for what it computes."""

    def __init__(self, features: int, channels: int, config: GateConfig, dense: _Maker) -> None:
        super().__init__()
        self.config = config
        self.input = dense("gate.input", features, config.width)
        glu = config.output_activation.startswith("glu")
        self.output = dense("gate.output", channels, (2 if glu else 1) * config.width)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        """``u`` (..., features), ``y`` (..., channels) to (..., width)."""
        config = self.config
        branch = activate(config.activation, self.input(u))
        return activate(config.output_activation, self.output(y)) * branch


class Highway(nn.Module):
    """See `BlockConfig.residual_form`."""

    def __init__(self, features: int, dense: _Maker) -> None:
        super().__init__()
        self.input = dense("highway.input", features, features)
        self.output = dense("highway.output", features, features)

    def forward(self, x: Tensor, y: Tensor, of_x: float) -> Tensor:
        """The block's input and what its layer gave, (..., features) each."""
        y = self.output(y)
        gate = torch.sigmoid(self.input(x) + y)
        return of_x * (1 - gate) * x + gate * y


class Block(nn.Module):
    """See `BlockConfig` for what it computes.

    Args:
        config: of it.
        width: features that enter.
        d_output: features that leave its layer.
        length: see `s4edge.model.configuration.ModelConfig.length`.

    Raises:
        S4EdgeError: a dense layer's kind does not suit its sizes.
    """

    def __init__(
        self, config: BlockConfig, width: int, d_output: int, length: int | None = None
    ) -> None:
        super().__init__()

        def dense(name: str, columns: int, rows: int) -> nn.Module:
            return make_dense(config.dense_kind(name), f"{config.name}: {name}", columns, rows)

        self.config = config
        self._d_output = d_output
        self.systems = make_systems(config.systems, length)
        self.backward_systems: Systems | None = None
        if config.backward is not None:
            self.backward_systems = make_systems(config.backward, length)
        channels = config.systems.channels // (1 if config.hyper is None else 2)
        channels = output_width(config.activation, channels)
        self.gate = None
        if config.gate is not None:
            self.gate = Gate(width, channels, config.gate, dense)
            channels = config.gate.width
        self.mixing: nn.Module = nn.Identity()
        if config.mixing == "linear":
            glu = config.final_activation.startswith("glu")
            rows = config.mixing_width or (2 * d_output if glu else d_output)
            self.mixing, channels = dense("mixing", channels, rows), rows
        channels = output_width(config.final_activation, channels)
        self.projection: nn.Module = nn.Identity()
        if config.projection == "linear":
            self.projection = dense("projection", channels, d_output)
        features = width if config.norm_placement == "pre" else d_output
        self.norm = make_norm(config.norm, features, config.norm_epsilon)
        self.highway = Highway(width, dense) if config.residual_form == "highway" else None
        if config.residual_form == "scaled":
            self.residual_scale = nn.Parameter(torch.ones(d_output))
        self.widening: nn.Module = nn.Identity()
        if config.widening is not None:
            stacked = config.stride if config.downsampling == "stack" else 1
            columns = d_output * stacked * config.repeat
            self.widening = dense("widening", columns, config.widening)
        # Only while the model is trained.
        self.dropout: Dropout | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Whole sequences, (batch, length, width) to what leaves the block.

        Raises:
            S4EdgeError: samples are stacked whose number is no multiple of the stride.
        """
        u = self.before(x)
        return self.after(x, u, self.respond(u))

    def respond(self, u: Tensor) -> Tensor:
        """The systems alone, both directions: (batch, length, width) to (..., channels)."""
        y = self.systems(u)
        if self.backward_systems is not None:
            y = y + self.backward_systems(reversed_input(u)).flip(1)
        return y

    @property
    def state_width(self) -> int:
        """Floats of state per stream: of the systems, then of the window that is being joined."""
        return self.systems.state_width + self._joining_width

    @property
    def _joining_width(self) -> int:
        config = self.config
        return sum(state_widths(config.downsampling, config.stride, self._d_output))

    def step(
        self, x: Tensor, state: Tensor, coefficients: Any = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """One sample, (batch, width), with the block's state.

        Returns:
            What leaves the block, (batch,) whether something does (None: always), the next state.
        """
        config, width = self.config, self._joining_width
        systems, window = state.split([state.shape[-1] - width, width], dim=-1)
        u = self.before(x)
        y, systems = self.systems.step(u, systems, coefficients)
        y = self._mix(x, u, y)
        if config.stride == 1:
            return self._widened(y), None, systems
        y, ready, window = join_step(config.downsampling, config.stride, y, window)
        return self._widened(y), ready, torch.cat([systems, window], dim=-1)

    def before(self, x: Tensor) -> Tensor:
        """What the systems read of the block's input."""
        return norm(self.norm, x) if self.config.norm_placement == "pre" else x

    def after(self, x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        """The block's output from its input, what the systems read, and what they answer."""
        return self._widened(self._downsampled(self._mix(x, u, y)))

    def _downsampled(self, y: Tensor) -> Tensor:
        stride, kind = self.config.stride, self.config.downsampling
        if kind == "stack" and y.shape[1] % stride:
            raise S4EdgeError(
                f"{self.config.name} joins {stride} samples each, which {y.shape[1]} are no "
                "multiple of"
            )
        return join(kind, stride, y)

    def _widened(self, y: Tensor) -> Tensor:
        if self.config.repeat != 1:
            y = y.repeat_interleave(self.config.repeat, dim=-1)
        return linear(self.widening, y)

    def _mix(self, x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        config = self.config
        if config.hyper is not None:
            value, factor = y.chunk(2, dim=-1)
            y = activate(config.hyper, factor) * value
        y = activate(config.activation, y)
        if self.gate is not None:
            y = self.gate(u, y)
        y = self._dropped(activate(config.multiplied_activation, y))
        y = activate(config.final_activation, linear(self.mixing, y))
        y = self._dropped(linear(self.projection, y))
        of_x, of_y = config.residual_weights
        if self.highway is not None:
            y = self.highway(x, y, of_x)
        elif config.residual:
            if config.residual_form == "scaled":
                y = self.residual_scale * y
            # Without multiplying by 1, to round as upstream does.
            y = (x if of_x == 1 else of_x * x) + (y if of_y == 1 else of_y * y)
        return norm(self.norm, y) if config.norm_placement == "post" else y

    def _dropped(self, y: Tensor) -> Tensor:
        return y if self.dropout is None else self.dropout(y)


def reversed_input(u: Tensor) -> Tensor:
    """What backward systems read, (batch, length, width), as if they ran forward in time.

    The first sample to come is one step away: the reversed sequence is delayed by one.
    """
    return torch.cat([torch.zeros_like(u[:, :1]), u.flip(1)[:, :-1]], dim=1)
