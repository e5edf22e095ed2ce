"""What decides a network's forward beside the values of its weights: for keys within a process, and for files.

Functions and objects without attributes are compared by identity within a process, and kept alive by the key, so that
another one at their address is not taken for them. In files they are known by their names and sources.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import types
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CONTENTS = frozenset({"_parameters", "_buffers", "_modules", "training"})
"""Attributes of a module that are described otherwise, or do not matter in evaluation mode."""
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, Path, Enum)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType, types.MethodDescriptorType)
NAMED_ALONE = ("torch.", "builtins.", "typing.", "abc.", "enum.")
"""Modules whose classes and functions are known by their names."""


@dataclass(frozen=True, eq=False)
class _Same:
    """An object that equals itself alone."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def architecture(network: nn.Module) -> Hashable:
    """All that decides a network's forward but the values of its weights; equal for copies of a network, and short."""
    held: set[_Same] = set()

    def known_by(value: object) -> str:
        held.add(_Same(value))
        return f"object at {id(value)}"

    text = repr(_described(network, known_by))
    return hashlib.blake2b(text.encode(), digest_size=16).digest(), frozenset(held)


def architecture_sha256(network: nn.Module) -> str:
    """SHA-256 of the same, equal in other processes: classes beyond torch's and functions count with their sources."""
    return hashlib.sha256(repr(_described(network, _source)).encode()).hexdigest()


def value_sha256(value: object) -> str:
    """SHA-256 of a value's own description, equal in other processes: of transforms of images, say."""
    return hashlib.sha256(repr(_Description({}, _source).of(value)).encode()).hexdigest()


def _described(network: nn.Module, known_by: Callable[[object], Hashable]) -> Hashable:
    names: dict[int, str] = {}
    for name, module in network.named_modules():
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                names.setdefault(id(tensor), f"{name}.{key}")
        names.setdefault(id(module), f"module {name}")
    description = _Description(names, known_by)
    return tuple(
        (name, description.of_module(module)) for name, module in network.named_modules(remove_duplicate=False)
    )


class _Description:
    """Describes values by what they hold.

    Args:
        names: of modules and tensors that are described elsewhere, by their addresses.
        known_by: what stands for functions, classes, and objects that do not show what they hold.
    """

    def __init__(self, names: Mapping[int, str], known_by: Callable[[object], Hashable]) -> None:
        self._names, self._known_by = dict(names), known_by
        self._open: set[int] = set()
        self._kinds: dict[type, Hashable] = {}

    def of_module(self, module: nn.Module) -> Hashable:
        """A module without the modules in it."""
        tensors = {**module._parameters, **module._buffers}
        shapes = tuple(
            (key, tuple(t.shape), str(t.dtype), self._names.get(id(t))) for key, t in tensors.items() if t is not None
        )
        own = {key: value for key, value in vars(module).items() if key not in CONTENTS}
        return self._names.get(id(module)), self._kind(type(module)), shapes, self.of(own)

    def _kind(self, kind: type) -> Hashable:
        """What stands for a class, found once: reading sources takes long."""
        if kind not in self._kinds:
            self._kinds[kind] = self._known_by(kind)
        return self._kinds[kind]

    def of(self, value: object) -> Hashable:
        """Equal for values that hold the same."""
        kind = type(value)
        if isinstance(value, PLAIN):
            return kind.__name__, value if isinstance(value, int | float | complex) else str(value)
        if isinstance(value, FUNCTIONS):
            return self._known_by(value)
        if (name := self._names.get(id(value))) is not None:
            return name
        if isinstance(value, Tensor):
            shown = value.layout == torch.strided and not value.is_quantized
            return _facts(value) if value.is_meta else content(value) if shown else self._known_by(value)
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return kind.__name__, str(value.dtype), value.shape, value.tobytes()
        if isinstance(value, list | tuple | deque | Mapping | Set):
            return kind.__name__, self._of_items(value)
        self._names[id(value)] = f"object {len(self._names)}"  # one that holds itself is met again
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, functools.partial):
            return self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, nn.Module):  # one that its owner did not register
            return self.of_module(value), tuple(map(self.of, (value._parameters, value._buffers, value._modules)))
        if (held := _attributes(value)) is not None:
            return self._kind(kind), self.of(held)
        return self._known_by(value)

    def _of_items(self, value: Iterable[object]) -> Hashable:
        """A container's items; one that holds itself is met again, and not gone into."""
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        try:
            if isinstance(value, Mapping):
                return tuple((self.of(key), self.of(item)) for key, item in value.items())
            items = map(self.of, value)
            # sets of texts have no lasting order
            return tuple(sorted(items, key=repr) if isinstance(value, Set) else items)
        finally:
            self._open.remove(id(value))


def _facts(tensor: Tensor) -> tuple[Hashable, ...]:
    return tuple(tensor.shape), str(tensor.dtype), str(tensor.device)


def _attributes(value: object) -> dict[str, Any] | None:
    """What an ordinary object holds; None for one made in C, which does not show it."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if not hasattr(value, "__dict__") and not slots:
        return None
    if type(value).__module__.partition(".")[0] in ("numpy", "builtins"):
        return None
    return {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots if hasattr(value, name)}}


def _source(value: object) -> str:
    """A class's or function's name and source; torch's own, and those made in C, by the name alone."""
    shown = value if isinstance(value, FUNCTIONS) else type(value)
    name = f"{getattr(shown, '__module__', '')}.{getattr(shown, '__qualname__', repr(shown))}"
    if name.startswith(NAMED_ALONE) or isinstance(shown, types.ModuleType):
        return name
    text = _class_text(shown) if isinstance(shown, type) else _function_text(shown)
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()}"


def _class_text(kind: type) -> str:
    """What the class and those that it inherits from say of their own: methods and plain values."""
    said = []
    for owner in kind.__mro__:
        if f"{owner.__module__}.".startswith(NAMED_ALONE):
            said.append(owner.__qualname__)
            continue
        for name, member in vars(owner).items():
            inner = getattr(
                member, "fget", getattr(member, "__func__", member)
            )  # of properties, static and class methods
            if isinstance(inner, types.FunctionType):
                said.append(f"{name} {_function_text(inner)}")
            elif isinstance(member, PLAIN) and not name.startswith("__"):
                said.append(f"{name} {member!r}")
    return repr(said)


def _function_text(function: object) -> str:
    """Its source, and the plain values around it that it uses."""
    try:
        text = inspect.getsource(function)  # type: ignore[arg-type]  # what has no source raises TypeError
    except (OSError, TypeError):
        text = repr(getattr(getattr(function, "__code__", None), "co_code", b""))
    held = [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or () if _is_plain(cell)]
    return f"{text} {held}"


def _is_plain(cell: types.CellType) -> bool:
    try:
        return isinstance(cell.cell_contents, PLAIN)
    except ValueError:  # it is empty as yet
        return False


def content(tensor: Tensor) -> Hashable:
    """Equal for tensors of equal values, shape, type and device."""
    plain = tensor.detach().cpu().contiguous()
    # not by numpy(), after which the tensor counts as one that numpy may write to
    values = (ctypes.c_ubyte * plain.nbytes).from_address(plain.data_ptr()) if plain.nbytes else b""
    return (hashlib.blake2b(values, digest_size=16).digest(), *_facts(tensor))
