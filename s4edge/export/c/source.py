"""The text of a C file and its header."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from string import Template

from s4edge.arrays import Float
from s4edge.export.c.buffers import stride
from s4edge.export.c.kernels import kernels
from s4edge.export.c.stages import LETTERS, Member, Part, Writer
from s4edge.export.c.weights import floats, literal
from s4edge.export.lowering.program import Program
from s4edge.runtime.description import Description

_FOLDER = Path(__file__).parent
# Floats after each buffer, which vectors may touch.
_SLACK = 16


@dataclass(frozen=True)
class Source:
    """What is to be written.

    Attributes:
        code: of the C file.
        header: of the header.
        header_name: its file's, which the C file includes.
        state_bytes: of one stream.
        weight_bytes: of all constants.
        step_bytes: scratch on the stack for one sample.
        chunk_bytes: scratch on the stack for a chunk.
    """

    code: str
    header: str
    header_name: str
    state_bytes: int
    weight_bytes: int
    step_bytes: int
    chunk_bytes: int

    def including(self, header_name: str) -> str:
        """The C file for a header of another file name."""
        old = f'\n#include "{self.header_name}"\n'
        return self.code.replace(old, f'\n#include "{header_name}"\n', 1)


@dataclass(frozen=True)
class Trial:
    """Samples with what the model gives for them, from zero state.

    Attributes:
        x: (samples, d_input).
        y: (samples, d_output).
        tolerance: largest difference that is right.
    """

    x: Float
    y: Float
    tolerance: float


def write(
    program: Program,
    name: str,
    header: str,
    about: list[str],
    description: Description,
    trial: Trial,
    *,
    chunk: int,
    precision: str,
    wide: frozenset[str] = frozenset(),
) -> Source:
    """The texts of a model.

    Args:
        program: of it.
        name: what its functions begin with, a C identifier.
        header: the header's file name.
        about: lines that say what it is and where it comes from.
        description: for `s4edge.runtime`; the width of the state is set here.
        trial: what the self-test runs.
        chunk: samples that ``name_chunk`` computes side by side.
        precision: "fp32", or "int8": matrices and embeddings as bytes with a scale per row.
        wide: stages whose systems are in double precision.

    Raises:
        S4EdgeError: a number is too large for single precision.
    """
    writer = Writer(program, precision == "int8", wide)
    per_sample, fixed = sum(writer.buffers.widths), _SLACK * len(writer.buffers.widths)
    # What wants the widest boundaries first, so that no compiler leaves a gap.
    members = sorted(writer.state, key=lambda member: member.type != "double")
    if not members:
        members = [Member("unsigned", "none", None)]
    if members[0].type == "double" and sum(member.bytes for member in members) % 8:
        members.append(Member("unsigned", "none", None))
    state_bytes = sum(member.bytes for member in members)
    arrays = [array for part in writer.parts.values() for array in part.arrays]
    weight_bytes = sum(array.values.nbytes for array in arrays)
    described = dataclasses.replace(description, state_floats=state_bytes // 4).to_json(
        name=name, precision=precision, chunk=chunk, multiply_adds=program.multiply_adds
    )
    values = {
        "name": name,
        "header": header,
        "NAME": name.upper(),
        "about": _comment(about),
        "inputs": program.d_input,
        "outputs": program.d_output,
        "state_bytes": state_bytes,
        "weight_bytes": weight_bytes,
        "chunk": chunk,
        "per_sample": per_sample,
        "fixed": fixed,
        # What fills up rows is read, and not always written before.
        "zeros": "" if _without_gaps(writer) else " = {0}",
        "state": "\n".join(f"    {member};" for member in members),
        "kernels": kernels(writer.sections, writer.features, writer.gated),
        "parts": "\n\n".join(_function(part, name, writer) for part in writer.parts.values()),
        "run": "\n".join(f"    {line}" for line in _run(writer)),
        "description": _string(described),
        "trial_x": floats(f"{name}_trial_x", "samples", trial.x),
        "trial_y": floats(f"{name}_trial_y", "what the model gives for them", trial.y),
        "trial_samples": len(trial.x),
        "trial_kb": max(1, -(-4 * trial.y.size // 1024)),
        "tolerance": literal(trial.tolerance),
    }
    code, declared = (
        Template((_FOLDER / file).read_text(encoding="utf-8")).substitute(values)
        for file in ("model.c.template", "model.h.template")
    )
    return Source(
        code, declared, header, state_bytes, weight_bytes, 4 * (per_sample + fixed),
        4 * (per_sample * chunk + fixed),
    )  # fmt: skip


def _without_gaps(writer: Writer) -> bool:
    """Whether all rows are whole groups of 8."""
    program = writer.program
    read = {value for stage in program.stages for value in stage.inputs}
    widths = [stage.width for stage in program.stages if stage.name in read]
    if "x" in writer.buffers.of:
        widths.append(program.d_input)
    return all(width == stride(width) for width in widths)


def _comment(lines: list[str]) -> str:
    """Lines inside a comment, which nothing in them ends or begins again."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, 96) or [""]]
    safe = [line.replace("*/", "* /").replace("/*", "/ *") for line in wrapped]
    return "\n".join(f" * {line}".rstrip() for line in safe)


def _arguments(part: Part, writer: Writer) -> list[tuple[str, str]]:
    """Types and names of what a part's function takes."""
    body = " ".join(part.lines)
    used = [("const float *", "x")] if re.search(r"\bx\b", body) else []
    buffers = LETTERS[: len(writer.buffers.widths)]
    used += [("float *", name) for name in buffers if re.search(rf"\b{name}\b", body)]
    return [*([("", "s")] if "s->" in body else []), *used, ("int ", "samples")]


def _function(part: Part, name: str, writer: Writer) -> str:
    arguments = [
        f"{name}_state *s" if argument == "s" else kind + argument
        for kind, argument in _arguments(part, writer)
    ]
    lines = [
        f"/* {part.name}: {', '.join(part.title)}. */",
        *map(str, part.arrays),
        f"static {'int' if part.joins else 'void'} {part.name}({', '.join(arguments)}) {{",
        *(f"    {line}" for line in part.lines),
        *(["    return samples;"] if part.joins else []),
        "}",
    ]
    return "\n".join(lines)


def _run(writer: Writer) -> list[str]:
    """The body of what computes samples side by side."""
    buffers, program = writer.buffers, writer.program
    lines, before = [], "scratch"
    letters = LETTERS[: len(buffers.widths)]
    for letter, width in zip(letters, buffers.widths, strict=True):
        lines.append(f"float *{letter} = {before};")
        before = f"{letter} + {width} * samples + {_SLACK}"
    if "x" in buffers.of:
        lines.append(_rows(writer.buffer("x"), stride(program.d_input), "x", program.d_input))
    if program.period == 1:
        lines += [_call(part, writer, "samples") for part in writer.parts.values()]
    else:
        lines += _by_rates(writer)
    y, to = writer.buffer(program.output), writer.stride(program.output)
    lines.append(_rows("y", program.d_output, y, to))
    return lines


def _call(part: Part, writer: Writer, samples: str) -> str:
    *arguments, _ = (argument for _, argument in _arguments(part, writer))
    return f"{part.name}({', '.join([*arguments, samples])});"


def _by_rates(writer: Writer) -> list[str]:
    """Calls of all parts, each with as many samples as there are for it; the last holds answers."""
    *parts, last = writer.parts.values()
    lines = ["int left = samples;", "do {"]
    for part in parts:
        call = _call(part, writer, "left")
        lines.append(f"    left = {call}" if part.joins else f"    {call}")
        if part.joins:
            lines.append("    if (left == 0) break;")
    return [*lines, "} while (0);", _call(last, writer, "samples")]


def _rows(to: str, to_stride: int, of: str, of_stride: int) -> str:
    """Samples from one array to another, of which one is without gaps."""
    size = f"sizeof(float) * {min(to_stride, of_stride)}"
    copied = f"memcpy({to} + t * {to_stride}, {of} + t * {of_stride}, {size});"
    return f"for (int t = 0; t < samples; t++) {copied}"


def _string(text: str) -> str:
    """A string literal over several lines."""
    # A question mark, too: two of them may begin what C99 reads as another character.
    escaped = re.sub(r'([\\"?])', r"\\\1", text)
    lines = re.findall(r"(?:\\.|[^\\]){1,90}", escaped)
    return "\n".join(f'    "{line}"' for line in lines)
