"""Two LAPACK routines on stacks of matrices, without holding Python's lock.

scipy's own wrappers hold it while LAPACK works, so that threads would wait for each other. The same
routines are offered as C functions to Cython by `scipy.linalg.cython_lapack`; `ctypes` lets go of
the lock while it calls them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_lapack

from s4edge.arrays import Float


def _routine(name: str, arguments: int) -> Callable[..., None]:
    """A LAPACK routine, all of whose arguments are pointers."""
    python = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", python))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", python)
    )
    capsule = cython_lapack.__pyx_capi__[name]
    signature = get_name(capsule)
    address = get_pointer(capsule, signature)
    if signature.count(b",") + 1 != arguments or address is None:
        raise ImportError(f"scipy.linalg.cython_lapack.{name} is {signature.decode()}")
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)
    return prototype(address)


_DGEJSV = _routine("dgejsv", 19)
_DGEQP3 = _routine("dgeqp3", 9)


def _at(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def jacobi_svd(matrices: Float) -> tuple[Float, Float, Float]:
    """Singular values and vectors by one-sided Jacobi rotations with full pivoting.

    For ``D1 C D2`` with diagonal ``D1`` and ``D2`` and a well-conditioned ``C`` the small singular
    values are relatively accurate (LAPACK's gejsv; Z. Drmač and K. Veselić, "New fast and accurate
    Jacobi SVD algorithm", 2008).

    Args:
        matrices: (count, n, n).

    Returns:
        ``U`` (count, n, n), ``sigma`` (count, n), descending, and ``V`` (count, n, n), with
        ``matrices = U sigma V^T``.
    """
    count, n, _ = matrices.shape
    # LAPACK reads the transpose, whose left vectors are V; and writes transposes.
    left, right = np.zeros((count, n, n)), np.zeros((count, n, n))
    values = np.zeros((count, n))
    if n == 0:
        return left, values, right
    size = np.array([n], np.intc)
    lwork = np.array([6 * n + 2 * n * n + 8], np.intc)
    work, iwork, info = np.zeros(lwork[0]), np.zeros(4 * n + 4, np.intc), np.zeros(1, np.intc)
    content, sigma, U, V = np.empty((n, n)), np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    # Full row and column pivoting; both sets of vectors; no denormals, no transposition.
    letters = [ctypes.create_string_buffer(letter) for letter in (b"F", b"U", b"V", b"N", b"N")]
    perturb = ctypes.create_string_buffer(b"P")
    n_at = _at(size)
    arguments = [
        *(ctypes.addressof(letter) for letter in (*letters, perturb)),
        *(n_at, n_at, _at(content), n_at, _at(sigma), _at(U), n_at, _at(V), n_at),
        *(_at(work), _at(lwork), _at(iwork), _at(info)),
    ]
    for index in range(count):
        if not matrices[index].any():
            left[index] = right[index] = np.eye(n)
            continue
        content[:] = matrices[index]
        _DGEJSV(*arguments)
        if info[0] != 0:  # no convergence in LAPACK's 30 sweeps; never met
            left[index], values[index], transposed = np.linalg.svd(matrices[index])
            right[index] = transposed.T
            continue
        left[index], right[index] = V.T, U.T
        values[index] = sigma * (work[0] / work[1])
    return left, values, right


def pivoted_r(matrices: Float) -> Float:
    """Factors ``R`` of ``M = Q R`` by Householder QR with column pivoting.

    Args:
        matrices: (count, n, m) the transposes of the matrices ``M``, m at least n; overwritten.

    Returns:
        (count, n, n) ``R`` with its columns in the order of those of ``M``: not triangular.
    """
    count, n, m = matrices.shape
    out = np.zeros((count, n, n))
    if n == 0:
        return out
    rows, columns = np.array([m], np.intc), np.array([n], np.intc)
    lwork = np.array([2 * n + (n + 1) * 32], np.intc)
    work, tau, info = np.zeros(lwork[0]), np.zeros(n), np.zeros(1, np.intc)
    pivots, content = np.zeros(n, np.intc), np.empty((n, m))
    arguments = [
        *(_at(rows), _at(columns), _at(content), _at(rows), _at(pivots), _at(tau)),
        *(_at(work), _at(lwork), _at(info)),
    ]
    for index in range(count):
        content[:] = matrices[index]
        pivots[:] = 0
        _DGEQP3(*arguments)
        out[index][:, pivots - 1] = np.tril(content[:, :n]).T
    return out
