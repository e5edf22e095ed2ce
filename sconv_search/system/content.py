"""What a value is, as a key: equal for values of equal content, wherever in memory they lie.

An address or ``repr`` tells less: a new object may lie where another one has been freed. Objects of which no content is
known are equal to themselves alone; the key holds them, so that none can take their place.

Of the user's own code also that counts which functions and classes name: helper functions, other classes, constants.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import inspect
import re
import types
from argparse import Namespace
from collections import deque
from collections.abc import Hashable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sconv_search.system.code import is_users, names_in, written_by, written_by_class, written_in

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), enum.Enum)
TORCH_PLAIN = (torch.dtype, torch.device, torch.memory_format, torch.layout)
SETTINGS = (types.SimpleNamespace, Namespace)
CALLED = (type, types.FunctionType, staticmethod, classmethod, property)
SHOWN_PACKAGES = ("torchvision", "timm")
"""Of whose objects all that they hold counts where code names them; other libraries' may change from call to call."""
WRAPPERS = "torch.utils.data.dataset"
"""Its classes hold tensors and data sets."""
MOST_NAMED = 2000
"""Functions, classes and values that code names and that are looked at; of further ones their kinds count."""
MOST_VALUES = 200_000
"""In all of those together."""
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


class Named:
    """What the code of a key names, each looked at once however often it is named; cycles end here.

    Args:
        known: by ``id``, objects that are named by a number where they are met.
    """

    def __init__(self, known: Mapping[int, tuple[int, object]] | None = None) -> None:
        self._known = known or {}
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []
        self._contents: list[Hashable] = []
        self._depth = 0
        self._values = 0

    @property
    def is_open(self) -> bool:
        """Whether it is something named that is looked at just now."""
        return self._depth > 0

    @property
    def contents(self) -> tuple[Hashable, ...]:
        """Of all that was named, in the order of their numbers."""
        return tuple(self._contents)

    def is_full(self) -> bool:
        """Whether no more values of what is named are looked at; each call counts one."""
        self._values += self.is_open
        return self._values > MOST_VALUES

    def number(self, value: Any) -> Hashable:
        """What stands for the value in a key; its content is among ``contents``."""
        if (known := self._numbers.get(id(value))) is not None:
            return ("named", known)
        if len(self._kept) >= MOST_NAMED:
            return ("named", type(value))
        place = self._numbers[id(value)] = len(self._kept)
        self._kept.append(value)
        self._contents.append(None)
        self._depth += 1
        try:
            self._contents[place] = (
                _class(value, self) if isinstance(value, type) else _content(value, dict(self._known), self)
            )
        finally:
            self._depth -= 1
        return ("named", place)


def content_of(
    value: object, known: Mapping[int, tuple[int, object]] | None = None, named: Named | None = None
) -> Hashable:
    """A key of a value's content: numbers, texts, containers, tensors, functions with what they enclose, plain objects.

    Args:
        known: by ``id``, objects that are named by a number where they are met.
        named: takes what the code names, for keys of several values; without it the key holds that itself.
    """
    if named is not None:
        return _content(value, dict(known or {}), named)
    own = Named(known)
    key = _content(value, dict(known or {}), own)
    return (key, own.contents) if own.contents else key


def code_content(*values: object) -> Hashable:
    """A key of what functions and objects of the user's compute, from their code and what that names.

    Objects of libraries, such as loaders and optimizers, whose state changes from call to call, count by their class,
    and so does all that the code itself writes to.
    """
    named = Named()
    return tuple(_named(value, named) for value in values), named.contents


def class_content(kind: type, named: Named) -> Hashable:
    """The functions and values of a class and its bases, torch's own left out: they may be replaced while a program
    runs.
    """
    return named.number(kind)


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


def _content(value: Any, seen: Seen, named: Named) -> Hashable:
    if isinstance(value, enum.Enum):
        return (_kind(type(value), named), value.name)
    if isinstance(value, PLAIN):
        # a nan is no other than itself
        return (type(value), repr(value) if isinstance(value, (float, complex)) else value)
    if isinstance(value, type):
        return _kind(value, named)
    if isinstance(value, TORCH_PLAIN):
        return value
    if named.is_full():
        return ("more", type(value))
    if isinstance(value, Tensor):
        return tensor_content(value)
    if id(value) in seen:
        return ("seen", seen[id(value)][0])
    seen[id(value)] = (len(seen), value)  # kept, so that its address is taken
    if isinstance(value, types.FunctionType):
        return _function(value, seen, named)
    if isinstance(value, types.MethodType):
        return ("method", _content(value.__func__, seen, named), _content(value.__self__, seen, named))
    if isinstance(value, (staticmethod, classmethod)):
        return (type(value), _content(value.__func__, seen, named))
    if isinstance(value, property):
        return (property, *(_content(part, seen, named) for part in (value.fget, value.fset, value.fdel)))
    if isinstance(value, (functools.partial, functools.partialmethod)):
        return (type(value), *(_content(part, seen, named) for part in (value.func, value.args, value.keywords)))
    if isinstance(value, functools.cached_property):
        return (functools.cached_property, _content(value.func, seen, named))
    if isinstance(value, functools._lru_cache_wrapper):
        return ("remembered", _content(value.__wrapped__, seen, named))
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return (type(value), value.shape, value.dtype, value.tobytes())
    return _container(value, seen, named)


def _container(value: Any, seen: Seen, named: Named) -> Hashable:
    kind = _kind(type(value), named)
    if isinstance(value, Mapping):
        return (kind, tuple((_content(key, seen, named), _content(entry, seen, named)) for key, entry in value.items()))
    if isinstance(value, (tuple, list, deque)):
        return (kind, tuple(_content(entry, seen, named) for entry in value), _attributes(value, seen, named))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(_content(entry, seen, named) for entry in value))
    if isinstance(value, (slice, range)):
        return (kind, *(_content(part, seen, named) for part in (value.start, value.stop, value.step)))
    if isinstance(value, PurePath):
        return (kind, str(value))
    if isinstance(value, re.Pattern):
        return (kind, _content(value.pattern, seen, named), value.flags)
    if isinstance(value, SETTINGS):
        return (kind, _attributes(value, seen, named))
    return _object(value, kind, seen, named)


def _object(value: Any, kind: Hashable, seen: Seen, named: Named) -> Hashable:
    """Of an object made in Python, all that it holds; of others themselves, or, where code names them, their class."""
    own = type(value)
    of_user = is_users(own.__module__)
    if named.is_open and not of_user and not isinstance(value, nn.Module):
        if inspect.ismodule(value):
            return ("module", value.__name__)
        if isinstance(value, types.BuiltinFunctionType):
            return Same(value)
        if own.__module__.partition(".")[0] not in SHOWN_PACKAGES and own.__module__ != WRAPPERS:
            return kind
    made_in_python = all(base is object or base.__flags__ & _HEAP_TYPE for base in own.__mro__)
    if made_in_python and not inspect.ismodule(value):
        attributes = _attributes(value, seen, named)
        if attributes or (of_user and all(base is object or is_users(base.__module__) for base in own.__mro__)):
            return (kind, attributes)
    return (Same(value), kind) if of_user else Same(value)


def _attributes(value: Any, seen: Seen, named: Named) -> Hashable:
    """Of an object made in Python, all that it holds; where code names it, nothing that it writes to as it runs."""
    slots = (name for base in type(value).__mro__ for name in _names(vars(base).get("__slots__", ())))
    attributes = {
        name: getattr(value, name) for name in slots if hasattr(value, name) and name not in ("__dict__", "__weakref__")
    }
    attributes |= getattr(value, "__dict__", {})
    written = {"training"} | written_by_class(type(value)) if named.is_open else set()
    return tuple(
        (name, type(entry) if name in written else _content(entry, seen, named)) for name, entry in attributes.items()
    )


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _kind(kind: type, named: Named) -> Hashable:
    """A class; of the user's own with what it is made of."""
    return (kind, named.number(kind)) if is_users(kind.__module__) else kind


def _class(kind: type, named: Named) -> Hashable:
    own = [base for base in kind.__mro__ if base is not object and base.__module__.partition(".")[0] != "torch"]
    return tuple((name, content) for base in own for name, content in _class_values(base, named))


def _class_values(base: type, named: Named) -> list[tuple[str, Hashable]]:
    """Functions and plain values; of the user's own classes, all values that its functions do not write to."""
    if not is_users(base.__module__):
        known = (*PLAIN, types.FunctionType)
        return [(name, _content(value, {}, named)) for name, value in vars(base).items() if isinstance(value, known)]
    written = written_by_class(base)
    return [
        (name, ("written", type(value)) if name in written and not isinstance(value, CALLED) else _named(value, named))
        for name, value in vars(base).items()
        if isinstance(value, CALLED)
        or not (name.startswith("__") or inspect.ismemberdescriptor(value) or inspect.isgetsetdescriptor(value))
    ]


def _function(function: types.FunctionType, seen: Seen, named: Named) -> Hashable:
    """Its code, its defaults, what it encloses, and the plain values among the globals that it names.

    Of the user's own functions, all that they name and do not write to.
    """
    code, of_user = function.__code__, is_users(function.__globals__.get("__name__") or "")
    written = written_by(function) if of_user else frozenset()
    cells = tuple(
        _content(cell.cell_contents, seen, named) if _filled(cell) and name not in written else None
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    )
    defaults = _content((function.__defaults__, function.__kwdefaults__), seen, named)
    if of_user:
        read, attributes = names_in(code)
        known = {name: function.__globals__[name] for name in read if name in function.__globals__}
        constants = _globals(known, attributes, written, named)
    else:
        known = {name: function.__globals__.get(name) for name in code.co_names}
        constants = tuple(
            (name, _content(value, seen, named)) for name, value in known.items() if isinstance(value, PLAIN)
        )
    return ("function", code, cells, defaults, constants)


def _globals(
    known: Mapping[str, Any], attributes: frozenset[str], written: frozenset[str], named: Named
) -> tuple[Hashable, ...]:
    """What names stand for; of the user's own modules, the attributes that are read of them."""
    found: list[Hashable] = []
    for name, value in known.items():
        if inspect.ismodule(value) and is_users(value.__name__):
            inside = {key: vars(value)[key] for key in sorted(attributes) if key in vars(value)}
            modules = {key: entry for key, entry in inside.items() if inspect.ismodule(entry)}
            inside = {key: entry for key, entry in inside.items() if key not in modules}
            below = {key: entry for key, entry in modules.items() if entry.__name__.startswith(f"{value.__name__}.")}
            written_there = (written_in(value.__name__) or frozenset()) | written
            found.append((name, _globals(inside, attributes, written_there, named)))
            found.append((name, _globals(below, attributes, written, named)))
        elif name in written and not isinstance(value, CALLED):
            found.append((name, type(value)))
        else:
            found.append((name, _named(value, named)))
    return tuple(found)


def _named(value: Any, named: Named) -> Hashable:
    """What code names: plain values as they are, of the others a number of what they hold."""
    if isinstance(value, (enum.Enum, *PLAIN, *TORCH_PLAIN, type)):
        return _content(value, {}, named)
    if isinstance(value, types.FunctionType) and not is_users(value.__globals__.get("__name__") or ""):
        return ("function", value.__module__, value.__qualname__)
    return named.number(value)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where it is empty
    except ValueError:
        return False
    return True
