"""GRU and LSTM networks trained on the digits, to compare time and accuracy together."""

from __future__ import annotations

import numpy as np
import torch
from models import shipped
from numpy.typing import NDArray
from others import RecurrentNetwork
from torch.nn import functional

import s4edge
from s4edge.model.sequence_model import SequenceModel

Part = tuple[NDArray[np.float32], NDArray[np.int64]]

# Width and depth of the shipped digits example.
WIDTH, LAYERS, EPOCHS, BATCH, RATE = 48, 3, 40, 64, 6e-3


def trained_network(kind: str, train: Part, test: Part) -> tuple[RecurrentNetwork, float]:
    """A network of the example's size, trained with AdamW and a cosine, and its accuracy.

    It answers from the last sample's features, as such networks are used.
    """
    torch.manual_seed(0)
    network = RecurrentNetwork(kind, WIDTH, LAYERS)
    x, y = (torch.from_numpy(each) for each in train)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    for _ in range(EPOCHS):
        for these in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(network(x[these])[:, -1], y[these]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        found = network(torch.from_numpy(test[0]))[:, -1].argmax(1).numpy()
    return network, float((found == test[1]).mean())


def compressed_digits(
    calibration: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    state: int,
) -> tuple[SequenceModel, float]:
    """The digits example at a state size, without training, and its accuracy."""
    small = s4edge.compress(
        shipped()["digits"], state=state, calibration=calibration, allocate="sensitivity"
    )
    with torch.inference_mode():
        found = small(torch.from_numpy(x)).argmax(1).numpy()
    return small, float((found == y).mean())
