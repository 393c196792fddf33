"""Real files, small ones: made by this repository's code, its examples, and upstream's if there."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import wave
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("S4EDGE_SHARED", ROOT.parent / "shared")) / "checkpoints"
# Small files are read quickly, and each byte of theirs is changed more often.
_MOST_BYTES = 40_000
for folder in ("cli", "bench"):
    sys.path.append(str(ROOT / "tests" / folder))
import sample_answer  # noqa: E402
import tiny_checkpoints as tiny  # noqa: E402


def upstream(suffix: str, most: int) -> list[bytes]:
    """Checkpoints that upstream's code wrote, the smallest of each folder."""
    found = []
    for folder in ("layers", "published", "hard", "random"):
        files = sorted((SHARED / folder).glob(f"*{suffix}"), key=lambda path: path.stat().st_size)
        small = [path for path in files if path.stat().st_size <= _MOST_BYTES]
        found += [path.read_bytes() for path in small[:: max(1, len(small) // most)][:most]]
    return found


@cache
def models() -> dict[str, bytes]:
    """Checkpoints, compressed models and graphs, by file name."""
    import torch
    from safetensors.torch import save_file

    import s4edge

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.write(folder / "s4d.pt", tiny.s4d(), {"prenorm": False})
        tiny.write(folder / "s4block.pt", tiny.s4block())
        tiny.write(folder / "exp.pt", tiny.dss())
        tiny.write(folder / "softmax.pt", tiny.dss("softmax"))
        torch.save(
            {"state_dict": tiny.s4d(), "hyper_parameters": {"lr": 1e-3, "sizes": (1, 2)}},
            folder / "old.ckpt", _use_new_zipfile_serialization=False,
        )  # fmt: skip
        torch.save({"model": tiny.s4d()}, folder / "four.pt", pickle_protocol=4)
        torch.save({"a": torch.ones(2, 3), "b": torch.zeros(3)}, folder / "small.pt")
        torch.save({"a": torch.ones(2)}, folder / "old.pt", _use_new_zipfile_serialization=False)
        save_file(tiny.s4d(), folder / "s4d.safetensors")
        for stem, facts in (("s4d", {}), ("s4block", {}), ("softmax", {"length": tiny.LENGTH})):
            model = s4edge.load(folder / f"{stem}.pt", facts)
            s4edge.save(s4edge.compress(model, 4), folder / f"{stem}-s4.safetensors")
            s4edge.export_onnx(model, folder / f"{stem}-step.onnx")
            s4edge.export_onnx(model, folder / f"{stem}-chunk.onnx", "chunk", chunk=4)
            s4edge.export_onnx(model, folder / f"{stem}-sequence.onnx", "sequence")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def named(suffix: str) -> list[bytes]:
    """Those of one suffix."""
    return [data for name, data in models().items() if name.endswith(suffix)]


@cache
def archives() -> tuple[bytes, ...]:
    """Data as numpy writes it."""
    random = np.random.default_rng(0)
    x = random.standard_normal((6, tiny.LENGTH, tiny.D_INPUT)).astype(np.float32)
    y = np.arange(6) % tiny.D_OUTPUT
    lengths = np.full(6, tiny.LENGTH)
    tokens = random.integers(0, 5, (6, tiny.LENGTH))
    found = []
    for arrays in (
        {"x": x, "y": y}, {"x": x, "y": y, "lengths": lengths}, {"x": tokens, "y": y},
        {"x": np.asfortranarray(x.astype(np.float64)), "y": np.zeros((6, 2))}, {"x": x[0]},
    ):  # fmt: skip
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, **arrays)
            found.append(file.getvalue())
    return tuple(found)


@cache
def arrays() -> tuple[bytes, ...]:
    """Single arrays as numpy writes them."""
    random = np.random.default_rng(1)
    found = []
    for array in (
        random.standard_normal((20, 1)).astype(np.float32), random.standard_normal(20),
        np.asfortranarray(random.standard_normal((3, 9, 1))), np.arange(20, dtype=np.int16),
    ):  # fmt: skip
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return tuple(found)


@cache
def recordings() -> tuple[bytes, ...]:
    """WAV files, plain, extensible and of floats."""
    found = []
    for channels, width in ((1, 1), (1, 2), (2, 2), (1, 3), (1, 4)):
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(channels)
            writer.setsampwidth(width)
            writer.setframerate(4000)
            writer.writeframes(bytes(range(60)) * channels * width)
        found.append(file.getvalue())
    head = bytes.fromhex("52494646 64000000 57415645 666d7420 10000000 0300 0100 a00f0000 803e0000"
                         "0400 2000 64617461 28000000")  # fmt: skip
    found.append(head + np.linspace(-1, 1, 10, dtype="<f4").tobytes())
    tail = bytes.fromhex("0100000000001000800000aa00389b71")
    extensible = bytes.fromhex("52494646 ffffffff 57415645 666d7420 28000000 feff 0100 a00f0000"
                               "401f0000 0200 1000 1600 1000 04000000")  # fmt: skip
    found.append(extensible + tail + bytes.fromhex("64617461 14000000") + bytes(20))
    return tuple(found)


@cache
def tables() -> tuple[bytes, ...]:
    """Texts of numbers."""
    return (
        b"1\n2.5\n-3e-4\n4\n", b"time,value\n0,1.5\n1,2.5\n2,-3.5\n", b"a;b\n1,5;2\n3;4,5\n",
        b"# a b\n1\t2\n3\t4\n", b'"a","b"\n"1","2"\n', "\ufeffx\r\n1\r\n2\r\n".encode(),
    )  # fmt: skip


@cache
def answers() -> tuple[bytes, ...]:
    """Answers of ``s4edge bench``."""
    answer: Any = sample_answer.sample_answer()
    made = answer if isinstance(answer, dict) else answer.to_json()
    return (json.dumps(made).encode(),)


@cache
def sidecars() -> tuple[bytes, ...]:
    """Sidecars of checkpoints."""
    found: Sequence[Any] = (
        {"cls": "example.S4Model", "config": {"prenorm": False}},
        {"cls": "example.S4Model", "config": {"prenorm": True, "dropout": 0.1}, "L": 12},
    )
    theirs = [path for path in sorted(SHARED.glob("layers/*.json")) if path.stat().st_size < 3000]
    return (*(json.dumps(each).encode() for each in found),
            *(path.read_bytes() for path in theirs[::10]))  # fmt: skip


@cache
def run_states() -> tuple[bytes, ...]:
    """Where a training run stood."""
    import torch

    import s4edge
    from s4edge.training.run_state import Best, RunState

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.pt"
        path.write_bytes(models()["s4d.pt"])
        model = s4edge.load(path)
        tensors = {key: value.detach() for key, value in model.state_dict().items()}
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight])
        weight.sum().backward()
        optimizer.step()
        config = model.config.to_json()
        RunState(
            what={"seed": 0}, epoch=1, config=config, history=[], tensors=tensors,
            optimizer=optimizer.state_dict(), seconds=1.0, waited=0,
            best=Best(config, tensors, 1, 0.5, "accuracy", 0.9), log=[{"epoch": 1}],
        ).save(path)  # fmt: skip
        return (path.read_bytes(),)
