"""What a Python value is made of, as a key: equal for values that do the same, and never by an address or a printed
form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sconv_search.system.copying import HOOKS, OF_EVERY_MODULE

PLAIN = (
    *(
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        type(Ellipsis),
        type(NotImplemented),
        type,
        CodeType,
        ModuleType,
    ),
    *(BuiltinFunctionType, torch.dtype, torch.device, torch.layout, torch.memory_format),
)
"""Types of values that are their own keys."""
MOST_PARTS = 10_000
"""Of one value that are looked at; a greater one is equal to itself alone."""


def content(tensor: Tensor) -> Hashable:
    """Equal for tensors of equal values, shape, type and device."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return (hashlib.blake2b(plain, digest_size=16).digest(), tuple(tensor.shape), tensor.dtype, tensor.device)


def architecture(network: nn.Module) -> Hashable:
    """All that decides a network's forward but the values of its weights and buffers, and where they are; equal for
    copies.

    Attributes and hooks count by what they are made of. Of an attribute that cannot be copied or is too large, copies
    are not equal.
    """
    first: dict[int, str] = {}
    names = {id(module): name for name, module in network.named_modules()}
    facts = []
    for name, module in network.named_modules(remove_duplicate=False):
        tensors = {key: t for key, t in (*module._parameters.items(), *module._buffers.items()) if t is not None}
        shapes = tuple(
            (key, _shape(t), t.dtype, first.setdefault(id(t), f"{name}.{key}")) for key, t in tensors.items()
        )
        own = () if names[id(module)] != name else _Parts(names).of_module(module)
        facts.append((name, type(module), names[id(module)], shapes, own))
    return tuple(facts)


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    return None if is_lazy(tensor) else tuple(tensor.shape)


class _Itself:
    """An object that is equal to itself alone; kept alive, so that no other takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


class _TooMany(Exception):
    """More than ``MOST_PARTS``."""


class _Parts:
    """Takes values apart.

    Args:
        names: id of a module of the network -> its name, by which it goes.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names, self._seen, self._alive = names, dict[int, int](), list[Any]()

    def of_module(self, module: nn.Module) -> Hashable:
        """Of the attributes and hooks of a module that not every module has."""
        own = {name: value for name, value in vars(module).items() if name not in OF_EVERY_MODULE}
        hooks = [(kind, list(getattr(module, kind).values())) for kind in HOOKS if getattr(module, kind, None)]
        parts = []
        for name, value in (*own.items(), *hooks):
            try:
                parts.append((name, self.of(value)))
            except _TooMany:
                parts.append((name, _Itself(value)))
        return tuple(parts)

    def of(self, value: Any) -> Hashable:
        """The key of one value."""
        if isinstance(value, PLAIN):
            return type(value), value
        if id(value) in self._names and isinstance(value, nn.Module):
            return nn.Module, self._names[id(value)]
        if id(value) in self._seen:
            return "again", self._seen[id(value)]
        if len(self._seen) >= MOST_PARTS:
            raise _TooMany
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # else another value might come to lie at its address
        return type(value), self._inside(value)

    def _inside(self, value: Any) -> Hashable:
        if isinstance(value, Tensor):
            return tuple(value.shape) if value.is_meta or value.is_sparse else content(value)
        if type(value) in (list, tuple, torch.Size):
            return tuple(self.of(one) for one in value)
        if type(value) in (set, frozenset):
            return frozenset(self.of(one) for one in value)
        if type(value) is dict:
            return tuple((self.of(key), self.of(one)) for key, one in value.items())
        if isinstance(value, FunctionType):
            return self._of_function(value)
        if isinstance(value, MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, partial):
            return self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, nn.Module):
            shapes = [(name, tuple(t.shape)) for name, t in value.state_dict().items()]
            return tuple(shapes), self.of_module(value), tuple(self.of(one) for one in value.children())
        return self._of_object(value)

    def _of_function(self, function: FunctionType) -> Hashable:
        held = []
        for cell in function.__closure__ or ():
            try:
                held.append(self.of(cell.cell_contents))
            except ValueError:  # of a name that was never set
                held.append(_Itself(cell))
        code, values = function.__code__, function.__globals__
        read = tuple(
            (name, self.of(values[name]))
            for name in code.co_names
            if name in values and isinstance(values[name], PLAIN)
        )
        defaults = self.of(function.__defaults__), self.of(function.__kwdefaults__)
        return function.__module__, function.__qualname__, code, defaults, tuple(held), read

    def _of_object(self, value: Any) -> Hashable:
        """By what copies of it are made of; itself alone where it cannot be copied."""
        try:
            made = value.__reduce_ex__(4)
        except Exception:  # of any kind, from a class of the user's
            return _Itself(value)
        if isinstance(made, str):
            return _Itself(value)
        function, given, *state = made
        items = [list(one) if one is not None and place else one for place, one in enumerate(state[:3])]
        return self.of(function), self.of(given), tuple(self.of(one) for one in items)
