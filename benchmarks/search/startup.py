"""Processor time of commands that compute nothing, and of the imports, with the packages whose import costs most.

Each candidate is a Python process of its own, started in turn for so many rounds; the processor seconds are those
that the system counted for it. The costs of imports come from one further run of each with ``-X importtime``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import facts, markdown_table, publish, quartiles

ROUNDS, SHOWN, LEAST_MS = 5, 6, 5.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A process to measure.

    Args:
        arguments: of the Python interpreter.
        most_s: processor seconds that it should stay below; None where it is only compared with.
    """

    name: str
    arguments: tuple[str, ...]
    most_s: float | None = None


def _command(*words: str, most_s: float) -> Candidate:
    arguments = ("-m", "sconv_search.studies", *words)
    return Candidate(name=" ".join(("sconv-search", *words)), arguments=arguments, most_s=most_s)


def _import(module: str, most_s: float | None = None) -> Candidate:
    return Candidate(name=f"import {module}", arguments=("-c", f"import {module}"), most_s=most_s)


CANDIDATES = (
    _command("--help", most_s=0.5),
    _command("--version", most_s=0.5),
    _command("search", "--help", most_s=0.5),
    _command("tasks", most_s=3.0),
    _import("sconv_search"),
    _import("sconv_search, sconv_search.cost.counting, sconv_search.structured.conv"),
    _import("torch"),
    Candidate(name="Python alone", arguments=("-c", "pass")),
)


def processor_seconds(arguments: Sequence[str]) -> float:
    """User and system seconds of one Python process.

    Raises:
        RuntimeError: it fails.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ends with {process.returncode}: {said.strip()}")
    return usage.ru_utime + usage.ru_stime


def import_milliseconds(arguments: Sequence[str]) -> Counter[str]:
    """Milliseconds that the imports of one Python process take, by the package that is imported."""
    line = [sys.executable, "-X", "importtime", *arguments]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stderr
    return milliseconds_by_package(said)


def milliseconds_by_package(log: str) -> Counter[str]:
    """Own times of modules, as ``-X importtime`` writes them in microseconds, summed by package."""
    milliseconds: Counter[str] = Counter()
    for line in log.splitlines():
        if not line.startswith("import time:"):
            continue
        own, _, name = (part.strip() for part in line.removeprefix("import time:").split("|"))
        if own.isdecimal():
            milliseconds[name.split(".")[0]] += int(own) / 1000  # type: ignore[assignment]  # a Counter of any numbers
    return milliseconds


def table(seconds: Mapping[str, Sequence[float]], imports: Mapping[str, Counter[str]]) -> str:
    """A row for each candidate: its processor seconds, the bound, and the dearest imports."""
    rows = []
    for candidate in CANDIDATES:
        quartiles_of_candidate = quartiles(seconds[candidate.name])
        bound = "" if candidate.most_s is None else f"{candidate.most_s:g}"
        dear = [f"{name} {ms:.0f}" for name, ms in imports[candidate.name].most_common(SHOWN) if ms >= LEAST_MS]
        spread = (
            f"{quartiles_of_candidate.median:.2f} ({quartiles_of_candidate.q1:.2f}–{quartiles_of_candidate.q3:.2f})"
        )
        rows.append((f"`{candidate.name}`", spread, bound, ", ".join(dear)))
    return markdown_table(("process", "processor time, s", "at most, s", "dearest imports, ms"), rows)


def main() -> None:
    """Measures, and prints or writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {candidate.name: [] for candidate in CANDIDATES}
    for _ in range(given.rounds):
        for candidate in CANDIDATES:
            seconds[candidate.name].append(processor_seconds(candidate.arguments))
    imports = {candidate.name: import_milliseconds(candidate.arguments) for candidate in CANDIDATES}
    note = (
        "Median (first to third quartile) of the processor's seconds, user and system, of a process of its own.\n"
        "Milliseconds of imports are of one run by the clock, which other work on the machine lengthens."
    )
    machine = "\n".join(line for line in facts(["none"], given.rounds).splitlines() if not line.startswith("- rounds"))
    rounds = f"- rounds: {given.rounds}, processes in turn"
    publish(f"# Start-up\n\n{machine}\n{rounds}\n\n{note}\n\n{table(seconds, imports)}", given.out)


if __name__ == "__main__":
    main()
