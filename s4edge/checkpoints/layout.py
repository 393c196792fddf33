"""How a layer's systems lie in upstream's own parameters: the inverse of reading.

Only poles are turned back into parameters. What turns ``C`` into the weights of the discrete modes
is asked of the reader: it reads the layer with the new poles and ones for ``C``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.tensors import StateDict
from s4edge.errors import S4EdgeError


@dataclass(frozen=True)
class Layout:
    """One layer as its upstream class lays it out.

    Attributes:
        pole: (systems, modes) in continuous time; feature h has those of system h % systems.
        steps: (features, 2) step sizes of the poles' real and imaginary parts.
        weights: name of the tensor that the weights are proportional to, of shape (features,
            modes, 2) or (rows, features, modes, 2).
        bilinear: whether discrete poles come by the bilinear map.
        modes_per_size: modes that one unit of ``d_state`` stands for.
        interleaved: whether a feature's rows stand together in the layer read.
        write: takes poles (systems, other modes) of the sign that ``upper`` says to the tensors
            to replace but the weights.
        upper: whether imaginary parts must not be negative (True), not be positive (False), or
            may be either (None); a mode and its conjugate are the same.
    """

    pole: Complex
    steps: Float
    weights: str
    bilinear: bool
    modes_per_size: float
    interleaved: bool
    write: Callable[[Complex], dict[str, Float]]
    upper: bool | None

    def slots(self, state: int) -> int:
        """Modes of a ``d_state``.

        Raises:
            S4EdgeError: it is odd where it must be even.
        """
        slots = state * self.modes_per_size
        if slots != int(slots):
            raise S4EdgeError(
                f"upstream's layer stores d_state / 2 conjugate pairs: {state} is odd; "
                "choose an even state size"
            )
        return int(slots)


def numbers(tensors: StateDict, name: str) -> Float:
    """A tensor in double precision."""
    return tensors[name].detach().double().numpy()
