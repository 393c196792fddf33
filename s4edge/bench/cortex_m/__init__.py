"""Models as C on Cortex-M microcontrollers, emulated: flash, RAM, stack, instructions, outputs."""

from s4edge.bench.cortex_m.emulate import Figures, measure
from s4edge.bench.cortex_m.targets import TARGETS, Target, find_target

__all__ = ["TARGETS", "Figures", "Target", "find_target", "measure"]
