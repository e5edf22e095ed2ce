"""What commands print: messages and progress, tables for a terminal or a pipe, and JSON for scripts."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sconv_search.studies.monitor import RichMonitor

PIPE_WIDTH, LEAST_WIDTH = 1000, 40
STDOUT, STDERR = 1, 2
"""Descriptors."""
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@contextmanager
def telling(as_json: bool) -> Iterator[RichMonitor]:
    """A monitor on stdout; with JSON on stderr, where then everything goes that is printed in the context, by libraries
    and other processes, too.
    """
    if not as_json:
        yield RichMonitor(Console())
        return
    with _descriptor_on_stderr(), redirect_stdout(sys.stderr):  # the user's own network may print, too
        yield RichMonitor(Console(stderr=True))


@contextmanager
def _descriptor_on_stderr() -> Iterator[None]:
    """The time in which the descriptor of standard output leads to standard error; where one is closed, nothing is
    changed.
    """
    sys.stdout.flush()
    try:
        before = os.dup(STDOUT)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            os.dup2(STDERR, STDOUT)
        yield
    finally:
        _flush_c()
        os.dup2(before, STDOUT)
        os.close(before)


def _flush_c() -> None:
    """Writes what libraries in C have kept back for standard output, which would else follow into the document."""
    with suppress(OSError, AttributeError, TypeError):  # there is no such library on every system
        ctypes.CDLL(None).fflush(None)


def print_json(document: Any) -> None:
    """Prints the document; dataclasses and mappings become objects, paths texts. A number that is not finite is
    refused.
    """
    print(json.dumps(document, default=_plain, indent=1, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON knows in the place of our values, and of the mapping proxies that hold structures."""
    if isinstance(value, Path):
        return str(value)
    return {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else dict(value)


def wide_enough(console: Console) -> Console:
    """The console for tables: what a program reads is not cut, nor is it where hardly a column would fit."""
    if in_a_pipe(console) or console.width < LEAST_WIDTH:
        return Console(file=console.file, width=PIPE_WIDTH)
    return console


def in_a_pipe(console: Console) -> bool:
    """Whether lines are read by a program, which needs no width."""
    return not console.is_terminal and "COLUMNS" not in os.environ


def amount(number: int) -> str:
    """A count to three digits: ``40.6M``."""
    size, letter = next(((size, letter) for size, letter in UNITS if number >= size), (1, ""))
    scaled = number / size
    return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{letter}" if letter else str(number)
