"""One residual block around a layer of diagonal systems."""

from __future__ import annotations

from torch import Tensor, nn

from s4edge.model.activations import activate
from s4edge.model.configuration import BlockConfig
from s4edge.model.systems import Coefficients, DiagonalSystems


class Block(nn.Module):
    """See `BlockConfig` for what it computes. Shapes are (..., d_model) in and out."""

    def __init__(self, config: BlockConfig, d_model: int, length: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.systems = DiagonalSystems(config.systems, length)
        self.norm = (
            nn.LayerNorm(d_model, eps=config.norm_epsilon)
            if config.norm == "layer"
            else nn.Identity()
        )
        width = 2 * d_model if config.final_activation == "glu" else d_model
        self.mixing = nn.Linear(d_model, width) if config.mixing == "linear" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Whole sequences, (batch, length, d_model)."""
        return self._after(x, self.systems(self._before(x)))

    def step(
        self, x: Tensor, state: Tensor, coefficients: Coefficients | None = None
    ) -> tuple[Tensor, Tensor]:
        """One sample, (batch, d_model), with the state of the systems."""
        y, state = self.systems.step(self._before(x), state, coefficients)
        return self._after(x, y), state

    def _before(self, x: Tensor) -> Tensor:
        return self.norm(x) if self.config.norm_placement == "pre" else x

    def _after(self, x: Tensor, y: Tensor) -> Tensor:
        y = self.mixing(activate(self.config.activation, y))
        y = activate(self.config.final_activation, y)
        if self.config.residual:
            y = x + y
        return self.norm(y) if self.config.norm_placement == "post" else y
