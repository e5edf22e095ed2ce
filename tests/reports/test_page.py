"""The report folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports import page, write_report
from tests.reports.conftest import DENSE_FLOPS, METHODS, confirm, record, study

Write = Callable[..., Path]
HOSTILE = '<script>alert(1)</script>\n"quoted", it\'s | `x` [a](b) Größe 深'


def test_the_report_of_a_comparison(runs: list[Path], tmp_path: Path) -> None:
    written = write_report(runs, tmp_path / "deep" / "report")
    names = [
        "pareto-cifar10-resnet20.png",
        "pareto-cifar10-resnet20.svg",
        "summary.csv",
        "trials.csv",
        "summary.md",
        "index.html",
    ]
    assert [path.name for path in written] == names
    assert all(path.stat().st_size > 1_000 for path in written)
    text = (tmp_path / "deep" / "report" / "summary.md").read_text(encoding="utf-8")
    assert "![Top-1 against FLOPs kept, cifar10/resnet20](pareto-cifar10-resnet20.png)" in text
    assert "| dense | – | 1 | 91.70 | +0.00 | 100.0 | 82.0 M |" in text
    assert "loss is nan at step 12 \\| λ too high" in text
    assert "| commit | 0e6da41 |" in text
    assert "Dropped lines" not in text
    summary = list(csv.DictReader(io.StringIO((tmp_path / "deep" / "report" / "summary.csv").read_text(encoding="utf-8"))))
    assert len(summary) == 2 + 4 * len(METHODS)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_two_tasks_have_a_pair_of_figures_each(write_run: Write, tmp_path: Path) -> None:
    tasks = ["a/b", "a-b", "../../etc", "日本"]
    folder = write_run("a", [confirm(80, task=task, flops=DENSE_FLOPS // 2) for task in tasks])
    out = tmp_path / "report"
    written = write_report([folder], out)
    pictures = {path.name for path in written if path.suffix == ".png"}
    assert pictures == {"pareto-a-b.png", "pareto-a-b-2.png", "pareto-..-..-etc.png", "pareto-日本.png"}
    assert {path.parent for path in written} == {out}


def test_the_same_runs_give_the_same_files(runs: list[Path], tmp_path: Path) -> None:
    first, second = write_report(runs, tmp_path / "one"), write_report(runs, tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_dropped_lines_stand_in_the_report(write_run: Write, tmp_path: Path) -> None:
    write_report([write_run("a", [record(val_top1=1.0, flops=4), "oops"])], tmp_path / "report")
    for name in ("summary.md", "index.html"):
        assert "trials.jsonl line 2 dropped: not JSON" in (tmp_path / "report" / name).read_text(encoding="utf-8")


def test_a_search_without_any_score_still_gives_a_report(write_run: Write, tmp_path: Path) -> None:
    write_report([write_run("a", [record(status="failed", reason="nan")])], tmp_path / "report")
    assert "No trial has a score yet." in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def hostile_report(write_run: Write, out: Path) -> Path:
    names = {"study": HOSTILE, "task": HOSTILE, "reason": HOSTILE, "methods": HOSTILE, "machine": HOSTILE}
    failed = record(status="failed", **names)
    write_report([write_run("a", [failed, confirm(80, variant=HOSTILE, plan=HOSTILE, flops=5, **names)])], out)
    return out


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_are_text_in_html(write_run: Write, tmp_path: Path) -> None:
    page = (hostile_report(write_run, tmp_path / "report") / "index.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert tags.tags.count("img") == 1
    assert "&lt;script&gt;" in page


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_are_text_in_markdown(write_run: Write, tmp_path: Path) -> None:
    text = (hostile_report(write_run, tmp_path / "report") / "summary.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_survive_csv_as_they_are(write_run: Write, tmp_path: Path) -> None:
    out = hostile_report(write_run, tmp_path / "report")
    with open(out / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == [HOSTILE, HOSTILE]


def test_formulas_in_texts_are_quoted_and_numbers_are_not(write_run: Write, tmp_path: Path) -> None:
    starts = ("=1+1", "+1", "-1", "@a", "\t=1")
    folder = write_run("a", [record(reason=start, val_loss=-1.5) for start in starts])
    write_report([folder], tmp_path / "report")
    with open(tmp_path / "report" / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reason"] for row in rows] == [f"'{start}" for start in starts]
    assert {row["val_loss"] for row in rows} == {"-1.5"}


@pytest.mark.parametrize("inside", ["", "report"])
def test_a_file_in_the_way_is_named(write_run: Write, tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file.*choose another"):
        write_report([write_run("a", [record()])], tmp_path / "file" / inside)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", ["mkdir", "write_bytes"])
def test_no_permission_names_the_path(write_run: Write, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission is taken away by hand: for root, who may run these tests, chmod stops nothing."""
    folder = write_run("a", [record()])

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(page.Path, verb, refuse)
    with pytest.raises(PermissionError, match=r"report.*no permission; make it writable or choose another"):
        write_report([folder], tmp_path / "report")


def test_a_folder_in_the_place_of_a_file_is_named(write_run: Write, tmp_path: Path) -> None:
    (tmp_path / "report" / "summary.md").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"summary.md: a folder has that name"):
        write_report([write_run("a", [record()])], tmp_path / "report")


def test_an_unreadable_run_leaves_no_half_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report([tmp_path / "nowhere"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_studies_of_different_tasks_share_a_report(write_run: Write, tmp_path: Path) -> None:
    folders = [write_run(task, study("structured_conv", 0, f"{task}/net")) for task in ("mnist", "cifar10")]
    write_report(folders, tmp_path / "report")
    text = (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    assert text.index("## cifar10/net") < text.index("## mnist/net")
