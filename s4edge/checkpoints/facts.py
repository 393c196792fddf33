"""Facts that a state dict does not hold: given, inferred, assumed, or asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from s4edge.errors import S4EdgeError

_REQUIRED: Any = object()


@dataclass
class Facts:
    """What is known about a checkpoint beside its tensors, and how it is known.

    Attributes:
        path: the checkpoint, for messages.
        overrides: from ``--set key=value``; they win.
        saved: from the checkpoint's saved configuration or its sidecar.
        given: facts used that came from either of these.
        inferred: facts read off the tensors.
        assumed: facts taken as upstream's default because nothing says otherwise.
    """

    path: Path
    overrides: Mapping[str, Any]
    saved: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    inferred: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    # Of this part alone: an option that was saved for another part is not heard here.
    _asked_here: set[str] = field(default_factory=set)

    def within(self, saved: dict[str, Any]) -> Facts:
        """Facts of a part with options of its own; what is found is told with the whole's."""
        if "length" in self.saved:
            saved = {"length": self.saved["length"], **saved}
        return Facts(
            self.path, self.overrides, saved, self.given, self.inferred, self.assumed, self._asked
        )

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
            S4EdgeError: the value is not among ``allowed``, or is unknown and has no default.
        """
        self.ignore(key)
        if key in self.overrides or key in self.saved:
            value = self.overrides[key] if key in self.overrides else self.saved[key]
            self.given[key] = value
        elif default is _REQUIRED:
            choices = " or ".join(f"--set {key}={_word(v)}" for v in allowed or ["VALUE"])
            raise S4EdgeError(f"{self.path}: {why}; say it with {choices}")
        else:
            value = self.assumed[key] = default
        if allowed is not None and value not in allowed:
            raise S4EdgeError(
                f"{self.path}: {key}={_word(value)} cannot be read; supported: "
                + ", ".join(_word(v) for v in allowed)
            )
        return value

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
                f"{self.path}: {key}={_word(value)} cannot be read; it is a number from 0 up"
            )
        return float(value)

    def infer(self, key: str, value: Any) -> Any:
        """Note a fact that the tensors tell.

        Raises:
            S4EdgeError: what was given contradicts it.
        """
        self.ignore(key)
        for origin, facts in (("--set", self.overrides), ("its configuration", self.saved)):
            if key in facts and facts[key] != value:
                raise S4EdgeError(
                    f"{self.path}: {origin} says {key}={_word(facts[key])}, "
                    f"the tensors say {_word(value)}"
                )
        self.inferred[key] = value
        return value

    def ignore(self, *keys: str) -> None:
        """Name facts that do not change what the trained model computes."""
        self._asked.update(keys)
        self._asked_here.update(keys)

    def finish(self) -> None:
        """Check that nothing that was said went unheard.

        Raises:
            S4EdgeError: an override or a saved option has no meaning for this layout.
        """
        # A sidecar says at what length it was recorded, needed or not.
        for origin, facts, known in (
            ("--set", self.overrides, self._asked),
            ("its configuration", self.saved, self._asked_here | {"length"}),
        ):
            for key in facts:
                if key not in known:
                    raise S4EdgeError(
                        f"{self.path}: {origin} gives {key}={_word(facts[key])}, which this layout "
                        "does not know; known: " + ", ".join(sorted(known))
                    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
            facts[key] = json.loads(value)
        except ValueError:
            facts[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return facts


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """The sidecar ``<stem>.json`` beside a checkpoint: ``cls``, ``config`` and other notes.

    Raises:
        S4EdgeError: it is there but is no JSON object with a ``config``.
    """
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        return None
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise S4EdgeError(f"the sidecar {sidecar} cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise S4EdgeError(
            f"the sidecar {sidecar} is no JSON object with 'cls' and 'config'; mend or remove it"
        )
    return content
