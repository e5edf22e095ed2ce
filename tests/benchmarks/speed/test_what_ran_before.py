"""The benchmark of what a time owes to what ran before: whoever waits busily is found, and warming up outlasts the
wait.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.speed.what_ran_before import after_each
from benchmarks.timing import WARM_SECONDS


def test_a_run_that_hinders_the_next_is_found_and_outlasted(hindered: dict[str, Callable[[], None]]) -> None:
    assert after_each(hindered, 3, 0.0)["other"] == pytest.approx([0.01, 0.002])
    assert after_each(hindered, 3, WARM_SECONDS)["other"] == pytest.approx([0.002, 0.002])
