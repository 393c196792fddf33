"""The 8x8 digits that come with scikit-learn, read pixel by pixel as sequences of 64 samples.

As a script it writes both parts of the data set as files that s4edge takes as DATA:

    python data.py [FOLDER]
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TEST_SAMPLES = 500
SPLIT_SEED = 0

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]


def load_digits_sequences() -> tuple[FloatArray, LabelArray, FloatArray, LabelArray]:
    """Load the digits, always split in the same way with each class in proportion.

    Returns:
        `(x_train, y_train, x_test, y_test)`. `x` is (samples, 64, 1): the rows of an image one
        after another, pixels between 0 and 1. `y` is (samples,), the digit.
    """
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32)[:, :, None]
    y = labels.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=TEST_SAMPLES, stratify=y, random_state=SPLIT_SEED
    )
    return x_train, y_train, x_test, y_test


def write_npz(path: Path, x: FloatArray, y: LabelArray) -> None:
    """Write one part of the data; an interrupted call leaves the old file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, x=x, y=y)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def main(folder: Path) -> None:
    """Write digits-train.npz and digits-test.npz to FOLDER (default: the current one)."""
    x_train, y_train, x_test, y_test = load_digits_sequences()
    folder.mkdir(parents=True, exist_ok=True)
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        path = folder / f"digits-{name}.npz"
        write_npz(path, x, y)
        click.echo(f"{path}: {len(x)} samples")


if __name__ == "__main__":
    main()
