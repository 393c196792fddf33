"""What the fuzzer found, and what reading with its eyes showed: each a small file made here."""

from __future__ import annotations

import io
import json
import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fuzz.seeds import sample_answer
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import s4edge
from s4edge.bench.compare import compare_files
from s4edge.bench.file import read_bench
from s4edge.checkpoints.interpolation import resolve
from s4edge.data.dataset import load_data
from s4edge.errors import S4EdgeError
from s4edge.foreign import parse_json
from s4edge.model.file import read_description
from s4edge.runtime import Stream, open_graph, open_source, predict
from s4edge.runtime.backends.onnx_file import find_trouble
from s4edge.runtime.description import GraphInfo
from s4edge.training.run_state import RunState

H, N = 4, 2


def checkpoint(path: Path, config: Any = None, cls: str | None = None, **changed: Any) -> Path:
    """A SequenceModel of one S4D layer with encoder and decoder, and its sidecar."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "encoder.weight": torch.randn(H, 1, generator=generator),
        "encoder.bias": torch.zeros(H),
        "s4_layers.0.D": torch.ones(H),
        "s4_layers.0.kernel.C": torch.randn(H, N, 2, generator=generator),
        "s4_layers.0.kernel.log_dt": torch.full((H,), -2.0),
        "s4_layers.0.kernel.log_A_real": torch.full((H, N), -0.7),
        "s4_layers.0.kernel.A_imag": torch.arange(2.0 * H).reshape(H, N),
        "s4_layers.0.output_linear.0.weight": torch.randn(2 * H, H, 1, generator=generator),
        "s4_layers.0.output_linear.0.bias": torch.zeros(2 * H),
        "norms.0.weight": torch.ones(H),
        "norms.0.bias": torch.zeros(H),
        "decoder.weight": torch.randn(3, H, generator=generator),
        "decoder.bias": torch.zeros(3),
        **changed,
    }
    torch.save({"model": tensors}, path)
    if config is not None:
        said = {"config": config} if cls is None else {"cls": cls, "config": config}
        path.with_suffix(".json").write_text(json.dumps(said))
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model.pt")


@pytest.fixture
def compressed(tmp_path: Path, good: Path) -> Path:
    path = tmp_path / "model-s2.safetensors"
    s4edge.save(s4edge.compress(s4edge.load(good), 2), path)
    return path


# JSON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9" * 30, "a number of 30 digits"),
        ("9" * 5000, "a number of 5000 digits"),
        ("1e999", "too large a number"),
        ("[NaN]", "NaN is no JSON"),
        ("[" * 101 + "]" * 101, "nested more than 100 deep"),
        ('{"a":' * 100_000, "nested more than 100 deep"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('["\\ud800"]', "surrogates not allowed"),
    ],
)
def test_json_that_nothing_can_write_again(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_json_as_it_should_be() -> None:
    text = '{"a": [1, -2.5, null, true, "é\\u00e9"], "b": 18446744073709551615}'
    assert parse_json(text) == json.loads(text)
    assert parse_json("[Infinity]", finite=False) == [float("inf")]


def test_references_that_double_what_they_stand_for() -> None:
    chain: dict[str, Any] = {f"a{i}": f"${{a{i + 1}}}${{a{i + 1}}}" for i in range(40)}
    trees: dict[str, Any] = {
        f"t{i}": {"x": f"${{t{i + 1}}}", "y": f"${{t{i + 1}}}"} for i in range(40)
    }
    start = time.process_time()
    resolve(chain | trees | {"a40": "x", "t40": 1, "place": ["${place.²}"]})
    assert time.process_time() - start < 5
    # What is not reached by references is not counted.
    assert resolve({"long": list(range(50_000)), "a": "${b}", "b": 1})["a"] == 1


# Sidecars and configurations


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ({"cls": ["example.S4Model"], "config": {}}, "no JSON object with 'cls' and 'config'"),
        ({"config": {"a\nb\x1b[31m": 1}}, "gives a b\\?\\[31m=1"),
        ({"config": {"x" * 9000: 1}}, "xxx \\.\\.\\. xxx|x.* \\.\\.\\. .*x"),
    ],
)
def test_sidecars(good: Path, sidecar: Any, says: str) -> None:
    good.with_suffix(".json").write_text(json.dumps(sidecar))
    with pytest.raises(S4EdgeError, match=says) as caught:
        s4edge.load(good)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 4100


@pytest.mark.parametrize("count", [torch.tensor(1j), torch.zeros(2), torch.tensor(float("nan"))])
def test_counters_that_are_none(tmp_path: Path, count: torch.Tensor) -> None:
    norm = {"weight": torch.ones(H), "bias": torch.zeros(H), "running_mean": torch.zeros(H)}
    norm |= {"running_var": torch.ones(H), "num_batches_tracked": count}
    changed = {f"model.layers.0.norm.norm.{name}": value for name, value in norm.items()}
    path = sequence_model(tmp_path / "m.ckpt", {"norm": "batch", "prenorm": False}, **changed)
    with pytest.raises(S4EdgeError, match="num_batches_tracked is no count"):
        s4edge.load(path)


@pytest.mark.parametrize("number", ["2000", "99999999", "9" * 5000])
def test_layers_with_numbers_that_no_model_has(tmp_path: Path, number: str) -> None:
    changed = {f"model.layers.{number}.layer.D": torch.ones(1, H)}
    path = sequence_model(tmp_path / "m.ckpt", {}, **changed)
    with pytest.raises(S4EdgeError, match=f"number {number[:90]}"):
        s4edge.load(path)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="torch is older than they are")
def test_packed_floats_of_four_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"D": torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}
    good = torch.load(checkpoint(tmp_path / "model.pt"), weights_only=True)["model"]
    save_file(good | {"s4_layers.0.D": tensors["D"]}, path)
    with pytest.raises(S4EdgeError, match=r"float4_e2m1fn_x2, expected real|has shape"):
        s4edge.load(path)


def sequence_model(
    path: Path, config: Any, decoder: tuple[int, int] = (3, H), **changed: torch.Tensor
) -> Path:
    """Upstream's SequenceModel of one feed-forward layer, with encoder and decoder."""
    tensors = {
        "encoder.0.weight": torch.ones(H, 1),
        "encoder.0.bias": torch.zeros(H),
        "model.layers.0.layer.ff.0.0.weight": torch.ones(2 * H, H),
        "model.layers.0.layer.ff.0.0.bias": torch.zeros(2 * H),
        "model.layers.0.layer.ff.2.weight": torch.ones(H, 2 * H),
        "model.layers.0.layer.ff.2.bias": torch.zeros(H),
        "decoder.0.output_transform.weight": torch.ones(decoder),
        "decoder.0.output_transform.bias": torch.zeros(decoder[0]),
        **changed,
    }
    model = {
        "_name_": "model", "layer": [{"_name_": "ff", "expand": 2}], "n_layers": 1, "d_model": H,
        "prenorm": True, "residual": "R", "norm": None, "pool": None, "transposed": False, **config,
    }  # fmt: skip
    saved = {
        "model": model, "encoder": "linear", "decoder": {"_name_": "sequence", "mode": "last"},
        "dataset": {}, "task": {},
    }  # fmt: skip
    torch.save({"state_dict": tensors, "hyper_parameters": saved}, path)
    return path


def test_the_sequence_model_of_these_tests_is_read(tmp_path: Path) -> None:
    assert s4edge.load(sequence_model(tmp_path / "m.ckpt", {})).config.d_output == 3


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_a_decoder_of_another_width_is_not_repeated_until_it_fits(
    tmp_path: Path, columns: int
) -> None:
    path = sequence_model(tmp_path / "m.ckpt", {}, decoder=(3, columns))
    with pytest.raises(S4EdgeError, match=rf"takes {columns} features, the backbone gives {H}"):
        s4edge.load(path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"layer": []}, "layer=\\[\\], which names nothing"),
        ({"layer": {"_name_": ["ff"]}}, "is no( |$)"),
        ({"pool": {"_name_": ["pool"]}}, "is no( |$)"),
    ],
)
def test_configurations(tmp_path: Path, config: Any, says: str) -> None:
    with pytest.raises(S4EdgeError, match=says):
        s4edge.load(sequence_model(tmp_path / "m.ckpt", config))


# Compressed models


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], **tensors: Any) -> Path:
    """A compressed model with another description or tensors."""
    content = load_file(path)
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["s4edge"])
    change(description)
    save_file(content | tensors, path, metadata={"s4edge": json.dumps(description)})
    return path


@pytest.mark.parametrize("owner", ["x" * 300, {"a": 1}, 3, "../model.pt", "a\0"])
def test_shards_under_names_that_no_file_has(tmp_path: Path, owner: Any) -> None:
    index = {"metadata": {}, "weight_map": {"encoder.weight": owner}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(S4EdgeError, match=r"as a shard|no index of shards|not beside it"):
        s4edge.load(tmp_path)


@pytest.mark.parametrize("key", ["d_input", "d_output", "d_model"])
def test_a_model_is_not_made_larger_than_its_tensors(compressed: Path, key: str) -> None:
    def change(description: dict[str, Any]) -> None:
        description["config"][key] = (1 << 28) - 1

    rewritten(compressed, change)
    tracemalloc.start()
    with pytest.raises(S4EdgeError, match="its configuration says"):
        s4edge.load(compressed)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_more_states_than_there_are_numbers(compressed: Path) -> None:
    def change(description: dict[str, Any]) -> None:
        systems = description["config"]["blocks"][0]["systems"]
        systems["pairs"] = [1 << 27 for _ in systems["pairs"]]

    with pytest.raises(S4EdgeError, match="real states, the file holds"):
        s4edge.load(rewritten(compressed, change))


def test_whole_numbers_as_weights(compressed: Path) -> None:
    weight = load_file(compressed)["decoder.weight"]
    rewritten(compressed, lambda _: None, **{"decoder.weight": weight.long()})
    with pytest.raises(S4EdgeError, match=r"decoder\.weight is torch\.int64"):
        s4edge.load(compressed)


def test_a_number_with_400_digits_where_a_fraction_is_meant(compressed: Path) -> None:
    def change(description: dict[str, Any]) -> None:
        description["config"]["norm_epsilon"] = 10**400

    with pytest.raises(S4EdgeError, match="no readable safetensors file"):
        s4edge.load(rewritten(compressed, change))


# Graphs


def graph(path: Path, indices: int = 0, names: bytes = b"seen") -> Path:
    """A sequence graph that gathers one sample, without a description of what the index may be."""
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1]),
    ]
    node = helper.make_node("Gather", ["x", "index"], ["y"], axis=1)
    index = numpy_helper.from_array(np.array(indices), "index")
    body = helper.make_graph([node], "gather", ports[:1], ports[1:], [index])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    described = {
        "format": 1, "mode": "sequence", "samples_per_run": None, "d_input": 1, "d_output": 1,
        "state_floats": 0, "pooling": "last", "length": None, "exact_samples": None, "tokens": None,
        "source": "by hand", "state_size": None, "version": "0.1.0",
    }  # fmt: skip
    helper.set_model_props(model, {"s4edge": json.dumps(described)})
    path.write_bytes(model.SerializeToString())
    return path


def test_what_onnxruntime_says_while_a_sequence_runs_is_one_line(tmp_path: Path) -> None:
    x = np.zeros((2, 5, 1), np.float32)
    assert predict(open_graph(graph(tmp_path / "good.onnx")), x).shape == (2, 1)
    opened = open_graph(graph(tmp_path / "bad.onnx", indices=99))
    with pytest.raises(S4EdgeError, match=r"bad\.onnx cannot be run \(.*out of data bounds"):
        predict(opened, x)


def test_what_onnxruntime_says_while_a_stream_runs_is_one_line(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "step.onnx"
    s4edge.export_onnx(s4edge.load(good), path)
    stream = Stream(open_graph(path))

    def fail(*_: Any) -> None:
        raise RuntimeError("Non-zero status code\nand more")

    class Session:
        run_with_iobinding = staticmethod(fail)

    stream._running._session = Session()  # type: ignore[attr-defined]
    with pytest.raises(S4EdgeError, match=r"step\.onnx cannot be run \(Non-zero status code\)"):
        stream.step(np.zeros((1, 1), np.float32))


def test_names_in_a_graph_that_are_no_text(tmp_path: Path) -> None:
    path = graph(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[0].output[0] = "out"
    raw = model.SerializeToString()
    path.write_bytes(raw.replace(b"out", b"o\xff\xfe"))
    with pytest.raises(S4EdgeError, match="export it again"):
        open_graph(path)


def program(path: Path, nodes: list[Any], *constants: onnx.TensorProto, **more: Any) -> Path:
    """A sequence graph that gives the mean of its input, and does this beside it."""
    model = onnx.load(graph(path))
    body = model.graph
    del body.node[:], body.initializer[:]
    body.node.append(helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0))
    body.node.extend(nodes)
    body.initializer.extend(constants)
    model.functions.extend(more.get("functions", []))
    path.write_bytes(model.SerializeToString())
    return path


def integers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def elsewhere(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    for key, value in (("location", location), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def loop() -> Any:
    """Counts without end."""
    ports = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("c", 9))]
    out = helper.make_tensor_value_info("d", 9, [])
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", ports, [out])
    return helper.make_node("Loop", ["n", ""], [], body=body)


def within(node: Any) -> Any:
    """In a graph of a node's own."""
    body = helper.make_graph([node], "inner", [], [])
    return helper.make_node("Scan", [], [], body=body, num_scan_inputs=1)


HUGE_SHAPE = integers("s", 1, 1 << 14, 1 << 14)
FUNCTION = helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("nodes", "constants", "says"),
    [
        ([loop()], [integers("n", 1 << 62)], "its operator Loop is none that s4edge writes"),
        ([within(loop())], [], "its operator Loop is none"),
        ([helper.make_node("ConstantOfShape", ["s"], ["c"])], [HUGE_SHAPE], "2.68e\\+08 numbers"),
        ([helper.make_node("Expand", ["x", "s"], ["c"])], [HUGE_SHAPE], "Expand makes"),
        ([helper.make_node("Tile", ["x", "s"], ["c"])],
         [helper.make_tensor("s", 7, [3], [1, 1 << 14, 1 << 14])], "Tile makes"),
        ([], [elsewhere("secret.bin")], "constants in another file"),
        ([helper.make_node("Constant", [], ["c"], value=elsewhere("../../etc/passwd"))], [],
         "constants in another file"),
        ([helper.make_node("Inverse", ["x"], ["c"], domain="com.microsoft")], [],
         "Inverse is none of ONNX's own"),
    ],
)  # fmt: skip
def test_graphs_that_are_more_than_arithmetic(
    tmp_path: Path, nodes: list[Any], constants: list[onnx.TensorProto], says: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    with pytest.raises(S4EdgeError, match=says):
        open_graph(program(tmp_path / "model.onnx", nodes, *constants))


def test_how_deep_graphs_may_lie_in_each_other(tmp_path: Path) -> None:
    """onnxruntime goes down by calling itself; 8 are allowed, since that is more than any has."""
    node = helper.make_node("Neg", ["x"], ["inner"])
    for depth in range(1, 10):
        node = within(node)
        path = program(tmp_path / "model.onnx", [node])
        told = find_trouble(path)
        assert told == (None if depth <= 8 else "its graphs are nested")


def test_graphs_with_functions_of_their_own(tmp_path: Path) -> None:
    assert open_graph(program(tmp_path / "plain.onnx", [])).info.d_input == 1
    with pytest.raises(S4EdgeError, match="functions of its own"):
        open_graph(program(tmp_path / "model.onnx", [], functions=[FUNCTION]))


# Arrays


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(array: Any = None, header: str = "", data: bytes = b"") -> bytes:
    """An array as numpy writes it, or such a header before these bytes."""
    file = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
        return file.getvalue()
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


X = np.zeros((2, 3, 1), np.float32)
HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1, 1), }"


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"x": b"no array at all"}, "no readable .npz file"),
        ({"x": npy(X), "y": b"\x93NUMPY"}, "no readable .npz file"),
        ({"x": npy(header=HUGE)}, "shorter than its shape"),
        ({"x": npy(header="{'descr': '<f4', 'shape': (-1, 3, 1), 'fortran_order': False}")},
         "shorter than its shape"),
        ({"x": npy(header="{'descr': ([[[[[")}, "no readable .npz file"),
        ({"x": npy(X), "y": npy(np.array([{}, {}], dtype=object))}, "no readable .npz file"),
        ({"x": npy(X), "lengths": npy(np.array([1, None], dtype=object))}, "no readable .npz"),
    ],
)  # fmt: skip
def test_arrays_that_are_none(tmp_path: Path, members: dict[str, bytes], says: str) -> None:
    with pytest.raises(S4EdgeError, match=says):
        load_data(npz(tmp_path / "data.npz", **members))


def test_objects_in_any_array_run_nothing(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    evil = npy(np.array([Runs(), Runs()], dtype=object))
    for name in ("x", "y", "lengths"):
        path = npz(tmp_path / "data.npz", **({"x": npy(X)} | {name: evil}))
        with pytest.raises(S4EdgeError, match="Object arrays"):
            load_data(path)
        if name != "y":  # which no stream looks at
            with pytest.raises(S4EdgeError):
                open_source(path, INFO, index=0)
        assert not (tmp_path / "ran").exists()


def test_archives_that_swell_are_refused_before_they_do(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.zeros((100 << 20, 1, 1), np.int8), y=np.zeros(2))
    tracemalloc.start()
    for read in (load_data, lambda path: open_source(path, INFO, index=0)):
        with pytest.raises(S4EdgeError, match="would unpack from"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    path = npz(tmp_path / "data.npz", x=npy(X))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", npy(X + 1))
    with pytest.raises(S4EdgeError, match="two of its arrays have one name"):
        load_data(path)


INFO = GraphInfo(
    path=Path("model.onnx"), format=1, mode="step", samples_per_run=1, d_input=1, d_output=2,
    tokens=None, state_floats=4, pooling="mean", length=None, exact_samples=None, source="model.pt",
    state_size=4, version="0.1.0", model_bytes=1000,
)  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': True, 'shape': (4294967296, 4294967296, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, [, }",
    ],
)
def test_arrays_as_sources(tmp_path: Path, header: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(header=header, data=bytes(80)))
    with pytest.raises(S4EdgeError):
        list(open_source(path, INFO, index=0).read())
    # The same for the lengths beside an array.
    lengths = npz(tmp_path / "x.npz", x=npy(X), lengths=npy(header=header))
    with pytest.raises(S4EdgeError):
        list(open_source(lengths, INFO, index=0).read())


# Answers of a bench


@pytest.mark.parametrize("value", [-3.5, 1e300, 1e-300, True, "3", 10**17])
def test_times_that_no_bench_measured(tmp_path: Path, value: Any) -> None:
    answer = sample_answer.sample_answer()
    answer["results"][0]["rounds"][0]["us_per_sample"] = value
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(answer))
    with pytest.raises(S4EdgeError, match=r"results\[0\]\.rounds\[0\]\.us_per_sample is .*, not a"):
        compare_files([path, path])


@pytest.mark.parametrize("cores", [3.5, "all", [1, -1], [[1]]])
def test_cores_of_a_bench_that_are_none(tmp_path: Path, cores: Any) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(sample_answer.sample_answer() | {"pinned_to": cores}))
    with pytest.raises(S4EdgeError, match=r"no answer of s4edge bench \(pinned_to.* is "):
        read_bench(path)


# Training runs


def test_runs_of_the_former_format_and_damaged_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.run"
    torch.save({"format": 1, "json": "{}"}, path)
    with pytest.raises(S4EdgeError, match=r"no readable run .* start again without --resume"):
        RunState.load(path, {})
    save_file({"model/a": torch.ones(1)}, path, metadata={"s4edge-run": '{"format": 2}'})
    with pytest.raises(S4EdgeError, match=r"no readable run \('what'\)"):
        RunState.load(path, {})


# Paths that are no files


READERS: dict[str, Callable[[Path], Any]] = {
    "model.pt": s4edge.load,
    "model.safetensors": s4edge.load,
    "model.onnx": open_graph,
    "data.npz": load_data,
    "bench.json": read_bench,
    "model.run": lambda path: RunState.load(path, {}),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "loop", "folder", "empty", "missing", "zero", "long"])
def test_what_is_no_file(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)  # that nobody writes to
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "zero":
        path = Path(f"{path}\0")
    elif kind == "long":
        path = tmp_path / (name * 100)
    with pytest.raises(S4EdgeError) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value)


def test_pipes_beside_a_model_are_not_waited_for(good: Path) -> None:
    os.mkfifo(good.with_suffix(".json"))
    with pytest.raises(S4EdgeError, match="is a device or a pipe"):
        s4edge.load(good)
    assert read_description(good.with_suffix(".json")) is None


def test_answers_of_a_bench_that_a_shell_hands_over(tmp_path: Path) -> None:
    """As in ``--compare <(ssh board cat bench.json) bench.json``."""
    read, write = os.pipe()
    os.write(write, b"{}")
    os.close(write)
    with pytest.raises(S4EdgeError, match="it has no device and no results"):
        compare_files([f"/dev/fd/{read}", tmp_path / "none.json"])
    os.close(read)
    with pytest.raises(S4EdgeError, match="larger than 64 MB"):
        read_bench("/dev/zero")
