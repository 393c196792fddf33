"""Pickled checkpoints as data: tensors, plain values, and a record of whatever else is in them.

Lightning keeps a run's configuration beside the tensors, as objects of OmegaConf and of its own.
Here a pickle is followed instruction by instruction, and nothing that it names is imported or
called: what it says about harmless classes is written down in `Inert` objects, and anything else is
refused by name. The module has the shape that ``torch.load(pickle_module=...)`` asks for.
"""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from s4edge.errors import S4EdgeError

# Their classes carry settings and records of a run, never what a model computes.
_HARMLESS = frozenset({
    "omegaconf", "hydra", "collections", "typing", "pathlib", "argparse", "datetime", "enum",
    "functools", "uuid", "numpy", "pytorch_lightning", "lightning", "lightning_fabric",
    "lightning_utilities", "torchmetrics",
})  # fmt: skip
# The same for single names.
_HARMLESS_NAMES = frozenset({
    "torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter",
    "operator.getitem", "_operator.getitem",  # generic aliases such as Dict[str, int]
    *(f"builtins.{name}" for name in (
        "object", "type", "int", "float", "bool", "str", "bytes", "tuple", "NoneType", "slice",
        "range",
    )),
})  # fmt: skip
# How protocol 2 calls what Python 3 has renamed.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_RENAMED_NAMES = {
    "builtins.long": "builtins.int",
    "builtins.unicode": "builtins.str",
    "builtins.xrange": "builtins.range",
}
_DEEPEST = 100


class CodeNeededError(pickle.UnpicklingError):
    """A pickle names something that only running code could restore."""

    def __init__(self, name: str) -> None:
        super().__init__(f"GLOBAL {name} was not an allowed global")


@dataclass(frozen=True, eq=False)
class InertClass:
    """A class or function that a pickle names, by its dotted name alone."""

    name: str


@dataclass(eq=False)
class Inert:
    """An object that was not made: what the pickle would have made it from.

    Attributes:
        name: dotted name of its class or of the function that would have made it.
        args: positional arguments.
        kwargs: arguments by name.
        state: what ``__setstate__`` or ``__dict__`` would have got.
        items: as a mapping.
        elements: as a list.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class _NumpyType:
    """A numpy dtype on its way: its byte order comes after it was made."""

    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class _Known:
    """Something that a pickle may call, and our own function that stands for it."""

    make: Callable[..., Any]


_rebuild: Callable[..., Tensor] = torch._utils._rebuild_tensor_v2
_rebuild_of_type: Callable[..., Tensor] = torch._utils._rebuild_tensor_v3


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    # Gradients and hooks mean nothing here; the last of the others may say that it is conjugated.
    metadata = _dictionary_or_none(others[2] if len(others) > 2 else None)
    return _rebuild(_storage(storage), offset, size, stride, False, OrderedDict(), metadata)


def _tensor_of_type(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    dtype, metadata = others[2], _dictionary_or_none(others[3] if len(others) > 3 else None)
    return _rebuild_of_type(
        _storage(storage), offset, size, stride, False, OrderedDict(), dtype, metadata
    )


def _storage(value: Any) -> Any:
    if not isinstance(value, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return value


def _dictionary_or_none(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return data


def _from_type(function: Any, _type: Any, args: Any, *_: Any) -> Any:
    return _call(function, args)


def _dictionary(*args: Any) -> dict[Any, Any]:
    """Also of what starts with a factory for what is missing, as in defaultdict."""
    if args and isinstance(args[0], InertClass | _Known | Inert | None):
        args = args[1:]
    return dict(_pairs(*args))


def _pairs(*args: Any) -> dict[Any, Any]:
    """An ordered dictionary from nothing, a dictionary or a list of pairs."""
    pairs = list(args[0].items() if args and isinstance(args[0], dict) else args[0] if args else ())
    return OrderedDict((_key(key), value) for key, value in pairs)


def _set(*args: Any) -> set[Any]:
    return {_key(item) for item in (args[0] if args else ())}


def _key(value: Any) -> Any:
    """A key of a dictionary or a member of a set; hashing deep tuples would overflow the stack."""
    simple = (bool, int, float, str, bytes, complex, InertClass, Inert, torch.dtype, type(None))
    if isinstance(value, simple) or (
        isinstance(value, tuple) and all(isinstance(part, simple) for part in value)
    ):
        return value
    raise pickle.UnpicklingError(f"a key that is a {type(value).__name__}")


def _bytes(*args: Any) -> bytes:
    if not args:
        return b""
    return args[0] if isinstance(args[0], bytes) else _encoded(*args)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes by way of an encoding that torch does not use")
    return text.encode("latin-1")


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    if not isinstance(code, str) or np.dtype(code).kind not in "biufcSU":
        raise pickle.UnpicklingError("a numpy dtype of objects")
    return _NumpyType(np.dtype(code))


def _numpy_scalar(kind: _NumpyType, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _device(*args: Any) -> str:
    if not all(isinstance(part, str | int) for part in args):
        raise pickle.UnpicklingError("a device that is neither text nor number")
    return ":".join(map(str, args))


def _reconstructed(cls: Any, _base: Any, state: Any) -> Any:
    return _call(cls, () if state is None else (state,))


_MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": lambda *args: tuple(*args),
    "torch.device": _device,
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": _dictionary,
    "collections.Counter": _dictionary,
    "builtins.dict": _dictionary,
    "builtins.list": lambda *args: list(*args),
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.complex": lambda *args: complex(*args),
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _reconstructed,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}
_KNOWN = {name: _Known(make) for name, make in _MAKERS.items()}


def _call(function: Any, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
    if not isinstance(args, tuple):
        raise pickle.UnpicklingError("arguments that are no tuple")
    if isinstance(function, InertClass):
        return Inert(function.name, args, kwargs or {})
    if isinstance(function, _Known) and not kwargs:
        return function.make(*args)
    raise pickle.UnpicklingError(f"a call of a {type(function).__name__}")


class Unpickler:
    """Follows one pickle.

    Args:
        file: open for reading; it is left behind the pickle's end.
        encoding: for torch's sake; old strings are read as Latin-1.
    """

    persistent_load: Callable[[Any], Any] | None = None

    def __init__(self, file: IO[bytes], *, encoding: str = "latin1") -> None:
        self._file = file
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in a pickle; torch overrides it for storages.

        Raises:
            CodeNeededError: nothing does.
        """
        module = _RENAMED.get(module, module)
        dotted = _RENAMED_NAMES.get(f"{module}.{name}", f"{module}.{name}")
        if dotted in _KNOWN:
            return _KNOWN[dotted]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if dotted in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return torch.UntypedStorage
        if dotted in _HARMLESS_NAMES or module.partition(".")[0] in _HARMLESS:
            return InertClass(dotted)
        raise CodeNeededError(dotted.removeprefix("builtins."))

    def load(self) -> Any:
        """The pickle's content.

        Raises:
            CodeNeededError: it names something that would have to be run.
            UnpicklingError: it is damaged or of a kind that checkpoints are not.
        """
        for opcode, argument, _ in pickletools.genops(self._file):
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _PUSHES:
                self._stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name not in _IGNORED:
                step = getattr(self, f"_do_{opcode.name.lower()}", None)
                if step is None:
                    raise pickle.UnpicklingError(f"the instruction {opcode.name}")
                step(argument)
        raise EOFError

    # Names and calls

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self.find_class(module, name))

    def _do_stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise pickle.UnpicklingError("a name that is no text")
        self._stack.append(self.find_class(module, name))

    def _do_reduce(self, _: None) -> None:
        args = self._stack.pop()
        self._stack[-1] = _call(self._stack[-1], args)

    def _do_newobj(self, _: None) -> None:
        self._do_reduce(None)

    def _do_newobj_ex(self, _: None) -> None:
        kwargs, args = self._stack.pop(), self._stack.pop()
        if not isinstance(kwargs, dict):
            raise pickle.UnpicklingError("arguments by name that are no dictionary")
        self._stack[-1] = _call(self._stack[-1], args, kwargs)

    def _do_inst(self, argument: str) -> None:
        args = tuple(self._since_mark())
        self._do_global(argument)
        self._stack[-1] = _call(self._stack[-1], args)

    def _do_obj(self, _: None) -> None:
        function, *args = self._since_mark()
        self._stack.append(_call(function, tuple(args)))

    def _do_build(self, _: None) -> None:
        state, thing = self._stack.pop(), self._stack[-1]
        if isinstance(thing, Inert):
            thing.state = state
        elif isinstance(thing, _NumpyType):
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "="):
                thing.dtype = thing.dtype.newbyteorder(state[1])
        elif not isinstance(thing, dict):
            # Attributes of a dictionary, as in a state dict's _metadata, say nothing.
            raise pickle.UnpicklingError(f"a state for a {type(thing).__name__}")

    def _do_binpersid(self, _: None) -> None:
        key = self._stack.pop()
        if not isinstance(key, tuple) or key[:1] != ("storage",) or self.persistent_load is None:
            raise pickle.UnpicklingError("a reference to something that is no storage")
        self._stack.append(self.persistent_load(key))

    # Containers

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _do_mark(self, _: None) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _do_append(self, _: None) -> None:
        self._extend([self._stack.pop()])

    def _do_appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _do_additems(self, _: None) -> None:
        items, target = self._since_mark(), self._stack[-1]
        if not isinstance(target, set):
            raise pickle.UnpicklingError(f"items for a {type(target).__name__}")
        target.update(map(_key, items))

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert):
            target = target.elements
        if not isinstance(target, list):
            raise pickle.UnpicklingError(f"elements for a {type(target).__name__}")
        target.extend(items)

    def _do_setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _do_setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert):
            target = target.items
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"items for a {type(target).__name__}")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _do_list(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _do_dict(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set(items)

    def _do_tuple(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def _do_frozenset(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append(_set(items))

    def _do_tuple1(self, _: None) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _do_tuple2(self, _: None) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _do_tuple3(self, _: None) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    # The stack and the memo

    def _do_pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _do_pop_mark(self, _: None) -> None:
        self._since_mark()

    def _do_dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _do_put(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_get(self, argument: int) -> None:
        self._stack.append(self._memo[argument])

    _do_binget = _do_long_binget = _do_get


_PUSHES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_IGNORED = frozenset({"PROTO", "FRAME"})


def load(file: IO[bytes], *, encoding: str = "latin1") -> Any:
    """The content of the next pickle in a file, as `Unpickler.load`."""
    return Unpickler(file, encoding=encoding).load()


# From inert objects to plain values


def plain(value: Any) -> Any:
    """Dictionaries, lists and scalars from what a pickle held.

    OmegaConf's containers and nodes become what they contain, interpolations (``${...}``) staying
    text; namespaces and other mappings become dictionaries, paths text. What has no plain form is
    named in angle brackets.

    Raises:
        S4EdgeError: it is nested too deeply or contains itself.
    """
    return _plain(value, {}, 0)


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEEPEST:
        raise S4EdgeError(
            f"the configuration in the checkpoint is nested more than {_DEEPEST} deep or contains "
            "itself"
        )
    # What occurs in many places is converted once.
    if id(value) not in done:
        done[id(value)] = _converted(value, done, depth + 1)
    return done[id(value)]


def _converted(value: Any, done: dict[int, Any], depth: int) -> Any:
    if isinstance(value, dict):
        return {
            key if isinstance(key, bool | int | float | str) else str(_plain(key, done, depth)):
            _plain(item, done, depth)
            for key, item in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple | set):
        return [_plain(item, done, depth) for item in value]
    if isinstance(value, Inert):
        return _plain_inert(value, done, depth)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, InertClass):
        return f"<{value.name}>"
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
        return value.item()
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _plain_inert(value: Inert, done: dict[int, Any], depth: int) -> Any:
    package = value.name.partition(".")[0]
    state = value.state
    # An object with slots has two states.
    if isinstance(state, tuple) and len(state) == 2:
        state = {**(state[0] or {}), **(state[1] or {})} if _are_states(state) else None
    if package == "omegaconf" and isinstance(state, dict):
        # A node's value; a container's content, called so since OmegaConf 2.0.
        for key in ("_content", "_val", "content"):
            if key in state:
                return _plain(state[key], done, depth)
    if value.items:
        return _plain(value.items, done, depth)
    if value.elements:
        return _plain(value.elements, done, depth)
    if package == "pathlib" and all(isinstance(part, str) for part in value.args):
        return "/".join(value.args).replace("//", "/")
    if value.name == "argparse.Namespace" and isinstance(state, dict):
        return _plain(state, done, depth)
    if len(value.args) == 1 and isinstance(value.args[0], bool | int | float | str):
        # A member of an enumeration, by its value.
        return value.args[0]
    if value.name.endswith("Dict") and not value.args:
        return {}
    return f"<{value.name}>"


def _are_states(state: tuple[Any, Any]) -> bool:
    return all(part is None or isinstance(part, dict) for part in state)
