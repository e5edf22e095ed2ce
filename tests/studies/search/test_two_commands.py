"""Two commands at once on one run folder: the second is refused before any work, and the first goes on undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest

from sconv_search.studies import RunFolder, StudyContext, StudySpec, confirm
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.trial import Outcome

pytestmark = pytest.mark.usefixtures("untrained")


def while_it_works(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, second: Callable[[], object]
) -> list[BaseException]:
    """Makes the first training of a command the time in which a second one is given; what that raised is noted."""
    first, seen = getattr(import_module(module), name), list[BaseException]()

    def trains(*arguments: object, **options: object) -> Outcome:
        if not seen:
            seen.append(AssertionError("it was not refused"))
            try:
                second()
            except RuntimeError as error:
                seen[0] = error
        return first(*arguments, **options)

    monkeypatch.setattr(f"{module}.{name}", trains)
    return seen


def refused(seen: list[BaseException], folder: RunFolder) -> bool:
    return [str(error) for error in seen] == [f"another command is working on the run folder {str(folder.path)!r}"]


EVALUATOR, CONFIRMATION = "sconv_search.studies.trials.evaluator", "sconv_search.studies.confirmation"


def test_a_search_beside_a_search(
    start: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(start, spec, RunFolder(folder.path.parent / "whole"))
    seen = while_it_works(monkeypatch, EVALUATOR, "run_trial", lambda: search(start, spec, folder))
    records = search(start, spec, folder)
    assert refused(seen, folder)
    assert [(r.number, r.plan, r.val_top1) for r in records] == [(r.number, r.plan, r.val_top1) for r in whole]
    assert folder.records() == (records, [])


def test_a_confirmation_beside_a_search(
    start: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(start, replace(spec, trials=2), folder)
    seen = while_it_works(monkeypatch, EVALUATOR, "run_trial", lambda: confirm(start, [folder], seeds=1))
    records = search(start, replace(spec, trials=4), folder)
    assert refused(seen, folder)
    assert folder.records() == (records, [])
    assert [r.stage for r in records] == ["search"] * 4


@pytest.mark.parametrize("second", ["search", "confirm"])
def test_a_command_beside_a_confirmation_of_several_runs(
    start: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """Every folder is held from the beginning to the end, not the one alone that is worked on."""
    other = RunFolder(folder.path.parent / "other")
    for one in (folder, other):
        search(start, replace(spec, trials=2), one)
    given = {
        "search": lambda: search(start, replace(spec, trials=3), other),
        "confirm": lambda: confirm(start, [other], seeds=1, most=1),
    }
    seen = while_it_works(monkeypatch, CONFIRMATION, "run_trial", given[second])
    new = confirm(start, [folder, other], seeds=1, most=1)
    assert refused(seen, other)
    assert {r.status for r in new} == {"complete"}
    for one in (folder, other):
        records, damaged = one.records()
        assert not damaged
        rows = [(r.variant, r.plan, r.seed) for r in records if r.stage == "confirm"]
        assert len(rows) == len(set(rows)), "no row is there twice"


def test_a_run_that_is_named_twice_is_refused(start: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(start, replace(spec, trials=1), folder)
    again = RunFolder(folder.path.parent / "." / folder.path.name)
    with pytest.raises(ValueError, match="is named twice; name each run once"):
        confirm(start, [folder, again], seeds=1)


def test_a_space_that_was_measured_of_something_else_is_refused_and_kept(
    start: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    other = RunFolder(folder.path.parent / "other")
    search(start, replace(spec, trials=1), folder)
    search(start, replace(spec, methods=("spatial_svd",), trials=1), other)
    path = folder.path / "space.json"
    path.write_bytes((other.path / "space.json").read_bytes())
    content = path.read_bytes()
    with pytest.raises(ValueError, match=rf"'{path}' was measured with another methods; name another folder"):
        search(start, replace(spec, trials=2), folder)
    assert path.read_bytes() == content


def test_a_space_that_does_not_say_what_it_was_measured_of_is_taken(
    start: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    """As those of version 0.1."""
    search(start, replace(spec, trials=1), folder)
    space = folder.read_space()
    assert space is not None
    folder.write_space(replace(space, measured_of={}))
    assert len(search(start, replace(spec, trials=2), folder)) == 2
