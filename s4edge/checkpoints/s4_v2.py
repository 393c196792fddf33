"""The S4 layer of version 2 (``src/models/sequence/ss/s4.py``), diagonal plus low-rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.dplr import LowRankSystems, read_low_rank
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.kernels import Kernels, infer_word
from s4edge.checkpoints.layer import Layer, LayerReader
from s4edge.checkpoints.s4_older import KERNEL, read_layer, step_sizes
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError

Complex = NDArray[np.complex128]

_CLASSES = ("src.models.sequence.ss.standalone.s4.S4", "src.models.sequence.ss.s4.S4")


def _read_low_rank(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    """``A = diag(w) - P Q^T``; trained with ``hurwitz``, ``Q = conj P`` and ``Re w < 0``."""
    infer_word(facts, "mode", "nplr")
    rank, systems, half, _ = tensors.shape(KERNEL + "P", "rank", "systems", "d_state / 2", "2")
    facts.infer("d_state", 2 * half)
    P = tensors.take_complex(KERNEL + "P", rank, systems, half)
    if facts.infer("hurwitz", KERNEL + "log_w_real" in tensors):
        real = np.exp(tensors.take(KERNEL + "log_w_real", systems, half))
        A: Complex = -real + 1j * tensors.take(KERNEL + "w_imag", systems, half)
        Q = P.conj()
    else:
        A = tensors.take_complex(KERNEL + "w", systems, half)
        Q = tensors.take_complex(KERNEL + "Q", rank, systems, half)
    low_rank = LowRankSystems(
        A=A,
        P=P,
        Q=Q,
        B=tensors.take_complex(KERNEL + "B", 1, systems, half)[0],
        C=tensors.take_complex(KERNEL + "C", rows, d_model, half),
        step=step_sizes(tensors, d_model),
        stored_length=_stored_length(tensors),
    )
    return read_low_rank(low_rank, tensors, "s4-v2-dplr")


def _stored_length(tensors: Tensors) -> int:
    """The kernel length, whose Fourier nodes ``exp(-2 pi i k / L)``, k = 0..L // 2, are stored.

    Raises:
        S4EdgeError: they are no such nodes, or of an odd length, for which upstream's own inverse
            transform is one sample short.
    """
    count = tensors.shape(KERNEL + "omega", "nodes", "2")[0]
    nodes = tensors.take_complex(KERNEL + "omega", count)
    tensors.take_complex(KERNEL + "z", count)
    if count == 1:
        return 1
    # An even and an odd length have this many; they differ in all nodes but the first.
    even = 2 * (count - 1)
    off = [
        np.abs(nodes - np.exp(-2j * np.pi * np.arange(count) / length)).max()
        for length in (even, even + 1)
    ]
    if off[0] < off[1] and off[0] < 0.05:
        return even
    raise S4EdgeError(
        f"{tensors.path}: {tensors.prefix}{KERNEL}omega holds the Fourier nodes of no even kernel "
        f"length ({count} nodes); upstream computes such kernels wrongly: run it on a longer "
        "input once and save it again"
    )


def _read(tensors: Tensors, facts: Facts, d_model: int) -> Layer:
    # Longer inputs double the kernel's length, so that l_max cuts nothing.
    return read_layer(tensors, facts, d_model, _read_low_rank, cuts=False)


def _claims(tensors: Tensors) -> bool:
    return KERNEL + "omega" in tensors and KERNEL + "P" in tensors


READER = LayerReader("S4 of version 2", _CLASSES, _claims, _read)
