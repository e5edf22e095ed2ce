"""Some kills and damaged inputs; ``python -m tests.stress`` makes hundreds and thousands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stress.kills import kill
from tests.stress.mutations import mutate

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")]


def test_kills_lose_nothing(tmp_path: Path) -> None:
    found = kill(tmp_path, 10, seed=0)
    assert (found.problems, sum(found.done.values())) == ([], 10)


def test_damaged_inputs_are_refused_or_passed_over(tmp_path: Path) -> None:
    found = mutate(tmp_path, range(50), seed=0)
    assert (found.problems, sum(found.done.values())) == ([], 50)
