"""What changed between two reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import compare_reports
from sconv_search.reports.page import make_report
from sconv_search.reports.reading.records_table import read_runs
from tests.reports.conftest import confirm, parquet, record

AT = {"budget": "50% flops", "flops": 40_000_000}
DENSE = confirm(92.0, variant="dense", methods=None, flops=82_000_000)


@pytest.fixture
def reported(tmp_path: Path, write_run: Callable[..., Path]) -> Callable[..., Path]:
    """A report folder with the data alone, which is all that is compared."""

    def make(name: str, records: list[TrialRecord]) -> Path:
        run = write_run(f"{name}/study", records)
        (tmp_path / name / "data").mkdir(parents=True)
        for table, content in make_report(read_runs([run])).data.items():
            (tmp_path / name / "data" / f"{table}.parquet").write_bytes(parquet(content))
        return tmp_path / name

    return make


def seeds(scores: list[float], **columns) -> list[TrialRecord]:
    return [confirm(score, seed, **AT | columns) for seed, score in enumerate(scores)]


def test_the_same_runs_have_not_changed(reported: Callable[..., Path]) -> None:
    rows = [DENSE, *seeds([90.0, 91.0])]
    assert compare_reports(reported("one", rows), reported("two", rows)) == [
        "Nothing changed: verdicts, plans, scores, costs and effort are the same."
    ]


def test_each_change_is_a_line(reported: Callable[..., Path]) -> None:
    before = [DENSE, *seeds([90.0, 91.0], plan="P"), *seeds([80.0], methods="cp", plan="old"), record(status="failed")]
    after = [
        DENSE,
        *seeds([90.5, 91.5], plan="P", macs=7),
        *seeds([95.0, 95.0], methods="tucker", plan="new", commit="abc"),
    ]
    lines = compare_reports(reported("one", before), reported("two", after))
    text = "\n".join(lines)
    assert "trials: study, confirm, complete: 4 → 5" in lines
    assert "trials: study, search, failed: 1 → 0" in lines
    verdict = "structured convolution, searched 90.50 ± 0.71 % → Tucker-2, searched 95.00 ± 0.00 %"
    assert f"verdict: cifar10/resnet20 at 50 % FLOPs: {verdict}" in lines
    assert "plan gone: CP, searched" in text
    assert "plan new: Tucker-2, searched" in text
    assert "test top-1 90.50 ± 0.71 → 91.00 ± 0.71 % (+0.50 points); macs – → 7" in text
    assert "commit: – → abc" in lines


def test_what_is_no_report_is_named(tmp_path: Path, reported: Callable[..., Path]) -> None:
    good = reported("one", [DENSE])
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no data/trials.parquet; give two folders"):
        compare_reports(good, tmp_path / "nowhere")
    (good / "data" / "summary.parquet").write_bytes(b"oops")
    with pytest.raises(ValueError, match=r"summary.parquet cannot be read"):
        compare_reports(good, good)
