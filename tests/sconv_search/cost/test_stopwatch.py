"""What other guests of a host take is not counted as time of what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sconv_search.cost import timing as stopwatch
from sconv_search.cost.timing import ATTEMPTS, TOLERATED, seconds_of, stolen_seconds

STATISTICS = """\
cpu  900 0 90 9000 5 0 1 777 0 0
cpu0 300 0 30 3000 5 0 1 120 0 0
cpu1 300 0 30 3000 0 0 0 50 0 0
cpu10 300 0 30 3000 0 0 0 607 0 0
intr 12345 0 0 0 0 0 0 999999 0

ctxt 5
"""


@pytest.fixture
def stolen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], Callable[[], None]]:
    """From what is stolen during each call, which takes a second of its own, to a run."""

    def prepared(losses: Sequence[float]) -> Callable[[], None]:
        now, lost, coming = [0.0], [7.0], iter(losses)
        monkeypatch.setattr(stopwatch, "perf_counter", lambda: now[0])
        monkeypatch.setattr(stopwatch, "stolen_seconds", lambda: lost[0])

        def run() -> None:
            loss = next(coming)
            now[0] += 1 + loss
            lost[0] += loss

        return run

    return prepared


def test_an_undisturbed_measurement_is_the_only_one(stolen: Callable[..., Callable[[], None]]) -> None:
    run = stolen([0.0, TOLERATED])
    assert seconds_of(run) == pytest.approx(1)
    assert seconds_of(run) == pytest.approx(1 + TOLERATED)


def test_a_disturbed_one_is_measured_again_with_all_its_calls(stolen: Callable[..., Callable[[], None]]) -> None:
    run = stolen([0.0, 3.0, 0.0, 0.0])
    assert seconds_of(run, 2) == pytest.approx(2)
    with pytest.raises(StopIteration):
        run()


def test_patience_may_be_given(stolen: Callable[..., Callable[[], None]]) -> None:
    assert seconds_of(stolen([3.0] * ATTEMPTS + [0.0]), attempts=ATTEMPTS + 1) == pytest.approx(1)
    assert seconds_of(stolen([3.0, 0.0]), attempts=1) == pytest.approx(4)


def test_where_all_are_disturbed_the_least_counts(stolen: Callable[..., Callable[[], None]]) -> None:
    losses = [0.75, 0.25, 4.0]
    assert len(losses) == ATTEMPTS
    assert seconds_of(stolen(losses)) == pytest.approx(1.25)


def test_the_system_s_count_is_read_of_own_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stat").write_text(STATISTICS)
    monkeypatch.setattr(stopwatch, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr("os.sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert stolen_seconds() == pytest.approx(1.7)


def test_a_system_that_counts_none_has_none_stolen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "STATISTICS", tmp_path / "absent")
    monkeypatch.setattr(stopwatch, "stolen_seconds", stolen_seconds)
    assert stolen_seconds() == 0
    assert seconds_of(lambda: None) < 1
