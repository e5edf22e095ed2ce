"""``--debug``: whether errors show their traceback."""

from __future__ import annotations

from typing import Annotated

import typer

shown = {"tracebacks": False}
"""What the option of this command line says; it is read where errors are told, outside of any command."""


def _show_tracebacks(wanted: bool) -> None:
    shown["tracebacks"] |= wanted


DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the traceback of an error.", callback=_show_tracebacks, is_eager=True, expose_value=False
    ),
]
