"""Balanced truncation by s4edge and by others, side by side: same systems, same orders, one run.

Peers, each given dense real block-diagonal matrices, as they take:

* SLICOT's AB09AD through slycot: ``pip install slycot`` (builds with ``apt-get install gfortran
  cmake libopenblas-dev`` where there is no wheel),
* pyMOR's BTReductor on an LTIModel in discrete time: ``pip install pymor`` (it solves its Lyapunov
  equations with slycot where that is installed),
* the algorithm of CompreSSM, written out here from its description: Gramians in closed form, 1e-9
  added to their diagonals, Cholesky factors, an SVD of their product, square-root truncation.

A peer that is not installed is reported as such. For every system and order the H-infinity error of
each is measured by the same dense sweep of frequencies, on matrices, without s4edge. All balance
(A, B, C) of the kernel ``K[k] = C A^k B``. Balanced truncation is unique up to the coordinates of
the states, so errors agree where arithmetic did not spoil one of them. It does not have the
smallest error possible: what CompreSSM's makes is another system where 1e-9 is not small beside the
Gramians' eigenvalues, and now and then, by chance, a slightly better one.

    python benchmarks/peers.py [--shared FOLDER] [--systems N] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

import s4edge
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems import parallel
from s4edge.systems.modes import Modes

ROOT = Path(__file__).resolve().parent.parent
ORDERS = (4, 8, 16, 32)
TIMED_ORDER = 16
OURS = "s4edge"
# Part of an error that two correct programs may differ by.
TOLERANCE = 1e-3

Array = NDArray[Any]


@dataclass(frozen=True)
class Dense:
    """``x' = A x + B u`` with the kernel ``C A^k B``."""

    A: Array
    B: Array
    C: Array


Reducer = Callable[[Dense, int], Dense]


def dense(modes: Modes) -> Dense:
    """One channel in real coordinates, weights split evenly into input and output."""
    blocks, B, C = [], [], []
    for a, w, real in zip(modes.pole, modes.weight, modes.is_real, strict=True):
        if real:
            blocks.append(np.array([[a.real]]))
            B.append(np.sqrt(abs(w.real)))
            C.append(np.sign(w.real) * B[-1])
        else:
            blocks.append(np.array([[a.real, -a.imag], [a.imag, a.real]]))
            root = np.sqrt(w)
            B += [root.real, root.imag]
            C += [root.real, -root.imag]
    A = scipy.linalg.block_diag(*blocks) if blocks else np.zeros((0, 0))
    return Dense(A, np.array(B, float), np.array(C, float))


# Peers


def slicot() -> Reducer:
    """AB09AD, the square-root method."""
    import slycot

    def reduce(system: Dense, order: int) -> Dense:
        n = len(system.B)
        got, A, B, C, _ = slycot.ab09ad(
            "D", "B", "N", n, 1, 1, system.A, system.B[:, None], system.C[None, :], nr=order
        )
        if got < order:
            raise ArithmeticError(f"gave {got} states of {order}")
        return Dense(A, B[:, 0], C[0])

    return reduce


def pymor() -> Reducer:
    """BTReductor as it comes (balancing-free square root)."""
    from pymor.core.logger import set_log_levels
    from pymor.models.iosys import LTIModel
    from pymor.reductors.bt import BTReductor

    set_log_levels({"pymor": logging.ERROR})

    def reduce(system: Dense, order: int) -> Dense:
        model = LTIModel.from_matrices(
            system.A, system.B[:, None], system.C[None, :], sampling_time=1
        )
        small = BTReductor(model).reduce(order)
        A, B, C, _, E = small.to_matrices()
        if E is not None:
            A, B = np.linalg.solve(E, A), np.linalg.solve(E, B)
        if len(A) < order:
            raise ArithmeticError(f"gave {len(A)} states of {order}")
        return Dense(A, B[:, 0], C[0])

    return reduce


def compressm() -> Reducer:
    """CompreSSM's algorithm. Its Gramians are closed form, for systems as `dense` writes them."""

    def gramian(pole: Array, b: Array) -> Array:
        x = b[:, None] * b.conj() / (1 - pole[:, None] * pole.conj())
        y = b[:, None] * b / (1 - pole[:, None] * pole)
        n = len(b)
        P = np.empty((n, 2, n, 2))
        P[:, 0, :, 0], P[:, 1, :, 1] = (x + y).real / 2, (x - y).real / 2
        P[:, 1, :, 0] = (x + y).imag / 2
        P[:, 0, :, 1] = P[:, 1, :, 0].T
        return P.reshape(2 * n, 2 * n) + 1e-9 * np.eye(2 * n)

    def reduce(system: Dense, order: int) -> Dense:
        A, B, C = system.A, system.B, system.C
        pole = A[::2, ::2].diagonal() + 1j * A[1::2, ::2].diagonal()
        L_p = np.linalg.cholesky(gramian(pole, B[::2] + 1j * B[1::2]))
        # A^T turns the other way: the same Gramian of the conjugate poles.
        L_q = np.linalg.cholesky(gramian(pole.conj(), C[::2] + 1j * C[1::2]))
        U, sigma, Vt = np.linalg.svd(L_q.T @ L_p)
        scale = 1 / np.sqrt(sigma[:order])
        T, W = L_p @ Vt[:order].T * scale, L_q @ U[:, :order] * scale
        return Dense(W.T @ A @ T, W.T @ B, C @ T)

    return reduce


PEERS: dict[str, tuple[str | None, Callable[[], Reducer]]] = {
    "SLICOT AB09AD": ("slycot", slicot),
    "pyMOR": ("pymor", pymor),
    "CompreSSM's": (None, compressm),
}


def available_peers(console: Console) -> dict[str, Reducer]:
    """Those that are installed; the others are named."""
    peers = {}
    for name, (module, make) in PEERS.items():
        if module is not None and importlib.util.find_spec(module) is None:
            console.print(f"[bold]{name}: not installed[/bold] (pip install {module}); left out")
            continue
        peers[name] = make()
    return peers


# Systems


def split(modes: Modes) -> list[Modes]:
    """Channel by channel."""
    return [modes.of_channels(np.array([channel])) for channel in range(modes.channels)]


def checkpoint_systems(shared: Path) -> dict[str, list[Modes]]:
    """The channels of every trained model."""
    groups = {}
    paths = sorted((shared / "checkpoints" / "trained").glob("*.pt"))
    for path in [*paths, ROOT / "examples" / "digits" / "model.pt"]:
        if not path.exists():
            continue
        model = s4edge.load(path)
        name = "digits example" if path.stem == "model" else path.stem
        groups[name] = [one for block in model.blocks for one in split(block.systems.modes())]
    return groups


def random_systems(count: int) -> dict[str, list[Modes]]:
    """Systems of 32 conjugate pairs, easy and hard."""
    rng, n = np.random.default_rng(0), 32
    shape = (count, n)

    def normal(*size: int) -> Array:
        return rng.normal(size=size) + 1j * rng.normal(size=size)

    step = 10 ** rng.uniform(-3, -1, (count, 1))
    spread = np.exp(rng.uniform(np.log(1e-3), np.log(0.7), shape))
    angle = rng.uniform(0.02, 3.1, shape)
    slow = np.where(np.arange(n) % 3 == 0, 1e-6, np.exp(rng.uniform(np.log(1e-6), 0, shape)))
    centre = np.repeat((-spread + 1j * angle)[:, : n // 4], 4, axis=1)
    log_poles = {
        "random S4D-like": step * (-0.5 + 1j * np.pi * np.arange(n)),
        "poles to 1 - |a| = 1e-6": -slow + 1j * angle,
        "weights over 12 orders": -spread + 1j * angle,
        "clusters 1e-4 wide": centre * (1 + 1e-4 * rng.normal(size=shape)),
    }
    groups = {}
    for name, log_pole in log_poles.items():
        weight = normal(*shape)
        if "12 orders" in name:
            weight = weight * 10 ** rng.uniform(-12, 0, shape)
        # A pole at angle 0 would be a real pole, one state, which the peer in closed form lacks.
        log_pole = np.where(log_pole.imag == 0, log_pole + 1e-9j, log_pole)
        groups[name] = split(Modes.from_rows(log_pole, weight))
    return groups


# Errors


def residues(system: Dense) -> tuple[Array, Array]:
    """Poles and residues: ``C A^k B = sum r a^k``."""
    poles, vectors = np.linalg.eig(system.A)
    right = np.linalg.solve(vectors, system.B.astype(vectors.dtype))
    return poles.astype(complex), (system.C @ vectors) * right


def sweep(poles: list[Array]) -> Array:
    """Frequencies: even ones, and around each pole to 64 half-widths, finest near it."""
    near = []
    around = np.sinh(np.linspace(-4.85, 4.85, 97)) / 2
    for some in poles:
        upper = some[some.imag >= 0]
        width = np.maximum(1 - np.abs(upper), 1e-12)
        near.append((np.abs(np.angle(upper))[:, None] + width[:, None] * around).ravel())
    omega = np.concatenate([np.linspace(0, np.pi, 2049), *near])
    return np.clip(omega, 0, np.pi)


def response(pair: tuple[Array, Array], omega: Array) -> Array:
    """``sum r / (1 - a exp(-i omega))``, (points,)."""
    turn = np.exp(-1j * omega)
    total = np.zeros(len(omega), complex)
    for a, r in zip(*pair, strict=True):
        total += r / (1 - a * turn)
    return total


def block_residues(modes: Modes) -> tuple[Array, Array]:
    """Poles and residues of a system that is given diagonal."""
    half = np.where(modes.is_real, 1, 0.5) * modes.weight
    pairs = ~modes.is_real
    return (
        np.concatenate([modes.pole, modes.pole[pairs].conj()]),
        np.concatenate([half, half[pairs].conj()]),
    )


@dataclass
class Tally:
    """What one peer did on one group."""

    ratios: list[float] = field(default_factory=list)
    better: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    calls: int = 0
    examples: list[str] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Count a failure by its reason."""
        self.failures[why] = self.failures.get(why, 0) + 1


def attempt(reduce: Reducer, system: Dense, order: int) -> Dense | str:
    """A reduced system, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = reduce(system, order)
    except Exception as error:  # whatever a peer raises is its failure
        return type(error).__name__
    if not all(np.isfinite(part).all() for part in (small.A, small.B, small.C)):
        return "not finite"
    if np.abs(np.linalg.eigvals(small.A)).max(initial=0) >= 1:
        return "unstable"
    return small


def ours(modes: Modes, order: int) -> Modes:
    """Of one channel."""
    return balanced_truncation(modes, np.array([order])).modes


def compare(systems: list[Modes], peers: dict[str, Reducer]) -> dict[str, Tally]:
    """Every peer on every system and order."""
    tallies = {name: Tally() for name in peers}
    for index, modes in enumerate(systems):
        system, full = dense(modes), block_residues(modes)
        slowest = (1 - np.abs(full[0])).min()
        for order in ORDERS:
            if order >= len(system.B):
                continue
            reduced: dict[str, Dense] = {OURS: dense(ours(modes, order))}
            for name, reduce in peers.items():
                tally = tallies[name]
                started = time.perf_counter()
                small = attempt(reduce, system, order)
                tally.seconds += time.perf_counter() - started
                tally.calls += 1
                if isinstance(small, str):
                    tally.fail(small)
                else:
                    reduced[name] = small
            pairs = {name: residues(small) for name, small in reduced.items()}
            omega = sweep([full[0], *(poles for poles, _ in pairs.values())])
            exact = response(full, omega)
            # A pole is known to 16 digits of 1, its resonance to those of 1 - |a|.
            rounding = 2e-16 * np.abs(exact).max() * (100 + 1 / slowest)
            errors = {
                name: max(float(np.abs(exact - response(pair, omega)).max()), rounding)
                for name, pair in pairs.items()
            }
            for name in pairs:
                if name == OURS:
                    continue
                tallies[name].ratios.append(errors[name] / errors[OURS])
                if errors[name] < (1 - TOLERANCE) * errors[OURS] - rounding:
                    tallies[name].better += 1
                    both = f"{errors[name]:.4e}, ours {errors[OURS]:.4e}"
                    tallies[name].examples.append(f"system {index}, order {order}: {both}")
    return tallies


# Time


def time_whole_model(
    systems: list[Modes], peers: dict[str, Reducer], repeats: int
) -> dict[str, list[float]]:
    """Seconds for all systems to order `TIMED_ORDER`, repeats interleaved."""
    together = Modes.make(
        np.concatenate([one.log_pole for one in systems]),
        np.concatenate([one.weight for one in systems]),
        np.repeat(np.arange(len(systems)), [len(one.weight) for one in systems]),
        len(systems),
    )
    matrices = [dense(one) for one in systems]
    orders = np.full(len(systems), TIMED_ORDER)
    cores = parallel.available_cores()

    def all_of(reduce: Reducer) -> Callable[[], None]:
        def run() -> None:
            for system in matrices:
                attempt(reduce, system, TIMED_ORDER)

        return run

    def with_threads(threads: int) -> Callable[[], None]:
        def run() -> None:
            original = parallel.available_cores
            parallel.available_cores = lambda: threads
            try:
                balanced_truncation(together, orders)
            finally:
                parallel.available_cores = original

        return run

    runs = {f"{OURS}, {cores} threads": with_threads(cores), f"{OURS}, 1 thread": with_threads(1)}
    runs |= {name: all_of(reduce) for name, reduce in peers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


# Tables


def accuracy_table(groups: dict[str, dict[str, Tally]], sizes: dict[str, int]) -> Table:
    """Errors of peers beside ours."""
    orders = ", ".join(map(str, ORDERS))
    table = Table(title=f"H-infinity error, peer / s4edge, at orders {orders}")
    for heading in ("systems", "number", "peer", "median", "worst", "peer more\naccurate",
                    "failures", "ms per\nsystem"):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("systems", "peer") else "right")
    for group, tallies in groups.items():
        for index, (name, tally) in enumerate(tallies.items()):
            ratios = np.array(tally.ratios or [np.nan])
            failed = ", ".join(f"{count} {why}" for why, count in tally.failures.items())
            table.add_row(
                group if index == 0 else "",
                str(sizes[group]) if index == 0 else "",
                name,
                f"{np.median(ratios):.6g}",
                f"{ratios.max():.3g}",
                f"{tally.better} of {len(tally.ratios)}",
                f"{failed or 0} of {tally.calls}" if failed else "0",
                f"{1e3 * tally.seconds / max(1, tally.calls):.1f}",
                end_section=index == len(tallies) - 1,
            )
    return table


def time_table(title: str, seconds: dict[str, list[float]], systems: int) -> Table:
    """Times of the whole model."""
    table = Table(title=title)
    for heading in ("", "seconds, median", "least to most", "ms per system", "times ours"):
        table.add_column(heading, justify="right" if heading else "left")
    base = np.median(next(iter(seconds.values())))
    for name, some in seconds.items():
        table.add_row(
            name,
            f"{np.median(some):.3f}",
            f"{min(some):.3f} to {max(some):.3f}",
            f"{1e3 * np.median(some) / systems:.2f}",
            f"{np.median(some) / base:.1f}",
        )
    return table


def chosen(systems: list[Modes], most: int) -> list[Modes]:
    """Evenly over all of them."""
    if len(systems) <= most:
        return systems
    return [systems[index] for index in np.linspace(0, len(systems) - 1, most).astype(int)]


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--systems", type=int, default=32, help="of each group, at most")
    parser.add_argument("--repeats", type=int, default=5, help="of the timing")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(width=130)
    peers = available_peers(console)
    everything = checkpoint_systems(arguments.shared)
    groups = {name: chosen(some, arguments.systems) for name, some in everything.items()}
    groups |= random_systems(arguments.systems)
    with threadpool_limits(1):
        results = {
            name: compare(some, peers)
            for name, some in track(groups.items(), "systems", console=console, transient=True)
        }
        console.print(accuracy_table(results, {name: len(some) for name, some in groups.items()}))
        timed = "mnist_s4d" if "mnist_s4d" in everything else "digits example"
        model = everything[timed]
        seconds = time_whole_model(model, peers, arguments.repeats)
    title = f"All {len(model)} channels of {timed}, state 64, to order {TIMED_ORDER}"
    console.print(time_table(title, seconds, len(model)))
    for group, tallies in results.items():
        for name, tally in tallies.items():
            for example in tally.examples:
                console.print(f"{name} is more accurate: {group}, {example}")
    if arguments.json:
        content = {
            "errors": {
                group: {name: vars(tally) for name, tally in tallies.items()}
                for group, tallies in results.items()
            },
            "timed": timed,
            "seconds": seconds,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
