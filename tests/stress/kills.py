"""Commands that are killed at random moments, and given again until they are done."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stress.checks import broken_files, doubled, facts, misleading, records
from tests.stress.processes import Running, run, start
from tests.stress.results import Found

TASK = ("--task", "tests.stress.tiny:task")
SEARCH = ("search", *TASK, "--device", "cpu", "--checkpoint-seconds", "0", "--out", "runs/one")
CONFIRM = ("confirm", "runs/one", *TASK, "--device", "cpu", "--seeds", "2", "--plans", "1", "--checkpoint-seconds", "0")
REPORT = ("report", "runs/one", "--out", "report")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDED_BY = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (143,), signal.SIGINT: (130,)}
OUTLIVE_S = 2.0
MOST_A_RUN = 8
"""Kills of one run; then it may come to its end."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command in a folder.

    Args:
        needs: folders, of an undisturbed run, that the command starts from.
        problems: what is wrong with a folder in which the command is done, beside an undisturbed one.
        refuses: what the command says where it finds its work done.
    """

    name: str
    arguments: tuple[str, ...]
    needs: str
    problems: Callable[[Path, Path], Iterator[str]]
    refuses: str = ""


def _same_records(done: Path, wanted: Path) -> Iterator[str]:
    if facts(done / "runs/one") != facts(wanted / "runs/one"):
        yield "the records are not those of an undisturbed run"


def _same_evaluations(done: Path, wanted: Path) -> Iterator[str]:
    """With two workers the order in which trials end is the machine's; what each plan gives is not."""
    known = {(row["plan"], row["regularization"]): row["val_loss"] for row in records(wanted / "runs/one")}
    rows = [row for row in records(done / "runs/one") if row["stage"] == "search"]
    if (count := sum(row["status"] == "complete" for row in rows)) != 6:
        yield f"{count} complete trials, not 6"
    for row in rows:
        if known.get((row["plan"], row["regularization"]), row["val_loss"]) != row["val_loss"]:
            yield f"trial {row['number']} gives another loss than the same plan in an undisturbed run"


def _same_networks(done: Path, wanted: Path) -> Iterator[str]:
    first = {facts for facts in facts(done / "runs/one")}
    if first != {facts for facts in facts(wanted / "runs/one")}:
        yield "the records are not those of an undisturbed run"
    for path in sorted((wanted / "runs/one/confirmed").rglob("*.*")):
        other = done / path.relative_to(wanted)
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            yield f"{other} differs from the undisturbed one"


def _same_report(done: Path, wanted: Path) -> Iterator[str]:
    for path in sorted((wanted / "report").rglob("*.*")):
        other = done / path.relative_to(wanted)
        if not other.is_file() or (path.suffix != ".parquet" and other.read_bytes() != path.read_bytes()):
            yield f"{other} differs from the undisturbed one"


def _same_export(done: Path, wanted: Path) -> Iterator[str]:
    if (done / "model.safetensors").read_bytes() != (wanted / "model.safetensors").read_bytes():
        yield "the exported file differs from the undisturbed one"


SCENARIOS = (
    Scenario(name="search, 1 worker", arguments=(*SEARCH, "--trials", "6"), needs="start", problems=_same_records),
    Scenario(
        name="search, 2 workers",
        arguments=(*SEARCH, "--trials", "6", "--workers", "2"),
        needs="start",
        problems=_same_evaluations,
    ),
    Scenario(name="confirm", arguments=CONFIRM, needs="searched", problems=_same_networks),
    Scenario(name="report", arguments=REPORT, needs="confirmed", problems=_same_report),
    Scenario(
        name="export",
        arguments=("export", "runs/one", *TASK, "--to", "safetensors", "--out", "model.safetensors"),
        needs="confirmed",
        problems=_same_export,
        refuses="is there already",
    ),
)


def prepared(folder: Path) -> Path:
    """A folder with an undisturbed run after each step: ``start``, ``searched``, ``confirmed``, ``wanted``.

    It is made once; an earlier process's is taken as it is.
    """
    if folder.is_dir():
        return folder
    made = _prepared(folder.with_name(f"{folder.name}.partial"))
    return made.rename(folder)


def _prepared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    steps = (("searched", (*SEARCH, "--trials", "6")), ("confirmed", CONFIRM), ("wanted", REPORT))
    before = folder / "start"
    before.mkdir(parents=True)
    for name, arguments in steps:
        shutil.copytree(before, folder / name)
        _require(arguments, folder / name)
        before = folder / name
    _require(SCENARIOS[-1].arguments, folder / "wanted")
    return folder


def _require(arguments: tuple[str, ...], folder: Path) -> None:
    status, said = run(arguments, folder, folder / "said.txt")
    if status != 0:
        raise RuntimeError(f"an undisturbed command ends with {status}: {said}")


def kill(folder: Path, count: int, seed: int) -> Found:
    """So many kills, the scenarios in turn.

    Args:
        folder: for everything that is made; what an earlier process noted there counts.
    """
    undisturbed = prepared(folder / "undisturbed")
    found = Found(folder / "kills.jsonl")
    draw = random.Random(f"{seed} {found.all}")
    seconds = {scenario.name: 3.0 for scenario in SCENARIOS}
    while found.all < count:
        for scenario in sorted(SCENARIOS, key=lambda scenario: _times(found, scenario)):
            if found.all < count:
                _until_done(scenario, folder / "killed", undisturbed, found, draw, seconds, count)
    return found


def _times(found: Found, scenario: Scenario) -> int:
    """Its kills so far: those that had fewest come first."""
    return sum(count for what, count in found.done.items() if what.startswith(f"{scenario.name}, "))


def _until_done(
    scenario: Scenario,
    folder: Path,
    undisturbed: Path,
    found: Found,
    draw: random.Random,
    seconds: dict[str, float],
    most: int,
) -> None:
    """Kills one command until it is done once, then looks at what it made."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(undisturbed / scenario.needs, folder)
    wanted = undisturbed / {"start": "searched", "searched": "confirmed"}.get(scenario.needs, "wanted")
    status, before = None, found.all
    while status != 0:
        made = found.all
        enough = made >= most or made - before >= MOST_A_RUN
        began, running = time.monotonic(), start(scenario.arguments, folder, folder / "said.txt")
        name = "" if enough else _strike(running, draw, draw.uniform(0, 1.2 * seconds[scenario.name]))
        status = running.wait()
        if status is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        said = running.said.read_text(encoding="utf-8", errors="replace")
        problems = list(_after(scenario, folder, running, name, status, said))
        if scenario.refuses and scenario.refuses in said:
            status = 0  # killed after its work was done
        if name:
            found.note(f"{scenario.name}, {name}", status, problems)
        else:
            found.blame(scenario.name, problems)
            seconds[scenario.name] = max(0.2, time.monotonic() - began)
        if status is None or (len(problems) > 0 and status not in (0, -signal.SIGKILL, 143, 130, -signal.SIGTERM)):
            return
    found.blame(f"{scenario.name}, done", scenario.problems(folder, wanted))


def _strike(running: Running, draw: random.Random, seconds: float) -> str:
    """Kills at that moment; what was killed, and with what, or nothing where all was over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not Path(f"/proc/{running.pid}/task").exists() or _is_over(running.pid):
            return ""
        time.sleep(0.002)
    number, workers = draw.choice(SIGNALS), running.workers()
    target = draw.choice(("main", "group", *(("worker",) if workers else ())))
    if _is_over(running.pid):
        return ""
    if target == "worker":
        try:
            os.kill(draw.choice(workers), number)
        except ProcessLookupError:
            return ""
    elif target == "group":
        try:
            os.killpg(running.pid, number)
        except ProcessLookupError:  # it has just been forked, and is of our own group still
            return ""
    else:
        os.kill(running.pid, number)
    return f"{number.name} to {target}"


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _after(
    scenario: Scenario, folder: Path, running: Running, name: str, status: int | None, said: str
) -> Iterator[str]:
    """What is wrong after a command has ended, in whatever way."""
    allowed: tuple[int, ...] = (
        0,
        *(ENDED_BY[signal.Signals[name.split()[0]]] if name and "worker" not in name else ()),
    )
    if scenario.refuses and scenario.refuses in said:
        allowed = (*allowed, 2)
    if status is None:
        yield "it hung"
    elif status not in allowed:
        yield f"it ended with {status}, allowed are {allowed}: {said[-300:]}"
    if left := running.outliving(OUTLIVE_S):
        yield f"{len(left)} processes outlive it"
    yield from misleading(said)
    yield from broken_files(folder)
    yield from doubled(folder / "runs/one")
