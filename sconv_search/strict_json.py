"""JSON that is checked as it is read: errors name the field, its value and what would be right, in few words."""

from __future__ import annotations

import json
import math
import reprlib
import stat
import types
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

try:
    import orjson
except ModuleNotFoundError:  # a part of the extra "report", which reads a hundred thousand lines; others read few
    orjson = None  # type: ignore[assignment]

LARGEST = 2**63 - 1
"""Whole numbers of more than this, or less than its negative, are refused: tables, files and arrays hold 64 bits."""
MOST_LETTERS = 500
"""Of a message."""
Value = TypeVar("Value")
_WORDS = {str: "a text", int: "a whole number of at most 64 bits", float: "a finite number", bool: "true or false"}


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text; numbers that are not finite are left to the check of the field that they stand in.

    Raises:
        ValueError: it is not JSON in UTF-8, is nested too deeply, or holds half of a surrogate pair, which no file can
            hold.
    """
    whole = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        value = json.loads(whole)
        if "\\u" in whole:  # only an escape can hide half of a pair
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise
    except RecursionError:
        raise ValueError("not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:  # of JSON, or of a number with thousands of digits
        raise ValueError(f"not JSON: {error}") from error
    return value


def quickly_parsed(line: str | bytes) -> dict[str, Any] | None:
    """As ``parsed``, several times as fast; None of what is no table, or that the faster parser refuses or lacks.

    It rounds whole numbers of more than 64 bits to floats, and refuses numbers that are not finite.
    """
    if orjson is None:
        return None
    try:
        value = orjson.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def table(value: Any, where: str = "") -> dict[str, Any]:
    """The value, which has to be a table.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{f'field {where!r}' if where else 'it'} must be a table, got {shown(value)}")
    return value


def require_regular(path: Path, title: str = "file") -> None:
    """Refuses what is no regular file: a named pipe is waited for, and a device read, without an end.

    A pipe below ``/dev`` is taken, as the shell hands the output of another command over as one.

    Args:
        title: what the file is called in errors.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is a folder, a named pipe, a device or a socket.
    """
    if not path.exists():
        raise FileNotFoundError(f"{title} {str(path)!r} does not exist")
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and path.is_absolute() and path.parts[1:2] == ("dev",)):
        return
    kinds = {"a folder": stat.S_ISDIR, "a named pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    kind = next((words for words, is_kind in kinds.items() if is_kind(mode)), "a device")
    raise ValueError(f"{title} {str(path)!r} is not a regular file, it is {kind}")


def content_of(path: Path, title: str = "file") -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: as ``require_regular``.
    """
    require_regular(path, title)
    return path.read_bytes()


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file's lines that are not blank, with their numbers; none where there is no file.

    A line ends at a newline alone: JSON may hold all other separators unescaped. The last one may lack it.

    Raises:
        ValueError: as ``require_regular``.
    """
    if not path.exists():
        return
    require_regular(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):  # bytes end at \n alone
            if not line.isspace():
                yield number, line


def shown(value: object) -> str:
    """The value as Python writes it, cut short."""
    return _short.repr(value)


def shortened(text: str, most: int = MOST_LETTERS) -> str:
    """The text, without its middle where it is longer."""
    if len(text) <= most:
        return text
    head = (2 * most) // 3
    return f"{text[:head]} … {text[len(text) - (most - head - 3) :]}"


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple = 2, 3, 3, 3

    def repr_int(self, x: int, level: int) -> str:
        """As Python refuses to write very large ones."""
        return repr(x) if abs(x) <= LARGEST else f"a whole number of {x.bit_length()} bits"


_short = _Short()


def built(kind: type[Value], entry: object, where: str = "") -> Value:
    """A dataclass made of a JSON table whose entries have the fields' types; those with defaults may be missing.

    Args:
        where: what the table is, for errors; empty for a whole document.

    Raises:
        ValueError: it is no table, or a field is unknown, missing, or of the wrong type; or as the dataclass raises.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where or 'it'} must be a table, got {shown(entry)}")
    known = _fields(cast(Hashable, kind))
    prefix = f"{where}." if where else ""
    if unknown := next((name for name in entry if name not in known), None):
        raise ValueError(f"unknown field {shown(f'{prefix}{unknown}')}")
    if missing := [name for name, (_, needed) in known.items() if needed and name not in entry]:
        raise ValueError(f"it lacks {', '.join(repr(prefix + name) for name in missing[:5])}")
    return kind(**{name: typed(value, known[name][0], f"{prefix}{name}") for name, value in entry.items()})


def typed(value: object, kind: Any, where: str, *, nullable: bool = False) -> Any:
    """The value as a field of that type holds it: lists become tuples, tables dataclasses.

    Args:
        nullable: whether the field may be null too, for errors.

    Raises:
        ValueError: it is of another type, or a number is not finite or has more than 64 bits.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in parts and type(value) in {type(part) for part in parts}:
            return value
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        inner = [part for part in parts if part is not type(None)]
        if len(inner) == 1:
            return typed(value, inner[0], where, nullable=True)
    elif origin is tuple:
        if isinstance(value, (list, tuple)) and (parts[-1] is Ellipsis or len(parts) == len(value)):
            kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
            return tuple(
                typed(element, own, f"{where}[{index}]")
                for index, (element, own) in enumerate(zip(value, kinds, strict=True))
            )
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {name: typed(element, parts[1], f"{where}.{name}") for name, element in value.items()}
    elif is_dataclass(kind):
        return built(kind, value, where)  # type: ignore[arg-type]  # a class
    elif kind is int:
        if type(value) is int and -LARGEST <= value <= LARGEST:
            return value
    elif kind is float:
        if (type(value) is int and -LARGEST <= value <= LARGEST) or (type(value) is float and math.isfinite(value)):
            return value
    elif type(value) is kind:
        return value
    raise ValueError(f"field {shown(where)} must be {_in_words(kind)}{' or null' * nullable}, got {shown(value)}")


def _in_words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _in_words(part) for part in parts)
    if origin is tuple:
        count = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return f"a list of {count}values, each {_in_words(parts[0])}"
    return _WORDS.get(kind, "a table")


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Field -> its type, and whether it must be given."""
    hints = get_type_hints(kind)
    own: tuple[Field[Any], ...] = fields(kind)
    return {f.name: (hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in own}
