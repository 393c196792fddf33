"""The functions of a C file, one for each part of the model."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from s4edge.export.c.buffers import Buffers, assign, changes_first, stride
from s4edge.export.c.systems import arrange, in_order_of_lanes
from s4edge.export.c.weights import (
    Array,
    byte_steps,
    doubles,
    floats,
    in_bytes,
    indices,
    literal,
    padded,
    side_by_side,
)
from s4edge.export.lowering.program import (
    Activation,
    Affine,
    Constant,
    Downsample,
    Embedding,
    Gather,
    Glu,
    Hold,
    LayerNorm,
    Linear,
    Pool,
    Product,
    Program,
    Recurrence,
    Stage,
    Standardize,
    WeightedSum,
)

# Names of buffers; an `x` is the model's input.
LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Member:
    """Of the state's struct.

    Attributes:
        type: float, unsigned or double.
        name: of the member.
        count: of an array; None for a single number.
    """

    type: str
    name: str
    count: int | None

    def __str__(self) -> str:
        return f"{self.type} {self.name}" + ("" if self.count is None else f"[{self.count}]")

    @property
    def bytes(self) -> int:
        """Size of it."""
        return (8 if self.type == "double" else 4) * (1 if self.count is None else self.count)


@dataclass
class Part:
    """A function of the file.

    Attributes:
        name: of the part, as C has it.
        title: what it does.
        lines: of its body.
        arrays: constants that it reads.
        joins: whether fewer samples leave it, as many as it says.
    """

    name: str
    title: list[str]
    lines: list[str]
    arrays: list[Array]
    joins: bool = False


class Writer:
    """Goes through the stages once, and collects what the file needs.

    Attributes:
        buffers: that the values lie in.
        arranged: the systems, by stage.
        sections: of kernels.c.
        features: functions applied to every feature.
        gated: functions of gates.
        state: members of its struct.
        parts: by name.

    Args:
        program: of a model.
        as_bytes: matrices and embeddings as bytes with a scale per row.
        wide: stages whose systems are in double precision.
    """

    def __init__(self, program: Program, as_bytes: bool, wide: frozenset[str]) -> None:
        self.arranged = arrange(program)
        self.program = program = in_order_of_lanes(program, self.arranged)
        self.as_bytes = as_bytes
        self.wide = wide
        self.buffers: Buffers = assign(program)
        self.sections: set[str] = {"lanes"}
        self.features: set[str] = set()
        self.gated: set[str] = set()
        self.state: list[Member] = []
        self.parts: dict[str, Part] = {}
        for stage in program.stages:
            self._stage(stage)

    # Names

    def buffer(self, value: str) -> str:
        """Where a value lies."""
        return LETTERS[self.buffers.of[value]] if value in self.buffers.of else "x"

    def stride(self, value: str) -> int:
        """From one sample of it to the next."""
        width = self.program.width(value)
        return stride(width) if value in self.buffers.of else width

    # Stages

    def _stage(self, stage: Stage) -> None:
        part = self.parts.setdefault(
            identifier(stage.part), Part(identifier(stage.part), [], [], [])
        )
        name, operation = identifier(stage.name), stage.operation
        y, to = self.buffer(stage.name), self.stride(stage.name)
        x, of = self.buffer(stage.inputs[0]), self.stride(stage.inputs[0])
        if stage.name in self.buffers.copied:
            source = self.buffers.copied[stage.name]
            size = f"sizeof(float) * (size_t)({self.stride(source)} * samples)"
            part.lines.append(f"memcpy({y}, {self.buffer(source)}, {size});")
            x = y if source == stage.inputs[0] else x
        call: str
        if isinstance(operation, Linear):
            call = self._dense(part, name, operation, f"{x}, {of}, {y}, {to}")
            rows, columns = operation.weight.value.shape
            part.title.append(f"{_last(stage)} {columns} -> {rows}")
        elif isinstance(operation, Embedding):
            call = self._embed(part, name, operation, f"{y}, {to}")
            part.title.append(f"embedding of {len(operation.table.value)} tokens")
        elif isinstance(operation, Recurrence):
            call = self._systems(part, stage.name, operation, f"{x}, {of}, {y}, {to}")
            modes = operation.modes
            part.title.append(f"{modes.channels} systems of {modes.real_states.sum()} states")
        elif isinstance(operation, LayerNorm | Affine | Standardize):
            call = self._norm(part, name, operation, f"{x}, {of}, {y}, {to}", stage.width)
            part.title.append(_word(operation))
        elif isinstance(operation, Gather):
            self.sections.add("gather_features")
            part.arrays.append(indices(name, "the feature of each", np.array(operation.indices)))
            call = f"gather_features({x}, {of}, {name}, {y}, {to}, {stage.width}, samples);"
            part.title.append(f"{stage.width} inputs")
        elif isinstance(operation, Activation):
            self.features.add(operation.function)
            call = f"each_{operation.function}({y}, {to} * samples);"
            part.title.append(operation.function)
        elif isinstance(operation, Glu):
            self.gated.add(operation.function)
            call = f"glu_{operation.function}({x}, {of}, {y}, {to}, {stage.width}, samples);"
            part.title.append(f"gated by {operation.function}")
        elif isinstance(operation, Pool):
            call = self._pool(stage.name, operation.kind, y, to, stage.width)
            part.title.append(f"{operation.kind} so far")
        elif isinstance(operation, Downsample):
            width = self.program.width(stage.inputs[0])
            call = self._join(stage.name, operation, f"{x}, {of}, {y}, {to}", stage.width, width)
            part.title.append(f"{operation.kind} of {operation.stride} samples")
            part.joins = True
        elif isinstance(operation, Hold):
            call = self._hold(stage.name, operation, f"{x}, {of}, {y}, {to}", stage.width)
            part.title.append(f"the latest answer, which comes every {operation.period} samples")
        else:
            call = self._two(stage, y, to)
            part.title.append("gate" if isinstance(operation, Product) else "residual")
        part.lines.append(call)

    def _constant(self, part: Part, constant: Constant, width: int | None = None) -> str:
        """An array of its own, filled up to a multiple of 8 or to ``width`` numbers."""
        name = identifier(constant.name)
        values = padded(constant.value, 8 if width is None else width)
        part.arrays.append(floats(name, constant.name, values))
        return name

    def _dense(self, part: Part, name: str, layer: Linear, where: str) -> str:
        weight = layer.weight.value
        rows, columns = weight.shape
        shape = f"{layer.weight.name}, {rows} rows of {columns}"
        name = identifier(layer.weight.name)
        sizes = f"{columns}, {stride(rows)}, {where}, samples);"
        if not self.as_bytes:
            self.sections.add("dense")
            part.arrays.append(floats(name, shape, side_by_side(weight)))
            bias = self._constant(part, layer.bias)
            return f"dense({name}, {bias}, {sizes}"
        self.sections.add("dense_bytes")
        part.arrays.extend(
            [
                Array(name, shape, side_by_side(in_bytes(weight)).astype(np.int8)),
                floats(f"{name}_scale", "a scale per row", padded(byte_steps(weight), 8)),
            ]
        )
        bias = self._constant(part, layer.bias)
        return f"dense_bytes({name}, {name}_scale, {bias}, {sizes}"

    def _embed(self, part: Part, name: str, embedding: Embedding, where: str) -> str:
        table = embedding.table.value
        tokens, width = table.shape
        name = identifier(embedding.table.name)
        shape = f"{embedding.table.name}, {tokens} rows of {width}"
        sizes = f"{tokens}, x, {where}, {width}, samples);"
        if not self.as_bytes:
            self.sections.add("embed")
            part.arrays.append(floats(name, shape, table))
            return f"embed({name}, {sizes}"
        self.sections.add("embed_bytes")
        part.arrays.extend(
            [
                Array(name, shape, in_bytes(table).reshape(-1).astype(np.int8)),
                floats(f"{name}_scale", "a scale per row", byte_steps(table)),
            ]
        )
        return f"embed_bytes({name}, {name}_scale, {sizes}"

    def _systems(self, part: Part, stage: str, systems: Recurrence, where: str) -> str:
        name, wide = identifier(stage), stage in self.wide
        kernel = "systems_wide" if wide else "systems"
        arranged = self.arranged[stage]
        D = self._constant(part, systems.feedthrough)
        if not arranged.states:
            self.sections.add("affine")
            return f"affine({where}, {D}, NULL, {systems.modes.channels}, samples);"
        self.sections.add(kernel)
        make = doubles if wide else floats
        part.arrays.extend(
            [
                make(name, "systems, 8 lanes side by side", arranged.weights),
                indices(f"{name}_counts", "rows of pairs and of real poles", arranged.counts),
            ]
        )
        order = place = "NULL"
        if arranged.order is not None:
            order = f"{name}_order"
            part.arrays.append(indices(order, "the channel of each lane", arranged.order))
        if len(arranged.place):
            place = f"{name}_place"
            part.arrays.append(
                indices(place, "the output that each further lane adds to", arranged.place)
            )
        self.state.append(Member("double" if wide else "float", name, arranged.states))
        tables = f"s->{name}, {name}, {name}_counts, {order}, {place}"
        return f"{kernel}({where}, {D}, {tables}, {arranged.outputs}, {arranged.groups}, samples);"

    def _norm(
        self, part: Part, name: str, norm: LayerNorm | Affine | Standardize, where: str, width: int
    ) -> str:
        if isinstance(norm, Standardize):
            self.sections.add("standardize")
            scale, shift = (self._constant(part, each, 1) for each in (norm.scale, norm.shift))
            return f"standardize({where}, {scale}[0], {shift}[0], {width}, samples);"
        scale = self._constant(part, norm.scale)
        shift = "NULL" if norm.shift is None else self._constant(part, norm.shift)
        if isinstance(norm, Affine):
            self.sections.add("affine")
            return f"affine({where}, {scale}, {shift}, {width}, samples);"
        self.sections.add("layer_norm")
        return f"layer_norm({where}, {scale}, {shift}, {literal(norm.epsilon)}, {width}, samples);"

    def _pool(self, stage: str, kind: str, y: str, to: int, width: int) -> str:
        self.sections.add(f"pool_{kind}")
        name = identifier(stage)
        self.state.append(Member("float", name, stride(width)))
        held = f"s->{name}"
        if kind != "sum":
            self.state.append(Member("unsigned", f"{name}_count", None))
            held += f", &s->{name}_count"
        return f"pool_{kind}({held}, {y}, {to}, {width}, samples);"

    def _join(self, stage: str, join: Downsample, where: str, width: int, features: int) -> str:
        kernel, name = f"join_{join.kind}", identifier(stage)
        self.sections.add(kernel)
        held = f"&s->{name}_count"
        if join.kind != "sample":
            self.state.append(Member("float", name, stride(width)))
            held = f"s->{name}, {held}"
        self.state.append(Member("unsigned", f"{name}_count", None))
        return f"samples = {kernel}({held}, {join.stride}, {where}, {features}, samples);"

    def _hold(self, stage: str, hold: Hold, where: str, width: int) -> str:
        self.sections.add("hold_answer")
        name = identifier(stage)
        self.state.append(Member("float", name, width))
        self.state.append(Member("unsigned", f"{name}_count", None))
        held = f"s->{name}, &s->{name}_count, {hold.period}, {hold.first}"
        return f"hold_answer({held}, {where}, {width}, samples);"

    def _two(self, stage: Stage, y: str, to: int) -> str:
        """An operation of two values, one of which it changes."""
        first = changes_first(stage, self.buffers)
        other = self.buffer(stage.inputs[1 if first else 0])
        if isinstance(stage.operation, Product):
            self.sections.add("product")
            return f"product({other}, {y}, {to} * samples);"
        assert isinstance(stage.operation, WeightedSum)
        of_x, of_y = stage.operation.weights
        if of_x == of_y == 1:
            self.sections.add("add")
            return f"add({other}, {y}, {to} * samples);"
        self.sections.add("weighted_sum")
        mine, others = (of_x, of_y) if first else (of_y, of_x)
        numbers = [literal(others), other, literal(mine), y, f"{to} * samples"]
        return f"weighted_sum({', '.join(numbers)});"


def identifier(name: str) -> str:
    """A name of a part, stage or tensor in C."""
    return re.sub(r"\W", "_", re.sub(r"^blocks\.", "block_", name))


def _last(stage: Stage) -> str:
    return stage.name.removeprefix(stage.part).lstrip(".") or stage.part


def _word(operation: object) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(operation).__name__).lower()
