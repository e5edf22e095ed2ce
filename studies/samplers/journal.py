"""The file behind the Optuna study: one entry a line, in the form that Optuna and its dashboard read.

A run folder has one process that writes, so entries are read from the file once, and those of one suggestion, of which
there are as many as layers, are written together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sconv_search.strict_json import LARGEST, numbered_lines, parsed, shortened, shown
from sconv_search.system.files import append_whole

Entry = dict[str, Any]
ADVICE = "without the file the search goes on, by what the records say"
_STUDY, _TRIAL = {"study_id": int}, {"trial_id": int}
_FIELDS: dict[int, dict[str, Any]] = {
    0: {"study_name": str, "directions": list},
    1: _STUDY,
    2: {**_STUDY, "user_attr": dict},
    3: {**_STUDY, "system_attr": dict},
    4: _STUDY,
    5: {**_TRIAL, "param_name": str, "param_value_internal": (int, float), "distribution": str},
    6: {**_TRIAL, "state": int, "values": (list, type(None))},
    7: {**_TRIAL, "step": int, "intermediate_value": (int, float)},
    8: {**_TRIAL, "user_attr": dict},
    9: {**_TRIAL, "system_attr": dict},
    10: {},
}
"""Operation -> the fields that its entry must have, and their types; Optuna itself only looks them up."""


class JournalFile:
    """Appends entries to a file, and gives those that have not been asked for before.

    Raises:
        ValueError: a line of the file is damaged; it is named.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._first, self._recent, self._lines = 0, [], []
        for line, entry in _entries(path):
            self._lines.append(line)
            self._recent.append(entry)
        self._given = 0
        self._kept: list[str] | None = None

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:
        """Entries from that number on; earlier ones are not given again."""
        del self._recent[: log_number_from - self._first]
        self._first = log_number_from
        return self._giving(self._recent[:])

    def _giving(self, entries: list[Entry]) -> Iterator[Entry]:
        for number, entry in enumerate(entries, start=self._first):
            self._given = number
            yield entry

    def require_fields(self) -> None:
        """Refuses entries of the file, before any is read, that lack what Optuna only looks up.

        Raises:
            ValueError: file, line, field, value and what would be right are named.
        """
        for line, entry in zip(self._lines, self._recent, strict=True):
            try:
                _require_fields(entry)
            except ValueError as error:
                raise ValueError(f"{self._path} line {line} makes no sense to Optuna: {error}; {ADVICE}") from error

    @contextmanager
    def making_sense(self) -> Iterator[None]:
        """The time in which Optuna makes its study of the entries.

        Raises:
            ValueError: in place of whatever Optuna raises over an entry that makes no sense; file and line are named.
        """
        try:
            yield
        except OSError:  # of writing to it
            raise
        except Exception as error:  # of many kinds, bare assertions among them
            where = f" line {self._lines[self._given]}" if self._given < len(self._lines) else ""
            reason = f"{type(error).__name__}: {shortened(str(error), 200)}".removesuffix(": ")
            raise ValueError(f"{self._path}{where} makes no sense to Optuna ({reason}); {ADVICE}") from error

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
        append_whole(self._path, "".join(f"{line}\n" for line in lines))


def _entries(path: Path) -> Iterator[tuple[int, Entry]]:
    for number, line in numbered_lines(path):
        try:
            entry = parsed(line)
            if not isinstance(entry, dict):
                raise ValueError(f"it must be a table, got {shown(entry)}")
            yield number, entry
        except ValueError as error:
            raise ValueError(f"{path} line {number} is damaged: {shortened(str(error), 200)}; {ADVICE}") from error


def _require_fields(entry: Entry) -> None:
    operation = entry.get("op_code")
    if type(operation) is not int or (fields := _FIELDS.get(operation)) is None:
        raise ValueError(
            f"field 'op_code' must be one of Optuna's operations, 0 to {max(_FIELDS)}, got {shown(operation)}"
        )
    if not isinstance(entry.get("worker_id"), str):
        raise ValueError(f"field 'worker_id' must be a text, got {shown(entry.get('worker_id'))}")
    for name, kinds in fields.items():
        value = entry.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool) or (isinstance(value, int) and abs(value) > LARGEST):
            words = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise ValueError(f"field {name!r} must be of type {words}, got {shown(value)}")
