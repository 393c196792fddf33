"""What ranks make of random models: as said, or refused in one line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from model_properties import DOUBLE, assert_close, outputs, reference
from model_strategies import RandomModel, as_the_model_takes_it, random_models

import s4edge
from s4edge.compression.dense.step import ReduceRank
from s4edge.errors import S4EdgeError
from s4edge.model.costs import multiply_adds

SEQUENCES = 4


@dataclass(frozen=True)
class RandomDense:
    """A model and a step on its dense layers."""

    drawn: RandomModel
    step: ReduceRank


@st.composite
def random_ranks(draw: st.DrawFn) -> RandomDense:
    """Any model, any of the ways to ask for ranks."""
    step = draw(
        st.builds(ReduceRank, st.integers(1, 3))
        | st.builds(ReduceRank, fraction=st.floats(0.2, 0.95))
        | st.builds(ReduceRank, tolerance=st.sampled_from([0.05, 0.5]))
    )
    return RandomDense(draw(random_models()), step)


def check_dense(how: RandomDense) -> None:
    """Fewer multiply-adds, the error that is told, and what a naive run of it gives."""
    model = how.drawn.build()
    x = as_the_model_takes_it(model.config, how.drawn.inputs(batch=SEQUENCES), model.dtype)
    small, refused = None, ""
    try:
        small = s4edge.compress(model, steps=[how.step], calibration=x)
    except S4EdgeError as error:
        refused = str(error)
    if small is None:
        assert refused
        assert "\n" not in refused
        return
    entry = small.provenance.history[-1]
    assert multiply_adds(small) <= multiply_adds(model)
    with torch.no_grad():
        aim, y = model.answer(x).double(), small.answer(x).double()
    found = float((y - aim).norm() / aim.norm())
    told = entry.output_error
    assert told is not None
    assert abs(found - told.measured) < 1e-3 + 0.01 * found
    if how.step.tolerance is not None:
        assert found < how.step.tolerance + 1e-3
    inputs = how.drawn.inputs()
    naive = reference(small, inputs)
    assert_close(
        outputs(small.double(), inputs), naive.run(inputs), naive.tolerance(inputs, DOUBLE)
    )
