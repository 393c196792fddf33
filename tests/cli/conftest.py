from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from s4edge_command import call
from sklearn.datasets import load_digits

SAMPLES = 150


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make it all ten times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path, digits: Path) -> Path:
    """An empty folder with nothing but the shipped checkpoint."""
    shutil.copy(digits / "model.pt", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The shipped checkpoint, two compressed models, the graphs of all three, and data.

    Tests read there and write elsewhere.
    """
    folder = tmp_path_factory.mktemp("built")
    for name in ("model.pt", "model.json"):
        shutil.copy(digits / name, folder)
    images, labels = load_digits(return_X_y=True)
    x = (images[:SAMPLES] / 16).astype(np.float32)[:, :, None]
    np.savez(folder / "digits.npz", x=x, y=labels[:SAMPLES])
    for state in ("64", "16"):
        assert call(folder, "compress", "model.pt", "--state", state).status == 0
    for model in ("model.pt", "model-s64.safetensors", "model-s16.safetensors"):
        assert call(folder, "export", model, "--onnx").status == 0
    for path in folder.iterdir():
        # Older than anything that a test writes.
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return folder
