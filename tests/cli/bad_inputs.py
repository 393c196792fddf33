"""What a person can get wrong, one case each, and what s4edge must answer.

As a script it shows the answers:

    python tests/cli/bad_inputs.py [PART OF A NAME]
"""

from __future__ import annotations

import functools
import random
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tiny_checkpoints as tiny
import torch
from damaged_files import (
    Make,
    Runs,
    arrays,
    code,
    copy,
    cut,
    file,
    flipped,
    foreign_graph,
    graph,
    model_file,
    negative,
    nothing,
    npz,
    old_format,
    pickled,
    saved,
    sidecar,
    state,
    tensor_name,
    these,
)
from s4edge_command import Outcome, call
from torch import nn

# What the commands of the cases below are told to write.
OUTPUTS = ("out.safetensors", "out.onnx", "out.c")


@dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
        name: in words.
        make: makes the files in an empty folder.
        command: the arguments after ``s4edge``, called in that folder.
        says: words that the answer must have.
        status: the exit status: 1, or 2 for wrong usage.
        unless_root: permissions do not bind the superuser.
    """

    name: str
    make: Make
    command: str
    says: str
    status: int = 1
    unless_root: bool = False


def run(case: Case, folder: Path) -> Outcome:
    """Call the command of a case in its folder, whose files are made."""
    return call(folder, *shlex.split(case.command))


_S4D, _BLOCK, _EXP = tiny.s4d, tiny.s4block, tiny.dss
_SOFTMAX: Callable[[], tiny.StateDict] = functools.partial(tiny.dss, "softmax")
_GROWING: Callable[[], tiny.StateDict] = functools.partial(tiny.dss, "softmax", True)
_NAN, _INF = float("nan"), float("inf")
_COMPRESS = "compress model.pt --state 4 -o out.safetensors"


def checkpoints() -> Iterator[Case]:
    yield Case("missing file", nothing, _COMPRESS, "model.pt does not exist")
    yield Case("a folder", lambda f: (f / "model.pt").mkdir(), _COMPRESS, "model.pt is a folder")
    yield Case("empty file", file("model.pt", ""), _COMPRESS, "model.pt is empty")
    for name, content in (
        ("text", "hello world\nthis is text\n"),
        ("web page", "<!DOCTYPE html><html>404</html>"),
        ("JSON", '{"encoder.weight": 1}'),
        ("random bytes", random.Random(0).randbytes(5000)),
    ):
        yield Case(
            f"{name} instead of a checkpoint", file("model.pt", content), _COMPRESS,
            "model.pt is no readable PyTorch checkpoint (it does not begin like one)",
        )  # fmt: skip
    for kept in (1, 2, 10, 100, 1000, 0.5, 0.9, -1):
        yield Case(
            f"checkpoint cut off ({kept})", cut("model.pt", kept), _COMPRESS,
            "model.pt is no readable PyTorch checkpoint",
        )  # fmt: skip
    yield Case(
        "checkpoint of the old format cut off", old_format, _COMPRESS,
        "model.pt is no readable PyTorch checkpoint",
    )  # fmt: skip
    refused = "that only running code from the file could restore; refused. Re-save the weights"
    for protocol in (2, 4):
        yield Case(
            f"pickle that runs a command (protocol {protocol})", pickled(protocol), _COMPRESS,
            refused,
        )  # fmt: skip
    yield Case(
        "checkpoint that runs a command", saved(lambda folder: {"model": {"a": Runs(folder)}}),
        _COMPRESS, "model.pt holds Python objects (posix.system)",
    )  # fmt: skip
    yield Case(
        "pickled module", saved(lambda _: nn.Linear(2, 2)), _COMPRESS,
        "model.pt holds Python objects (torch.nn.modules.linear.Linear)",
    )  # fmt: skip
    for name, value in (
        ("dictionary without tensors", {"epoch": 3}),
        ("empty state dict", {"model": {}}),
        ("list of tensors", [torch.zeros(2)]),
        ("tensors by number", {0: torch.zeros(2)}),
        ("one tensor", torch.zeros(2)),
    ):
        yield Case(
            name, saved(lambda _, value=value: value), _COMPRESS, "model.pt holds no state dict"
        )
    yield Case(
        "optimizer among the weights", saved(lambda _: {"model": {**tiny.s4d(), "optimizer": {}}}),
        _COMPRESS, "entries that are no tensors: optimizer",
    )  # fmt: skip
    yield Case(
        "another kind of model", saved(lambda _: nn.Linear(2, 2).state_dict()), _COMPRESS,
        "model.pt is of no layout that s4edge knows (its tensors start with bias, weight)",
    )  # fmt: skip
    yield Case(
        "unknown layers", state(kernel__log_A_real=lambda _: None, kernel__C=lambda _: None),
        "inspect model.pt", "the layer under s4_layers.1 is of no known kind; known: minimal S4D",
    )  # fmt: skip
    yield Case(
        "graph instead of a checkpoint", copy("model.onnx"),
        "compress model.onnx --state 4 -o out.safetensors", "model.onnx is a graph, no checkpoint",
    )  # fmt: skip


def tensors() -> Iterator[Case]:
    for layout, key, matrix in (
        (_S4D, "kernel__C", "kernel__log_A_real"),
        (_BLOCK, "layer__kernel__B", "layer__kernel__A_real"),
        (_EXP, "kernel__Lambda_im", "kernel__W"),
    ):
        kind = {"kernel__C": "S4D", "layer__kernel__B": "S4Block", "kernel__Lambda_im": "DSS"}[key]
        name = tensor_name(key)
        # Of upstream's S4 a complex number may stand for the two real ones that it keeps.
        pairs = kind != "DSS"
        of_complex = (
            f"{name} has shape (" if pairs else f"{name} is complex64, expected real floating"
        )
        for what, change, says in (
            ("missing tensor", lambda _: None, f"model.pt lacks the tensor {name}"),
            ("tensor of a wrong shape", lambda t: t[..., :-1], f"{name} has shape"),
            ("tensor with an axis too many", lambda t: t[None], f"{name} has shape"),
            ("scalar for a tensor", lambda t: torch.tensor(1.0), f"{name} has shape ()"),
            ("empty tensor", lambda t: t[:0], f"{name} has shape (0,"),
            ("NaN", lambda t: t * _NAN, f"{name} holds NaN or infinite values"),
            ("infinity", lambda t: t + _INF, f"{name} holds NaN or infinite values"),
            ("integer tensor", lambda t: t.long(), f"{name} is int64, expected real floating"),
            ("complex tensor", lambda t: t + 0j, of_complex),
            ("sparse tensor", lambda t: t.to_sparse(), f"{name} is a sparse tensor"),
        ):
            yield Case(f"{kind}: {what}", state(layout, **{key: change}), _COMPRESS, says)
        yield Case(
            f"{kind}: flattened tensor", state(layout, **{matrix: lambda t: t.reshape(-1)[1:]}),
            _COMPRESS, f"{tensor_name(matrix)} has shape",
        )  # fmt: skip
        yield Case(
            f"{kind}: tensor too many", state(layout, kernel__extra=torch.zeros(3)),
            _COMPRESS, "that this layout does not know: s4_layers.1.kernel.extra",
        )  # fmt: skip
    yield Case(
        "step size out of range", state(kernel__log_dt=lambda t: t - 1000), _COMPRESS,
        "model.pt: its kernels hold modes with |a| >= 1 (up to 1), which mean something up to the "
        "length of the sequences only, which the file does not hold; say it with --set "
        "length=VALUE",
    )  # fmt: skip
    yield Case(
        "unstable mode",
        state(_BLOCK, {"layer_kwargs": {"real_transform": "none"}}, layer__kernel__A_real=negative),
        _COMPRESS,
        "model.pt: its kernels hold modes with |a| >= 1 (up to 1.29045)",
    )  # fmt: skip
    yield Case(
        "DPLR without the length of its kernels",
        state(_BLOCK, layer__kernel__P=torch.zeros(1, 2, 4, 2)), _COMPRESS, "l_kernel",
    )  # fmt: skip


def facts() -> Iterator[Case]:
    for name, content, says in (
        ("sidecar of another class", {"cls": "models.s4.s4d.S4D", "config": {}},
         "its sidecar says cls=models.s4.s4d.S4D, the tensors are of example.S4Model"),
        ("sidecar that contradicts", {"config": {"d_model": 5}},
         "its configuration says d_model=5, the tensors say 4"),
        ("sidecar of another layer", {"config": {"layer": "models.s4.s4.S4Block"}},
         "says models.s4.s4.S4Block, the tensors under s4_layers.0 are of minimal S4D"),
        ("sidecar with an unknown option", {"config": {"layer_kwargs": {"chunky": 1}}},
         "gives layer_kwargs.chunky=1, which this layout does not know; known: d_"),
        ("sidecar with a value not supported", {"config": {"prenorm": "perhaps"}},
         "prenorm=perhaps cannot be read; supported: false, true"),
        ("sidecar with options that are none", {"config": {"layer_kwargs": "d_state=8"}},
         "layer_kwargs is no JSON object"),
        ("sidecar without a config", {"cls": "example.S4Model"},
         "the sidecar model.json is no JSON object with 'cls' and 'config'"),
        ("sidecar that is a list", "[]", "the sidecar model.json is no JSON object"),
        ("sidecar that is no JSON", "{d_model: 4}", "the sidecar model.json cannot be read"),
        ("sidecar that is no text", b"\xff\xfe", "the sidecar model.json cannot be read"),
        ("sidecar without end", "[" * 100_000, "the sidecar model.json cannot be read"),
    ):  # fmt: skip
        yield Case(name, sidecar(content), _COMPRESS, says)
    yield Case(
        "option of the layer beside those of the model", state(_BLOCK, {"disc": "bilinear"}),
        _COMPRESS, "its configuration gives disc=bilinear, which this layout does not know",
    )  # fmt: skip
    yield Case(
        "sidecar that is a folder", these(copy("model.pt"), lambda f: (f / "model.json").mkdir()),
        _COMPRESS, "the sidecar model.json cannot be read",
    )  # fmt: skip
    for value, says in (
        ("chunky=1", "--set gives chunky=1, which this layout does not know; known: d_input,"),
        ("prenorm", "--set takes key=value, got 'prenorm'"),
        ("=true", "--set takes key=value, got '=true'"),
        ("prenorm=perhaps", "prenorm=perhaps cannot be read; supported: false, true"),
        ("d_model=5", "--set says d_model=5, the tensors say 4"),
        ("d_state=[8]", "--set says d_state=[8], the tensors say 8"),
    ):
        yield Case(f"--set {value}", copy("model.pt"), f"{_COMPRESS} --set '{value}'", says)
    for layout, value, says in (
        (_BLOCK, "disc=euler", "disc=euler cannot be read; supported: zoh, bilinear"),
        (_BLOCK, "bandlimit=high", "bandlimit=high cannot be read; it is a number from 0 up"),
        (_BLOCK, "mode=nplr", "--set says mode=nplr, the tensors say diag"),
        (_SOFTMAX, "epsilon=NaN", "epsilon=NaN cannot be read; it is a number from 0 up"),
        (_SOFTMAX, "version=exp", "version=exp cannot be read; supported: softmax"),
        (_SOFTMAX, "length=0", "length must be a whole number of samples, got 0"),
        (_SOFTMAX, "length=long", "length must be a whole number of samples, got 'long'"),
        (_SOFTMAX, "length=99999999999999", "length must be a whole number of samples"),
    ):
        more = "" if value.startswith("length") or layout is _BLOCK else " --set length=12"
        yield Case(f"--set {value}", state(layout), f"{_COMPRESS} --set {value}{more}", says)
    yield Case(
        "DSS softmax without its length", state(_SOFTMAX), _COMPRESS,
        "normalized over the length of the sequences, which the file does not hold; "
        "say it with --set length=",
    )  # fmt: skip


def compressing() -> Iterator[Case]:
    for value, says, status in (
        ("0", "the state size must be a whole number from 1 up, got 0", 1),
        ("-3", "the state size must be a whole number from 1 up, got -3", 1),
        ("9", "the state size 9 is larger than the model's 8", 1),
        ("many", "'many' is not a valid integer", 2),
        ("1.5", "'1.5' is not a valid integer", 2),
    ):
        command = f"compress model.pt --state {value} -o out.safetensors"
        yield Case(f"--state {value}", copy("model.pt"), command, says, status)
    yield Case(
        "growing modes that leave no room", state(_GROWING),
        "compress model.pt --state 1 --set length=12 -o out.safetensors",
        "s4_layers.0: channels have up to 1 growing modes",
    )  # fmt: skip
    yield Case(
        "growing modes in a graph", state(_GROWING),
        "export model.pt --onnx --set length=12 -o out.onnx", "|a| >= 1",
    )  # fmt: skip
    to_c = "export model.pt --c -o"
    yield Case(
        "growing modes in C", state(_GROWING), "export model.pt --c --set length=12 -o out.c",
        "no C can be written: s4_layers.0: it has modes with |a| >= 1",
    )  # fmt: skip
    for name, says in (
        ("3d.c", "which is no C identifier"), ("out.onnx", "name a .c file"),
        ("no/out.c", "the folder no does not exist"),
    ):  # fmt: skip
        yield Case(f"C as {name}", copy("model.pt"), f"{to_c} {name}", says)
    yield Case(
        "header that is a folder", these(copy("model.pt"), lambda f: (f / "out.h").mkdir()),
        f"{to_c} out.c", "cannot write out.h: it is a folder",
    )  # fmt: skip
    for compiler, says in (
        ("no-such-cc", "the compiler no-such-cc is not here"),
        ("false", "the compiler false does not work: exit status 1"),
        ("true", "cannot compile"), ("'cc", "cannot be called: No closing quotation"),
    ):  # fmt: skip
        yield Case(
            f"C with the compiler {compiler}", copy("model.pt"),
            f"export model.pt --c --compile {shlex.quote(compiler)} -o out.c", says,
        )  # fmt: skip
    for package, says in (
        ("arduino -o arduino-out.c", "an Arduino library cannot be named arduino_out: names that"),
        ("cmake -o math.c", "a CMake project cannot be named math: its header math.h would hide"),
        ("zephyr -o no/out.c", "the folder no does not exist"),
    ):
        yield Case(
            f"C in a package: {package}", copy("model.pt"),
            f"export model.pt --c --package {package}", says,
        )  # fmt: skip

    def theirs(folder: Path) -> None:
        (folder / "out-cmake").mkdir()
        (folder / "out-cmake" / "CMakeLists.txt").write_text("project(mine)")

    yield Case(
        "a package where somebody's files are", these(copy("model.pt"), theirs),
        f"{to_c} out.c --package arduino --package cmake",
        "cannot write out-cmake: out-cmake/CMakeLists.txt was not written by s4edge",
    )  # fmt: skip
    yield Case(
        "a package where a file is",
        these(copy("model.pt"), lambda f: (f / "out-cmake").write_text("x")),
        f"{to_c} out.c --package cmake", "cannot write out-cmake: it is no folder",
    )  # fmt: skip
    exporting = "export model.pt --onnx -o"
    compress = "compress model.pt --state 4 -o"
    for name, command in (("compressed model", compress), ("graph", exporting)):
        yield Case(
            f"{name} into a folder that is not there", copy("model.pt"), f"{command} no/out",
            "cannot write no/out: the folder no does not exist",
        )  # fmt: skip
        yield Case(
            f"{name} onto a folder", these(copy("model.pt"), lambda f: (f / "sub").mkdir()),
            f"{command} sub", "cannot write sub: it is a folder; name a file",
        )  # fmt: skip
        yield Case(
            f"{name} into a folder that may not be written",
            these(copy("model.pt"), lambda f: (f / "sub").mkdir(mode=0o500)),
            f"{command} sub/out", "cannot write sub/out: no permission", unless_root=True,
        )  # fmt: skip


def compressed_models() -> Iterator[Case]:
    inspect = "inspect model.safetensors"
    for kept in (1, 8, 100, 0.5, -1):
        yield Case(
            f"compressed model cut off ({kept})", cut("model.safetensors", kept), inspect,
            "model.safetensors is no readable safetensors file",
        )  # fmt: skip
    yield Case("empty compressed model", file("model.safetensors", ""), inspect, "is empty")
    yield Case(
        "text as a compressed model", file("model.safetensors", "hello, this is text"), inspect,
        "model.safetensors is no readable safetensors file",
    )  # fmt: skip
    yield Case(
        "safetensors of others", model_file(text=None), inspect, "is of no layout that s4edge knows"
    )
    yield Case(
        "compressed model of a newer format", model_file(lambda d: d.update(format=7)),
        "export model.safetensors --onnx -o out.onnx",
        "has format 7, this version of s4edge reads 1: upgrade s4edge",
    )  # fmt: skip
    broken: tuple[tuple[str, Callable[[dict[str, Any]], Any], str], ...] = (
        ("lacks its history", lambda d: d.pop("history"), "lacks 'history' in its description"),
        ("with a damaged history", lambda d: d.update(history="?"), "is damaged"),
        ("lacks its d_model", lambda d: d["config"].pop("d_model"), "configuration lacks d_model"),
        ("with d_model 'a'", lambda d: d["config"].update(d_model="a"), "d_model is 'a'"),
        ("without blocks", lambda d: d["config"].update(blocks=[]), "the number of blocks is 0"),
        ("with an unknown option", lambda d: d["config"].update(warp=9), "an option 'warp'"),
        ("with an unknown activation", lambda d: d["config"]["blocks"][0].update(activation="x"),
         "activation 'x' is unknown"),
        ("with negative counts",
         lambda d: d["config"]["blocks"][0]["systems"].update(reals=[-1] * 4),
         "s4_layers.0: a count of modes is -1; the file is damaged"),
    )  # fmt: skip
    for name, change, says in broken:
        yield Case(f"compressed model {name}", model_file(change), inspect, says)
    yield Case(
        "compressed model described as a list", model_file(text="[]"), inspect,
        "was not written by s4edge",
    )  # fmt: skip
    for name, action, says in (
        ("with NaN", lambda t: t * _NAN, "the tensor encoder.weight holds NaN or infinite values"),
        ("of a wrong shape", lambda t: t.T, "encoder.weight has shape (1, 4), its configuration"),
        ("lacks a tensor", lambda t: None, "lacks the tensor encoder.weight"),
    ):
        yield Case(f"compressed model {name}", model_file(encoder__weight=action), inspect, says)
    yield Case(
        "compressed model with a tensor too many", model_file(more=torch.zeros(1)), inspect,
        "has a tensor more that its configuration does not name",
    )  # fmt: skip


def graphs() -> Iterator[Case]:
    for command in ("bench model.onnx --duration 0.05", "eval model.onnx --data data.npz"):
        data = copy("data.npz")
        kind = command.partition(" ")[0]
        for name, make, says in (
            ("missing graph", nothing, "model.onnx does not exist"),
            ("folder as a graph", lambda f: (f / "model.onnx").mkdir(), "model.onnx is a folder"),
            ("empty graph", file("model.onnx", ""), "model.onnx is empty"),
            ("text as a graph", file("model.onnx", "hello"), "cannot load model.onnx"),
            ("graph cut off (100)", cut("model.onnx", 100), "cannot load model.onnx"),
            ("graph cut off (0.9)", cut("model.onnx", 0.9), "cannot load model.onnx"),
            ("graph of others", foreign_graph, "model.onnx was not written by s4edge"),
            ("graph without a description", graph(text=None), "was not written by s4edge"),
            ("graph of a newer format", graph(format=7), "has format 7, newer than this s4edge"),
            ("graph of another width", graph(d_input=2), "is not the step graph that it is"),
            ("graph with a damaged description", graph(text="{"), "is not a JSON object"),
            ("graph of an unknown mode", graph(mode="scan"), "a graph of mode 'scan'"),
            ("graph of another mode", graph(mode="chunk"), "is not the chunk graph that it is"),
        ):
            yield Case(f"{kind}: {name}", these(data, make), command, says)
    yield Case(
        "checkpoint instead of a graph", copy("model.pt"), "bench model.pt --duration 0.05",
        "cannot load model.pt",
    )  # fmt: skip
    yield Case(
        "bench of no seconds", copy("model.onnx"), "bench model.onnx --duration nan",
        "duration must be more than 0 seconds, not nan",
    )  # fmt: skip
    yield Case("bench with no graph here", nothing, "bench", "s4edge export MODEL --onnx")
    yield Case(
        "export with no model here", copy("model.pt"), "export --onnx",
        "no compressed model is in this folder; name one, or make one with: s4edge compress",
    )  # fmt: skip


def data() -> Iterator[Case]:
    command = "eval model.onnx --data data.npz"
    x, y = arrays()["x"], arrays()["y"]
    for name, make, says in (
        ("missing data", nothing, "the data data.npz does not exist"),
        ("data that is a folder", lambda f: (f / "data.npz").mkdir(), "is no readable .npz file"),
        ("empty data", file("data.npz", ""), "data.npz is no readable .npz file"),
        ("text as data", file("data.npz", "1,2,3\n"), "no readable .npz file (it does not begin"),
        ("data cut off (0.5)", cut("data.npz", 0.5), "data.npz is no readable .npz file"),
        ("data cut off (-1)", cut("data.npz", -1), "data.npz is no readable .npz file"),
        ("damaged data", flipped("data.npz", b"x.npy"), "data.npz is no readable .npz file"),
        ("damaged compressed data", these(flipped("compressed.npz", b"x.npy"), lambda f:
         (f / "compressed.npz").rename(f / "data.npz")), "data.npz is no readable .npz file"),
        ("one array without a name", lambda f: (np.save(f / "a.npy", x),
         (f / "a.npy").rename(f / "data.npz")), "data.npz holds one array without a name"),
        ("data that is pickled", npz(x=np.array([{}], dtype=object)), "Object arrays cannot be"),
        ("data without x", npz(x=None), "data.npz holds no array 'x'"),
        ("data without y", npz(y=None), "data.npz holds no 'y'"),
        ("data of a wrong width", npz(x=np.zeros((6, 12, 2))), "takes 1 features, the data has 2"),
        ("data of two axes", npz(x=x[:, :, 0]), "x has shape (6, 12) of float32, expected"),
        ("no samples", npz(x=x[:0], y=y[:0]), "x has shape (0, 12, 1) of float32, expected"),
        ("tokens", npz(x=np.zeros((6, 12), int)), "takes 1 features, the data holds tokens"),
        ("words", npz(x=np.full((6, 12, 1), "a")), "x holds <U1, expected real numbers"),
        ("NaN in x", npz(x=x * np.nan), "data.npz: x holds NaN or infinite values"),
        ("numbers too large", npz(x=x.astype(float) * 1e200), "x holds NaN or infinite values"),
        ("labels too large", npz(y=y + 2), "labels run from 2 to 4, the model has 3 classes"),
        ("negative labels", npz(y=y - 1), "labels run from -1 to 1, the model has 3 classes"),
        ("too few labels", npz(y=y[:5]), "y has shape (5,) for 6 samples in x"),
        ("labels that are no whole numbers", npz(y=y / 2), "(labels are whole numbers)"),
        ("labels at every step", npz(y=np.zeros((6, 12), int)), "y has shape (6, 12), the model's"),
        ("words as labels", npz(y=np.array(list("abcabc"))), "y holds <U1, expected real numbers"),
        ("NaN in targets", npz(y=np.full((6, 3), np.nan)), "y holds NaN or infinite values"),
        ("lengths too large", npz(lengths=np.full(6, 13)), "lengths must be whole numbers from 1"),
        ("lengths of zero", npz(lengths=np.zeros(6, int)), "lengths must be whole numbers from 1"),
        ("lengths that are no whole numbers", npz(lengths=np.full(6, 1.5)), "from 1 to 12"),
        ("too few lengths", npz(lengths=np.full(5, 3)), "lengths has shape (5,) for 6 samples"),
    ):  # fmt: skip
        yield Case(name, these(copy("model.onnx"), make), command, says)
    yield Case(
        "data of a wrong width for a checkpoint",
        these(copy("model.pt"), npz(x=np.zeros((6, 12, 2)))),
        "eval model.pt --data data.npz",
        "the model takes (batch, length, 1), got (6, 12, 2)",
    )  # fmt: skip
    for model in ("softmax.safetensors", "softmax.onnx"):
        other = these(copy(model), npz(x=x[:, :10]))
        yield Case(
            f"{model} on sequences of another length", other, f"eval {model} --data data.npz",
            "12 samples",
        )  # fmt: skip
        short = these(copy(model), npz(lengths=np.full(6, 7)))
        yield Case(
            f"{model} on shorter sequences", short, f"eval {model} --data data.npz", "12 samples"
        )
    yield Case(
        "module that is not there", copy("model.onnx"), "eval model.onnx --data no_module:batches",
        "the data no_module:batches cannot be found: No module named 'no_module'",
    )  # fmt: skip
    for module, text, says in (
        ("badnothing", "", "cannot be found: module 'badnothing' has no attribute 'batches'"),
        ("bad_syntax", "def", "failed: SyntaxError"),
        ("bad_value", "batches = 3", "failed: TypeError: 'int' object is not callable"),
        ("bad_result", "def batches(): return 3", "'int' object is not iterable"),
        ("bad_raise", "def batches(): raise ValueError('1\\n  2')", "failed: ValueError: 1 2"),
        ("bad_empty", "def batches(): return []", "gave no batch"),
        ("bad_batch", "import numpy\ndef batches(): return [numpy.zeros((2, 3, 1))]",
         "a batch must be (x, y), (x, y, lengths) or a dictionary of these"),
        ("bad_mixed", "import numpy as n\ndef batches(): return [(n.zeros((2, 3, 1)), n.zeros(2)), "
         "(n.zeros((2, 3, 1)),)]", "some batches have y or lengths, others have not"),
        ("bad_sizes", "import numpy as n\ndef batches(): return [(n.zeros((2, 3, 1)), n.zeros(2)), "
         "(n.zeros((2, 4, 1)), n.zeros(2))]", "must match exactly"),
    ):  # fmt: skip
        yield Case(
            f"callable: {module}", these(copy("model.onnx"), code(f"# {module}\n{text}\n")),
            f"eval model.onnx --data {module}:batches", says,
        )  # fmt: skip


def usage() -> Iterator[Case]:
    for command, says in (
        ("shrink model.pt", "No such command 'shrink'"),
        ("inspect", "Missing argument 'MODEL'"),
        ("inspect model.pt other.pt", "Got unexpected extra argument (other.pt)"),
        ("inspect model.pt --deep", "No such option '--deep'"),
        ("compress model.pt", "give either --state N or --tolerance E"),
        ("compress model.pt --state 4 --method magic", "'magic' is not one of 'balanced'"),
        ("eval model.pt", "Missing option '--data'"),
        ("export model.pt", "Missing option '--onnx'"),
        ("export model.pt --onnx --mode sideways", "'sideways' is not"),
        ("export model.pt --onnx --c", "--onnx and --c are two formats; name one"),
        ("export model.pt --onnx --compile", "--compile goes with --c"),
        ("export model.pt --onnx --package cmake", "--package goes with --c"),
        ("export model.pt --c --package make", "'make' is not one of 'none', 'cmake', 'arduino'"),
        ("export model.pt --c --mode chunk", "--mode goes with --onnx"),
        ("export model.pt --c --precision fp16", "--c knows the precisions fp32 and int8"),
        ("bench model.onnx --threads 0", "0 is not in the range x>=1"),
        ("bench model.onnx --duration 0", "0.0 is not in the range x>0"),
        ("bench model.onnx --duration long", "'long' is not a valid float"),
    ):
        yield Case(f"usage: {command}", copy("model.pt", "model.onnx"), command, says, status=2)


@functools.cache
def cases() -> tuple[Case, ...]:
    """All of them."""
    parts = (checkpoints, tensors, facts, compressing, compressed_models, graphs, data, usage)
    found = tuple(case for part in parts for case in part())
    assert len({case.name for case in found}) == len(found)
    return found


def main() -> None:
    """Show what s4edge answers."""
    warnings.simplefilter("ignore")
    for case in cases():
        if not any(word in case.name for word in sys.argv[1:] or [""]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            case.make(Path(folder))
            outcome = run(case, Path(folder))
        crash = f"TRACEBACK {outcome.crash!r} " if outcome.crash else ""
        print(f"{case.name}: status {outcome.status}: {crash}{outcome.last_line}", flush=True)


if __name__ == "__main__":
    main()
