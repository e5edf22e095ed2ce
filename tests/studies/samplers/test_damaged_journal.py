"""A journal that parses but that no search can have written is refused with its line, before anything is added."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.search.runner import search

pytestmark = pytest.mark.usefixtures("untrained")
Entries = list[dict[str, Any]]


def first(entries: Entries, operation: int) -> dict[str, Any]:
    """The first entry of an operation; of the states of trials the first that ends one."""
    return next(e for e in entries if e["op_code"] == operation and (operation != 6 or e["values"]))


def changed(operation: int, **fields: Any) -> Callable[[Entries], object]:
    return lambda entries: first(entries, operation).update(fields)


def without(operation: int, field: str) -> Callable[[Entries], object]:
    return lambda entries: first(entries, operation).pop(field)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (changed(0, op_code=99), "line 1 makes no sense to Optuna: field 'op_code' must be .*, got 99"),
        (changed(0, op_code=True), "line 1 makes no sense to Optuna: field 'op_code'"),
        (lambda entries: entries.pop(0), "holds no study; without the file"),
        (changed(0, directions=[1]), "is of a study with the aims MINIMIZE, this one has MAXIMIZE"),
        (changed(0, directions=["up"]), "line 1 makes no sense to Optuna"),
        (without(4, "worker_id"), r"line \d+ makes no sense to Optuna: field 'worker_id' must be a text"),
        (changed(4, datetime_start="yesterday"), r"line \d+ makes no sense to Optuna \(ValueError"),
        (changed(5, trial_id=10**400), r"line \d+ .*'trial_id' must be of type int, got a whole number of 1329 bits"),
        (changed(5, distribution="[" * 100_000), r"line \d+ makes no sense to Optuna"),
        (changed(5, param_value_internal=float("nan")), "makes no sense: '.*' must be a finite number, got nan"),
        (changed(6, state=17), r"line \d+ makes no sense to Optuna \(ValueError: 17 is not a valid"),
        (changed(6, values=["high"]), "makes no sense: its values must be finite numbers, got 'high'"),
        (changed(6, values=[1.0, 2.0]), "makes no sense: it must have 1 values, got"),
        (changed(8, user_attr={"number": "first"}), "makes no sense: 'number' must be a whole number .*, got 'first'"),
        (changed(8, user_attr={"a": 1, "b": 2}), r"line \d+ makes no sense to Optuna \(AssertionError\)"),
    ],
)
def test_it_is_refused_by_its_line_and_stays_as_it_is(
    context: StudyContext, spec: StudySpec, folder: RunFolder, damage: Callable[[Entries], object], why: str
) -> None:
    wanted = search(context, spec, folder)
    entries = [json.loads(line) for line in folder.journal.read_bytes().split(b"\n")[:-1]]
    damage(entries)
    before = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    folder.journal.write_text(before)
    with pytest.raises(ValueError, match=why) as error:
        search(context, spec, folder)
    assert str(folder.journal) in str(error.value)
    assert str(error.value).endswith("without the file the search goes on, by what the records say")
    assert len(str(error.value)) < 500 + len(str(folder.journal))
    assert folder.journal.read_text() == before
    folder.journal.unlink()
    assert search(context, spec, folder) == wanted
