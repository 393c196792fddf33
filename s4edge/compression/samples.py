"""How many calibration sequences steps over dense layers and widths take."""

from __future__ import annotations

from s4edge.compression.states.calibration import Calibration, evenly
from s4edge.model.sequence_model import SequenceModel

# Floats, at the model's widest place, of the sequences that the output's error is measured on, that
# layers are fitted to, and that gradients are taken on: bounds memory and time.
MEASURED, FITTED, GRADIENTS = 2**27, 2**25, 2**23


def some_sequences(model: SequenceModel, calibration: Calibration, floats: int) -> Calibration:
    """Evenly chosen sequences of so many floats at the model's widest place."""
    widest = max(systems.channels for block in model.config.blocks for systems in block.all_systems)
    most = max(16, floats // (calibration.length * widest))
    return calibration.part(evenly(len(calibration), most))
