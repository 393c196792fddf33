"""Pickles changed by instructions: their order, their arguments, and hostile ones between them."""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from . import raw

# Run, each would leave a file or raise an audit event that is watched for.
_CALLS = (
    ("posix", "system", "touch CANARY"), ("os", "system", "touch CANARY"),
    ("builtins", "eval", "open('CANARY', 'w')"), ("__builtin__", "eval", "open('CANARY', 'w')"),
    ("builtins", "exec", "open('CANARY', 'w')"), ("subprocess", "getoutput", "touch CANARY"),
    ("builtins", "__import__", "antigravity"), ("torch", "load", "CANARY"),
    ("torch.storage", "_load_from_bytes", ""), ("numpy", "fromfile", "CANARY"),
    ("numpy", "load", "CANARY"), ("torch.hub", "load", "CANARY"), ("builtins", "open", "CANARY"),
    ("pathlib", "Path", "CANARY"), ("functools", "partial", "CANARY"),
    ("omegaconf.dictconfig", "DictConfig", "CANARY"), ("timeit", "timeit", "open('CANARY', 'w')"),
    ("torch._utils", "_rebuild_tensor_v2", "CANARY"), ("_codecs", "encode", "CANARY"),
    ("collections", "OrderedDict", "CANARY"), ("numpy", "dtype", "O"), ("torch", "Size", "CANARY"),
    ("copyreg", "_reconstructor", "CANARY"), ("builtins", "getattr", "CANARY"),
    ("torch.serialization", "_get_layout", "CANARY"), ("webbrowser", "open", "CANARY"),
)  # fmt: skip
_SIMPLE = (
    b"(", b")", b"]", b"}", b"\x8f", b"N", b"\x88", b"\x89", b"0", b"1", b"2", b"t", b"l", b"d",
    b"a", b"e", b"s", b"u", b"b", b"R", b"\x81", b"\x92", b"o", b"Q", b"\x85", b"\x86", b"\x87",
    b"\x90", b"\x91", b"\x93", b"\x94", b".", b"\x97", b"\x98",
)  # fmt: skip


@lru_cache(maxsize=200)
def instructions(data: bytes) -> tuple[bytes, ...]:
    """The instructions, each with its argument, of the first pickle."""
    places = [place for _, _, place in pickletools.genops(data)]
    ends = [*places[1:], len(data)]
    return tuple(data[start:end] for start, end in zip(places, ends, strict=True))


def call(random: Random) -> bytes:
    """Instructions that call something with a text."""
    module, name, text = random.choice(_CALLS)
    argument = b"X" + struct.pack("<I", len(text)) + text.encode()
    if random.random() < 0.5:
        function = f"c{module}\n{name}\n".encode()
    else:
        function = b"".join(b"\x8c" + bytes([len(x)]) + x.encode() for x in (module, name))
        function += b"\x93"
    ending = random.choice((b"R", b"\x81", b"b", b"\x85R", b"}\x92"))
    return random.choice((function + b"(" + argument + b"t" + ending, function + argument + ending))


def literal(random: Random) -> bytes:
    """An instruction that pushes a number or a text, or says a length."""
    number = raw.number(random)
    kind = random.randrange(12)
    if kind < 4:
        return pickle.dumps(number, 2)[2:-1]
    if kind == 4:
        return b"I" + str(number)[:5000].encode() + b"\n"
    if kind == 5:
        return b"G" + random.randbytes(8)
    if kind == 6:
        code = random.choice((b"\x8e", b"\x8d", b"\x96", b"\x95"))
        return code + struct.pack("<Q", number & (1 << 64) - 1)
    if kind == 7:
        code = random.choice((b"X", b"B", b"T", b"\x8b", b"r", b"j"))
        return code + struct.pack("<I", number & (1 << 32) - 1)
    if kind == 8:
        return random.choice((b"q", b"h", b"K", b"U", b"\x8a", b"\x8c")) + random.randbytes(1)
    if kind == 9:
        return random.choice((b"p", b"g", b"P", b"F", b"L", b"S", b"V")) + random.choice(
            (b"0\n", b"1\n", b"-1\n", b"nan\n", b"'a'\n", b"\\ud800\n", b"9" * 40 + b"\n")
        )
    if kind == 10:
        return b"X\x03\x00\x00\x00" + random.choice((b"a.b", b"\xed\xa0\x80", b"\0\0\0"))
    return random.choice((b"\x82\x01", b"\x83\x01\x01", b"\x80" + random.randbytes(1)))


def mutate(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Some changes to the instructions of a pickle."""
    if random.random() < 0.1:
        return raw.mutate(random, data, others)
    found = list(instructions(data))
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        place = random.randrange(len(found) or 1)
        do = random.randrange(12)
        if do == 0:
            del found[place : place + random.choice((1, 1, 2, 5))]
        elif do == 1:
            found[place:place] = found[place : place + random.choice((1, 2, 10))]
        elif do == 2 and found:
            other = random.randrange(len(found))
            found[place], found[other] = found[other], found[place]
        elif do < 5:
            found[place : place + random.choice((0, 1))] = [random.choice(_SIMPLE)]
        elif do < 8:
            found[place : place + random.choice((0, 1))] = [literal(random)]
        elif do == 8:
            found[place:place] = [call(random)]
        elif do == 9:
            lent = instructions(random.choice(others or (data,)))
            start = random.randrange(len(lent))
            found[place:place] = lent[start : start + random.choice((1, 5, 30))]
        elif do == 10 and random.random() < 0.05:
            found[place:place] = [random.choice(_SIMPLE) * random.choice((100, 10_000))]
        elif found:
            found[place] = raw.mutate(random, found[place])
    return b"".join(found)
