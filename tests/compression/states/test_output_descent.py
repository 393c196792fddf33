"""Descent of all layers together: its step against torch's Adam, and who stays where it is."""

from __future__ import annotations

import torch
from test_compress_model import model_of

from s4edge.compression.compress import compress_model
from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.output_descent import (
    _SEQUENCES,
    _batches,
    _Moving,
    descend,
)
from s4edge.model.systems.diagonal import DiagonalSystems

RAGGED = [5, 2, 1, 0, 3], [0, 1, 4, 2, 1], [0] * 5


def test_a_step_is_adams_in_units_of_its_own() -> None:
    """The parameter is ``unit * y`` with ``y`` moved by Adam."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(6, generator=generator, dtype=torch.float64) + 0.1
    start = torch.randn(6, generator=generator, dtype=torch.float64)
    parameter = start.clone()
    y = torch.nn.Parameter(start / unit)
    adam = torch.optim.Adam([y], betas=(0.9, 0.99), eps=1e-12)
    moving = _Moving(parameter, unit)
    for count, rate in enumerate((0.1, 0.07, 0.2, 0.01), 1):
        gradient = torch.randn(6, generator=generator, dtype=torch.float64) * 10.0**count
        moving.step(gradient, count, rate)
        adam.param_groups[0]["lr"] = rate
        y.grad = gradient * unit
        adam.step()
        torch.testing.assert_close(parameter, unit * y.detach())


def test_nothing_goes_below_its_least() -> None:
    parameter = torch.zeros(2)
    _Moving(parameter, torch.ones(2), torch.tensor([-0.5, -3.0])).step(torch.ones(2), 1, 1.0)
    torch.testing.assert_close(parameter, torch.tensor([-0.5, -1.0]))


def test_batches_are_full_and_each_round_takes_every_sequence_once_at_most() -> None:
    batches = _batches(70)
    for _ in range(3):
        rows = torch.cat([next(batches) for _ in range(70 // _SEQUENCES)])
        assert len(rows) == 64
        assert len(set(rows.tolist())) == 64
        assert rows.max() < 70
    assert sorted(next(_batches(5)).tolist()) == [0, 1, 2, 3, 4]


def parameters_of(systems: DiagonalSystems, channel: int) -> list[torch.Tensor]:
    found = [systems.D[channel]]
    for kind in ("pair", "real"):
        mine = getattr(systems, f"{kind}_channel") == channel
        names = [name for name, _ in systems.named_parameters() if name.startswith(kind)]
        found += [getattr(systems, name)[mine] for name in names]
    return [each.detach().clone() for each in found]


def test_only_channels_that_have_lost_states_move() -> None:
    model = model_of(RAGGED, ([2] * 5, [0] * 5, [0] * 5))
    small = compress_model(model, 5)
    lost = [
        ours.systems.modes().real_states < its.systems.modes().real_states
        for ours, its in zip(small.blocks, model.blocks, strict=True)
    ]
    assert [each.tolist() for each in lost] == [[True, False, True, False, True], [False] * 5]
    systems = [block.systems for block in small.blocks]
    before = [[parameters_of(each, channel) for channel in range(5)] for each in systems]
    x = torch.randn(40, 20, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        aim = model(x)
    calibration = Calibration(x, None, "x", len(x))

    def error() -> float:
        with torch.no_grad():
            return float((small(x) - aim).norm())

    at_start = error()
    descend(small, model, calibration, aim, 4)
    assert error() < at_start
    for block in range(2):
        for channel in range(5):
            after = parameters_of(systems[block], channel)
            same = [torch.equal(*pair) for pair in zip(before[block][channel], after, strict=True)]
            assert all(same) != lost[block][channel]
