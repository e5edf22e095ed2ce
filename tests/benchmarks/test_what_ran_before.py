"""The benchmark of what a time owes to what ran before: whoever waits busily is found, and warming up outlasts the wait."""

from __future__ import annotations

import time

from timing import WARM_SECONDS
from what_ran_before import after_each

TASK = 0.002


def test_a_run_that_hinders_the_next_is_found_and_outlasted() -> None:
    hindered_until = 0.0

    def hinders() -> None:
        nonlocal hindered_until
        time.sleep(TASK)
        hindered_until = time.perf_counter() + WARM_SECONDS / 2

    def hindered() -> None:
        time.sleep(TASK if time.perf_counter() >= hindered_until else 5 * TASK)

    runs = {"hinders": hinders, "hindered": hindered}
    after_hinders, after_itself = after_each(runs, 5, 0.0)["hindered"]
    assert after_hinders > 2 * after_itself
    after_hinders, after_itself = after_each(runs, 5, WARM_SECONDS)["hindered"]
    assert after_hinders < 2 * after_itself
