"""Standard output and error as they come: in any encoding, with a reader that may leave, on a disk that may be full."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO


class Stream:
    """Passes on to a stream until that breaks, and nothing from then on: a work's files are worth more than its lines.

    Attributes:
        broken: why the stream broke; None while it holds.
    """

    def __init__(self, inner: TextIO, name: str) -> None:
        self._inner, self._name = inner, name
        self.broken: OSError | None = None
        if isinstance(inner, io.TextIOWrapper):
            inner.reconfigure(errors="backslashreplace")  # λ in Latin-1 or ASCII

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        """Writes the text, as far as anybody reads it."""
        if self.broken is None:
            try:
                self._inner.write(text)
            except (OSError, ValueError) as error:
                self._break(error)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Writes the texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what was kept back."""
        if self.broken is None:
            try:
                self._inner.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def _break(self, error: OSError | ValueError) -> None:
        """What is kept back goes nowhere, so that the end of the process does not stumble over it."""
        self.broken = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._inner.fileno())
            os.close(nowhere)
        if self._name == "standard output":
            what = "has no reader any more" if self.was_left else f"cannot be written ({self.broken.strerror})"
            print(f"{self._name} {what}: nothing more is written to it, the work goes on", file=sys.stderr)

    @property
    def was_left(self) -> bool:
        """Whether the reader went away, as ``head`` does when it has seen enough."""
        return self.broken is not None and self.broken.errno == errno.EPIPE


@contextmanager
def lasting_streams() -> Iterator[Stream]:
    """The time in which standard output, which is given, and standard error cannot end the work."""
    before = sys.stdout, sys.stderr
    out, err = (
        Stream(stream or open(os.devnull, "w", encoding="utf-8"), name)  # noqa: SIM115  # for as long as the process
        for stream, name in zip(before, ("standard output", "standard error"), strict=True)
    )
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
