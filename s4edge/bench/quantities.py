"""Numbers of an answer of ``s4edge bench``: what they may be, and the words for it."""

from __future__ import annotations

from typing import Annotated, Union

from s4edge.json_codec import Kind

Count = Annotated[int, Kind("count", lambda value: value >= 0)]
Number = Annotated[Union[int, float], Kind("number", lambda value: True)]
# Of what is never below 0, nor of a size that no measurement has.
Amount = Annotated[
    Union[int, float], Kind("number from 0 up", lambda value: value == 0 or 1e-15 <= value < 1e15)
]
