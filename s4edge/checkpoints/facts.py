"""Facts that a state dict does not hold: given, inferred, assumed, or asked for.

How a key that nobody thought of is caught: a configuration can be read through `Facts` only, which
hands out single values (`Facts.get`) and parts (`Facts.part`), never a dictionary. Each part is
known to the whole from the moment that it is opened, each key that was asked for is ticked off, and
`Facts.finish` walks the whole and refuses every key that nobody asked for, wherever it stands. A
reader that forgets an option, or opens a part and forgets what is in it, refuses the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

from s4edge.checkpoints.interpolation import UNKNOWN
from s4edge.errors import S4EdgeError
from s4edge.foreign import check_file, parse_json, read_text

_REQUIRED: Any = object()
_NOTHING: Any = object()


@dataclass
class _Whole:
    """What all parts of one checkpoint share."""

    path: Path
    overrides: Mapping[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    inferred: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    # Names of facts, plain and dotted, that some part asked for.
    heard: set[str] = field(default_factory=set)
    # Words of a plain key that two parts have: which are of the part at which place.
    words: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    # Keys that a person says to leave out, and those found.
    left_out: tuple[str, ...] = ()
    found: set[str] = field(default_factory=set)


class Facts:
    """What is known about a checkpoint beside its tensors, and how it is known.

    A cursor over a configuration: of the whole, or of one part of it (`part`, `parts`). What is
    found is told with the whole's.

    Args:
        path: the checkpoint, for messages.
        overrides: from ``--set key=value``; they win. A key may be dotted (``norm.eps``).
            ``ignore`` names keys of the configuration to leave out.
        saved: the checkpoint's saved configuration or its sidecar's.

    Attributes:
        path: the checkpoint, for messages.
        place: of this part, dotted as in the configuration; empty for the whole.
        said: whether the configuration or a person says anything of this part, be it null.
    """

    def __init__(
        self,
        path: Path,
        overrides: Mapping[str, Any] | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        overrides = dict(overrides or {})
        left_out = overrides.pop("ignore", ())
        if isinstance(left_out, str):
            left_out = tuple(name.strip() for name in left_out.split(","))
        self.path = path
        self.place = ""
        self.said = bool(saved)
        self._saved = dict(saved or {})
        self._whole = _Whole(path, overrides, left_out=tuple(map(str, left_out)))
        self._asked: set[str] = set()
        self._parts: list[Facts] = []
        self._opened_before: dict[str, Facts] = {}
        self._dotted = False
        self._plain: tuple[str, ...] = ()
        # Whether what this part does not say is upstream's default for sure.
        self._certain = False
        # What its facts are called by, where other layers have facts of the same names.
        self._kinds: tuple[str, ...] = ()
        # What holds whatever is said.
        self._fixed: dict[str, Any] = {}

    # What is there

    @property
    def overrides(self) -> Mapping[str, Any]:
        """From ``--set``."""
        return MappingProxyType(dict(self._whole.overrides))

    @property
    def saved(self) -> Mapping[str, Any]:
        """This part's own configuration, to look at; values are taken with `get` and `part`."""
        return MappingProxyType({**self._saved, **self._fixed})

    @property
    def given(self) -> dict[str, Any]:
        """Facts used that were given."""
        return self._whole.given

    @property
    def inferred(self) -> dict[str, Any]:
        """Facts read off the tensors."""
        return self._whole.inferred

    @property
    def assumed(self) -> dict[str, Any]:
        """Facts taken as upstream's default because nothing says otherwise."""
        return self._whole.assumed

    def name(self, key: str) -> str:
        """What a fact of this part is called with ``--set``."""
        if self._kinds:
            return f"{self._kinds[0]}.{key}"
        if key == "_name_":
            return self.title
        return f"{self.title}.{key}" if self._dotted else key

    @property
    def title(self) -> str:
        """The place of this part as people are told it, the same within a trainer's model."""
        return self.place.removeprefix("model.")

    def says(self, key: str) -> bool:
        """Whether a fact is given, as a value."""
        return self._look(key)[1] is not _NOTHING

    def leaves_out(self, key: str) -> bool:
        """Whether there is a configuration that has no such key: upstream's default holds."""
        return bool(self._saved) and key not in self._saved and not self.says(key)

    # Parts

    def within(self, saved: Mapping[str, Any]) -> Facts:
        """Facts of a part with options of its own, at the place of this one."""
        child = self._child(self.place, saved, said=True, dotted=False, plain=())
        if "length" in self._saved:
            child._saved.setdefault("length", self._saved["length"])
        return child

    def part(self, key: str, *, dotted: bool = True, plain: Sequence[str] = ()) -> Facts:
        """The part of the configuration under a key.

        A word alone is a part that has this word as its ``_name_``; null is an empty part. Opened
        again it is the same.

        Args:
            key: its name.
            dotted: whether its facts are called by their dotted name (``norm.eps``).
            plain: those that may be said by their plain name all the same.

        Raises:
            S4EdgeError: it is neither a word nor a group of options.
        """
        origin, value = self._look(key)
        return self._opened(key, value, origin, dotted, plain)

    def parts(self, key: str, *, dotted: bool = True, plain: Sequence[str] = ()) -> list[Facts]:
        """The parts in the list under a key; one that is no list stands alone. As `part`."""
        origin, value = self._look(key)
        if not isinstance(value, list | tuple):
            return [self._opened(key, value, origin, dotted, plain)]
        if not value:
            raise S4EdgeError(f"{self.path}: {origin} says {key}=[], which names nothing")
        return [
            self._opened(f"{key}.{index}", each, origin, dotted, plain)
            for index, each in enumerate(value)
        ]

    def again(self, **also: Any) -> Facts:
        """This part once more, for another layer of the same options; ``also`` holds for it."""
        child = self._child(self.place, self._saved, self.said, self._dotted, self._plain)
        child._fixed = also
        # The copies hear in its place.
        self._asked.update(self._saved)
        child._certain = self._certain
        return child

    def called(self, *kinds: str) -> Facts:
        """The same part, its facts called by the word for what it is (``ffn.activation``)."""
        self._kinds = kinds
        return self

    def _opened(
        self, key: str, value: Any, origin: str, dotted: bool, plain: Sequence[str]
    ) -> Facts:
        self.ignore(key.partition(".")[0])
        place = f"{self.place}.{key}" if self.place else key
        if key in self._opened_before:
            return self._opened_before[key]
        said = value is not _NOTHING
        if value is None or not said:
            value = {}
        elif isinstance(value, str):
            value = {"_name_": value}
        if not isinstance(value, Mapping):
            raise S4EdgeError(
                f"{self.path}: {origin} says {place}={_word(value)}, which is neither a word nor a "
                "group of options"
            )
        if not isinstance(value.get("_name_"), str | None):
            raise S4EdgeError(
                f"{self.path}: {origin} says {place}._name_={_word(value['_name_'])}, which is no "
                "word"
            )
        child = self._child(place, value, said, dotted, plain)
        child._certain = dotted and said and origin != "--set"
        self._opened_before[key] = child
        return child

    def _child(
        self, place: str, saved: Mapping[str, Any], said: bool, dotted: bool, plain: Sequence[str]
    ) -> Facts:
        child = Facts(self.path)
        child.place, child.said = place, said
        child._saved, child._whole = dict(saved), self._whole
        child._dotted, child._plain = dotted, tuple(plain)
        self._parts.append(child)
        return child

    # Facts

    def get(
        self,
        key: str,
        default: Any = _REQUIRED,
        *,
        allowed: Sequence[Any] | None = None,
        why: str = "",
    ) -> Any:
        """A fact: from ``--set``, else as saved, else upstream's ``default``, noted as assumed.

        Args:
            key: its name, upstream's own word for it.
            default: what upstream does when it is not given; left out, the fact is asked for.
            allowed: values that can be read.
            why: for the question: why it cannot be known.

        Raises:
            S4EdgeError: the value is not among ``allowed``, is a group of options, or is unknown
                and has no default.
        """
        self.ignore(key)
        _, value = self._look(key)
        name = self.name(key)
        if value is not _NOTHING:
            if isinstance(value, Mapping):
                raise S4EdgeError(
                    f"{self.path}: {name}={_word(value)} is a group of options, where one value "
                    "was expected"
                )
            if key == "_name_" and not isinstance(value, str | None):
                raise S4EdgeError(f"{self.path}: {name}={_word(value)} is no word")
            self.given[name] = value
        elif default is _REQUIRED:
            choices = " or ".join(f"--set {name}={_word(v)}" for v in allowed or ["VALUE"])
            raise S4EdgeError(f"{self.path}: {why}; say it with {choices}")
        else:
            value = default
            if not self._certain:
                self.assumed[name] = default
        if allowed is not None and value not in allowed:
            raise S4EdgeError(
                f"{self.path}: {name}={_word(value)} cannot be read; supported: "
                + ", ".join(_word(v) for v in allowed)
            )
        return value

    def word(self, default: Any = _REQUIRED, *, why: str = "") -> Any:
        """What this part is, its ``_name_``. As `get`, and null where the part is null."""
        if self.said and not self._saved:
            self.given[self.title] = None
            return None
        return self.get("_name_", default, why=why)

    def only(self, key: str, *values: Any) -> Any:
        """A fact that is read at upstream's default, the first value, and what means the same.

        Unlike with `get`, nothing is noted where it is not given.

        Raises:
            S4EdgeError: it is another value.
        """
        if self.says(key):
            return self.get(key, allowed=values)
        self.ignore(key)
        return values[0]

    def number(self, key: str, default: float | None) -> Any:
        """A fact that is a finite number from 0 up; None only if that is the ``default``.

        Raises:
            S4EdgeError: it is something else.
        """
        value = self.get(key, default)
        if value is None and default is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
            raise S4EdgeError(
                f"{self.path}: {self.name(key)}={_word(value)} cannot be read; it is a number "
                "from 0 up"
            )
        return float(value)

    def whole(self, key: str, default: int) -> int:
        """A fact that is a whole number from 1 up, not noted where it is not given.

        Raises:
            S4EdgeError: it is something else.
        """
        value = self.get(key) if self.says(key) else default
        self.ignore(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise S4EdgeError(
                f"{self.path}: {self.name(key)}={_word(value)} cannot be read; it is a whole "
                "number from 1 up"
            )
        return value

    def infer(self, key: str, value: Any) -> Any:
        """Note a fact that the tensors tell.

        Raises:
            S4EdgeError: what was given contradicts it.
        """
        self.ignore(key)
        origin, said = self._look(key)
        if said is not _NOTHING and said != value:
            raise S4EdgeError(
                f"{self.path}: {origin} says {self.name(key)}={_word(said)}, "
                f"the tensors say {_word(value)}"
            )
        self.inferred[self.name(key)] = value
        return value

    def ignore(self, *keys: str) -> None:
        """Name facts that do not change what the trained model computes."""
        self._asked.update(keys)
        for key in keys:
            self._whole.heard.update(self._names(key))

    def keep_apart(self, key: str, **words: Sequence[Any]) -> None:
        """Say which words of a plain key are of which part.

        A part's own are heard by it alone, all others by the parts not named. The dotted name works
        for any part.
        """
        self._whole.words[key] = {place: tuple(of) for place, of in words.items()}

    def finish(self) -> None:
        """Check that nothing that was said of this part and the parts in it went unheard.

        Raises:
            S4EdgeError: an override or a saved option has no meaning for this layout.
        """
        whole = self._whole
        for key, value in whole.overrides.items():
            if key not in whole.heard:
                known = {name for name in whole.heard if "." not in name}
                raise self._unheard("--set", key, value, known)
        self._check()
        missing = [name for name in whole.left_out if name not in whole.found]
        if missing:
            raise S4EdgeError(
                f"{self.path}: --set ignore={missing[0]} names no unread key of its configuration"
            )

    def _check(self) -> None:
        for key, value in self._saved.items():
            place = f"{self.place}.{key}" if self.place else key
            # A sidecar says at what length it was recorded, needed or not.
            if key in self._asked or place == "length":
                continue
            left_out = _suffixes(place) & set(self._whole.left_out)
            if not left_out:
                raise self._unheard("its configuration", place, value, self._asked)
            self._whole.found |= left_out
            self.given["ignore"] = ", ".join(self._whole.left_out)
        for part in self._parts:
            part._check()

    def _unheard(self, origin: str, name: str, value: Any, known: set[str]) -> S4EdgeError:
        told = ", ".join(sorted(each for each in known if each != "_name_"))
        remedy = ""
        if origin != "--set":
            remedy = (
                f"; it may change what the model computes: if it does not, say --set ignore={name}"
            )
        return S4EdgeError(
            f"{self.path}: {origin} gives {name}={_word(value)}, which this layout does not know; "
            f"known: {told}{remedy}"
        )

    # Looking up

    def _look(self, key: str) -> tuple[str, Any]:
        """Where a fact comes from and its value, `_NOTHING` where nobody says it."""
        overrides = self._whole.overrides
        if key in self._fixed:
            return "its configuration", self._fixed[key]
        for name in self._names(key):
            if name in overrides and self._is_mine(key, name):
                return "--set", overrides[name]
        value = self._saved.get(key, _NOTHING)
        return "its configuration", _NOTHING if value is UNKNOWN else value

    def _names(self, key: str) -> list[str]:
        """What ``--set`` may call a fact of this part, the most exact first."""
        if not self.place and not self._kinds:
            return [key]
        parts = self.place.split(".") if self.place else []
        places = [parts[start:] for start in range(len(parts))]
        if parts and parts[-1].isdigit():
            places += [parts[start:-1] for start in range(len(parts) - 1)]
        names = [".".join([*place, key]) for place in places if not place[0].isdigit()]
        if self._kinds:
            return [*(f"{kind}.{key}" for kind in self._kinds), *names]
        return names if self._dotted and key not in self._plain else [*names, key]

    def _is_mine(self, key: str, name: str) -> bool:
        """Whether what was said under a plain name that parts share is meant for this one."""
        words = self._whole.words.get(key)
        if words is None or name != key:
            return True
        place = next((part for part in self.place.split(".")[::-1] if not part.isdigit()), "")
        value = self._whole.overrides[name]
        if place in words:
            return value in words[place]
        return all(value not in of for of in words.values())


def _suffixes(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``["prenorm=true", "disc=zoh"]`` to a dictionary; values are JSON or else plain words.

    Raises:
        S4EdgeError: one has no ``=``.
    """
    facts: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise S4EdgeError(f"--set takes key=value, got {assignment!r}")
        try:
            facts[key] = parse_json(value, finite=False)
        except ValueError:
            facts[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return facts


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """The sidecar ``<stem>.json`` beside a checkpoint: ``cls``, ``config`` and other notes.

    Raises:
        S4EdgeError: it is there but is no JSON object with a ``config``.
    """
    sidecar = path.with_suffix(".json")
    # An index of shards has that suffix itself.
    if sidecar == path or not os.path.exists(sidecar):
        return None
    try:
        check_file(sidecar, "mend or remove it", "; mend or remove it")
        content = parse_json(read_text(sidecar), finite=False)
    except (OSError, ValueError, S4EdgeError) as error:
        raise S4EdgeError(f"the sidecar {sidecar} cannot be read: {error}") from error
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("config"), dict)
        or not isinstance(content.get("cls", ""), str | None)
    ):
        raise S4EdgeError(
            f"the sidecar {sidecar} is no JSON object with 'cls' and 'config'; mend or remove it"
        )
    return content
