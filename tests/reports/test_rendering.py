"""Several processes draw what one draws."""

from __future__ import annotations

import pytest
from sconv_search.reports.charts import Axis, Chart, Trace
from sconv_search.reports.rendering import Job, job_files, studio

from sconv_search.reports import rendering

COUNT = 8
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
    for number in range(COUNT)
]


@pytest.mark.parametrize("processors", [1, 2])
def test_the_files_are_the_same_whoever_draws_them(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_processors", lambda: processors)
    with studio(("svg", "pdf")) as artist:
        for job in JOBS:
            artist.submit(job)
        files = artist.files()
    assert list(files) == [f"figures/s{number}.{kind}" for number in range(COUNT) for kind in ("svg", "pdf")]
    assert files["figures/s3.svg"] == job_files(JOBS[3], ("svg",))["figures/s3.svg"]
    assert files["figures/s3.pdf"] == job_files(JOBS[3], ("pdf",))["figures/s3.pdf"]


def test_an_error_of_a_drawing_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_processors", lambda: 2)
    with studio(("tiff-that-is-none",)) as artist:
        artist.submit(JOBS[0])
        with pytest.raises((ValueError, KeyError), match="tiff-that-is-none"):
            artist.files()
