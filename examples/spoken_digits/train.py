"""Train the flagship model: an S4D that hears a spoken digit in raw audio at 4 kHz.

    python train.py SOURCE.npz [--epochs 36] [--out model.safetensors]

From a random start (S4D-LegS) by s4edge's own training. The training clips are changed at random
every epoch: played up to 12 % faster or slower, shifted by up to 50 ms, made louder or quieter,
with a little noise. The epoch is chosen on 180 clips of the training part; the test set is looked
at once, at the end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from data import LENGTH, clips, fitted, load
from numpy.typing import NDArray

import s4edge
from s4edge.data.dataset import Data
from s4edge.training.finetune import TrainingWatch, finetune_model
from s4edge.training.initial import initial_model
from s4edge.training.settings import TrainingSettings

D_MODEL, LAYERS, STATE = 64, 4, 64
STEP_SIZE = (1e-3, 3e-1)


def changed(audio: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """A clip as another recording of it might be."""
    speed = np.exp(rng.uniform(-0.12, 0.12))
    at = np.arange(0, len(audio) - 1, speed)
    audio = np.interp(at, np.arange(len(audio)), audio)
    shift = rng.integers(-400, 400)
    audio = audio[-shift:] if shift < 0 else np.concatenate([np.zeros(shift), audio])
    x = fitted(audio if np.abs(audio).max() > 0 else audio + 1e-6)
    noise = rng.normal(size=LENGTH) * 10 ** rng.uniform(-4, -1.5)
    return (x * rng.uniform(0.6, 1.1) + noise).astype(np.float32)


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), default=36, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the run that was interrupted.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).with_name("model.safetensors"),
)  # fmt: skip
def main(source: Path, epochs: int, seed: int, resume: bool, out: Path) -> None:
    """Train and write the model."""
    parts = load(source)
    raw = parts["train"]
    labels = np.array([label for _, label in raw], dtype=np.int64)

    def every_epoch(epoch: int) -> Data:
        rng = np.random.default_rng([seed, epoch])
        x = np.stack([changed(audio, rng) for audio, _ in raw])[:, :, None]
        return Data(x, labels, None, "spoken digits")

    def tell(line: dict[str, Any]) -> None:
        shown = {key: round(v, 4) if isinstance(v, float) else v for key, v in line.items()}
        click.echo(f"{time.strftime('%H:%M:%S')} {shown}")

    start = initial_model(
        1, 10, d_model=D_MODEL, layers=LAYERS, state=STATE, seed=seed, step_size=STEP_SIZE
    )
    settings = TrainingSettings(
        epochs=epochs, batch=32, rate=6e-3, pole_rate=4e-3, step_rate=2e-3, weight_decay=0.02,
        dropout=0.1, seed=seed,
    )  # fmt: skip
    validation, test = clips(parts["validation"]), clips(parts["test"])
    watch = TrainingWatch(
        epoch=tell, state=out.with_suffix(".run"), log=out.with_suffix(".jsonl"), resume=resume
    )
    model = finetune_model(
        start, every_epoch(0), settings, watch=watch, every_epoch=every_epoch,
        validation=Data(validation.x, validation.y, None, "validation"),
    )  # fmt: skip
    model.provenance.source = "examples/spoken_digits/train.py"
    s4edge.save(model, out)
    accuracy = s4edge.evaluate(model, Data(test.x, test.y, None, "test")).value
    click.echo(f"{out}: {out.stat().st_size:,} bytes, test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()
