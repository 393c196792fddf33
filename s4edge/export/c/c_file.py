"""A model as C files, checked against the model before they get their names."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s4edge.errors import S4EdgeError
from s4edge.export.c.packages.package import (
    Packaged,
    check_packages,
    version_of,
    write_package,
)
from s4edge.export.c.source import Source, Trial, write
from s4edge.export.c.weights import rounded_to_bytes
from s4edge.export.checking import COARSE_TOLERANCE, TOLERANCE, Wanted, wanted_of
from s4edge.export.description import describe
from s4edge.export.lowering import lower
from s4edge.export.lowering.program import Program
from s4edge.export.lowering.reference import run
from s4edge.files import check_writable, write_all, write_text
from s4edge.model.history import in_short
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime.backends.c.compiler import (
    Compiler,
    CompilerError,
    compile_library,
    find_compiler,
)
from s4edge.runtime.backends.c.library import CLibrary, open_library
from s4edge.systems.cancellation import LARGEST_CANCELLATION, cancellation
from s4edge.version import VERSION

PRECISIONS = ("fp32", "int8")
CHUNK = 16
# Numbers in the self-test's samples and answers, and samples.
_TRIAL_NUMBERS, _FEWEST_TRIALS, _MOST_TRIALS = 256, 4, 24


@dataclass(frozen=True)
class ExportedC:
    """What was written.

    Attributes:
        output: the C file.
        header: beside it.
        library: the shared library, None where none was asked for.
        packages: folders by the kinds that were asked for.
        precision: of matrices and embeddings, a member of `PRECISIONS`.
        chunk: samples that its chunk function computes side by side.
        state_bytes: RAM of a stream.
        weight_bytes: of constants.
        step_scratch_bytes: of the stack, for one sample.
        chunk_scratch_bytes: of the stack, for a chunk.
        multiply_adds: per sample.
        bytes: of the C file.
        compiler: that it was checked with, None where it was not.
        unchecked: why it was not, None where it was.
        max_abs_error: largest difference to the model in float64 over random samples; None where
            it could not be run.
        max_abs_output: the largest output there, to compare it with.
        exact_samples: samples after which the model's kernels are cut and a stream is not; None
            for any number.
        rate: samples per second that it says it expects, or None.
    """

    output: Path
    header: Path
    library: Path | None
    packages: dict[str, Path]
    precision: str
    chunk: int
    state_bytes: int
    weight_bytes: int
    step_scratch_bytes: int
    chunk_scratch_bytes: int
    multiply_adds: int
    bytes: int
    compiler: str | None
    unchecked: str | None
    max_abs_error: float | None
    max_abs_output: float
    exact_samples: int | None
    rate: float | None

    def to_json(self) -> dict[str, Any]:
        """The keys of ``s4edge export --c --json``."""
        return {
            **self.__dict__,
            "output": str(self.output),
            "header": str(self.header),
            "library": None if self.library is None else str(self.library),
            "packages": {kind: str(folder) for kind, folder in self.packages.items()},
            "mode": "c",
            "samples_per_run": self.chunk,
            "state_floats": self.state_bytes // 4,
        }


def export_c(
    model: SequenceModel,
    path: str | Path,
    chunk: int | None = None,
    precision: str = "fp32",
    compiler: str | None = None,
    compiled: bool = False,
    rate: float | None = None,
    packages: Sequence[str] = (),
) -> ExportedC:
    """Write a model as C and check it against the model.

    Args:
        model: see `s4edge.model`.
        path: the ``.c`` file to write; the header goes beside it. Its functions get its name.
        chunk: samples that its chunk function computes side by side.
        precision: "fp32", or "int8": matrices and embeddings as bytes with a scale per row.
        compiler: a command; None for the system's. It may be one for another machine: the C is
            checked with the system's then.
        compiled: whether to write a shared library, too.
        rate: samples per second of what the model was trained on, for `s4edge run` to hold
            recordings to.
        packages: kinds of packages to write, too, as ``<name>-<kind>`` beside the file; see
            `s4edge.export.c.packages.kinds`.

    Raises:
        S4EdgeError: an argument is unknown, the model cannot stream, a file cannot be written, the
            compiler fails, what it makes does not agree with the model, or a package cannot have
            the name.
    """
    path = Path(path)
    chunk = CHUNK if chunk is None else chunk
    if precision not in PRECISIONS:
        raise S4EdgeError(f"precision {precision!r} is unknown in C; known: fp32, int8")
    if not 1 <= chunk < 2**16:
        raise S4EdgeError(f"chunk must be from 1 to {2**16 - 1}, not {chunk}")
    if rate is not None and not 0 < rate < 1e12:
        raise S4EdgeError(f"rate must be a positive number of samples per second, not {rate:g}")
    name = name_of(path)
    if model.config.cannot_stream is not None:
        raise S4EdgeError(f"no C can be written: {model.config.cannot_stream}")
    for suffix in (".c", ".h", *([".so"] if compiled else [])):
        check_writable(path.with_suffix(suffix))
    check_packages(packages, path, name)
    maker = find_compiler(compiler) if compiled else None
    program = lower(model)
    as_bytes = precision == "int8"
    rounded = program.rounded(rounded_to_bytes) if as_bytes else program
    wanted = wanted_of(model)
    trial = _trial(rounded)
    # How large the state is, is known when it is written.
    description = describe(
        model, mode="step", samples_per_run=1, d_input=program.d_input, state_floats=1, rate=rate
    )

    def text(about: list[str], wide: frozenset[str]) -> Source:
        return write(
            program, name, path.with_suffix(".h").name, about, description, trial, chunk=chunk,
            precision=precision, wide=wide,
        )  # fmt: skip

    def packaged(source: Source) -> Packaged:
        return Packaged(
            name=name,
            version=version_of(path.stem),
            inputs=program.d_input,
            outputs=program.d_output,
            tokens=program.tokens or 0,
            state_bytes=source.state_bytes,
            weight_bytes=source.weight_bytes,
            step_stack_bytes=source.step_bytes,
            selftest_stack_bytes=source.chunk_bytes + source.state_bytes + 4 * trial.y.size,
            code=source.including(f"{name}.h"),
            header=source.header,
        )

    cancelling = frozenset(
        stage.name
        for stage, systems in program.systems
        if cancellation(systems.modes) > LARGEST_CANCELLATION
    )
    library, error, unchecked = None, None, None
    try:
        checker = maker if maker is not None and maker.is_native else _own_compiler()
    except S4EdgeError as missing:
        checker, unchecked = None, str(missing)
    with tempfile.TemporaryDirectory(prefix="s4edge-") as folder:
        tried = Path(folder, path.name)
        wide = cancelling
        if checker is not None:
            try:
                error, wide = _tried(text, cancelling, tried, checker, wanted, as_bytes)
            except CompilerError as broken:
                if checker is maker:
                    raise
                unchecked = str(broken)
        source = text(_about(model, program, name, precision, error, wanted.largest), wide)
        contents = {path: source.code.encode(), path.with_suffix(".h"): source.header.encode()}
        if maker is not None:
            library = path.with_suffix(".so")
            if maker is not checker:
                _put(source, tried, maker)
            contents[library] = tried.with_suffix(".so").read_bytes()
    write_all(contents)
    folders = {kind: write_package(kind, path, packaged(source)) for kind in packages}
    return ExportedC(
        output=path,
        header=path.with_suffix(".h"),
        library=library,
        packages=folders,
        precision=precision,
        chunk=chunk,
        state_bytes=source.state_bytes,
        weight_bytes=source.weight_bytes,
        step_scratch_bytes=source.step_bytes,
        chunk_scratch_bytes=source.chunk_bytes,
        multiply_adds=program.multiply_adds,
        bytes=path.stat().st_size,
        compiler=None if error is None else str(checker),
        unchecked=unchecked,
        max_abs_error=error,
        max_abs_output=wanted.largest,
        exact_samples=model.config.exact_samples,
        rate=rate,
    )


def name_of(path: Path) -> str:
    """What the functions of a C file begin with: its stem, ``-``, ``.`` and spaces as ``_``.

    Raises:
        S4EdgeError: that is no C identifier, or it is no ``.c`` file.
    """
    if path.suffix != ".c":
        raise S4EdgeError(f"cannot write {path}: name a .c file")
    name = re.sub(r"[-. ]", "_", path.stem)
    if not re.fullmatch(r"[A-Za-z]\w{0,59}", name, flags=re.ASCII):
        raise S4EdgeError(
            f"cannot write {path}: its functions would begin with {name!r}, which is no C "
            "identifier; name it with a letter first, then letters, digits and _"
        )
    return name


def _own_compiler() -> Compiler:
    """The system's. Raises S4EdgeError if it has none for itself."""
    compiler = find_compiler()
    if not compiler.is_native:
        raise S4EdgeError(f"{compiler} compiles for another machine")
    return compiler


def _put(source: Source, file: Path, compiler: Compiler) -> Path:
    """Write files and compile them; the library."""
    write_text(file, source.code)
    write_text(file.with_suffix(".h"), source.header)
    compile_library(file, file.with_suffix(".so"), compiler)
    return file.with_suffix(".so")


def _tried(
    text: Callable[[list[str], frozenset[str]], Source],
    cancelling: frozenset[str],
    file: Path,
    compiler: Compiler,
    wanted: Wanted,
    as_bytes: bool,
) -> tuple[float, frozenset[str]]:
    """The error of the C, compiled into ``file``'s folder, and the stages in double precision.

    Double precision costs time and memory: it is only for systems whose weights cancel, and only
    where single precision has been seen to lose too much.
    """
    tolerance = COARSE_TOLERANCE if as_bytes else TOLERANCE
    tries = [(frozenset[str](), tolerance if as_bytes or not cancelling else tolerance / 10)]
    if cancelling:
        tries.append((cancelling, tolerance))
    for wide, bearable in tries:
        library = open_library(_put(text([], wide), file, compiler))
        error = max(
            _difference(library, x, y) for x, y in zip(wanted.samples, wanted.y, strict=True)
        )
        if error <= bearable * wanted.largest and not library.selftest():
            return error, wide
    why = (
        "Its weights are too coarse in int8; export it with --precision fp32" if as_bytes
        else "The model has modes too slow or too large for float32, or norms of almost constant "
        "features, which amplify rounding"
    )  # fmt: skip
    raise S4EdgeError(
        f"the C differs from the model by {error:.3g} where outputs reach {wanted.largest:.3g}: "
        f"it is not written. {why}"
    )


def _difference(library: CLibrary, x: np.ndarray, y: np.ndarray) -> float:
    """Largest, of one sequence: sample by sample at first, then in chunks that do not divide it."""
    state = library.start()
    apart = min(len(x), 64)
    got = [library.run(state, x[t : t + 1]) for t in range(apart)]
    for start in range(apart, len(x), 101):
        got.append(library.run(state, x[start : start + 101]))
    return float(np.abs(np.concatenate(got) - y).max())


def _trial(program: Program) -> Trial:
    """What the self-test runs: random samples, small enough to be embedded."""
    rng = np.random.default_rng(1)
    numbers = max(program.d_input, program.d_output)
    samples = int(np.clip(_TRIAL_NUMBERS // numbers, _FEWEST_TRIALS, _MOST_TRIALS))
    # Up to an answer of what runs once for several samples, and behind it.
    samples = max(samples, program.period + 2 if program.period > 1 else 1)
    if program.tokens:
        x = rng.integers(0, program.tokens, (samples, 1)).astype(np.float64)
    else:
        x = rng.standard_normal((samples, program.d_input)).astype(np.float32).astype(np.float64)
    y, _ = run(program, x)
    return Trial(x, y, max(TOLERANCE * float(np.abs(y).max()), 1e-30))


def _about(
    model: SequenceModel,
    program: Program,
    name: str,
    precision: str,
    error: float | None,
    largest: float,
) -> list[str]:
    """The lines at the top of the files."""
    config, provenance = model.config, model.provenance
    takes = f"a token below {program.tokens}" if program.tokens else _numbers(program.d_input)
    lines = [
        f"{name}: {provenance.source or 'a model'} as plain C, written by s4edge {VERSION}.",
        "",
        f"A sample is {takes}, an answer {_numbers(program.d_output)}. "
        f"{len(config.blocks)} blocks, {config.real_states:,} states, "
        f"{program.multiply_adds:,} multiply-adds a sample, matrices in {precision}.",
    ]
    for entry in map(in_short, provenance.history):
        told = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "did")
        lines.append(f"{entry['did']}: {told}")
    lines.append(
        "It has not been run: there was no compiler that works." if error is None
        else f"Largest difference to that model on random samples: {error:.2g} where outputs reach "
        f"{largest:.3g}."
    )  # fmt: skip
    if config.exact_samples is not None:
        lines.append(
            f"Exact for the first {config.exact_samples} samples of a stream: the model's kernels "
            "are cut there."
        )
    return lines


def _numbers(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"
