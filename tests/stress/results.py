"""What a stress run found, and the page that says it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[2] / "benchmarks" / "results" / "reliability.md"

EXPLANATION = """After every kill all files with their final name are whole, no record is lost or doubled, no process
outlives
its parent by more than two seconds, and the same command, given again until it is done, comes to the records, plans and
weights of a run that nothing disturbed, bit for bit. After every damaged input the exit status is 0 or 2, there is no
traceback and no error of more than 500 letters, nothing that a data file names is run, and a refused command has
changed no file."""


@dataclass
class Found:
    """Counts by what was done, and every problem with what led to it."""

    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, status: object, problems: Iterable[str], context: str = "") -> None:
        """Counts one kill or one input."""
        self.done[what] += 1
        self.statuses[f"{what.split(',')[0]}: {status}"] += 1
        for problem in problems:
            self.problems.append(f"{what}: {problem} [{context}]" if context else f"{what}: {problem}")
            print(self.problems[-1], flush=True)


def page(kills: Found, inputs: Found, command: str, seconds: float) -> str:
    """The results as Markdown."""
    import torch

    lines = [
        "# Reliability",
        "",
        f"Made by `{command}` in {seconds / 60:.0f} minutes; {platform.machine()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}.",
        "",
        *EXPLANATION.split("\n"),
        "",
    ]
    for title, found in (("Kills", kills), ("Damaged inputs", inputs)):
        lines += [f"## {title}", "", f"{sum(found.done.values()):,} in all, {len(found.problems)} problems.", ""]
        lines += [
            "| what | times |",
            "| --- | ---: |",
            *(f"| {what} | {count} |" for what, count in sorted(found.done.items())),
        ]
        lines += ["", "| exit status (below 0: the signal that ended it) | times |", "| --- | ---: |"]
        lines += [*(f"| {what} | {count} |" for what, count in sorted(found.statuses.items())), ""]
        lines += [f"- {' '.join(problem.split())[:600]}" for problem in found.problems[:50]]
    return "\n".join(lines).rstrip() + "\n"
