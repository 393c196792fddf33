"""Makers of good and bad files for a folder of a test."""

from __future__ import annotations

import functools
import json
import os
import pickle
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny_checkpoints as tiny
import torch
from onnx import TensorProto, helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import s4edge

Make = Callable[[Path], Any]


# Good files to damage, made once


def arrays(**changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, tiny.LENGTH, tiny.D_INPUT)).astype(np.float32)
    return {"x": x, "y": np.arange(6) % tiny.D_OUTPUT, **changed}


@functools.cache
def good(name: str) -> bytes:
    """A good ``model.pt``, ``model.safetensors``, ``model.onnx`` or ``data.npz``."""
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        tiny.write(folder / "model.pt", tiny.s4d(), {"prenorm": False})
        model = s4edge.load(folder / "model.pt")
        s4edge.save(s4edge.compress(model, 4), folder / "model.safetensors")
        s4edge.export_onnx(model, folder / "model.onnx")
        tiny.write(folder / "softmax.pt", tiny.dss("softmax"))
        model = s4edge.load(folder / "softmax.pt", {"length": tiny.LENGTH})
        s4edge.save(model, folder / "softmax.safetensors")
        s4edge.export_onnx(model, folder / "softmax.onnx")
        np.savez(folder / "data.npz", **arrays())
        np.savez_compressed(folder / "compressed.npz", **arrays())
        return (folder / name).read_bytes()


def nothing(folder: Path) -> None:
    """An empty folder."""


def these(*makes: Make) -> Make:
    """Several files."""

    def make(folder: Path) -> None:
        for each in makes:
            each(folder)

    return make


def file(name: str, content: bytes | str) -> Make:
    """A file as it stands here."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def copy(*names: str) -> Make:
    """Good files under their names."""

    def make(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes(good(name))

    return make


def cut(name: str, kept: int | float) -> Make:
    """The first bytes of a good file: so many, a share of them, or all but so many."""

    def make(folder: Path) -> None:
        content = good(name)
        end = kept if isinstance(kept, int) else int(kept * len(content))
        (folder / name).write_bytes(content[:end])

    return make


def flipped(name: str, where: bytes) -> Make:
    """A good file with some bytes after the first ``where`` overwritten."""

    def make(folder: Path) -> None:
        content = bytearray(good(name))
        start = content.index(where) + len(where)
        content[start + 40 : start + 60] = random.Random(0).randbytes(20)
        (folder / name).write_bytes(content)

    return make


# Checkpoints


def state(
    layout: Callable[[], tiny.StateDict] = tiny.s4d,
    config: dict[str, Any] | None = None,
    **changes: Callable[[Tensor], Tensor | None] | Tensor,
) -> Make:
    """``model.pt`` with tensors changed, dropped (None) or added.

    Keywords are names with ``_`` for dots before the layer's first tensor: see `tensor_name`.
    """

    def make(folder: Path) -> None:
        tensors = layout()
        for key, change in changes.items():
            name = tensor_name(key)
            value = change(tensors[name]) if callable(change) else change
            if value is None:
                del tensors[name]
            else:
                tensors[name] = value
        tiny.write(folder / "model.pt", tensors, config)

    return make


def tensor_name(key: str) -> str:
    """``layer__kernel__C`` to ``s4_layers.1.layer.kernel.C``; ``encoder__weight`` as it is."""
    name = key.replace("__", ".")
    return name if name.startswith(("encoder", "decoder", "norms")) else f"s4_layers.1.{name}"


def saved(content: Callable[[Path], Any], **options: Any) -> Make:
    """``model.pt`` as torch.save writes ``content(folder)``."""
    return lambda folder: torch.save(content(folder), folder / "model.pt", **options)


class Runs:
    """Unpickled, it would make a file beside the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch '{folder / 'it-ran'}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def pickled(protocol: int) -> Make:
    """A plain pickle that would run a command."""
    return lambda folder: (folder / "model.pt").write_bytes(pickle.dumps(Runs(folder), protocol))


def sidecar(content: str | bytes | dict[str, Any]) -> Make:
    """A good checkpoint and this sidecar."""
    text = json.dumps(content) if isinstance(content, dict) else content
    return these(copy("model.pt"), file("model.json", text))


def negative(tensor: Tensor) -> Tensor:
    return -tensor.abs()


def old_format(folder: Path) -> None:
    """Cut short in the format that torch.save wrote before it wrote zip archives."""
    path = folder / "model.pt"
    torch.save({"model": tiny.s4d()}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-500])


# Compressed models


def model_file(
    change: Callable[[dict[str, Any]], None] = lambda description: None,
    text: str | None = "",
    **tensors: Callable[[Tensor], Tensor | None] | Tensor,
) -> Make:
    """``model.safetensors`` with its description or tensors changed."""

    def make(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(good("model.safetensors"))
        contents: dict[str, Tensor] = load_file(path)
        with safe_open(path, framework="pt") as opened:
            description = json.loads(opened.metadata()["s4edge"])
        change(description)
        for key, action in tensors.items():
            name = key.replace("__", ".")
            value = action(contents[name]) if callable(action) else action
            if value is None:
                del contents[name]
            else:
                contents[name] = value.contiguous()
        said = json.dumps(description) if text == "" else text
        save_file(contents, path, metadata=None if said is None else {"s4edge": said})

    return make


# Graphs


def graph(**changes: Any) -> Make:
    """``model.onnx`` with keys of its description changed; ``text=`` replaces it, None drops it."""

    def make(folder: Path) -> None:
        model = onnx.load_from_string(good("model.onnx"))
        props = model.metadata_props[0]
        if "text" in changes:
            props.value = changes["text"] or ""
            if changes["text"] is None:
                del model.metadata_props[:]
        else:
            props.value = json.dumps(json.loads(props.value) | changes)
        onnx.save(model, folder / "model.onnx")

    return make


def foreign_graph(folder: Path) -> None:
    """A graph that s4edge did not write."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    body = helper.make_graph([node], "foreign", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(body, opset_imports=opset, ir_version=9), folder / "model.onnx")


# Data


def npz(**changed: Any) -> Make:
    """``data.npz`` with arrays changed; None drops one."""
    kept = {name: value for name, value in arrays(**changed).items() if value is not None}
    return lambda folder: np.savez(folder / "data.npz", **kept)


def code(text: str) -> Make:
    """A module; each case has one of its own, as a module is imported once."""
    name = text.partition("\n")[0].removeprefix("# ")
    return file(f"{name}.py", text)
