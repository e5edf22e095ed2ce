"""The speed benchmark in short: the faster structured form, its rival in brackets, one run a setting."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.speed.summary import summary

Row = dict[str, object]


def rows(milliseconds: Mapping[str, float], *, mode: str = "eager", run: str = "first", **place: object) -> list[Row]:
    known = {"network": "tiny", "dtype": "fp32", "threads": 1, "batch": 16, "dense_macs": 2, "macs": 1}
    return [
        {**known, **place, "mode": mode, "run": run, "candidate": candidate, "ms": [taken] * 3}
        for candidate, taken in milliseconds.items()
    ]


ALL = {
    "dense": 12,
    "structured 2x": 8,
    "merged 2x": 6,
    "structured 4x": 3,
    "merged 4x": 4,
    "spatial_svd 2x": 5,
    "spatial_svd 4x": 4,
}


def test_the_faster_structured_form_stands_before_spatial_svd() -> None:
    assert summary(rows(ALL)).splitlines() == [
        "| network | 1 thread, fp32, batch 16 |",
        "| --- | --- |",
        "| tiny | 2.00, 4.00 (2.40, 3.00) |",
    ]


def test_forms_chosen_by_time_do_not_count_as_uniform_ones() -> None:
    assert "3.00" not in summary(rows({"dense": 12, "structured_by_time 2x": 4, "structured 2x": 6}))


def test_what_was_not_measured_is_empty() -> None:
    text = summary(
        rows(ALL) + rows({"dense": 4, "structured 2x": 2}, network="small", threads=2, dtype="bf16", batch=1)
    )
    assert text.splitlines()[2:] == ["| tiny | 2.00, 4.00 (2.40, 3.00) |  |", "| small |  | 2.00 |"]


def test_settings_go_by_threads_then_type_then_batch() -> None:
    given = [(2, "fp32", 1), (1, "bf16", 16), (1, "fp32", 1), (1, "fp32", 16)]
    found = [row for threads, dtype, batch in given for row in rows(ALL, threads=threads, dtype=dtype, batch=batch)]
    assert (
        summary(found).splitlines()[0]
        == "| network | 1 thread, fp32, batch 16 | 1 thread, fp32, batch 1 | 1 thread, bf16, batch 16 | 2 threads,"
        " fp32, batch 1 |"
    )


def test_of_several_runs_the_one_in_most_modes_counts_then_the_last() -> None:
    both = rows({"dense": 9, "structured 2x": 6}) + rows({"dense": 9, "structured 2x": 3}, run="second")
    assert "3.00" in summary(both)
    more = rows({"dense": 12, "structured 2x": 7}, mode="compiled")
    assert "1.50" in summary(both + more)
