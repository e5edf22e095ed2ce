"""Some kills and damaged inputs; ``python -m tests.stress`` makes hundreds and thousands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stress.kills import kill
from tests.stress.mutations import mutate
from tests.stress.pairs import pair
from tests.stress.results import Found

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")]


def test_kills_lose_nothing(tmp_path: Path) -> None:
    found = kill(tmp_path, 10, seed=0)
    assert (found.problems, found.all) == ([], 10)


def test_damaged_inputs_are_refused_or_passed_over(tmp_path: Path) -> None:
    found = mutate(tmp_path, range(50), seed=0)
    assert (found.problems, found.all) == ([], 50)


def test_two_commands_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    found = pair(tmp_path, 4, seed=0)
    assert (found.problems, found.all) == ([], 4)


def test_a_later_process_goes_on_from_what_was_noted(tmp_path: Path) -> None:
    first = Found(tmp_path / "log.jsonl")
    first.note("a, b", 0, ["a problem"], number=7)
    first.blame("at the end", ["another"])
    again = Found(tmp_path / "log.jsonl")
    assert again == first
    assert (again.all, again.numbers, again.problems) == (1, {7}, ["a, b: a problem", "at the end: another"])
