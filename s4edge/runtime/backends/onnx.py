"""ONNX graphs, run by onnxruntime. The only module that imports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from s4edge.arrays import Single
from s4edge.errors import S4EdgeError, means_no_memory
from s4edge.foreign import check_file
from s4edge.runtime.backends.base import Graph, Running
from s4edge.runtime.backends.onnx_file import find_trouble
from s4edge.runtime.description import GraphInfo, read_description

METADATA_KEY = "s4edge"
EXPORT_HINT = "s4edge export MODEL --onnx"


def versions() -> dict[str, str]:
    """Of the packages that run graphs."""
    return {"onnxruntime": onnxruntime.__version__}


def open_file(path: Path, threads: int) -> OnnxGraph:
    """Load a graph on the CPU.

    Args:
        path: the ``.onnx`` file.
        threads: threads that one run may use.

    Raises:
        S4EdgeError: no such file, no ONNX file, not written by s4edge or by a newer one, or its
            inputs and outputs are not those that its description promises.
    """
    session = _load(path, threads)
    try:
        info = _describe(path, session)
        return OnnxGraph(info, session, _check_signature(info, session))
    except UnicodeDecodeError as error:
        raise S4EdgeError(
            f"{path} has names that are no text; export it again with: {EXPORT_HINT}"
        ) from error


def read_info(path: Path) -> GraphInfo:
    """Read what a graph says about itself. Raises S4EdgeError as `open_file` does."""
    return open_file(path, 1).info


def in_memory(
    graph: bytes,
) -> Callable[[Sequence[str], Mapping[str, np.ndarray[Any, Any]]], list[Any]]:
    """A graph that is in no file and need not be s4edge's: outputs by name, of inputs by name."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda outputs, inputs: list(session.run(list(outputs), dict(inputs)))


class OnnxGraph(Graph):
    """A graph, and its session on the CPU."""

    def __init__(
        self, info: GraphInfo, session: onnxruntime.InferenceSession, batch: int | None
    ) -> None:
        self.info, self.session, self.batch = info, session, batch
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def start(self, batch: int) -> Running:
        """Allocate every buffer, with the state at zero."""
        return _Bound(self, batch)

    def run(self, x: Single) -> Single:
        """Outputs of whole sequences."""
        try:
            (y,) = self.session.run(["y"], {"x": np.ascontiguousarray(x)})
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise _failed(self.info.path, error) from error
        return y


class _Bound(Running):
    """Buffers that onnxruntime reads and writes itself."""

    def __init__(self, graph: OnnxGraph, batch: int) -> None:
        info = graph.info
        self._path, self._session = info.path, graph.session
        between = () if info.mode == "step" else (info.samples_per_run or 1,)
        self.x: Single = np.zeros((batch, *between, info.d_input), np.float32)
        self.y: Single = np.zeros((batch, *between, info.d_output), np.float32)
        self._states: tuple[Single, Single] = (
            np.zeros((batch, info.state_floats), np.float32),
            np.zeros((batch, info.state_floats), np.float32),
        )
        # One binding for each direction: the state is never copied, the buffers swap roles.
        self._bindings = (self._bind(0, 1), self._bind(1, 0))
        self._current = 0

    def run(self) -> None:
        try:
            self._session.run_with_iobinding(self._bindings[self._current])
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise _failed(self._path, error) from error
        self._current = 1 - self._current

    def undo(self) -> None:
        self._current = 1 - self._current

    @property
    def state(self) -> Single:
        return self._states[self._current]

    def _bind(self, now: int, after: int) -> onnxruntime.IOBinding:
        binding: Any = self._session.io_binding()
        for bind, name, buffer in (
            (binding.bind_input, "x", self.x),
            (binding.bind_input, "state", self._states[now]),
            (binding.bind_output, "y", self.y),
            (binding.bind_output, "next_state", self._states[after]),
        ):
            # By address: onnxruntime then reads and writes these arrays themselves.
            bind(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        return binding


def _load(path: Path, threads: int) -> onnxruntime.InferenceSession:
    check_file(path, "name an .onnx file in it", f"; export it again with: {EXPORT_HINT}")
    trouble = find_trouble(path)
    if trouble is not None:
        raise S4EdgeError(f"{path} is not run: {trouble}; export it again with: {EXPORT_HINT}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A stream waits for samples most of the time: threads that spin meanwhile would eat the board.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # nothing: its errors come as exceptions, too
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        if means_no_memory(error):
            raise S4EdgeError(
                f"not enough memory to load {path}; close other programs or use a smaller graph"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.rpartition("failed:")[2]  # before it, the path once more
        raise S4EdgeError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path} ({reason}); it is truncated "
            f"or no ONNX file: export it again with: {EXPORT_HINT}"
        ) from error


def _describe(path: Path, session: onnxruntime.InferenceSession) -> GraphInfo:
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError as error:
        raise S4EdgeError(
            f"{path}: its s4edge description is no text; export it again with: {EXPORT_HINT}"
        ) from error
    if text is None:
        raise S4EdgeError(
            f"{path} was not written by s4edge, so what its inputs mean is unknown; "
            f"export one with: {EXPORT_HINT}"
        )
    return read_description(path, text, EXPORT_HINT)


def _failed(path: Path, error: Exception) -> S4EdgeError:
    """The one line for what onnxruntime raised while a graph ran."""
    reason = "out of memory"
    if not means_no_memory(error):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return S4EdgeError(f"{path} cannot be run ({reason}); export it again with: {EXPORT_HINT}")


def _check_signature(info: GraphInfo, session: onnxruntime.InferenceSession) -> int | None:
    """Compare inputs and outputs with the description; give the batch size if it is fixed."""
    per_run = info.samples_per_run
    # Between batch and features: nothing in a step graph, T samples in a chunk graph, any number
    # in a sequence graph, which may pool over them.
    between = {"step": (), "chunk": (per_run,), "sequence": (None,)}[info.mode]
    inputs = {"x": [(*between, info.d_input)]}
    outputs = {"y": [(*between, info.d_output)]}
    if info.streams:
        inputs["state"] = outputs["next_state"] = [(info.state_floats,)]
    else:
        outputs["y"].append((info.d_output,))
    batches = set()
    for kind, found, wanted in (
        ("inputs", session.get_inputs(), inputs),
        ("outputs", session.get_outputs(), outputs),
    ):
        as_described = {port.name for port in found} == set(wanted) and all(
            port.type == "tensor(float)"
            and any(_is_shape(port.shape[1:], shape) for shape in wanted[port.name])
            for port in found
        )
        if not as_described:
            has = ", ".join(f"{port.name} {port.type}{port.shape}" for port in found)
            needs = ", ".join(
                f"{name} (batch, {', '.join(str(each or 'length') for each in shapes[0])})"
                for name, shapes in wanted.items()
            )
            raise S4EdgeError(
                f"{info.path} is not the {info.mode} graph that it is described as: its {kind} are "
                f"{has or 'none'}, not {needs}; export it again with: {EXPORT_HINT}"
            )
        batches |= {port.shape[0] for port in found if _is_int(port.shape[0])}
    if len(batches) > 1:
        raise S4EdgeError(
            f"{info.path} mixes batch sizes {sorted(batches)}; export it again with: {EXPORT_HINT}"
        )
    return batches.pop() if batches else None


def _is_shape(found: Sequence[object], wanted: Sequence[int | None]) -> bool:
    """Whether sizes are as wanted; those that a graph leaves open are names or None."""
    return len(found) == len(wanted) and all(
        size == want or want is None or not _is_int(size) for size, want in zip(found, wanted)
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
