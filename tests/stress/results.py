"""What a stress run found, and the page that says it."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "benchmarks" / "results" / "reliability.md"

EXPLANATION = """After every kill all files with their final name are whole, no record is lost or doubled, no process
outlives its parent by more than two seconds, and the same command, given again until it is done,
comes to the records, plans and weights of a run that nothing disturbed, bit for bit. Of two commands
at once on one folder, the second is refused or waits, and both, given again, come to the same as
well. After every damaged input the exit status is 0 or 2, there is no traceback and no error of
more than 500 letters, nothing that a data file names is run, and a refused command has changed no
file.

Time and memory of a report of 100,000 records: [report_size.md](report_size.md)."""


@dataclass
class Found:
    """Counts by what was done, and every problem with what led to it.

    Args:
        log: a file that holds all of it, one event a line, from which a later process goes on.
    """

    log: Path | None = None
    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.log is not None and self.log.exists():
            for line in self.log.read_text(encoding="utf-8").split("\n")[:-1]:
                self._count(**json.loads(line))

    @property
    def all(self) -> int:
        """How much was done."""
        return sum(self.done.values())

    def note(
        self, what: str, status: object, problems: Iterable[str], context: str = "", number: int | None = None
    ) -> None:
        """Counts one kill or one input."""
        self._keep(what=what, status=str(status), problems=_told(what, problems, context), number=number)

    def blame(self, what: str, problems: Iterable[str]) -> None:
        """Keeps problems that show at the end."""
        if told := _told(what, problems):
            self._keep(what=None, status=None, problems=told, number=None)

    def _keep(self, **event: Any) -> None:
        self._count(**event)
        for problem in event["problems"]:
            print(problem, flush=True)
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")

    def _count(self, what: str | None, status: str | None, problems: list[str], number: int | None) -> None:
        if what is not None:
            self.done[what] += 1
            self.statuses[f"{what.split(',')[0]}: {status}"] += 1
        if number is not None:
            self.numbers.add(number)
        self.problems += problems


def _told(what: str, problems: Iterable[str], context: str = "") -> list[str]:
    return [f"{what}: {problem} [{context}]" if context else f"{what}: {problem}" for problem in problems]


def _without_folders(problem: str) -> str:
    """The text with files by their last name: a page says nothing of the machine it was made on."""
    return re.sub(r"/(?:[\w.+-]+/)+", "", problem)


def page(parts: Mapping[str, Found], command: str) -> str:
    """The results by title, as Markdown."""
    import torch

    lines = [
        "# Reliability",
        "",
        f"Made by `{command}`; {platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}.",
        "",
        *EXPLANATION.split("\n"),
        "",
    ]
    for title, found in parts.items():
        lines += [f"## {title}", "", f"{found.all:,} in all, {len(found.problems)} problems.", ""]
        lines += [
            "| what | times |",
            "| --- | ---: |",
            *(f"| {what} | {count} |" for what, count in sorted(found.done.items())),
        ]
        lines += ["", "| exit status (below 0: the signal that ended it) | times |", "| --- | ---: |"]
        lines += [*(f"| {what} | {count} |" for what, count in sorted(found.statuses.items())), ""]
        lines += [f"- {_without_folders(' '.join(problem.split()))[:600]}" for problem in found.problems[:50]]
    return "\n".join(lines).rstrip() + "\n"
