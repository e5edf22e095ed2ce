"""Files that appear whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Errors of writing name the file: the system names it where a file cannot be opened, but not where the disk is full.


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


def partial_file(path: Path) -> Path:
    """Where the file is written; a killed process leaves it there. The suffix is the file's, as some writers go by
    it.
    """
    return path.with_name(f"{path.stem}.partial{path.suffix}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Where to write what is to become the file; its folder is made.

    The file gets its name at the end, in place of one that has it. After an error nothing is left but what was there
    before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_file(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
