"""The methods of reduction by name, and what each can do."""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.compression.states.base import Method, Use
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.compression.states.methods.complex_balanced import complex_balanced_truncation
from s4edge.compression.states.methods.finite_horizon import finite_horizon_truncation
from s4edge.compression.states.methods.h2_optimal import h2_optimal
from s4edge.compression.states.methods.hankel_norm import hankel_norm_approximation
from s4edge.compression.states.methods.input_weighted import input_weighted_truncation
from s4edge.compression.states.methods.modal import modal_truncation
from s4edge.compression.states.methods.shared_modes import shared_truncation
from s4edge.compression.states.methods.singular_perturbation import singular_perturbation
from s4edge.errors import S4EdgeError


@dataclass(frozen=True)
class NamedMethod:
    """A method of reduction as the command line knows it.

    Attributes:
        reduce: the method.
        summary: one line for people.
        calibrated: the variant that takes the autocorrelation of a channel's input into account,
            or None.
        refinable: whether its result is meant as a start for refinement (a baseline is not, and
            shared modes would be shared no more).
        moves_feedthrough: whether it changes ``D``.
    """

    reduce: Method
    summary: str
    calibrated: Method | None = None
    refinable: bool = True
    moves_feedthrough: bool = False

    def of(self, use: Use) -> Method:
        """The variant that makes most of what is known."""
        known = use.autocorrelation is not None and self.calibrated is not None
        return self.calibrated if known and self.calibrated else self.reduce


def find_method(name: str) -> NamedMethod:
    """A method by its name. Raises S4EdgeError where there is none."""
    if name not in METHODS:
        raise S4EdgeError(f"method {name!r} is unknown; known: {', '.join(METHODS)}")
    return METHODS[name]


METHODS: dict[str, NamedMethod] = {
    "balanced": NamedMethod(
        balanced_truncation, "balanced truncation of the real system", input_weighted_truncation
    ),
    "complex-balanced": NamedMethod(
        complex_balanced_truncation,
        "of the complex half-system, the source paper's way, to compare with",
        refinable=False,
    ),
    "singular-perturbation": NamedMethod(
        singular_perturbation,
        "balanced, and the gain at frequency 0 is kept; changes D",
        moves_feedthrough=True,
    ),
    "modal": NamedMethod(modal_truncation, "the modes of largest peak gain, kept as they are"),
    "h2": NamedMethod(h2_optimal, "least energy of the kernel's error (locally)"),
    "hankel": NamedMethod(
        hankel_norm_approximation,
        "least Hankel norm of the error; changes D",
        moves_feedthrough=True,
    ),
    "finite-horizon": NamedMethod(
        finite_horizon_truncation, "balanced over the samples for which kernels are used"
    ),
    "shared-modes": NamedMethod(
        shared_truncation, "one set of modes for all channels of a layer", refinable=False
    ),
}
