"""Code that a folder names is run where the user names it too, or says yes, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sconv_search.studies import RunFolder, StudySpec
from sconv_search.studies.commands import run_task
from sconv_search.studies.commands.run_task import task_of
from sconv_search.studies.options.shared import RunTask
from tests.studies.conftest import Typed

EVIL = "open('canary', 'w')\ndef task(): open('canary', 'w')\n"


@pytest.fixture
def received(spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunFolder]:
    """A folder from somebody else, whose spec names a task; a module of that name lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL, encoding="utf-8")

    def made(task: str) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        with folder.locked():
            folder.write("spec.json", json.dumps({**json.loads(spec.to_json()), "task": task}))
        return folder

    return made


@pytest.mark.parametrize("name", ["evil:task", "os:abort", "demo@evil:task", "demo@os:abort", "evil:task@evil:task"])
@pytest.mark.parametrize("command", [("confirm",), ("export", "--to", "pt2"), ("export", "--to", "onnx", "--int8")])
def test_it_is_refused_with_the_reason_where_nobody_named_it(
    typed: Callable[..., Typed], received: Callable[[str], RunFolder], name: str, command: tuple[str, ...]
) -> None:
    folder = received(name)
    said = typed(command[0], folder.path, *command[1:])
    assert (said.status, "code that a folder names is not run unasked" in said.err) == (2, True), said
    assert not (folder.path.parent / "canary").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("flags", [("--task", "json:loads"), ("--network", "json:loads"), ("--task", "demo")])
def test_another_name_than_the_folders_is_refused(
    typed: Callable[..., Typed], received: Callable[[str], RunFolder], flags: tuple[str, ...]
) -> None:
    said = typed("confirm", received("evil:task").path, *flags)
    assert (said.status, f"{flags[0]} says '{flags[1]}'; give the one of its search" in said.err) == (2, True), said


@pytest.mark.parametrize(
    ("named", "given", "network"),
    [
        ("corners", None, None),
        ("corners", "corners", None),
        ("corners@mine:net", None, "mine:net"),
        ("corners@mine:net", "corners@mine:net", None),
        ("corners@mine:net", "corners", "mine:net"),
    ],
)
def test_what_the_user_names_is_taken(
    typed: object, spec: StudySpec, tmp_path: Path, named: str, given: str | None, network: str | None
) -> None:
    found = task_of(RunFolder(tmp_path), _with(spec, named), RunTask(task=given, network=network))
    assert (found.name, found.input_shape) == (named, (2, 12, 12))


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_a_question_is_asked(
    typed: object, spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    asked = []

    def confirm(text: str, **options: object) -> bool:
        asked.append(text)
        return answer

    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(run_task.typer, "confirm", confirm)
    if answer:
        assert task_of(RunFolder(tmp_path), _with(spec, "corners@mine:net"), RunTask()).name == "corners@mine:net"
    else:
        with pytest.raises(ValueError, match="not run unasked"):
            task_of(RunFolder(tmp_path), _with(spec, "corners@mine:net"), RunTask())
    assert len(asked) == 1
    assert "names code: --network 'mine:net'" in asked[0]
    with pytest.raises(ValueError, match="not run unasked"):
        task_of(RunFolder(tmp_path), _with(spec, "corners@mine:net"), RunTask(), ask=False)
    assert len(asked) == 1


def _with(spec: StudySpec, task: str) -> StudySpec:
    return StudySpec.from_json(json.dumps({**json.loads(spec.to_json()), "task": task}))
