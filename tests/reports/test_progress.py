"""A report tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sconv_search.reports import write_report
from tests.reports.conftest import confirm


def test_every_figure_is_counted(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run(
        "run", [confirm(92.0, variant="dense", methods=None, flops=82_000_000), confirm(90.0, flops=40_000_000)]
    )
    told: list[tuple[int, int]] = []
    write_report([run], tmp_path / "report", lambda done, total: told.append((done, total)))
    drawn = len(list((tmp_path / "report" / "figures").glob("*.svg")))
    assert drawn > 0
    assert told == [(number, drawn) for number in range(1, drawn + 1)]
