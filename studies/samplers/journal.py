"""The file behind the Optuna study: one entry a line, in the form that Optuna and its dashboard read.

A run folder has one process that writes, so entries are read from the file once, and those of one suggestion, of which
there are as many as layers, are written together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sconv_search.system.files import writing

Entry = dict[str, Any]


class JournalFile:
    """Appends entries to a file, and gives those that have not been asked for before.

    Raises:
        ValueError: a line of the file is damaged; it is named.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._first, self._recent = 0, _entries(path)
        self._kept: list[str] | None = None

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:
        """Entries from that number on; earlier ones are not given again."""
        del self._recent[: log_number_from - self._first]
        self._first = log_number_from
        return iter(self._recent[:])

    def append_logs(self, logs: list[Entry]) -> None:
        """Adds entries, and waits until they are on the disk unless they are kept back."""
        lines = [json.dumps(entry, separators=(",", ":")) for entry in logs]
        if self._kept is None:
            self._write(lines)
        else:
            self._kept += lines
        self._recent += map(json.loads, lines)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Entries added within are written at the end, all at once."""
        self._kept = []
        try:
            yield
        finally:
            kept, self._kept = self._kept, None
            self._write(kept)

    def _write(self, lines: list[str]) -> None:
        with writing(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _entries(path: Path) -> list[Entry]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            advice = "without the file the search goes on, by what the records say"
            raise ValueError(f"{path} line {number} is damaged: {error}; {advice}") from error
    return found
