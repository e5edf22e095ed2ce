"""A run's folder: one study's spec, search space, records and Optuna journal, used by one command at a time."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sconv_search.records import TrialRecord, read_lines
from sconv_search.search_space.space import Option, SearchSpace, option_entry, option_of
from sconv_search.studies.spec import StudySpec
from sconv_search.system.files import atomic_write, writing

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes the files of ``runs/<study>/``; every write appears whole or not at all."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))  # frozen

    @property
    def name(self) -> str:
        """The study's name: the folder's."""
        return self.path.resolve().name

    @property
    def trials(self) -> Path:
        """One record a line."""
        return self.path / "trials.jsonl"

    @property
    def journal(self) -> Path:
        """Optuna's storage."""
        return self.path / "study.journal"

    @property
    def checkpoints(self) -> Path:
        """A folder for each training that is under way, or was interrupted."""
        return self.path / "checkpoints"

    def forget_checkpoints(self, pattern: str) -> None:
        """Drops those of trainings that are over, by the names of their folders."""
        for folder in self.checkpoints.glob(pattern):
            shutil.rmtree(folder)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and holds it for this process; the system frees it when the process ends, however it ends.

        Raises:
            OSError: the folder cannot be made or written.
            RuntimeError: another command holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "w")  # noqa: SIM115  # held until the context ends
        except OSError as error:
            raise OSError(
                f"the run folder {str(self.path)!r} cannot be written: {error.strerror}; name another with --out"
            ) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RuntimeError(f"another command is working on the run folder {str(self.path)!r}") from error
            yield

    def write(self, name: str, text: str) -> None:
        """A file of the folder, replaced atomically."""
        with writing(self.path / name), atomic_write(self.path / name) as partial:
            partial.write_text(text, encoding="utf-8")

    def read_spec(self) -> StudySpec | None:
        """The spec that the run was started with, or None for a new run.

        Raises:
            ValueError: the file is damaged; it is named.
        """
        return (
            None
            if (text := self._text("spec.json")) is None
            else _parsed(self.path / "spec.json", StudySpec.from_json, text)
        )

    def read_space(self) -> SearchSpace | None:
        """The search space, or None where it is not measured yet.

        Raises:
            ValueError: the file is damaged; it is named.
        """
        return (
            None
            if (text := self._text("space.json")) is None
            else _parsed(self.path / "space.json", SearchSpace.from_json, text)
        )

    @property
    def has_space(self) -> bool:
        """Whether the search space is measured."""
        return (self.path / "space.json").exists()

    def _text(self, name: str) -> str | None:
        path = self.path / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def forget(self, *, space: bool) -> None:
        """Drops the sampler's state, and the search space if asked; for a study that has trained nothing."""
        for path in (self.journal, *((self.path / "space.json", self._measured) if space else ())):
            path.unlink(missing_ok=True)

    @property
    def _measured(self) -> Path:
        """The sites of a search space that is being measured, one a line."""
        return self.path / "space.partial.jsonl"

    def keep_site(self, name: str, options: tuple[Option, ...]) -> None:
        """Keeps a site's measured options, for the case that the measurement is interrupted."""
        with writing(self._measured), open(self._measured, "a", encoding="utf-8") as file:
            file.write(json.dumps({"site": name, "options": [option_entry(option) for option in options]}) + "\n")

    def measured_sites(self) -> tuple[dict[str, tuple[Option, ...]], list[str]]:
        """What an interrupted measurement finished, and a message for each line that is damaged; those are left out."""
        text = self._measured.read_text(encoding="utf-8", errors="replace") if self._measured.exists() else ""
        lines = text.splitlines(keepends=True)
        found, kept, damaged = {}, [], []
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                break  # it was being written when the measurement was interrupted
            try:
                entry = json.loads(line)
                found[entry["site"]] = tuple(option_of(option) for option in entry["options"])
                kept.append(line)
            except (KeyError, TypeError, ValueError) as error:
                damaged.append(f"{self._measured} line {number} is not read: {error}; its layer is measured again")
        if lines:
            self._measured.write_text("".join(kept), encoding="utf-8")
        return found, damaged

    def write_space(self, space: SearchSpace) -> None:
        """The finished search space."""
        self.write("space.json", space.to_json())
        self._measured.unlink(missing_ok=True)

    def append(self, record: TrialRecord) -> None:
        """Adds a record and waits until it is on the disk."""
        with writing(self.trials), open(self.trials, "a", encoding="utf-8") as file:
            file.write(record.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def mend(self) -> list[str]:
        """Cuts last lines of records and journal that a killed process, or a full disk, left incomplete; says so."""
        found = []
        for path, consequence in (
            (self.trials, "its trial runs again"),
            (self.journal, "what the records say is taken"),
        ):
            if cut := _cut_incomplete_line(path):
                found.append(f"{path}: an incomplete last line of {cut} bytes was dropped; {consequence}")
        return found

    def records(self) -> tuple[list[TrialRecord], list[str]]:
        """The readable records, and a message for each line that is damaged."""
        found, damaged = [], []
        for number, fields_or_reason in read_lines(self.trials) if self.trials.exists() else ():
            if isinstance(fields_or_reason, str):
                damaged.append(f"{self.trials} line {number} is not read: {fields_or_reason}")
            else:
                found.append(TrialRecord(**fields_or_reason))
        return found, damaged


def _cut_incomplete_line(path: Path) -> int:
    """Number of bytes that were cut."""
    if not path.exists() or not (content := path.read_bytes()) or content.endswith(b"\n"):
        return 0
    whole = content.rfind(b"\n") + 1
    os.truncate(path, whole)
    return len(content) - whole


def _parsed(path: Path, parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; a run that is damaged or of another version cannot go on: name another folder"
        ) from error
