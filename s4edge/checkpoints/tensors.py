"""Tensors of a checkpoint, each taken once and checked as it is taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from s4edge.arrays import Complex, Float
from s4edge.errors import S4EdgeError

StateDict = dict[str, Tensor]
# Layers and other numbered parts that a model may have.
MOST_PARTS = 2000


@dataclass(frozen=True)
class Linear:
    """``weight`` (out, in) or, of a norm, (features,), and ``bias``."""

    weight: Float
    bias: Float


class Tensors:
    """A state dict that knows which of its tensors a reader has used.

    Args:
        path: the file, for messages.
        tensors: the state dict.
        prefix: the part of the state dict that this view is of, with its dot.
    """

    def __init__(
        self,
        path: Path,
        tensors: dict[str, Tensor],
        prefix: str = "",
        taken: set[str] | None = None,
    ) -> None:
        self.path = path
        self.prefix = prefix
        self._tensors = tensors
        self._taken: set[str] = set() if taken is None else taken

    def under(self, prefix: str) -> Tensors:
        """The part of the state dict whose names start with ``prefix``."""
        return Tensors(self.path, self._tensors, self.prefix + prefix, self._taken)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self._tensors

    def names(self) -> list[str]:
        """Names below this view's prefix."""
        start = len(self.prefix)
        return [name[start:] for name in self._tensors if name.startswith(self.prefix)]

    def shape(self, name: str, *axes: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Args:
            name: name below this view's prefix.
            *axes: what its axes are, for messages; none if their number may vary.

        Raises:
            S4EdgeError: it is not there, is empty or has another number of axes.
        """
        shape = tuple(self._find(name).shape)
        if 0 in shape or (axes and len(shape) != len(axes)):
            wanted = f"({', '.join(axes)})" if axes else "no empty axis"
            raise S4EdgeError(
                f"{self.path}: {self.prefix}{name} has shape {shape}, expected {wanted}"
            )
        return shape

    def count(self, name: str) -> int:
        """How many numbered parts ``name.0.``, ``name.1.``, ... there are, by the largest.

        Raises:
            S4EdgeError: it is beyond that of any model.
        """
        found = (re.match(rf"{re.escape(name)}\.([0-9]+)\.", each) for each in self.names())
        numbers = [match.group(1) for match in found if match]
        for number in numbers:
            if len(number) > 4 or int(number) >= MOST_PARTS:
                raise S4EdgeError(
                    f"{self.path}: {self.prefix}{name} has a part with the number {number}, which "
                    "no model has; it is damaged"
                )
        return max(map(int, numbers), default=-1) + 1

    def linear(self, prefix: str, rows: int | None, columns: int | None) -> Linear:
        """``weight`` (rows, columns), None for any, and ``bias`` (rows,). Raises as `take`."""
        shape = self.shape(prefix + "weight", "rows", "columns")
        weight = self.take(prefix + "weight", rows or shape[0], columns or shape[1])
        return Linear(weight, self.take(prefix + "bias", weight.shape[0]))

    def take(self, name: str, *shape: int) -> Float:
        """A tensor as float64.

        Args:
            name: name below this view's prefix.
            *shape: the expected shape.

        Raises:
            S4EdgeError: it is missing, has another shape, is not real floating point or not dense,
                or holds NaN or infinity.
        """
        tensor = self._find(name)
        self._taken.add(self.prefix + name)
        if tuple(tensor.shape) != shape:
            raise S4EdgeError(
                f"{self.path}: {self.prefix}{name} has shape {tuple(tensor.shape)}, "
                f"expected {shape}"
            )
        # Of the packed ones of 4 bits nothing can be made.
        if not tensor.is_floating_point() or "_x2" in str(tensor.dtype):
            raise S4EdgeError(
                f"{self.path}: {self.prefix}{name} is {str(tensor.dtype).removeprefix('torch.')}, "
                "expected real floating point"
            )
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise S4EdgeError(
                f"{self.path}: {self.prefix}{name} is a sparse tensor or one without values, "
                "expected a dense one"
            )
        tensor = tensor.detach().to(torch.float64)
        if not torch.isfinite(tensor).all():
            raise S4EdgeError(
                f"{self.path}: {self.prefix}{name} holds NaN or infinite values; the training "
                "diverged or the file is damaged"
            )
        return tensor.numpy()

    def affine(self, prefix: str, size: int) -> Linear:
        """``weight`` and ``bias`` of a norm, (size,) each. Raises as `take`."""
        return Linear(self.take(prefix + "weight", size), self.take(prefix + "bias", size))

    def take_count(self, name: str) -> int | None:
        """A counter that may be there, as a whole number."""
        if name not in self:
            return None
        self._taken.add(self.prefix + name)
        tensor = self._find(name)
        real = tensor.numel() == 1 and not (tensor.is_meta or tensor.is_complex())
        if not real or not torch.isfinite(tensor.to(torch.float64)).all():
            raise S4EdgeError(f"{self.path}: {self.prefix}{name} is no count")
        return int(tensor.item())

    def is_complex(self, name: str) -> bool:
        """Whether a tensor is of a complex type. Raises as `shape` where it is missing."""
        return self._find(name).is_complex()

    def take_complex(self, name: str, *shape: int) -> Complex:
        """A complex tensor, ``shape``, or one stored as reals with a last axis of 2. As `take`."""
        tensor = self._find(name)
        if tensor.is_complex() and tensor.layout is torch.strided and not tensor.is_meta:
            tensor = torch.view_as_real(tensor.detach().resolve_conj())
            parts = Tensors(self.path, {self.prefix + name: tensor}).take(
                self.prefix + name, *shape, 2
            )
            self._taken.add(self.prefix + name)
        else:
            parts = self.take(name, *shape, 2)
        return parts[..., 0] + 1j * parts[..., 1]

    def finish(self) -> None:
        """Check that every tensor was used.

        Raises:
            S4EdgeError: some were not: the checkpoint holds something its reader does not know.
        """
        unused = sorted(set(self._tensors) - self._taken)
        if unused:
            more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
            raise S4EdgeError(
                f"{self.path} has tensors that this layout does not know: "
                f"{', '.join(unused[:3])}{more}; leaving them out could change the model"
            )

    def _find(self, name: str) -> Tensor:
        tensor = self._tensors.get(self.prefix + name)
        if tensor is None:
            raise S4EdgeError(f"{self.path} lacks the tensor {self.prefix}{name}")
        return tensor
