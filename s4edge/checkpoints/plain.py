"""Plain values from what a pickle held: the configuration that Lightning keeps beside tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from s4edge.checkpoints.stored import TENSORS, StoredTensor
from s4edge.checkpoints.unpickle import Inert, InertClass
from s4edge.errors import S4EdgeError

_DEEPEST = 100
# Values of a configuration; what it names twice counts twice.
_MOST_VALUES = 100_000


def plain(value: Any, read: Callable[[StoredTensor], Tensor] | None = None) -> Any:
    """Dictionaries, lists and scalars from what a pickle held.

    OmegaConf's containers and nodes become what they contain, interpolations (``${...}``) staying
    text; namespaces and other mappings become dictionaries, paths text. What has no plain form, or
    would be large since it holds the same things again and again, is named in angle brackets.

    Args:
        value: as `Unpickler.load` gives it.
        read: gives the numbers of a tensor; without it, tensors have no plain form.

    Raises:
        S4EdgeError: it is nested too deeply or contains itself.
    """
    return _Plainly(read).of(value, 0)


class _Plainly:
    def __init__(self, read: Callable[[StoredTensor], Tensor] | None) -> None:
        self._read = read
        # What occurs in many places is converted once.
        self._done: dict[int, tuple[Any, Any]] = {}
        # Of each container made here: how many values it holds, and how deep they lie.
        self._extent: dict[int, tuple[int, int]] = {}

    def of(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return _scalar(value)
        if depth > _DEEPEST:
            raise _too_deep()
        if id(value) not in self._done:
            made = self._measured(self._converted(value, depth + 1))
            self._done[id(value)] = value, made  # kept, so that no other takes its place
        found = self._done[id(value)][1]
        if depth + self._extent.get(id(found), (1, 0))[1] > _DEEPEST:
            raise _too_deep()
        return found

    def _measured(self, made: Any) -> Any:
        if not isinstance(made, dict | list) or id(made) in self._extent:
            return made
        parts = made.values() if isinstance(made, dict) else made
        extents = [self._extent.get(id(part), (1, 0)) for part in parts]
        values = 1 + sum(count for count, _ in extents)
        if values > _MOST_VALUES:
            return f"<{values:,} values>"
        self._extent[id(made)] = values, 1 + max((height for _, height in extents), default=0)
        return made

    def _converted(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {
                key if isinstance(key, bool | int | float) else str(self.of(key, depth)):
                self.of(item, depth)
                for key, item in value.items()
            }  # fmt: skip
        if isinstance(value, list | tuple | set):
            return [self.of(item, depth) for item in value]
        if isinstance(value, Inert):
            return self._of_inert(value, depth)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, InertClass):
            return f"<{value.name}>"
        if isinstance(value, TENSORS):
            if self._read is None or not isinstance(value, StoredTensor) or value.numbers != 1:
                return "<torch.Tensor>"
            return self.of(self._read(value).item(), depth)
        return f"<{type(value).__module__}.{type(value).__qualname__}>"

    def _of_inert(self, value: Inert, depth: int) -> Any:
        package = value.name.partition(".")[0]
        state = value.state
        # An object with slots has two states.
        if isinstance(state, tuple) and len(state) == 2:
            state = {**(state[0] or {}), **(state[1] or {})} if _are_states(state) else None
        if package == "omegaconf" and isinstance(state, dict):
            # A node's value; a container's content, called so since OmegaConf 2.0.
            for key in ("_content", "_val", "content"):
                if key in state:
                    return self.of(state[key], depth)
        if value.items:
            return self.of(value.items, depth)
        if value.elements:
            return self.of(value.elements, depth)
        if package == "pathlib" and all(isinstance(part, str) for part in value.args):
            return "/".join(value.args).replace("//", "/")
        if value.name == "argparse.Namespace" and isinstance(state, dict):
            return self.of(state, depth)
        if len(value.args) == 1 and isinstance(value.args[0], bool | int | float | str):
            # A member of an enumeration, by its value.
            return _scalar(value.args[0])
        if value.name.endswith("Dict") and not value.args:
            return {}
        return f"<{value.name}>"


def _scalar(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"<a number of {value.bit_length()} bits>"
    if isinstance(value, str):  # without halves of signs, which no file may hold
        return value.encode("utf-8", "replace").decode()
    return value


def _too_deep() -> S4EdgeError:
    return S4EdgeError(
        f"the configuration in the checkpoint is nested more than {_DEEPEST} deep or contains "
        "itself"
    )


def _are_states(state: tuple[Any, Any]) -> bool:
    return all(part is None or isinstance(part, dict) for part in state)
