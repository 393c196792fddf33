"""One engine on a step or a chunk graph, in a process of its own that obeys its input.

    python engine_worker.py ENGINE GRAPH

GRAPH is of `s4edge export --onnx --batch 1`; beside it lie its shapes (``.json``) and ``x.npy``,
(samples, d_input). Needs numpy and the engine, nothing of s4edge's, so that an engine may have an
environment of its own. Writes a line of JSON: the engine's version, its size, what stopped it or
nothing, with the outputs in ``ENGINE-GRAPH.npy``. Then, for each line with a number of seconds,
the median nanoseconds of a run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# From zero state, outputs of x (runs, ...) one after another; and two runs to be timed.
Loaded = tuple[Callable[[Array], Array], Callable[[], object]]


def shapes(graph: Path) -> dict[str, tuple[int, ...]]:
    """Of inputs and outputs, as the benchmark wrote them beside the graph."""
    found = json.loads(graph.with_suffix(".json").read_text())
    return {name: tuple(shape) for name, shape in found.items()}


def looped(step: Callable[[Array], Array], reset: Callable[[], None]) -> Callable[[Array], Array]:
    """Runs from zero state."""

    def outputs(x: Array) -> Array:
        reset()
        return np.stack([np.array(step(part)) for part in x])

    return outputs


def onnxruntime(graph: Path) -> Loaded:
    """Buffers that it reads and writes itself, states there and back."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    of = shapes(graph)
    x, y = (np.zeros(of[name], np.float32) for name in "xy")
    states = [np.zeros(of["state"], np.float32) for _ in range(2)]
    bindings = [session.io_binding() for _ in range(2)]
    for turn, binding in enumerate(bindings):
        for name, array in (("x", x), ("state", states[turn])):
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in (("y", y), ("next_state", states[1 - turn])):
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    turns = 0

    def step(part: Array) -> Array:
        nonlocal turns
        x[...] = part
        session.run_with_iobinding(bindings[turns % 2])
        turns += 1
        return y

    def reset() -> None:
        nonlocal turns
        turns = 0
        states[0].fill(0)

    def twice() -> None:
        session.run_with_iobinding(bindings[0])
        session.run_with_iobinding(bindings[1])

    return looped(step, reset), twice


def openvino(graph: Path) -> Loaded:
    """Two requests whose tensors are each other's."""
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"
    }  # fmt: skip
    model = ov.Core().compile_model(str(graph), "CPU", options)
    of = shapes(graph)
    arrays = [np.zeros(of[name], np.float32) for name in ("x", "y", "state", "state")]
    x, y, *states = (ov.Tensor(array, shared_memory=True) for array in arrays)
    requests = []
    for turn in range(2):
        request = model.create_infer_request()
        for name, tensor in (("x", x), ("state", states[turn]), ("y", y),
                             ("next_state", states[1 - turn])):  # fmt: skip
            request.set_tensor(name, tensor)
        requests.append(request)
    turns = 0

    def step(part: Array) -> Array:
        nonlocal turns
        arrays[0][...] = part
        requests[turns % 2].infer()
        turns += 1
        return arrays[1]

    def reset() -> None:
        nonlocal turns
        turns = 0
        arrays[2].fill(0)

    def twice() -> None:
        requests[0].infer()
        requests[1].infer()

    return looped(step, reset), twice


def iree(graph: Path) -> Loaded:
    """Compiled for this processor; the new state stays on its side."""
    from iree import runtime

    tools = Path(sys.executable).parent
    mlir, made = graph.with_suffix(".mlir"), graph.with_suffix(".vmfb")
    _called([tools / "iree-import-onnx", graph, "-o", mlir, "--opset-version", "17"])
    _called([tools / "iree-compile", mlir, "--iree-hal-target-device=local",
             "--iree-hal-local-target-device-backends=llvm-cpu",
             "--iree-llvmcpu-target-cpu=host", "-o", made])  # fmt: skip
    config = runtime.Config("local-sync")
    context = runtime.SystemContext(config=config)
    context.add_vm_module(runtime.VmModule.mmap(context.instance, str(made)))
    call = context.modules.module[f"s4edge_{graph.stem}"]
    of = shapes(graph)

    def zeros() -> Any:
        return runtime.asdevicearray(config.device, np.zeros(of["state"], np.float32))

    state, x = zeros(), runtime.asdevicearray(config.device, np.zeros(of["x"], np.float32))

    def step(part: Array) -> Array:
        nonlocal state
        y, state = call(runtime.asdevicearray(config.device, part.reshape(of["x"])), state)
        return np.asarray(y.to_host())

    def reset() -> None:
        nonlocal state
        state = zeros()

    def twice() -> None:
        nonlocal state
        _, state = call(x, state)
        _, state = call(x, state)

    return looped(step, reset), twice


def ncnn(graph: Path) -> Loaded:
    """Converted by pnnx; no extractor can be used twice."""
    import ncnn as engine

    # Importing it would need torch.
    converter = importlib.util.find_spec("pnnx")
    assert converter is not None and converter.origin is not None  # noqa: PT018
    of = shapes(graph)
    sizes = ",".join(str(list(of[name])).replace(" ", "") for name in ("x", "state"))
    _called([Path(converter.origin).parent / "pnnx", graph, f"inputshape={sizes}"])
    net = engine.Net()
    net.opt.num_threads = 1
    for each in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{each}", False)
    net.load_param(str(graph.with_suffix(".ncnn.param")))
    net.load_model(str(graph.with_suffix(".ncnn.bin")))

    state = np.zeros(of["state"][1:], np.float32)

    def once(part: Array) -> Array:
        nonlocal state
        with net.create_extractor() as extractor:
            extractor.input("in0", engine.Mat(part).clone())
            extractor.input("in1", engine.Mat(state).clone())
            failed, y = extractor.extract("out0")
            failed_too, after = extractor.extract("out1")
            # Copies: what an extractor gives does not outlive it.
            y, state = np.array(y), np.array(after)
        found, wanted = (y.size, state.size), (math.prod(of["y"]), math.prod(of["state"]))
        if failed or failed_too or found != wanted:
            raise ValueError(f"converted by pnnx, it gives {found} numbers, not {wanted}")
        return y

    def step(part: Array) -> Array:
        return once(np.ascontiguousarray(part.reshape(of["x"][1:]))).reshape(of["y"])

    def reset() -> None:
        nonlocal state
        state = np.zeros(of["state"][1:], np.float32)

    zero = np.zeros(of["x"][1:], np.float32)

    def twice() -> None:
        once(zero)
        once(zero)

    return looped(step, reset), twice


def litert(graph: Path) -> Loaded:
    """Converted by onnx2tf, erf approximated; the new state is copied into the input."""
    from ai_edge_litert.interpreter import Interpreter

    tool = Path(sys.executable).parent / "onnx2tf"
    made = graph.with_name(f"{graph.stem}-tf")
    _called([tool, "-i", graph, "-o", made, "-kat", "x", "state", "-n", "-rtpo", "Erf"])
    interpreter = Interpreter(str(made / f"{graph.stem}_float32.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    of = shapes(graph)
    inputs = {each["name"].split("_")[-1].split(":")[0]: each for each in
              interpreter.get_input_details()}  # fmt: skip
    outputs = {tuple(each["shape"]): each["index"] for each in interpreter.get_output_details()}
    x_at, state_at = inputs["x"]["index"], inputs["state"]["index"]
    y_at, after_at = outputs[of["y"]], outputs[of["state"]]

    def once(part: Array) -> Array:
        interpreter.set_tensor(x_at, part)
        interpreter.invoke()
        interpreter.set_tensor(state_at, interpreter.get_tensor(after_at))
        return np.asarray(interpreter.get_tensor(y_at))

    zero = np.zeros(of["x"], np.float32)

    def twice() -> None:
        once(zero)
        once(zero)

    def reset() -> None:
        interpreter.set_tensor(state_at, np.zeros(of["state"], np.float32))

    return looped(lambda part: once(part.reshape(of["x"])), reset), twice


# What opens a graph, and the packages that it is made of: the first one's version is told.
ENGINES: dict[str, tuple[Callable[[Path], Loaded], tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime, ("onnxruntime",)),
    "OpenVINO": (openvino, ("openvino",)),
    "IREE": (iree, ("iree-base-runtime", "iree-base-compiler")),
    "ncnn": (ncnn, ("ncnn", "pnnx")),
    "LiteRT": (litert, ("ai-edge-litert", "onnx2tf", "tensorflow")),
}


def _called(command: list[Any]) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, check=False, errors="replace"
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line]
        raise ValueError((lines or [f"{Path(command[0]).name} ends with {done.returncode}"])[-1])


def _megabytes(package: str) -> float:
    """On the disk, without what it depends on."""
    files = importlib.metadata.files(package) or []
    paths = [Path(str(each.locate())) for each in files]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    """Load, answer, obey."""
    name, graph = sys.argv[1], Path(sys.argv[2])
    load, packages = ENGINES[name]
    told: dict[str, Any] = {"version": None}
    try:
        told["version"] = importlib.metadata.version(packages[0])
        told["megabytes"] = {each: _megabytes(each) for each in packages}
    except importlib.metadata.PackageNotFoundError as error:
        print(json.dumps({**told, "missing": error.name}), flush=True)
        return
    x = np.load(graph.with_name("x.npy"))
    try:
        # Both are kept: one holds arrays that the other's are bound to.
        run, twice = load(graph)
        y = run(x.reshape(-1, *shapes(graph)["x"]))
    except Exception as error:  # whatever an engine raises is what stopped it
        reason = str(error).strip().splitlines() or [type(error).__name__]
        print(json.dumps({**told, "stopped": reason[0][:300]}), flush=True)
        return
    np.save(graph.with_name(f"{name}-{graph.stem}.npy"), y.reshape(len(x), -1))
    print(json.dumps(told), flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        taken, end = [], clock() + int(float(line) * 1e9)
        twice()
        while not taken or clock() < end:
            start = clock()
            twice()
            taken.append(clock() - start)
        print(float(np.median(taken)) / 2, flush=True)


if __name__ == "__main__":
    main()
