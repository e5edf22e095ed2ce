"""All jobs run, at most as many at a time as there are slots, and each result is taken once."""

from __future__ import annotations

from sconv_search.studies.executors.running import results


class Slots:
    """Finishes its newest job first, after saying once that there is room for more; has a slot more each time."""

    def __init__(self) -> None:
        self.slots, self.running, self.most, self._said = 1, list[str](), 0, False

    def submit(self, job: str) -> None:
        self.running.append(job)
        self.most = max(self.most, len(self.running))
        assert len(self.running) <= self.slots

    def result(self) -> tuple[str, int] | None:
        self._said = not self._said
        if self._said:
            self.slots = min(3, self.slots + 1)
            return None
        job = self.running.pop()
        return job, len(job)


def test_slots_are_filled_as_they_come_free() -> None:
    executor, steps = Slots(), list[tuple[int, int]]()
    jobs = ["a", "bb", "ccc", "dddd", "eeeee"]
    taken = list(results(jobs, executor, lambda done, total: steps.append((done, total))))
    assert sorted(taken) == [(job, len(job)) for job in jobs]
    assert executor.most == 3
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {total for _, total in steps} == {5}
    assert list(results([], executor, lambda done, total: None)) == []
