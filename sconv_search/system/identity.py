"""Keys of contents (see ``content``) made short, and made to last: as texts that are equal in other processes.

In a process, classes, functions' codes and objects that do not show what they hold are known by their addresses, and
kept alive by the key. In files they are known by their names and sources.
"""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Callable, Hashable

import torch

from sconv_search.system.content import Same

PRINTED = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
NAMED = (torch.dtype, torch.device, torch.memory_format, torch.layout)


def condensed(key: Hashable) -> Hashable:
    """A short key that is equal for equal keys: those of large networks take 100 kB, and memos keep many."""
    held: dict[int, Same] = {}

    def by_address(value: object) -> str:
        own = value.value if isinstance(value, Same) else value
        held[id(own)] = Same(own)
        return f"object at {id(own)}"

    text = _text(key, by_address)
    return hashlib.blake2b(text.encode(), digest_size=16).digest(), frozenset(held.values())


def lasting_sha256(key: Hashable) -> str:
    """SHA-256 of a key of contents, equal in other processes."""
    return hashlib.sha256(_text(key, _source).encode()).hexdigest()


def _text(key: object, known_by: Callable[[object], str]) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(_text(part, known_by) for part in key)})"
    if isinstance(key, frozenset):
        return f"{{{', '.join(sorted(_text(part, known_by) for part in key))}}}"  # texts have no lasting order in a set
    if type(key) in PRINTED or isinstance(key, NAMED):
        return repr(key)
    return known_by(key)


def _source(value: object) -> str:
    """A class's name, the source of a function, and of what else there is the name of its class."""
    if isinstance(value, types.CodeType):
        try:
            return f"source {inspect.getsource(value)!r}"
        except (OSError, TypeError):
            return f"code {_instructions(value)!r}"
    shown = value.value if isinstance(value, Same) else value
    kind = shown if isinstance(shown, type) else type(shown)
    return f"{kind.__module__}.{kind.__qualname__} {getattr(shown, '__qualname__', '')}"


def _instructions(value: object) -> object:
    """What code does, without the places where its parts lie in memory or in a file."""
    if isinstance(value, types.CodeType):
        return (value.co_code, value.co_names, value.co_varnames, _instructions(value.co_consts))
    if isinstance(value, tuple):
        return tuple(map(_instructions, value))
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return value
