"""The full S4 layer of version 4: ``S4Block`` around an ``FFTConv`` with its kernel.

The standalone file (``models/s4/s4.py``) and the training repository (``src/models``) write the
same tensors; the latter also knows dense kernels, weight normalization and gates like "glu-gelu".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints import damped_averages, linear
from s4edge.checkpoints.dense_states import DenseStates, read_dense, refuse_frozen, told
from s4edge.checkpoints.diagonal import Diagonal, read_diagonal
from s4edge.checkpoints.dplr import LowRankSystems, read_bandlimit, read_low_rank
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layout import Layout, numbers
from s4edge.checkpoints.output_layer import GLU_NAMES, read_output
from s4edge.checkpoints.stored_kernels import (
    Kernels,
    as_layer,
    infer_kernel,
    infer_rows,
    infer_state_size,
    kernel_length,
    refuse_bottleneck,
    stored_length,
)
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.checkpoints.transforms import TRANSFORMS, invert, transform
from s4edge.checkpoints.upstream_layer import (
    ACTIVATION_NAMES,
    LayerReader,
    LiveKernel,
    UpstreamLayer,
)
from s4edge.errors import S4EdgeError

_CLASSES = (
    "models.s4.s4.S4Block",
    "src.models.s4.s4.S4Block",
    "src.models.sequence.modules.s4block.S4Block",
)
# Options that shape the initialization or the training, not what the trained layer computes.
_TRAINING_ONLY = (
    "lr", "wd", "dropout", "tie_dropout", "drop_kernel", "dt_min", "dt_max", "dt_tie", "init",
    "measure", "rank", "deterministic", "backend", "verbose", "initializer", "transposed", "n_ssm",
    "real_random", "real_scale", "imag_random", "imag_scale", "B_random", "B_init", "B_scale",
    "P_scale", "normalize", "random_real", "random_imag", "random_B", "init_args",
)  # fmt: skip


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    """The block around a kernel."""
    facts.ignore(*_TRAINING_ONLY)
    _refuse_unread(tensors, facts)
    inner = tensors.under("layer.")
    _refuse_other_kernels(inner)
    averages = damped_averages.claims(inner)
    rows, kernel_rows = (
        infer_rows(inner, facts, damped_averages.WEIGHTS, d_model)
        if averages
        else infer_rows(inner, facts, "kernel.C")
    )
    channels, activation = _activation(tensors, facts, rows, d_model)
    interleaved = rows > 1 and facts.get("swap_channels", False, allowed=(False, True))
    if rows == 1:
        facts.ignore("swap_channels")
    cut = kernel_length(facts)
    kernels = _read_kernel(inner, facts, d_model, kernel_rows)
    D = inner.take("D", rows, d_model)
    multiplied = facts.get("mult_act", None, allowed=tuple(ACTIVATION_NAMES))
    # An older name of final_act wins where it is given.
    older = facts.says("postact") and facts.get("postact") is not None
    facts.ignore("postact")
    if older:
        facts.ignore("final_act")
    output = read_output(
        tensors,
        facts,
        "postact" if older else "final_act",
        channels * d_model,
        d_model,
        gates=tuple(GLU_NAMES),
    )
    layer = as_layer(kernels, D, activation, output, cut, interleaved)
    return replace(layer, multiplied_activation=ACTIVATION_NAMES[multiplied])


def _refuse_unread(tensors: Tensors, facts: Facts) -> None:
    """Options that upstream's own class cannot be built with, or that need what is not read."""
    where = f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'}"
    gate = facts.get("gate") if facts.says("gate") else None
    if gate is not None:
        raise S4EdgeError(
            f"{where} has gate={gate}, with which upstream's S4Block cannot be built; the file is "
            "of other code, which s4edge does not know"
        )
    refuse_bottleneck(tensors, facts)
    # The training repository's word for what is inside; nothing else runs there.
    facts.only("layer", "fftconv")
    facts.ignore("gate", "gate_act")


def _activation(tensors: Tensors, facts: Facts, rows: int, d_model: int) -> tuple[int, str]:
    """The number of channels, and the activation after the systems, which may halve ``D``'s."""
    prefix = linear.find(tensors, "output_linear.0.")
    if prefix is None:
        name = facts.get("activation", "gelu", allowed=(*ACTIVATION_NAMES, *GLU_NAMES))
        halves = name in GLU_NAMES
        if halves and facts.says("channels") and facts.get("channels") == rows:
            # The training repository's class does not give the systems twice the channels first.
            halves = False
    else:
        halves = rows * d_model == 2 * linear.size(tensors, prefix)[1]
        if halves:
            name = facts.infer("activation", "glu")
        else:
            name = facts.get("activation", "gelu", allowed=tuple(ACTIVATION_NAMES))
    channels = facts.infer("channels", rows // 2 if halves else rows)
    return channels, GLU_NAMES[name] if name in GLU_NAMES else ACTIVATION_NAMES[name]


def _steps(tensors: Tensors, facts: Facts, d_model: int, half: int) -> Float:
    """(d_model, 1 or half) step sizes."""
    count = tensors.shape("kernel.inv_dt", "d_model", "step sizes")[1]
    inv_dt = tensors.take("kernel.inv_dt", d_model, half if count != 1 else 1)
    if facts.get("dt_fast", False, allowed=(False, True)):
        inv_dt = np.sinh(inv_dt)
    return transform(inv_dt, facts.get("dt_transform", "exp", allowed=TRANSFORMS))


def _poles(tensors: Tensors, facts: Facts, real_only: bool) -> Complex:
    """``A = -f(A_real) - i g(A_imag)``, (systems, half)."""
    systems, half = tensors.shape("kernel.A_real", "systems", "d_state / 2")
    real = transform(
        tensors.take("kernel.A_real", systems, half),
        facts.get("real_transform", "exp", allowed=TRANSFORMS),
    )
    if real_only:
        facts.ignore("imag_transform")
        return -real.astype(np.complex128)
    imag = transform(
        tensors.take("kernel.A_imag", systems, half),
        facts.get("imag_transform", "none", allowed=TRANSFORMS),
    )
    return -real - 1j * imag


def _read_kernel(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    if "kernel.P" in tensors:
        return _read_low_rank(tensors, facts, d_model, rows)
    if "kernel.A_real" in tensors:
        return _read_diagonal(tensors, facts, d_model, rows)
    if damped_averages.claims(tensors):
        infer_kernel(facts, "ema")
        return damped_averages.read_kernel(tensors, facts, d_model, rows)
    return _read_dense(tensors, facts, d_model, rows)


def _refuse_other_kernels(tensors: Tensors) -> None:
    """Kernels that are no state space models."""
    known = any(f"kernel.{name}" in tensors for name in ("P", "A_real", "A"))
    if known or damped_averages.claims(tensors):
        return
    told = "of a kind that s4edge does not know"
    if "kernel.kernel" in tensors:
        told = "a free convolution (mode: conv), each of its samples a parameter of its own"
    raise S4EdgeError(
        f"{tensors.path}: the kernel under {tensors.prefix}kernel is {told}; s4edge reads kernels "
        "that are state space models: modes diag, nplr, dense and ema"
    )


def _read_diagonal(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    infer_kernel(facts, "diag", "s4d")
    real_only = facts.infer("is_real", "kernel.A_imag" not in tensors)
    A = _poles(tensors, facts, real_only)
    systems, half = A.shape
    kind, size = "s4block-diag", 2 * half
    if real_only:
        kind, size = "s4block-real", facts.infer("d_state", half)
    else:
        infer_state_size(facts, half)
    step = _steps(tensors, facts, d_model, half)
    if real_only:
        B: Complex = tensors.take("kernel.B", 1, systems, half)[0].astype(np.complex128)
        C: Complex = tensors.take("kernel.C", rows, d_model, half).astype(np.complex128)
    else:
        B = tensors.take_complex("kernel.B", 1, systems, half)[0]
        C = tensors.take_complex("kernel.C", rows, d_model, half)
    diagonal = Diagonal(A, B, C, step)
    return read_diagonal(diagonal, tensors, facts, "zoh", kind, size)


def _read_low_rank(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    infer_kernel(facts, "nplr", "dplr", "s4")
    facts.infer("is_real", False)
    # The low-rank kernel is bilinear whatever is said.
    facts.ignore("disc")
    A = _poles(tensors, facts, real_only=False)
    systems, half = A.shape
    infer_state_size(facts, half)
    rank = tensors.shape("kernel.P", "rank", "systems", "d_state / 2", "2")[0]
    P = tensors.take_complex("kernel.P", rank, systems, half)
    stored = stored_length(tensors, "kernel.l_kernel")
    return read_low_rank(
        LowRankSystems(
            A=A,
            P=P,
            Q=P.conj(),
            B=tensors.take_complex("kernel.B", 1, systems, half)[0],
            C=tensors.take_complex("kernel.C", rows, d_model, half),
            step=_steps(tensors, facts, d_model, half),
            stored_length=stored,
        ),
        tensors,
        "s4block-dplr",
        read_bandlimit(facts, stored),
    )


def _read_dense(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    infer_kernel(facts, "dense", "slow", "real")
    facts.only("comp", False)
    lr = told(facts, "lr")
    rates = [lr.get(name) for name in ("dt", "A", "B")] if isinstance(lr, dict) else [lr]
    refuse_frozen(tensors, "lr", lr, trained=any(rate != 0 for rate in rates))
    # Dense kernels take but do not use the options of diagonal ones.
    facts.ignore("disc", "real_transform", "imag_transform", "bandlimit", "is_real", "dt_fast")
    step = transform(
        tensors.take("kernel.inv_dt", d_model, 1),
        facts.get("dt_transform", "exp", allowed=TRANSFORMS),
    )
    systems, n, _, _ = tensors.shape("kernel.A", "systems", "d_state", "d_state", "2")
    if n % 2:
        facts.infer("d_state", n)
    else:
        infer_state_size(facts, n // 2)
    return read_dense(
        DenseStates(
            A=tensors.take_complex("kernel.A", systems, n, n),
            B=tensors.take_complex("kernel.B", systems, n),
            C=tensors.take_complex("kernel.C", rows, d_model, n),
            step=step,
        ),
        tensors,
        "s4block-dense",
    )


def _claims(tensors: Tensors) -> bool:
    return "layer.D" in tensors and any(
        name.startswith("layer.kernel.") for name in tensors.names()
    )


def _layout(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """S4Block of mode diag: ``A = -f(A_real) - i g(A_imag)``, step sizes ``h(inv_dt)``.

    Raises:
        S4EdgeError: the layout cannot hold other poles than it has.
    """
    if "layer.kernel.P" in tensors:
        raise S4EdgeError(
            "a DPLR layer (mode nplr) is a diagonal matrix with a low-rank part P and has C "
            "transformed for one length: it cannot hold the diagonal systems that reduction "
            "gives; write s4edge's own format"
        )
    if "layer.kernel.A_imag" not in tensors:
        raise S4EdgeError(
            "the layer's matrices are real or dense (is_real, mode dense): it cannot hold the "
            "complex poles that reduction gives; write s4edge's own format"
        )
    kernel = {name.removeprefix("layer.kernel."): value for name, value in tensors.items()}
    f, g = known.get("real_transform", "exp"), known.get("imag_transform", "none")
    A = -transform(numbers(kernel, "A_real"), f) - 1j * transform(numbers(kernel, "A_imag"), g)
    inv_dt = numbers(kernel, "inv_dt")

    def step_sizes(parameters: Float) -> Float:
        plain = np.sinh(parameters) if known.get("dt_fast") else parameters
        return transform(plain, known.get("dt_transform", "exp"))

    untied = inv_dt.shape[1] != 1
    if untied and len(A) != len(inv_dt):
        raise S4EdgeError(
            "the layer shares poles between channels (n_ssm) but has a step size for each mode "
            "(dt_tie=False); write s4edge's own format"
        )
    # Of a channel with many step sizes, one in their midst serves for all: what counts is dt A.
    middle = np.median(inv_dt, axis=1, keepdims=True)
    steps = step_sizes(middle) * np.ones(2)
    if untied:
        A = A * step_sizes(inv_dt) / steps[:, :1]

    def write(pole: Complex) -> dict[str, Float]:
        new = {
            "layer.kernel.A_real": invert(-pole.real, f, "real_transform"),
            "layer.kernel.A_imag": invert(-pole.imag, g, "imag_transform"),
            "layer.kernel.B": np.stack([np.ones(pole.shape), np.zeros(pole.shape)], axis=-1)[None],
        }
        if untied:
            new["layer.kernel.inv_dt"] = np.repeat(middle, pole.shape[1], axis=1)
        return new

    bilinear = known.get("disc", "zoh") == "bilinear"
    swapped = bool(known.get("swap_channels"))
    return Layout(A, steps, "layer.kernel.C", bilinear, 0.5, swapped, write, upper=False)


_KERNEL_ATTRIBUTES = (
    "disc", "dt_fast", "real_transform", "imag_transform", "dt_transform", "bandlimit", "is_real",
)  # fmt: skip
_ATTRIBUTES = {
    "transposed": "transposed",
    **{f"layer.{name}": name for name in ("l_max", "swap_channels")},
    **{f"layer.kernel.{name}": name for name in _KERNEL_ATTRIBUTES},
}
_ACTIVATIONS = {
    "layer.activation": "activation",
    # The training repository's S4Block has it outside.
    "activation": "activation",
    "mult_activation": "mult_act",
    "output_linear.-1": "final_act",
}
# A layer that does nothing else.
_CONVOLVES = {"activation": None, "final_act": None}
READER = LayerReader(
    "S4Block",
    _CLASSES,
    _claims,
    _read,
    layout=_layout,
    attributes=_ATTRIBUTES,
    activations=_ACTIVATIONS,
    kernels=(
        LiveKernel(
            frozenset(("inv_dt", "A_real", "B", "C")),
            "layer.kernel.",
            "layer.D",
            _CONVOLVES,
            _KERNEL_ATTRIBUTES,
        ),
        # Mega's average, mode ema.
        LiveKernel(
            frozenset(("alpha", "delta", "beta", "gamma")), "layer.kernel.", "layer.D", _CONVOLVES
        ),
    ),
)
