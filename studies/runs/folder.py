"""A run's folder: one study's spec, search space, records and Optuna journal, used by one command at a time."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from sconv_search.plan import require_plan
from sconv_search.records import TrialRecord, record_fields
from sconv_search.search_space.space import Option, SearchSpace, option_entry, option_of
from sconv_search.strict_json import content_of, numbered_lines, parsed, shortened, shown, table
from sconv_search.studies.spec import StudySpec
from sconv_search.system.files import append_whole, write_whole

Parsed = TypeVar("Parsed")
MOST_TOLD = 5
OWN = (
    *("spec.json", "space.json", "space.partial.jsonl", "trials.jsonl", "study.journal"),
    *("confirmed", "checkpoints", ".lock"),
)
"""What a run's folder keeps of its own."""
_NEEDED = ("plan", "val_score", "flops")
"""Fields without which a complete trial of a search says nothing."""


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes the files of ``runs/<study>/``; every write appears whole or not at all.

    Raises:
        ValueError: the path is not UTF-8, in which records hold the folder's name.
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))  # frozen
        whole = os.path.realpath(self.path)
        try:
            whole.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the run folder {whole!a} must have a name in UTF-8, in which its records are written"
            ) from error

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
            lock = FileLock(self.path / ".lock").acquire(blocking=False)
        except Timeout as error:
            raise RuntimeError(f"another command is working on the run folder {str(self.path)!r}") from error
        except OSError as error:
            raise OSError(
                f"the run folder {str(self.path)!r} cannot be written: {error.strerror}; name another with --out"
            ) from error
        with lock:
            yield

    def write(self, name: str, text: str) -> None:
        """A file of the folder, replaced atomically."""
        write_whole(self.path / name, text.encode("utf-8"))

    def read_spec(self) -> StudySpec | None:
        """The spec that the run was started with, or None for a new run.

        Raises:
            ValueError: the file is damaged, or no regular one; it is named.
        """
        return self._read("spec.json", StudySpec.from_json)

    def read_space(self) -> SearchSpace | None:
        """The search space, or None where it is not measured yet.

        Raises:
            ValueError: the file is damaged, or no regular one; it is named.
        """
        return self._read("space.json", SearchSpace.from_json)

    @property
    def has_space(self) -> bool:
        """Whether the search space is measured."""
        return (self.path / "space.json").exists()

    def _read(self, name: str, parse: Callable[[str], Parsed]) -> Parsed | None:
        path = self.path / name
        if not path.exists():
            return None
        content = content_of(path)
        try:
            return parse(content.decode("utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path}: {shortened(str(error), 300)}; a run that is damaged or of another version cannot go on: "
                "name another folder with --out, or replace this one with --overwrite"
            ) from error

    @property
    def trained(self) -> str | None:
        """What was computed here by training, in words; None where nothing was."""
        if any(True for _ in numbered_lines(self.trials)):
            return "records of trials"
        return "confirmed networks" if self._confirmed.is_dir() and any(self._confirmed.iterdir()) else None

    @property
    def _confirmed(self) -> Path:
        return self.path / "confirmed"

    def set_aside(self, *, space: bool) -> list[str]:
        """Renames the sampler's state, and the search space if asked, out of the way of another study; says which and
        how.
        """
        said = []
        for path in (self.journal, *((self.path / "space.json", self._measured) if space else ())):
            if path.exists() and path.stat().st_size:
                former = _free_name(path)
                path.rename(former)
                said.append(f"{path} is of another study; it was renamed to {former.name}")
        return said

    def clear(self) -> None:
        """Deletes what a study computed here: records, confirmed networks, sampler's state and space; not what was
        exported.
        """
        for part in (
            self.trials,
            self.journal,
            self._confirmed,
            self.checkpoints,
            self._measured,
            self.path / "space.json",
        ):
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        (self.path / "spec.json").unlink(missing_ok=True)

    @property
    def _measured(self) -> Path:
        """The sites of a search space that is being measured, one a line."""
        return self.path / "space.partial.jsonl"

    def keep_site(self, name: str, options: tuple[Option, ...], measured_of: str = "") -> None:
        """Keeps a site's measured options, for the case that the measurement is interrupted.

        Args:
            measured_of: checksum of what the space is measured of.
        """
        entry = {"site": name, "measured_of": measured_of, "options": [option_entry(option) for option in options]}
        append_whole(self._measured, json.dumps(entry) + "\n")

    def measured_sites(self, measured_of: str = "") -> tuple[dict[str, tuple[Option, ...]], list[str]]:
        """What an interrupted measurement of this finished, and a message for each line that is damaged or of another
        one; those are left out.
        """
        sites: dict[str, tuple[Option, ...]] = {}
        kept, damaged, torn = [], [], False
        for number, line in numbered_lines(self._measured):
            try:
                name, of, options = _site_of(line)
            except ValueError as error:
                torn = True
                if line.endswith(b"\n"):  # else it was being written when the measurement was interrupted
                    reason = shortened(str(error), 300)
                    damaged.append(f"{self._measured} line {number} is not read: {reason}; its layer is measured again")
            else:
                if of in ("", measured_of):
                    sites[name] = options
                else:
                    reason = "it was measured with another network, data or version"
                    damaged.append(f"{self._measured} line {number} is not used: {reason}")
                kept.append(line.removesuffix(b"\n") + b"\n")
                torn |= not line.endswith(b"\n")
        if torn:
            write_whole(self._measured, b"".join(kept))
        return sites, damaged

    def write_space(self, space: SearchSpace) -> None:
        """The finished search space."""
        self.write("space.json", space.to_json())
        self._measured.unlink(missing_ok=True)

    def append(self, record: TrialRecord) -> None:
        """Adds a record and waits until it is on the disk."""
        append_whole(self.trials, record.to_json() + "\n")

    def mend(self) -> list[str]:
        """Cuts last lines of records and journal that a killed process, or a full disk, left incomplete; says so.

        One that is whole, and lacks its newline alone, is kept and gets it.
        """
        changes = []
        for path, parse, consequence in (
            (self.trials, _record, "its trial runs again"),
            (self.journal, lambda line: table(parsed(line)), "what the records say is taken"),
        ):
            if cut := _mend_last_line(path, parse):
                changes.append(f"{path}: an incomplete last line of {cut} bytes was dropped; {consequence}")
        return changes

    def records(self) -> tuple[list[TrialRecord], list[str]]:
        """The readable records, and a message for each line that is damaged."""
        read, damaged = [], []
        for number, line in numbered_lines(self.trials):
            try:
                read.append(_record(line))
            except ValueError as error:
                damaged.append(f"{self.trials} line {number} is not read: {shortened(str(error), 300)}")
        return read, damaged

    def of_another_schema(self) -> str | None:
        """What is wrong with records that another version wrote, which cannot stand beside ours; None where there are
        none.
        """
        return next((message for message in self.records()[1] if "records of the schemas" in message), None)


def require_not_of_a_run(path: str | os.PathLike[str]) -> None:
    """Refuses to write into what a run's folder keeps; other names in it are free, such as ``exported/``.

    Raises:
        ValueError: the path is a run's folder, or a file of its own.
    """
    whole = Path(os.path.realpath(path))
    for folder in (whole, *whole.parents):
        if any((folder / name).is_file() for name in ("spec.json", "trials.jsonl")):
            inside = whole.relative_to(folder).parts
            if not inside or inside[0] in OWN:
                what = "a run's folder" if not inside else f"what the run in {str(folder)!r} keeps"
                raise ValueError(
                    f"{str(path)!r} is {what}, which only commands that search and confirm write; name another"
                )


def told(messages: Sequence[str]) -> list[str]:
    """The first of many messages, and how many more there are."""
    more = len(messages) - MOST_TOLD
    return [*messages[:MOST_TOLD], *([f"and {more} more such lines"] if more > 0 else [])]


def _record(line: bytes) -> TrialRecord:
    """The record of a line, whose plan is one.

    Raises:
        ValueError: it is none; the field, its value and what would be right are named.
    """
    row = TrialRecord(**record_fields(line))
    if row.plan is not None:
        require_plan(row.plan)
    needed = _NEEDED if row.stage == "search" and row.status == "complete" else ()
    if missing := [name for name in needed if getattr(row, name) is None]:
        raise ValueError(f"field {missing[0]!r} of a complete trial must not be missing")
    return row


def _site_of(line: bytes) -> tuple[str, str, tuple[Option, ...]]:
    """The site of a line, the checksum of what it was measured of, and its options."""
    entry = table(parsed(line))
    name, of, options = entry.get("site"), entry.get("measured_of", ""), entry.get("options")
    if not isinstance(of, str):
        raise ValueError(f"field 'measured_of' must be a text, got {shown(of)}")
    if not isinstance(name, str):
        raise ValueError(f"field 'site' must be a text, got {shown(name)}")
    if not isinstance(options, list):
        raise ValueError(f"field 'options' must be a list, got {shown(options)}")
    return name, of, tuple(option_of(option, f"options[{index}]") for index, option in enumerate(options))


def _mend_last_line(path: Path, parse: Callable[[bytes], object]) -> int:
    """Number of bytes that were cut."""
    if not path.exists() or not (content := content_of(path)) or content.endswith(b"\n"):
        return 0
    whole = content.rfind(b"\n") + 1
    try:
        parse(content[whole:])
    except ValueError:
        os.truncate(path, whole)
        return len(content) - whole
    append_whole(path, "\n")
    return 0


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.former{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())
