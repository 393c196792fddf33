"""What an exported file says about the model in it."""

from __future__ import annotations

from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime.description import KNOWN_FORMAT, Description
from s4edge.version import VERSION


def describe(
    model: SequenceModel,
    *,
    mode: str,
    samples_per_run: int | None,
    d_input: int,
    state_floats: int,
    rate: float | None,
) -> Description:
    """The description that `s4edge.runtime` reads.

    Args:
        model: that is exported.
        mode: "step", "chunk" or "sequence".
        samples_per_run: samples that one run takes; None for any number.
        d_input: numbers of an input sample.
        state_floats: numbers of a stream's state.
        rate: samples per second that the model expects, or None.
    """
    config = model.config
    sizes = {b.systems.state_size for b in config.blocks if b.systems.real_states}
    return Description(
        format=KNOWN_FORMAT,
        version=VERSION,
        mode=mode,
        samples_per_run=samples_per_run,
        d_input=d_input,
        d_output=config.d_output,
        tokens=config.d_input if config.encoder == "embedding" else None,
        state_floats=state_floats,
        pooling=config.pooling if config.answers == 0 else "none",
        length=config.length,
        exact_samples=config.exact_samples if mode != "sequence" else None,
        source=model.provenance.source,
        state_size=sizes.pop() if len(sizes) == 1 else None,
        real_states=config.real_states,
        rate=rate,
        period=config.stride,
    )
