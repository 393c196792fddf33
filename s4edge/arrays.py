"""Types of arrays, whose names say the axes where these are always the same.

A type checker sees only what the entries are; `Float`, `Complex`, `Int`, `Bool` and `Single` have
whatever axes a docstring tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Single = NDArray[np.float32]

# (channels,)
FloatPerChannel = Float
IntPerChannel = Int

# (modes,), those of all channels one after another
ComplexPerMode = Complex
IntPerMode = Int
BoolPerMode = Bool

# (channels, modes): equally many of each channel, or filled up
ComplexPerChannelAndMode = Complex

# (channels, samples), and (channels, lags) of an autocorrelation
FloatPerChannelAndSample = Float
FloatPerChannelAndLag = Float

# (samples, inputs) of a signal, or (samples, 1) tokens
Samples = NDArray[Any]
