"""The S4 layer of version 2 (``src/models/sequence/ss/s4.py``): low-rank, or a dense matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from s4edge.arrays import Complex
from s4edge.checkpoints.dense_states import DenseStates, read_dense, refuse_frozen, told
from s4edge.checkpoints.discretize import known_length, whole_number
from s4edge.checkpoints.dplr import LowRankSystems, read_low_rank
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.s4_older import KERNEL, infer_axes, read_layer, step_sizes
from s4edge.checkpoints.stored_kernels import Kernels, infer_state_size, infer_word
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import OLDER_ACTIVATIONS, LayerReader, UpstreamLayer
from s4edge.errors import S4EdgeError

# How far stored Fourier nodes are from where they should be at most.
_MOST_OFF = 0.05
_CLASSES = ("src.models.sequence.ss.standalone.s4.S4", "src.models.sequence.ss.s4.S4")


def _read_low_rank(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    """``A = diag(w) - P Q^T``; trained with ``hurwitz``, ``Q = conj P`` and ``Re w < 0``."""
    infer_word(facts, "mode", "nplr")
    rank, systems, half, _ = tensors.shape(KERNEL + "P", "rank", "systems", "d_state / 2", "2")
    infer_state_size(facts, half)
    P = tensors.take_complex(KERNEL + "P", rank, systems, half)
    if facts.infer("hurwitz", KERNEL + "log_w_real" in tensors):
        real = np.exp(tensors.take(KERNEL + "log_w_real", systems, half))
        A: Complex = -real + 1j * tensors.take(KERNEL + "w_imag", systems, half)
        Q = P.conj()
    else:
        A = tensors.take_complex(KERNEL + "w", systems, half)
        Q = tensors.take_complex(KERNEL + "Q", rank, systems, half)
    sampling = _sampling(tensors, facts, _stored_length(tensors, facts))
    low_rank = LowRankSystems(
        A=A,
        P=P,
        Q=Q,
        B=tensors.take_complex(KERNEL + "B", 1, systems, half)[0],
        C=tensors.take_complex(KERNEL + "C", rows, d_model, half),
        step=sampling.rate * step_sizes(tensors, d_model),
        stored_length=sampling.nodes,
    )
    kernels = read_low_rank(low_rank, tensors, "s4-v2-dplr")
    return replace(kernels, length=sampling.length)


def _read_dense(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    """State matrices as they are, one for all features: real (mode ``real``) or not (``slow``)."""
    n, _ = tensors.shape(KERNEL + "A", "d_state", "d_state")
    real = not tensors.is_complex(KERNEL + "A")
    infer_word(facts, "mode", "real" if real else "slow")
    if real or n % 2:
        facts.infer("d_state", n)
    else:
        infer_state_size(facts, n // 2)
    said = told(facts, "trainable")
    some = isinstance(said, dict) and any(said.get(name) for name in ("dt", "A", "B"))
    refuse_frozen(tensors, "trainable", said, trained=said is True or some)
    # Options of low-rank kernels, which this one takes and does not use.
    facts.ignore("hurwitz", "resample")

    def take(name: str, *shape: int) -> Complex:
        if real:
            return tensors.take(KERNEL + name, *shape).astype(np.complex128)
        return tensors.take_complex(KERNEL + name, *shape)

    dense = DenseStates(
        A=take("A", n, n)[None],
        B=take("B", n)[None],
        C=take("C", rows, d_model, n),
        step=step_sizes(tensors, d_model),
    )
    return read_dense(dense, tensors, f"s4-v2-{'real' if real else 'dense'}")


@dataclass(frozen=True)
class _Sampling:
    """How kernels are computed: at a multiple of the step sizes, over so many samples.

    Attributes:
        rate: what step sizes are multiplied by.
        nodes: samples of the kernel.
        length: the one sequence length that this is for, or None.
    """

    rate: float
    nodes: int
    length: int | None = None


def _sampling(tensors: Tensors, facts: Facts, stored: int) -> _Sampling:
    """With ``resample``, upstream stretches the kernel that it has to the sequence's length.

    Raises:
        S4EdgeError: the length is missing, or is one for which upstream's own kernel is wrong.
    """
    if not facts.get("resample", False, allowed=(False, True)):
        return _Sampling(1.0, stored)
    # Upstream's l_max is the length that signals have at the rate that the kernel is stored for.
    length = whole_number(facts, "length", facts.get("length", stored))
    rate = stored / length
    nodes = int(stored / rate)
    # Rounding may take upstream elsewhere: to twice its kernel, or to an odd number of nodes, of
    # which its inverse transform gives one sample less.
    if rate * length > stored or nodes != length or nodes % 2:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'} has resample=true, by "
            f"which upstream computes no kernel of {length} samples from one of {stored}: take an "
            "even length"
        )
    return _Sampling(rate, nodes, length)


def _stored_length(tensors: Tensors, facts: Facts) -> int:
    """The kernel length, whose Fourier nodes ``exp(-2 pi i k / L)``, k = 0..L // 2, are stored.

    Raises:
        S4EdgeError: they are no such nodes, or of an odd length, and upstream's own inverse
            transform is one sample short for sequences that are no longer.
    """
    count = tensors.shape(KERNEL + "omega", "nodes", "2")[0]
    nodes = tensors.take_complex(KERNEL + "omega", count)
    tensors.take_complex(KERNEL + "z", count)
    if count == 1:
        return 1
    # An even and an odd length have this many; they differ in all nodes but the first.
    lengths = (2 * (count - 1), 2 * count - 1)
    off = [
        np.abs(nodes - np.exp(-2j * np.pi * np.arange(count) / length)).max() for length in lengths
    ]
    where = f"{tensors.path}: {tensors.prefix}{KERNEL}omega"
    if min(off) > _MOST_OFF:
        raise S4EdgeError(f"{where} holds no Fourier nodes ({count}); the file is damaged")
    even, odd = lengths
    if off[0] < off[1]:
        return even
    length = known_length(
        facts,
        f"its kernels are stored for an odd length, {odd}: for sequences that are no longer "
        "upstream computes them wrongly, for longer ones it doubles them",
    )
    if length <= odd:
        raise S4EdgeError(
            f"{where} is of an odd kernel length, {odd}, for which upstream's own kernels are "
            "wrong, one sample short and out of place: run it on a longer input once and save it "
            "again, or say --set length=... of longer sequences"
        )
    return odd


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    # Longer inputs double the kernel's length, so that l_max cuts nothing.
    infer_axes(tensors, facts, plain=True)
    kernel = _read_low_rank if KERNEL + "P" in tensors else _read_dense
    return read_layer(tensors, facts, d_model, kernel, cuts=False)


def _claims(tensors: Tensors) -> bool:
    low_rank = KERNEL + "omega" in tensors and KERNEL + "P" in tensors
    # Diagonal kernels of version 3 store an A too.
    return low_rank or (KERNEL + "A" in tensors and KERNEL + "inv_A_real" not in tensors)


READER = LayerReader(
    "S4 of version 2",
    _CLASSES,
    _claims,
    _read,
    attributes={
        "transposed": "transposed",
        "channels": "channels",
        "kernel.kernel.trainable": "trainable",
    },
    activations=OLDER_ACTIVATIONS,
)
