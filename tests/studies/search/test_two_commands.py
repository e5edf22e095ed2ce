"""Two commands at once on one run folder: the second is refused before any work, and the first goes on undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest

from sconv_search.studies import RunFolder, StudyContext, StudySpec, confirm
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.request import Outcome

pytestmark = pytest.mark.usefixtures("untrained")


def while_it_works(monkeypatch: pytest.MonkeyPatch, module: str, *others: Callable[[], object]) -> list[BaseException]:
    """Makes the first training of a command the time in which others are given; what these raised is noted."""
    first, seen = import_module(module).run_trial, list[BaseException]()

    def trains(*arguments: object, **options: object) -> Outcome:
        waiting = [] if seen else others
        for other in waiting:
            seen.append(AssertionError("it was not refused"))
            try:
                other()
            except RuntimeError as error:
                seen[-1] = error
        return first(*arguments, **options)

    monkeypatch.setattr(f"{module}.run_trial", trains)
    return seen


def refused(seen: list[BaseException], folder: RunFolder) -> bool:
    said = f"another command is working on the run folder {str(folder.path)!r}"
    return bool(seen) and all(str(error) == said for error in seen)


EVALUATOR, CONFIRMATION = "sconv_search.studies.trials.trial", "sconv_search.studies.trials.confirming"


def test_a_search_beside_a_search(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(context, spec, RunFolder(folder.path.parent / "whole"))
    seen = while_it_works(monkeypatch, EVALUATOR, lambda: search(context, spec, folder))
    records = search(context, spec, folder)
    assert refused(seen, folder)
    assert [(r.number, r.plan, r.val_score) for r in records] == [(r.number, r.plan, r.val_score) for r in whole]
    assert folder.records() == (records, [])


def test_a_confirmation_beside_a_search(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(context, replace(spec, trials=2), folder)
    seen = while_it_works(monkeypatch, EVALUATOR, lambda: confirm(context, [folder], seeds=1))
    records = search(context, replace(spec, trials=4), folder)
    assert refused(seen, folder)
    assert folder.records() == (records, [])
    assert [r.stage for r in records] == ["search"] * 4


def test_commands_beside_a_confirmation_of_several_runs(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder is held from the beginning to the end, not the one alone that is worked on."""
    monkeypatch.setattr(
        "sconv_search.studies.trials.rows.measure_ready_latencies_ms", lambda networks, shape, batch: [[1.0], [1.0]]
    )
    other = RunFolder(folder.path.parent / "other")
    for one in (folder, other):
        search(context, replace(spec, trials=2), one)
    seen = while_it_works(
        monkeypatch,
        CONFIRMATION,
        lambda: search(context, replace(spec, trials=3), other),
        lambda: confirm(context, [other], seeds=1, most=1),
    )
    new = confirm(context, [folder, other], seeds=1, most=1)
    assert refused(seen, other)
    assert len(seen) == 2
    assert {r.status for r in new} == {"complete"}
    for one in (folder, other):
        records, damaged = one.records()
        assert not damaged
        rows = [(r.variant, r.plan, r.seed) for r in records if r.stage == "confirm"]
        assert len(rows) == len(set(rows)), "no row is there twice"


def test_a_run_that_is_named_twice_is_refused(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, trials=1), folder)
    again = RunFolder(folder.path.parent / "." / folder.path.name)
    with pytest.raises(ValueError, match="is named twice; name each run once"):
        confirm(context, [folder, again], seeds=1)


def test_a_space_that_was_measured_of_something_else_is_refused_and_kept(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    other = RunFolder(folder.path.parent / "other")
    search(context, replace(spec, trials=1), folder)
    search(context, replace(spec, methods=("spatial_svd",), trials=1), other)
    path = folder.path / "space.json"
    path.write_bytes((other.path / "space.json").read_bytes())
    content = path.read_bytes()
    with pytest.raises(ValueError, match=rf"'{path}' was measured with another methods; name another folder"):
        search(context, replace(spec, trials=2), folder)
    assert path.read_bytes() == content


def test_sites_of_an_interrupted_measurement_of_something_else_are_not_used(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    search(context, replace(spec, trials=1), folder)
    space = folder.read_space()
    assert space is not None
    other = RunFolder(folder.path.parent / "other")
    other.path.mkdir()
    for (name, options), of in zip(space.sites.items(), ("this", "another"), strict=False):
        other.keep_site(name, options, of)
    found, said = other.measured_sites("this")
    assert list(found) == list(space.sites)[:1]
    assert [line.partition("jsonl ")[2] for line in said] == [
        "line 2 is not used: it was measured with another network, data or version"
    ]
    assert other.measured_sites("this") == (found, said), "nothing is dropped"


def test_a_space_that_does_not_say_what_it_was_measured_of_is_taken(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    """As those of version 0.1."""
    search(context, replace(spec, trials=1), folder)
    space = folder.read_space()
    assert space is not None
    folder.write_space(replace(space, measured_of={}))
    assert len(search(context, replace(spec, trials=2), folder)) == 2
