"""The methods by key: those that installed packages offer, and classes that a user names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from sconv_search.named import named
from sconv_search.system.working_directory import search_working_directory

if TYPE_CHECKING:
    from sconv_search.compressor import Compressor

GROUP = "sconv_search.methods"
"""The entry-point group: ``key = "package.module:Class"``, or a function without arguments that returns a method."""
_VERBS = ("options", "limits", "penalty", "compress")


class Methods(Mapping[str, "Compressor"]):
    """Key of a method in plans and on the command line -> the method, made when it is first asked for.

    Args:
        offered: methods by key, as entry points. Two packages may not offer one key.

    Raises:
        ValueError: two packages offer one key.
    """

    def __init__(self, offered: Iterator[EntryPoint] | None = None) -> None:
        self._methods: dict[str, EntryPoint | Compressor] = {}
        self.added: list[str] = []
        """What ``add`` took in, for the workers of a search."""
        for entry in sorted(offered or entry_points(group=GROUP), key=lambda entry: entry.name):
            other = self._methods.get(entry.name)
            if isinstance(other, EntryPoint) and other.value != entry.value:
                raise ValueError(f"two packages offer a method {entry.name!r}: {other.value} and {entry.value}")
            self._methods[entry.name] = entry

    def __getitem__(self, key: str) -> Compressor:
        method = self._methods[key]
        if not isinstance(method, EntryPoint):
            return method
        made = _made(method.load(), method.value)
        if made.name != key:
            raise ValueError(f"{method.value} is offered as method {key!r}, and calls itself {made.name!r}")
        self._methods[key] = made
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def named(self, name: str) -> Compressor:
        """The method of that key.

        Raises:
            KeyError: there is none; the nearest and all keys are given.
        """
        named("method", name, self._methods)
        return self[name]

    def add(self, method: str | Compressor) -> str:
        """Takes in a method, or the class of one that a user names as ``package.module:Class``; returns its key.

        A key of a known method is returned as it is. A method that is no class of an importable module is not known to
        the workers of a search.

        Raises:
            KeyError: no known method has that key.
            TypeError: what is named is no method; what it lacks is said.
            ValueError: the module or the class does not exist, or another method has that key.
        """
        if not isinstance(method, str):
            return self._added(_made(method, type(method).__name__), type(method).__name__)
        if ":" not in method:
            return self.named(method).name
        search_working_directory(str(Path.cwd()), method.partition(":")[0].partition(".")[0])
        try:
            made = _made(resolve_name(method), method)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"method {method!r} cannot be imported: {error}") from error
        self._added(made, method)
        self.added.append(method)
        return made.name

    def _added(self, method: Compressor, text: str) -> str:
        known = self.get(method.name)
        if known is not None and type(known) is not type(method):
            raise ValueError(f"{text} calls itself {method.name!r}, which is the key of {type(known).__name__} already")
        self._methods[method.name] = method
        return method.name


def _made(made: Any, text: str) -> Compressor:
    """The method itself, of its class or of a function that returns it."""
    method = made() if callable(made) else made
    if missing := [verb for verb in (*_VERBS, "name") if not hasattr(method, verb)]:
        raise TypeError(f"{text} is no compression method: it lacks {', '.join(missing)}")
    return method  # type: ignore[no-any-return]


METHODS = Methods()
"""All methods by key, each made when it is first asked for."""
