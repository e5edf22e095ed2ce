"""Several processes draw what one draws."""

from __future__ import annotations

import pytest

from reports import rendering
from reports.charts import Axis, Chart, Trace
from reports.rendering import FEWEST_SHARED, Job, job_files
from reports.rendering import rendering as started

JOBS = [
    Job(
        stem=f"s{number}",
        heading="task",
        drawing=Chart(
            title=f"chart {number}",
            x=Axis(label="x"),
            y=Axis(label="y"),
            traces=[Trace(name="a", look="a", kind="strong", x=[1.0], y=[float(number)])],
        ),
    )
    for number in range(FEWEST_SHARED)
]


@pytest.mark.parametrize("processors", [1, 2])
def test_the_files_are_the_same_whoever_draws_them(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_processors", lambda: processors)
    with started(JOBS, ("svg", "pdf")) as collect:
        files = collect()
    assert list(files) == [f"figures/s{number}.{kind}" for number in range(FEWEST_SHARED) for kind in ("svg", "pdf")]
    assert files["figures/s3.svg"] == job_files(JOBS[3], ("svg",))["figures/s3.svg"]
    assert files["figures/s3.pdf"] == job_files(JOBS[3], ("pdf",))["figures/s3.pdf"]


def test_an_error_of_a_drawing_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_processors", lambda: 2)
    with started(JOBS, ("tiff-that-is-none",)) as collect, pytest.raises((ValueError, KeyError), match="tiff-that-is-none"):
        collect()
