"""Words that answers of benchmarks are told in, whatever they are written into.

An answer is the object that ``s4edge bench --json`` prints, as a dict.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

Answer = Mapping[str, Any]

NOTHING = "–"


def clean(text: object) -> str:
    """Give text that any page or terminal can show: one line, no control characters.

    File names may hold newlines, escape codes and bytes that are no UTF-8.
    """
    return "".join(
        "�" if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign
        for sign in str(text)
    )


def names(paths: Sequence[str]) -> list[str]:
    """Give file names where they tell the paths apart, else the paths, clean."""
    short = [PurePath(path).name for path in paths]
    told_apart = len(set(short)) == len(set(paths)) and all(short)
    return [clean(name) for name in (short if told_apart else paths)]


def before_a_model(runtime: str) -> list[str]:
    """What a process holds before it opens a model that runs on this runtime."""
    return ["Python", "numpy", *(["onnxruntime"] if "onnxruntime" in runtime else [])]


def is_emulated(answer: Answer) -> bool:
    """Tell whether the times are an emulator's."""
    return bool(answer["device"].get("emulated"))
