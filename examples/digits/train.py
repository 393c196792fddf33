"""Trains the shipped example: a small S4D classifier of 8x8 digits read pixel by pixel.

    python train.py [--epochs N] [--seed N] [--out model.pt]

The checkpoint has the layout of the example script in state-spaces/s4 (keys `model`, `acc`,
`epoch`; the backbone's parameter names), so it stands for a model that was trained there. The
sidecar `<stem>.json` beside it holds what tensors alone cannot tell.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import click
import torch
from data import load_digits_sequences
from torch import Tensor, nn
from torch.nn import functional

SIDE = 8  # pixels along one side of an image
CONFIG: dict[str, Any] = {
    "d_input": 1,
    "d_output": 10,
    "d_model": 48,
    "n_layers": 3,
    "dropout": 0.1,
    "d_state": 64,
}

BATCH_SIZE = 64
LEARNING_RATE = 0.008
SYSTEM_LEARNING_RATE = 0.001  # of step sizes and eigenvalues
WEIGHT_DECAY = 0.03
WARMUP = 0.1  # share of all steps


class DiagonalKernel(nn.Module):
    """Convolution kernels of H diagonal state-space systems, each with N/2 conjugate pairs.

    Starts as S4D-Lin: real parts -1/2, imaginary parts multiples of pi.
    """

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        pairs = d_state // 2
        low, high = math.log(0.001), math.log(0.1)
        self.C = nn.Parameter(torch.view_as_real(torch.randn(channels, pairs, dtype=torch.cfloat)))
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.log_A_real = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
        self.A_imag = nn.Parameter((math.pi * torch.arange(pairs)).repeat(channels, 1))

    def forward(self, length: int) -> Tensor:
        """Return K (H, length): K[l] = 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n exp(dt A_n l)."""
        A = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
        dt_A = A * torch.exp(self.log_dt)[:, None]
        weights = torch.view_as_complex(self.C) * (torch.exp(dt_A) - 1) / A
        steps = torch.arange(length, device=A.device)
        powers = torch.exp(dt_A[:, :, None] * steps)
        return 2 * torch.einsum("hn,hnl->hl", weights, powers).real


class DiagonalLayer(nn.Module):
    """A minimal S4D layer: H systems, GELU, then a gated 1x1 convolution that mixes channels."""

    def __init__(self, channels: int, d_state: int, dropout: float) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(channels))
        self.kernel = DiagonalKernel(channels, d_state)
        self.dropout = nn.Dropout1d(dropout)  # drops a channel at all times, not single samples
        self.output_linear = nn.Sequential(nn.Conv1d(channels, 2 * channels, 1), nn.GLU(dim=1))

    def forward(self, u: Tensor) -> Tensor:
        """Map (batch, H, length) to the same shape, causally."""
        length = u.shape[-1]
        size = 2 * length  # zero padding: the convolution must not wrap around
        spectrum = torch.fft.rfft(u, n=size) * torch.fft.rfft(self.kernel(length), n=size)
        y = torch.fft.irfft(spectrum, n=size)[..., :length] + u * self.D[:, None]
        return self.output_linear(self.dropout(functional.gelu(y)))


class SequenceClassifier(nn.Module):
    """Encoder, residual S4D layers each followed by a LayerNorm, mean over time, decoder."""

    def __init__(
        self,
        d_input: int,
        d_output: int,
        d_model: int,
        n_layers: int,
        dropout: float,
        d_state: int,
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(d_input, d_model)
        self.s4_layers = nn.ModuleList(
            DiagonalLayer(d_model, d_state, dropout) for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layers))
        self.dropout = nn.Dropout1d(dropout)
        self.decoder = nn.Linear(d_model, d_output)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, d_input) to (batch, d_output)."""
        x = self.encoder(x)
        for layer, norm in zip(self.s4_layers, self.norms, strict=True):
            z = self.dropout(layer(x.transpose(1, 2)))
            x = norm(x + z.transpose(1, 2))
        return self.decoder(x.mean(dim=1))


def augment(x: Tensor) -> Tensor:
    """Turn, scale and shift each image of a batch of sequences a little, at random."""
    batch = len(x)
    angle = math.radians(8) * (2 * torch.rand(batch) - 1)
    scale = 1 + 0.08 * (2 * torch.rand(batch, 2) - 1)
    shift = (2 / SIDE) * 0.6 * (2 * torch.rand(batch, 2) - 1)  # an image spans -1 to 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack((cos, -sin, sin, cos), dim=1).reshape(batch, 2, 2) * scale[:, None, :]
    affine = torch.cat((turn, shift[:, :, None]), dim=2)
    grid = functional.affine_grid(affine, [batch, 1, SIDE, SIDE], align_corners=False)
    images = functional.grid_sample(x.reshape(batch, 1, SIDE, SIDE), grid, align_corners=False)
    return images.reshape(x.shape)


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW; step sizes and eigenvalues learn more slowly than the rest and do not decay."""
    system: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_system = name.endswith((".log_dt", ".log_A_real", ".A_imag"))
        (system if is_system else rest).append(parameter)
    groups = [
        {"params": rest},
        {"params": system, "lr": SYSTEM_LEARNING_RATE, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def learning_rate_factor(step: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = max(1, round(WARMUP * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    return (model(x).argmax(dim=1) == y).double().mean().item()


def train(
    config: dict[str, Any],
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    epochs: int,
    seed: int,
) -> tuple[SequenceClassifier, float]:
    """Train one model and print how it does after each epoch.

    The result is the model after the last epoch: the test set is looked at, never selected on.

    Returns:
        The model, in eval mode, and its test accuracy as a fraction.
    """
    torch.manual_seed(seed)
    model = SequenceClassifier(**config)
    optimizer = make_optimizer(model)
    x, y = train_set
    total = epochs * math.ceil(len(x) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total)
    )
    test_accuracy = accuracy(model, *test_set)
    for epoch in range(epochs):
        model.train()
        summed_loss = 0.0
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = functional.cross_entropy(model(augment(x[index])), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            summed_loss += loss.item() * len(index)
        test_accuracy = accuracy(model, *test_set)
        click.echo(
            f"epoch {epoch + 1}/{epochs}: training loss {summed_loss / len(x):.4f}, "
            f"test accuracy {100 * test_accuracy:.1f} %"
        )
    return model, test_accuracy


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole; an interrupted call leaves the old file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(
    path: Path,
    model: SequenceClassifier,
    config: dict[str, Any],
    *,
    length: int,
    test_accuracy: float,
    test_samples: int,
    epoch: int,
) -> None:
    """Write the checkpoint and, beside it, its sidecar."""
    checkpoint = {"model": model.state_dict(), "acc": 100 * test_accuracy, "epoch": epoch}
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    options = {name: value for name, value in config.items() if name != "d_state"}
    sidecar = {
        "cls": "example.S4Model",
        "config": {
            **options,
            "prenorm": False,
            "layer": "models.s4.s4d.S4D",
            "layer_kwargs": {"d_state": config["d_state"]},
        },
        "L": length,
        "test_accuracy": test_accuracy,
        "test_samples": test_samples,
        "epoch": epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, buffer.getvalue())
    replace_file(path.with_suffix(".json"), (json.dumps(sidecar, indent=1) + "\n").encode())


@click.command()
@click.option("--epochs", type=click.IntRange(min=1), default=150, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).with_name("model.pt"),
    help="Checkpoint to write, its sidecar beside it.  [default: model.pt beside this script]",
)
def main(epochs: int, seed: int, out: Path) -> None:
    """Train on 1,297 digits, test on 500, write the checkpoint."""
    torch.set_num_threads(1)  # so small a model gains nothing from more
    start = time.perf_counter()
    x_train, y_train, x_test, y_test = (torch.from_numpy(a) for a in load_digits_sequences())
    model, test_accuracy = train(CONFIG, (x_train, y_train), (x_test, y_test), epochs, seed)
    save(
        out,
        model,
        CONFIG,
        length=x_test.shape[1],
        test_accuracy=test_accuracy,
        test_samples=len(x_test),
        epoch=epochs - 1,  # counted from zero, as upstream does
    )
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
