"""Pickled checkpoints as data: tensors, plain values, and a record of whatever else is in them.

Lightning keeps a run's configuration beside the tensors, as objects of OmegaConf and of its own.
Nothing that a pickle names is imported or called here: what it says about harmless classes is
written down in `Inert` objects, tensors in `StoredTensor`, and anything else is refused by name.
"""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

import numpy as np
import torch

from s4edge.checkpoints.stored import TENSORS, Storage, StoredTensor, WithoutValues

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
# Instructions of a pickle, and what they copy. A tensor takes 50; each makes 250 bytes at most.
_MOST_WORK = 2_000_000
# Parts of an argument that are copied in the memory of one instruction.
_COPIED: tuple[tuple[Any, int], ...] = (
    ((str, bytes), 250),
    ((list, tuple), 32),
    ((dict, set, frozenset), 2),
)
_MOST_AXES = 64
# Types of torch's storages, as pickles name them.
_STORAGES = {
    f"{word}Storage": getattr(torch, name)
    for word, name in (
        ("Double", "float64"), ("Float", "float32"), ("Half", "float16"), ("BFloat16", "bfloat16"),
        ("Long", "int64"), ("Int", "int32"), ("Short", "int16"), ("Char", "int8"),
        ("Byte", "uint8"), ("Bool", "bool"), ("ComplexDouble", "complex128"),
        ("ComplexFloat", "complex64"), ("Untyped", "uint8"), ("QInt8", "qint8"),
        ("QInt32", "qint32"), ("QUInt8", "quint8"), ("QUInt4x2", "quint4x2"),
        ("QUInt2x4", "quint2x4"),
    )
}  # fmt: skip
# Instructions that checkpoints have no use for.
_REFUSED = ("PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")


class CodeNeededError(pickle.UnpicklingError):
    """A pickle names something that only running code could restore."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it names {name}, which only running code could restore")
        self.name = name


@dataclass(frozen=True, eq=False, slots=True)
class InertClass:
    """A class or function that a pickle names, by its dotted name alone."""

    name: str


@dataclass(eq=False, slots=True)
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


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> StoredTensor:
    # Gradients and hooks mean nothing here; the last of the others may say that it is conjugated.
    return _described(storage, storage, offset, size, stride, others[2:3])


def _tensor_of_type(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Any:
    return _described(storage, others[2], offset, size, stride, others[3:4])


def _described(
    storage: Any, of: Any, offset: Any, size: Any, stride: Any, others: tuple[Any, ...]
) -> StoredTensor:
    """What ``torch._utils._rebuild_tensor`` and its kin are called with."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    dtype = of.dtype if isinstance(of, Storage) else of
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a type")
    (offset,) = _counts((offset,))
    how = others[0] if others and isinstance(others[0], dict) else {}
    return StoredTensor(
        storage, dtype, offset, _counts(size), _counts(stride),
        how.get("conj") is True, how.get("neg") is True,
    )  # fmt: skip


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _MOST_AXES:
        raise pickle.UnpicklingError("a tensor without a shape")
    if not all(type(value) is int and 0 <= value < 1 << 60 for value in values):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    return values


def _sparse(_layout: Any, data: Any) -> WithoutValues:
    # Indices, values and the size; of compressed rows, two kinds of indices.
    parts = [part for part in data if isinstance(part, tuple)]
    return WithoutValues(_counts(parts[-1] if parts else None))


def _quantized(_storage: Any, _offset: Any, size: Any, *_: Any) -> WithoutValues:
    return WithoutValues(_counts(size))


def _on_no_device(_dtype: Any, size: Any, *_: Any) -> WithoutValues:
    return WithoutValues(_counts(size))


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, TENSORS):
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
    """A key of a dictionary or a member of a set.

    Hashing deep tuples would overflow the stack, and of numbers with more than 64 bits many can
    have one hash.
    """
    if _is_simple(value) or (isinstance(value, tuple) and all(map(_is_simple, value))):
        return value
    raise pickle.UnpicklingError(f"a key that is a {type(value).__name__}")


def _is_simple(value: Any) -> bool:
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    simple = (float, str, bytes, complex, InertClass, Inert, torch.dtype, type(None))
    return isinstance(value, simple)


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
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch.serialization._get_layout": lambda name: name,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_meta_tensor_no_storage": _on_no_device,
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


def _refusal(name: str) -> Callable[[Any], None]:
    def refuse(_: Any) -> None:
        raise pickle.UnpicklingError(f"the instruction {name}")

    return refuse


_LibraryUnpickler: Any = pickle._Unpickler


class _Metered:
    """A file that is read until a pickle has asked for more than one of a checkpoint does."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MOST_WORK

    def spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise pickle.UnpicklingError(f"more than {_MOST_WORK} instructions")

    def read(self, count: int) -> bytes:
        self.spend(1)
        return self._file.read(count)

    def readline(self) -> bytes:
        self.spend(1)
        return self._file.readline()


class Unpickler(_LibraryUnpickler):  # type: ignore[misc]
    """Follows one pickle.

    It is the library's unpickler in Python, with instructions of its own where objects are called,
    changed or hashed. The one in C lets none be replaced: it hashes nested tuples until the stack
    overflows, and makes as much room as a pickle claims to need.

    Args:
        file: open for reading; it is left behind the pickle's end.
        storage: what stands for a reference to numbers, by what follows the word "storage".
    """

    def __init__(
        self, file: IO[bytes], storage: Callable[[tuple[Any, ...]], Storage] | None = None
    ) -> None:
        self._metered: Any = _Metered(file)
        self._storage = storage
        # Old strings are read as torch reads them.
        super().__init__(self._metered, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in a pickle.

        Raises:
            CodeNeededError: nothing does.
        """
        module = _RENAMED.get(module, module)
        dotted = _RENAMED_NAMES.get(f"{module}.{name}", f"{module}.{name}")
        if dotted in _KNOWN:
            return _KNOWN[dotted]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype | torch.qscheme):
            return vars(torch)[name]
        if module.partition(".")[0] == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if dotted in _HARMLESS_NAMES or module.partition(".")[0] in _HARMLESS:
            return InertClass(dotted)
        raise CodeNeededError(dotted.removeprefix("builtins."))

    def load(self) -> Any:
        """The pickle's content.

        Raises:
            CodeNeededError: it names something that would have to be run.
            UnpicklingError: it is damaged or of a kind that checkpoints are not.
        """
        try:
            return super().load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # damage shows in a dozen ways
            reason = "it ends too early" if isinstance(error, EOFError) else repr(error)[:100]
            raise pickle.UnpicklingError(reason) from error

    def persistent_load(self, pid: Any) -> Storage:
        """What stands for a reference."""
        if not isinstance(pid, tuple) or pid[:1] != ("storage",) or self._storage is None:
            raise pickle.UnpicklingError("a reference to something that is no storage")
        return self._storage(pid[1:])

    def _call(self, function: Any, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        for each in args if isinstance(args, tuple) else ():
            for kinds, at_once in _COPIED:
                if isinstance(each, kinds):
                    self._metered.spend(len(each) // at_once)
        return _call(function, args, kwargs)

    def _reduce(self, kwargs: dict[str, Any] | None = None) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, kwargs)

    def _reduce_with_names(self) -> None:
        kwargs = self.stack.pop()
        if not isinstance(kwargs, dict):
            raise pickle.UnpicklingError("arguments by name that are no dictionary")
        self._reduce(kwargs)

    def _instantiate(self, function: Any, args: Any) -> None:
        self.append(self._call(function, tuple(args)))

    def _build(self) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, Inert):
            thing.state = state
        elif isinstance(thing, _NumpyType):
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "="):
                thing.dtype = thing.dtype.newbyteorder(state[1])
        elif not isinstance(thing, dict):
            # Attributes of a dictionary, as in a state dict's _metadata, say nothing.
            raise pickle.UnpicklingError(f"a state for a {type(thing).__name__}")

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            target = target.elements
        if not isinstance(target, list):
            raise pickle.UnpicklingError(f"elements for a {type(target).__name__}")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            target = target.items
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"items for a {type(target).__name__}")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _make_dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._update(items)

    def _add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise pickle.UnpicklingError(f"items for a {type(target).__name__}")
        target |= _set(items)

    def _put(self) -> None:
        self.memo[_key(int(self.readline()[:-1]))] = self.stack[-1]

    dispatch: ClassVar[dict[int, Callable[[Any], Any]]] = {
        **_LibraryUnpickler.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _reduce_with_names,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: lambda self: self._extend([self.stack.pop()]),
        pickle.APPENDS[0]: lambda self: self._extend(self.pop_mark()),
        pickle.SETITEM[0]: lambda self: self._update([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self._update(self.pop_mark()),
        pickle.DICT[0]: _make_dictionary,
        pickle.ADDITEMS[0]: lambda self: self._add(self.pop_mark()),
        pickle.FROZENSET[0]: lambda self: self.append(_set(self.pop_mark())),
        pickle.PUT[0]: _put,
        pickle.FRAME[0]: lambda self: self.read(8),
        pickle.BYTEARRAY8[0]: _LibraryUnpickler.dispatch[pickle.BINBYTES8[0]],
        **{ord(each.code): _refusal(each.name) for each in pickletools.opcodes
           if each.name in _REFUSED},
    }  # fmt: skip


def load(file: IO[bytes]) -> Any:
    """The content of the next pickle in a file, as `Unpickler.load`."""
    return Unpickler(file).load()
