"""Errors of writing name the file: the system names it where a file cannot be opened, but not where the disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The time in which a file is written.

    Raises:
        OSError: as raised within, with the file's name.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
