"""Data from files and callables, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from s4edge.data.dataset import Data, load_data
from s4edge.errors import S4EdgeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 5, 2)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2, 0])
LENGTHS = np.array([5, 4, 3, 2, 1, 5, 5])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def same(data: Data, lengths: np.ndarray | None = LENGTHS) -> None:
    np.testing.assert_array_equal(data.x, X)
    assert data.x.dtype == np.float32
    assert data.y is not None
    np.testing.assert_array_equal(data.y, Y)
    if lengths is None:
        assert data.lengths is None
    else:
        np.testing.assert_array_equal(data.lengths, lengths)
        assert data.lengths is not None
        assert data.lengths.dtype == np.int64


def test_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", x=X, y=Y, lengths=LENGTHS.astype(np.uint8), other=np.ones(3))
    same(load_data(tmp_path / "all.npz"))
    np.savez_compressed(tmp_path / "some.npz", x=X, y=Y)
    same(load_data(str(tmp_path / "some.npz")), None)
    np.savez(tmp_path / "x.npz", x=X)
    data = load_data(tmp_path / "x.npz")
    assert (data.y, data.lengths, len(data)) == (None, None, 7)
    assert data.source == str(tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.bool_])
def test_real_numbers_of_any_kind(tmp_path: Path, dtype: type) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3, 1), dtype))
    np.testing.assert_array_equal(load_data(tmp_path / "x.npz").x, np.ones((2, 3, 1), np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_tokens(tmp_path: Path, dtype: type) -> None:
    tokens = np.arange(12).reshape(4, 3).astype(dtype)
    np.savez(tmp_path / "x.npz", x=tokens, y=[0, 1, 0, 1], lengths=[3, 2, 1, 3])
    data = load_data(tmp_path / "x.npz")
    np.testing.assert_array_equal(data.x, tokens)
    assert data.x.dtype == np.int64
    np.savez(tmp_path / "x.npz", x=tokens, lengths=[4, 2, 1, 3])
    with pytest.raises(S4EdgeError, match="lengths must be whole numbers from 1 to 3"):
        load_data(tmp_path / "x.npz")


def test_name_with_a_colon(here: Path) -> None:
    """A file that is there is a file."""
    (here / "a:b").write_bytes(b"")
    np.savez(here / "c:d.npz", x=X, y=Y)
    same(load_data("c:d.npz"), None)
    with pytest.raises(S4EdgeError, match=r"a:b is no readable \.npz file"):
        load_data("a:b")
    with pytest.raises(S4EdgeError, match=r"e:f\.npz does not exist"):
        load_data("e:f.npz")


MODULE = """
import numpy as np
import torch
whole = np.load("whole.npz")
x, y, lengths = whole["x"], whole["y"], whole["lengths"]
parts = [slice(0, 3), slice(3, 6), slice(6, 7)]

def tuples():
    return [(x[p], y[p], lengths[p]) for p in parts]
def pairs():
    for p in parts:
        yield x[p], y[p]
def lists():
    return [[x[p].tolist(), y[p].tolist(), None] for p in parts]
def dictionaries():
    return [{"x": x[p], "y": y[p], "lengths": lengths[p], "name": "part"} for p in parts]
def tensors():
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*map(torch.from_numpy, (x, y, lengths))), batch_size=3
    )
def only_x():
    return ((x[p],) for p in parts)
"""


@pytest.fixture
def module(here: Path) -> str:
    np.savez(here / "whole.npz", x=X, y=Y, lengths=LENGTHS)
    (here / "package").mkdir()
    (here / "package" / "batches_of_a_test.py").write_text(MODULE)
    return "package.batches_of_a_test"


@pytest.mark.parametrize("name", ["tuples", "dictionaries", "tensors"])
def test_callable(module: str, name: str) -> None:
    data = load_data(f"{module}:{name}")
    same(data)
    assert data.source == f"{module}:{name}"


@pytest.mark.parametrize("name", ["pairs", "lists"])
def test_callable_without_lengths(module: str, name: str) -> None:
    same(load_data(f"{module}:{name}"), None)


def test_callable_without_y(module: str) -> None:
    assert load_data(f"{module}:only_x").y is None


def test_batches(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", x=X, y=Y, lengths=LENGTHS)
    parts = list(load_data(tmp_path / "all.npz").batches(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    same(
        Data(
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts if part.y is not None]),
            np.concatenate([part.lengths for part in parts if part.lengths is not None]),
            "",
        )
    )
    (part,) = Data(X, None, None, "").batches(100)
    assert (part.y, part.lengths) == (None, None)


def test_no_code_from_a_file(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path / "it-ran").touch, ()

    np.savez(tmp_path / "x.npz", x=np.array([Runs()], dtype=object))
    torch.save([Runs()], tmp_path / "pickle.npz")
    for name in ("x.npz", "pickle.npz"):
        with pytest.raises(S4EdgeError):
            load_data(tmp_path / name)
    assert not (tmp_path / "it-ran").exists()


def test_damaged_anywhere(tmp_path: Path) -> None:
    """Whatever bytes are wrong: read as it was, or refused in one line."""
    path = tmp_path / "x.npz"
    rng = np.random.default_rng(0)
    for save in (np.savez, np.savez_compressed):
        save(path, x=X, y=Y)
        whole = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            for where in rng.integers(len(whole), size=rng.integers(1, 5)):
                damaged[where] ^= rng.integers(1, 256)
            path.write_bytes(damaged[: rng.integers(1, 2 * len(whole))])
            try:
                found = load_data(path)
            except S4EdgeError as error:
                said = str(error)
            else:
                np.testing.assert_array_equal(found.x, X)
                continue
            assert path.name in said
            assert "\n" not in said
