"""All properties by name, with the strategy of what each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from c_properties import check_c, random_c
from compression_properties import check_compress, check_full_size, random_compressions
from dense_properties import check_dense, random_ranks
from graph_properties import check_graph, check_lowering, check_refused_graph, random_graphs
from hypothesis import strategies as st
from model_properties import (
    check_configuration,
    check_convolution,
    check_file,
    check_padding,
    check_stream,
    check_summary,
    check_wrong_inputs,
)
from model_strategies import random_models
from upstream_properties import check_upstream, random_upstreams


@dataclass(frozen=True)
class Property:
    """Something that holds.

    Attributes:
        check: takes what is drawn, and asserts.
        drawn: the strategy of it.
        examples: in the test suite.
    """

    check: Callable[[Any], None]
    drawn: st.SearchStrategy[Any]
    examples: int


PROPERTIES: dict[str, Property] = {
    "convolution": Property(check_convolution, random_models(), 40),
    "padding": Property(check_padding, random_models(), 40),
    "stream": Property(check_stream, random_models(streams=True), 40),
    "refused stream": Property(check_stream, random_models(), 30),
    "wrong inputs": Property(check_wrong_inputs, random_models(), 30),
    "file": Property(check_file, random_models(), 20),
    "configuration": Property(check_configuration, random_models(), 60),
    "summary": Property(check_summary, random_models(), 30),
    "lowering": Property(check_lowering, random_models(streams=True), 40),
    "stream graph": Property(check_graph, random_graphs(), 25),
    "sequence graph": Property(check_graph, random_graphs(streams=None), 20),
    "coarse graph": Property(check_graph, random_graphs(precisions=("fp16", "int8")), 10),
    "refused graph": Property(check_refused_graph, random_graphs(streams=None), 20),
    "sanitized C": Property(check_c, random_c(), 4),
    "compress": Property(check_compress, random_compressions(), 15),
    "full size": Property(check_full_size, random_compressions(), 20),
    "calibrate": Property(check_compress, random_compressions(calibrated=True), 4),
    "full size, calibrated": Property(check_full_size, random_compressions(calibrated=True), 3),
    "rank": Property(check_dense, random_ranks(), 10),
    "upstream": Property(check_upstream, random_upstreams(), 12),
}
