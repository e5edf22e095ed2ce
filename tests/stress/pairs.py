"""Two commands at once on one folder: the second is refused or waits, and neither disturbs the other."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stress.checks import broken_files, doubled, misleading
from tests.stress.kills import CONFIRM, REPORT, SCENARIOS, SEARCH, Scenario, prepared
from tests.stress.processes import run, start
from tests.stress.results import Found

HELD = "another command is working on the run folder"
SEARCHING = (*SEARCH, "--trials", "6")
SEARCHED, CONFIRMED, REPORTED = SCENARIOS[0], SCENARIOS[2], SCENARIOS[3]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two commands in a folder.

    Args:
        seconds: the second begins so much later at most.
        scenario: what is right at the end, once both were given again, the first one first.
        may_say: other words with which one of them may be refused.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    seconds: float
    scenario: Scenario
    may_say: tuple[str, ...] = ()


PAIRS = (
    Pair(name="search and search", first=SEARCHING, second=SEARCHING, seconds=4, scenario=SEARCHED),
    Pair(
        name="search and confirm",
        first=SEARCHING,
        second=CONFIRM,
        seconds=6,
        scenario=CONFIRMED,
        may_say=("holds no study", "has no complete trial to confirm"),
    ),
    Pair(name="confirm and confirm", first=CONFIRM, second=CONFIRM, seconds=3, scenario=CONFIRMED),
    Pair(name="report and report", first=REPORT, second=REPORT, seconds=3, scenario=REPORTED),
)


def pair(folder: Path, count: int, seed: int) -> Found:
    """So many pairs of commands, the kinds in turn.

    Args:
        folder: for everything that is made; what an earlier process noted there counts.
    """
    undisturbed = prepared(folder / "undisturbed")
    found = Found(folder / "pairs.jsonl")
    for number in range(found.all, count):
        _both(PAIRS[number % len(PAIRS)], folder / "paired", undisturbed, found, random.Random(f"{seed} {number}"))
    return found


def _both(kind: Pair, folder: Path, undisturbed: Path, found: Found, draw: random.Random) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    needs = {SEARCHING: "start", CONFIRM: "searched"}.get(kind.first, "confirmed")
    shutil.copytree(undisturbed / needs, folder)
    first = start(kind.first, folder, folder / "first.txt")
    time.sleep(draw.uniform(0, kind.seconds))
    second = start(kind.second, folder, folder / "second.txt")
    ends = []
    for running in (first, second):
        if (status := running.wait()) is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        ends.append((status, running.said.read_text(encoding="utf-8", errors="replace")))
    problems = [problem for status, said in ends for problem in _ended(kind, status, said)]
    problems += [*broken_files(folder), *doubled(folder / "runs/one")]
    found.note(kind.name, " and ".join(str(status) for status, _ in ends), problems)
    for arguments in (kind.first, kind.second):
        status, said = run(arguments, folder, folder / "again.txt")
        if status != 0:
            found.blame(f"{kind.name}, again", [f"it ended with {status}: {said[-500:]}"])
            return
    wanted = undisturbed / {SEARCHED: "searched", CONFIRMED: "confirmed", REPORTED: "wanted"}[kind.scenario]
    found.blame(f"{kind.name}, done", kind.scenario.problems(folder, wanted))


def _ended(kind: Pair, status: int | None, said: str) -> Iterator[str]:
    if status is None:
        yield "it hung"
    elif status != 0 and not ((status == 1 and HELD in said) or (status == 2 and any(w in said for w in kind.may_say))):
        yield f"it ended with {status}: {said[-300:]}"
    yield from misleading(said)
