"""The task of a run's folder. Code that the folder names is never run unasked: it may have come from anybody."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import typer

from sconv_search.records import code_of
from sconv_search.strict_json import shown
from sconv_search.studies.options.shared import RunTask
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import task_named
from sconv_search.training.distributed import launched


def task_of(folder: RunFolder, spec: StudySpec, named: RunTask, *, ask: bool = True) -> Task:
    """The task of a run, code included only where the user named it, or says yes to a question on the terminal.

    Args:
        named: what the user typed; the task may name a network of its own after an ``@``.
        ask: whether a question may be asked.

    Raises:
        ValueError: the user named another task or network, or the run names code that the user did not.
    """
    task, network = named.task, named.network
    base, _, own = spec.task.partition("@")
    typed_base, _, typed_own = (task or "").partition("@")
    if typed_own and network:
        raise ValueError(f"--task {task} names a network already; leave out --network {network}")
    given = {"--task": typed_base, "--network": typed_own or network or ""}
    for flag, name in (("--task", base), ("--network", own)):
        if given[flag] and given[flag] != name:
            has = (
                f"has {'the task' if flag == '--task' else 'the network'} {shown(name)}"
                if name
                else "has its task's network"
            )
            raise ValueError(
                f"the run in {str(folder.path)!r} {has}, {flag} says {given[flag]!r}; give the one of its search"
            )
    wanted = [f"{flag} {shown(name)}" for flag, name in code_of(spec.task) if not given[flag]]
    if wanted and not (ask and _agrees(folder, wanted)):
        raise ValueError(
            f"the run in {str(folder.path)!r} names code to be run, and code that a folder names is not run unasked; "
            f"if it is yours, give {' '.join(wanted)}"
        )
    return task_named(spec.task)


def confirm_command(run: Path, spec: StudySpec, data: Path | None, weights: Path | None, methods: Sequence[str]) -> str:
    """What confirms a run that was just searched: what its folder does not hold, or may not name, is given again.

    Args:
        data, weights, methods: as they were given to the search.
    """
    words = ["sconv-search", "confirm", str(run)]
    given = [("--data", data), ("--weights", weights), *(("--method", name) for name in methods if ":" in name)]
    for flag, value in (*code_of(spec.task), *given):
        words += [] if value is None else [flag, str(value)]
    return " ".join(map(quote, words))


def _agrees(folder: RunFolder, wanted: list[str]) -> bool:
    """Whether the user says yes; without a terminal, or where several processes would ask, nobody is asked."""
    if launched() > 1 or not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = f"The run in {str(folder.path)!r} names code: {' and '.join(wanted)}. Import and run it?"
    return typer.confirm(question, default=False, err=True)
