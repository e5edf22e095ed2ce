"""What a value is, as a key: equal for values of equal content, wherever in memory they lie.

An address or ``repr`` tells less: a new object may lie where another one has been freed. Objects of which no content is
known are equal to themselves alone; the key holds them, so that none can take their place.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import inspect
import types
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), enum.Enum)
TORCH_PLAIN = (torch.dtype, torch.device, torch.memory_format, torch.layout)
_HEAP_TYPE = 1 << 9
Seen = dict[int, tuple[int, object]]


class Same:
    """Equal for one object alone, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def content_of(value: object, known: Mapping[int, tuple[int, object]] | None = None) -> Hashable:
    """A key of a value's content: numbers, texts, containers, tensors, functions with what they enclose, plain objects.

    Args:
        known: by ``id``, objects that are named by a number where they are met.
    """
    return _content(value, dict(known or {}))


def tensor_content(tensor: Tensor) -> Hashable:
    """Equal for tensors of equal values, shape, type and device; of those without values, of equal shape and type."""
    if is_lazy(tensor):
        return ("no shape", tensor.dtype, tensor.device)
    facts = (tuple(tensor.shape), tensor.dtype, tensor.device)
    if tensor.is_meta:
        return facts
    plain = tensor.detach().cpu().contiguous()
    # not by numpy(), after which the tensor counts as one that numpy may write to
    values = (ctypes.c_ubyte * plain.nbytes).from_address(plain.data_ptr()) if plain.nbytes else b""
    return (hashlib.blake2b(values, digest_size=16).digest(), *facts)


def _content(value: Any, seen: Seen) -> Hashable:
    if isinstance(value, PLAIN):
        # a nan is no other than itself
        return (type(value), repr(value) if isinstance(value, (float, complex)) else value)
    if isinstance(value, (type, *TORCH_PLAIN)):
        return value
    if isinstance(value, Tensor):
        return tensor_content(value)
    if id(value) in seen:
        return ("seen", seen[id(value)][0])
    seen[id(value)] = (len(seen), value)  # kept, so that its address is taken
    if isinstance(value, types.FunctionType):
        return _function(value, seen)
    if isinstance(value, types.MethodType):
        return ("method", _content(value.__func__, seen), _content(value.__self__, seen))
    if isinstance(value, functools.partial):
        return ("partial", *(_content(part, seen) for part in (value.func, value.args, value.keywords)))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return (np.ndarray, value.shape, value.dtype, value.tobytes())
    return _container(value, seen)


def _container(value: Any, seen: Seen) -> Hashable:
    kind = type(value)
    if isinstance(value, Mapping):
        return (kind, tuple((_content(key, seen), _content(entry, seen)) for key, entry in value.items()))
    if isinstance(value, (tuple, list, deque)):
        return (kind, tuple(_content(entry, seen) for entry in value), _attributes(value, seen))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(_content(entry, seen) for entry in value))
    if isinstance(value, (slice, range)):
        return (kind, *(_content(part, seen) for part in (value.start, value.stop, value.step)))
    made_in_python = all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
    if made_in_python and not inspect.ismodule(value) and (attributes := _attributes(value, seen)):
        return (kind, attributes)
    return Same(value)


def _attributes(value: Any, seen: Seen) -> Hashable:
    """Of an object made in Python, all that it holds."""
    slots = (name for base in type(value).__mro__ for name in _names(vars(base).get("__slots__", ())))
    attributes = {
        name: getattr(value, name) for name in slots if hasattr(value, name) and name not in ("__dict__", "__weakref__")
    }
    attributes |= getattr(value, "__dict__", {})
    return tuple((name, _content(entry, seen)) for name, entry in attributes.items())


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _function(function: types.FunctionType, seen: Seen) -> Hashable:
    """Its code, its defaults, what it encloses, and the plain values among the globals that it names."""
    cells = tuple(_content(cell.cell_contents, seen) if _filled(cell) else None for cell in function.__closure__ or ())
    defaults = _content((function.__defaults__, function.__kwdefaults__), seen)
    named = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    constants = tuple((name, _content(value, seen)) for name, value in named.items() if isinstance(value, PLAIN))
    return ("function", function.__code__, cells, defaults, constants)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where it is empty
    except ValueError:
        return False
    return True
