from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from models_by_hand import random_model

from s4edge import S4EdgeError


def sequences(length: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(3, length, 2, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("changes", [{}, {"pooling": "none"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_of_running_agree(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    model = random_model(**changes).to(dtype)
    x = sequences(500, dtype)
    with torch.inference_mode():
        running, streamed = model.running(x), model.stream(x)
        whole = model(x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert (running - streamed).abs().max() < tolerance * running.abs().max()
    last = whole if changes else whole[:, None]
    assert (running[:, -last.shape[1] :] - last).abs().max() < tolerance * whole.abs().max()


def test_the_answer_after_t_samples_is_that_for_the_first_t() -> None:
    model, x = random_model().double(), sequences(40)
    with torch.inference_mode():
        streamed = model.stream(x)
        for t in (1, 2, 17, 40):
            torch.testing.assert_close(streamed[:, t - 1], model(x[:, :t]), rtol=0, atol=1e-11)


def test_lengths_cut_off_padding() -> None:
    model, x = random_model().double(), sequences(40)
    lengths = torch.tensor([40, 11, 1])
    with torch.inference_mode():
        together = model(x, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = model(x[i : i + 1, :length])[0]
            torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4), (3, 0, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(S4EdgeError, match=r"takes \(batch, length, 2\)"):
        random_model()(torch.zeros(shape))


def test_a_length_is_binding() -> None:
    model = random_model(length=30)
    model(sequences(30, torch.float32))
    with pytest.raises(S4EdgeError, match="not valid for sequences of 20"):
        model(sequences(20, torch.float32))
    with pytest.raises(S4EdgeError, match="not valid for sequences of 7"):
        model(sequences(30, torch.float32), torch.tensor([30, 7, 30]))


def test_configuration_survives_json() -> None:
    config = random_model().config
    assert type(config).from_json(config.to_json()) == config
    with pytest.raises(S4EdgeError, match="pooling 'median' is unknown"):
        type(config).from_json(dataclasses.replace(config, pooling="median").to_json())  # type: ignore[arg-type]
