"""Options in groups: frozen dataclasses, from whose fields flags, keys of ``--config`` and ``--help`` are made.

A command is a function whose parameters are such groups, single options and arguments. A field of a group is an option
that is declared by its ``Annotated`` type; the first line of the group's docstring is the title of its panel in
``--help``. A group may serve several commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: every option of its groups is a keyword argument of its own.

    Raises:
        TypeError: two groups have an option of the same name.
    """
    kinds = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind) and isinstance(kind, type)}
    members = {name: [field.name for field in fields(kind)] for name, kind in groups.items()}
    flat: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(command).parameters.values():
        single = parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=kinds[parameter.name])
        for option in _options(groups[parameter.name]) if parameter.name in groups else [single]:
            if option.name in flat:
                raise TypeError(f"{command.__name__} has two options {option.name!r}")
            flat[option.name] = option

    def run(**given: Any) -> None:
        made = {
            name: kind(**{member: given.pop(member) for member in members[name] if member in given})
            for name, kind in groups.items()
        }
        command(**made, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(list(flat.values()))  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {name: option.annotation for name, option in flat.items()}
    return run


def _options(group: type) -> Iterator[inspect.Parameter]:
    """A parameter for every field of the group."""
    title = (group.__doc__ or group.__name__).splitlines()[0].rstrip(".")
    kinds = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        kind = _in_panel(kinds[field.name], title)
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _in_panel(kind: Any, title: str) -> Any:
    """The declaration of an option, shown in the panel of that title; arguments have their own."""
    if get_origin(kind) is not Annotated:
        return kind
    base, *notes = get_args(kind)
    placed = [copy(note) for note in notes]
    for note in placed:
        if isinstance(note, OptionInfo) and note.rich_help_panel is None:
            note.rich_help_panel = title
    return Annotated[(base, *placed)]


class _PlainFlags:
    """Flags take no value: ``--help`` shows none for them, and a value after one is explained."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments; typer would show ``<bool>`` as the value of a flag."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class that this is mixed into
        for option in params:
            if getattr(option, "is_flag", False) and option.metavar is None:
                option.metavar = ""
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, parsed.

        Raises:
            BadParameter: a flag is followed by true or false.
        """
        flags = {
            name: option for option in self.get_params(ctx) if getattr(option, "is_flag", False) for name in option.opts
        }
        for flag, value in pairwise(args[: args.index("--")] if "--" in args else args):
            if flag in flags and value.casefold() in ("true", "false"):
                remedy = f"leave out {value!r}" if value.casefold() == "true" else f"leave out '{flag} {value}'"
                raise typer.BadParameter(f"a flag takes no value; {remedy}", ctx=ctx, param=flags[flag])
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


class Command(_PlainFlags, TyperCommand):
    """A command of ``sconv-search``."""


class Group(_PlainFlags, TyperGroup):
    """``sconv-search`` itself."""
