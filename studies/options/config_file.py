"""``--config``: a TOML file that says what a command's flags say; a flag on the command line wins."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from sconv_search.named import named
from sconv_search.strict_json import require_regular, shortened, shown

_WORDS = {
    str: "a text in quotes",
    Path: "a path in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_COMMAND_LINE_ONLY = {"config", "debug", "help"}


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the file's entries the command's defaults, before any other option is read."""
    if path is not None and not context.resilient_parsing:
        context.default_map = _defaults(context, path)
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read,
        is_eager=True,
        expose_value=False,
        help="TOML file with values of options, such as trials = 40; its keys are the long names of the options. A"
        r" table named after a command, such as \[search], applies to that command only. Options on the command line"
        " take precedence. Paths are relative to the current directory.",
    ),
]


def _defaults(context: typer.Context, path: Path) -> dict[str, Any]:
    """Parameter name -> value, for the command that runs.

    Raises:
        OSError: the file cannot be read.
        KeyError: a key or a table is unknown; the nearest is named.
        ValueError: the file is not TOML, or a value is of the wrong type.
    """
    hints = get_type_hints(context.command.callback)
    parameters = _parameters(context.command)
    defaults = {}
    for key, value in _entries(context, path).items():
        flag = key.replace("_", "-")
        if flag not in parameters and (others := _commands_with(flag, context)):
            raise ValueError(f"{path}: {key!r} means nothing to {context.info_name}; put it under [{others[0]}]")
        name = named(f"key in {path}", flag, parameters)
        if not _fits(value, hints[name]):
            raise ValueError(f"{path}: {shown(key)} is {shown(value)}, it should be {_words(hints[name])}")
        defaults[name] = [value] if _is_list(hints[name]) and not isinstance(value, list) else value
    return defaults


def _parameters(command: Any) -> dict[str, str]:
    """A flag's long name, or an argument's name -> the name of the parameter."""
    known: dict[str, str] = {}
    for parameter in command.params:
        is_argument = parameter.param_type_name == "argument"
        flags = (
            [parameter.name or ""] if is_argument else [flag[2:] for flag in parameter.opts if flag.startswith("--")]
        )
        known |= {flag: parameter.name or "" for flag in flags if flag not in _COMMAND_LINE_ONLY}
    return known


def _entries(context: typer.Context, path: Path) -> dict[str, Any]:
    """The file's entries outside of tables, and those of the command's own table, which win."""
    content = _content(path)
    tables = {name: table for name, table in content.items() if isinstance(table, Mapping)}
    for name in tables:
        named(f"table in {path}", name, _commands(context))
    return {name: value for name, value in content.items() if name not in tables} | dict(
        tables.get(str(context.info_name), {})
    )


def _commands(context: typer.Context) -> Mapping[str, Any]:
    """All commands by name."""
    known: Mapping[str, Any] = getattr(context.parent and context.parent.command, "commands", {})
    return known


def _commands_with(flag: str, context: typer.Context) -> list[str]:
    return [name for name, command in _commands(context).items() if name != "demo" and flag in _parameters(command)]


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.exists():
            require_regular(path, "the file of --config")
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"the file of --config {str(path)!r} cannot be read: {error.strerror}") from error
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"the file of --config {str(path)!r} is nested too deeply") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise ValueError(f"the file of --config {str(path)!r} is not TOML: {shortened(str(error), 200)}") from error


def _fits(value: Any, wanted: Any) -> bool:
    kind, parts = get_origin(wanted), get_args(wanted)
    if kind is Literal:
        return value in parts
    if kind is list:
        return all(_fits(element, parts[0]) for element in (value if isinstance(value, list) else [value]))
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if wanted is Path and isinstance(value, str) and (not value or "\0" in value):
        return False
    # by the type itself: true is no whole number here, whatever Python says
    return type(value) in {float: (int, float), Path: (str,)}.get(wanted, (wanted,))


def _words(wanted: Any) -> str:
    kind, parts = get_origin(wanted), get_args(wanted)
    if kind is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if kind is list:
        return f"{_words(parts[0])}, or a list of such"
    if kind in (Union, UnionType):
        return _words(next(part for part in parts if part is not NoneType))
    return _WORDS[wanted]


def _is_list(wanted: Any) -> bool:
    return get_origin(wanted) is list or any(get_origin(part) is list for part in get_args(wanted))
