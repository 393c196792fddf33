"""How a layer's systems lie in upstream's own parameters: the inverse of reading.

Only poles are turned back into parameters. What turns ``C`` into the weights of the discrete modes
is asked of the reader: it reads the layer with the new poles and ones for ``C``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.tensors import StateDict
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import Modes

# Faster than this a discrete pole is zero for every purpose.
_FASTEST = -30.0


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

    def weights_of(self, modes: Modes, backward: Modes | None) -> Complex:
        """(rows, features, modes) the weights of systems that were read, rows both ways in time."""
        features = len(self.steps)
        parts = []
        for each in (modes, backward):
            if each is None:
                continue
            rows = each.channels // features
            if self.interleaved:
                parts.append(each.weight.reshape(features, rows, -1).swapaxes(0, 1))
            else:
                parts.append(each.weight.reshape(rows, features, -1))
        return np.concatenate(parts)

    def filled(self, modes: Modes, slots: int) -> tuple[Complex, Complex]:
        """Continuous-time poles and weights (features, slots); places left over keep an old pole.

        Raises:
            S4EdgeError: a mode is not stable.
        """
        if not modes.is_stable.all():  # rounding at the unit circle
            raise S4EdgeError("a reduced pole is not inside the unit circle")
        log_pole = np.maximum(modes.log_pole.real, _FASTEST) + 1j * modes.log_pole.imag
        z = 2 * np.tanh(log_pole / 2) if self.bilinear else log_pole
        counts = np.bincount(modes.channel, minlength=modes.channels)
        place = np.arange(len(z)) - np.repeat(np.cumsum(counts) - counts, counts)
        pole = self.pole[:, :slots].copy()
        weight = np.zeros((modes.channels, slots), dtype=np.complex128)
        of_real, of_imaginary = self.steps[modes.channel].T
        pole[modes.channel, place] = z.real / of_real + 1j * z.imag / of_imaginary
        weight[modes.channel, place] = modes.weight
        return pole, weight

    def on_its_side(self, pole: Complex, weight: Complex) -> tuple[Complex, Complex]:
        """Modes, replaced by their conjugates where the layout wants poles on the other side.

        Args:
            pole: (systems, modes).
            weight: (rows, features, modes).
        """
        if self.upper is None:
            return pole, weight
        # Zero without a sign: of a real pole, either.
        wrong = pole.imag < 0 if self.upper else pole.imag > 0
        turned = np.tile(wrong, (weight.shape[1] // len(pole), 1))
        return np.where(wrong, pole.conj(), pole), np.where(turned, weight.conj(), weight)


def numbers(tensors: StateDict, name: str) -> Float:
    """A tensor in double precision."""
    return tensors[name].detach().double().numpy()
