"""Which scratch buffer holds which value, so that few are needed."""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.export.lowering.program import (
    Activation,
    Downsample,
    Embedding,
    Gather,
    Hold,
    Linear,
    Pool,
    Product,
    Program,
    Recurrence,
    Stage,
    WeightedSum,
)

# Values lie one after the other with gaps up to a multiple of so many features.
TOGETHER = 8


def stride(width: int) -> int:
    """Floats from one sample's features to the next one's."""
    return -(-width // TOGETHER) * TOGETHER


@dataclass(frozen=True)
class Buffers:
    """The buffers of a program.

    Attributes:
        of: by value, its buffer; the input is in none where it is read where it comes from.
        copied: by stage, the value that it changes a copy of, for it is still wanted.
        widths: of each buffer, floats per sample.
    """

    of: dict[str, int]
    copied: dict[str, str]
    widths: tuple[int, ...]


def assign(program: Program) -> Buffers:
    """Buffers in the order of stages; a stage works in place where it can."""
    last: dict[str, int] = {}
    for index, stage in enumerate(program.stages):
        last |= dict.fromkeys(stage.inputs, index)
    last[program.output] = len(program.stages)
    widths: list[int] = []
    free: list[int] = []

    def take(width: int) -> int:
        # Of those free, the one that needs to grow least.
        best = min(free, key=lambda each: max(width - widths[each], 0), default=None)
        if best is None:
            widths.append(width)
            return len(widths) - 1
        free.remove(best)
        widths[best] = max(widths[best], width)
        return best

    of: dict[str, int] = {}
    copied: dict[str, str] = {}
    if not reads_input(program):
        of["x"] = take(stride(program.d_input))
    for index, stage in enumerate(program.stages):
        width = stride(stage.width)
        dying = [v for v in dict.fromkeys(stage.inputs) if last[v] == index and v in of]
        if _wants_its_own(stage):
            of[stage.name] = take(width)
        else:
            # The second of two operands is the one that changes, and the first may.
            changing = [v for v in reversed(stage.inputs) if v in dying]
            if changing:
                of[stage.name] = of[changing[0]]
                widths[of[changing[0]]] = max(widths[of[changing[0]]], width)
                dying.remove(changing[0])
            else:
                of[stage.name] = take(width)
                if isinstance(stage.operation, Activation | Pool | Product | WeightedSum):
                    copied[stage.name] = stage.inputs[-1]
        free += [of[value] for value in dying]
    return Buffers(of, copied, tuple(widths))


def reads_input(program: Program) -> bool:
    """Whether all that read the input read it sample by sample where it comes from."""
    readers = [stage for stage in program.stages if "x" in stage.inputs]
    return all(
        isinstance(s.operation, Linear | Embedding | Gather) or _is_stack(s) for s in readers
    ) and (program.output != "x")


def _wants_its_own(stage: Stage) -> bool:
    """Whether a stage reads what it would overwrite in place."""
    return isinstance(
        stage.operation, Linear | Embedding | Gather | Recurrence | Hold
    ) or _is_stack(stage)


def _is_stack(stage: Stage) -> bool:
    return isinstance(stage.operation, Downsample) and stage.operation.kind == "stack"


def changes_first(stage: Stage, buffers: Buffers) -> bool:
    """Whether of a stage's two operands the first is the one that it changes."""
    return isinstance(stage.operation, Product | WeightedSum) and (
        stage.name not in buffers.copied and buffers.of[stage.inputs[0]] == buffers.of[stage.name]
    )
