"""The report folder."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sconv_search.reports import page, write_report
from sconv_search.reports.drawing import matplotlib_files
from sconv_search.reports.drawing.matplotlib_files import figure_writer
from sconv_search.reports.drawing.plotly_figures import library
from sconv_search.reports.page import make_report
from sconv_search.reports.reading.records_table import read_runs
from tests.reports.conftest import DENSE_FLOPS, METHODS, confirm, record, study, write_studies

Write = Callable[..., Path]
HOSTILE = (
    '<script>alert(1)</script>\n"quoted", it\'s | `x` [a](b) Größe 深 </script><img src=x onerror=alert(2)> $x^2$'
    " \\input{x} %s"
)
LARGEST = 6_000_000


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are rendered where a test asks for it: they take nearly all of a report's time."""
    monkeypatch.setattr(page, "USUAL_KINDS", ())


one_report = pytest.mark.xdist_group("comparison")  # which takes seconds to make


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of six methods on one network."""
    folder = tmp_path_factory.mktemp("comparison")

    def write(name: str, lines) -> Path:
        (folder / name).mkdir()
        (folder / name / "trials.jsonl").write_text("".join(f"{line.to_json()}\n" for line in lines), encoding="utf-8")
        return folder / name

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "USUAL_KINDS", ())
        write_report(write_studies(write), folder / "deep" / "report")
    return folder / "deep" / "report"


def text_of(folder: Path, name: str = "summary.md") -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_every_figure_is_svg_png_and_pdf_and_every_table_csv_markdown_and_latex(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "USUAL_KINDS", matplotlib_files.KINDS)
    plots = [confirm(80 + seed, seed, plan="P", flops=DENSE_FLOPS // 2, budget="50% flops") for seed in range(3)]
    out = tmp_path / "report"
    write_report([write_run("a", plots)], out)
    for part, kinds in (("figures", {"svg", "png", "pdf"}), ("tables", {"csv", "md", "tex"})):
        names = [path.name for path in (out / part).iterdir()]
        stems = {name.rpartition(".")[0] for name in names}
        assert set(names) == {f"{stem}.{kind}" for stem in stems for kind in kinds}
        assert stems
        assert all(path.stat().st_size > 40 for path in (out / part).iterdir())
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    for kind, start in starts.items():
        assert (out / "figures" / f"cifar10-resnet20-front-flops.{kind}").read_bytes().startswith(start)


def test_figures_are_svg_and_png_unless_other_kinds_are_asked_for_and_the_markdown_shows_what_there_is(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(matplotlib_files, "rendered", lambda figure, kind: kind.encode())
    run = write_run("a", [confirm(80, plan="P", flops=DENSE_FLOPS // 2, budget="50% flops")])
    out, front = tmp_path / "report", "figures/cifar10-resnet20-front-flops"
    for asked, there, shown in (
        ({"figures": ["pdf"]}, {"pdf"}, f"\n[top-1 against FLOPs]({front}.pdf)"),
        ({"figures": ("svg", "pdf", "svg")}, {"svg", "pdf"}, f"\n![top-1 against FLOPs]({front}.svg)"),
        ({}, {"svg", "png"}, f"\n![top-1 against FLOPs]({front}.png)"),
        ({"figures": []}, set(), ""),
    ):
        write_report([run], out, **asked)
        assert {path.suffix[1:] for path in (out / "figures").iterdir()} == there
        text = text_of(out)
        assert shown in text
        assert text.count(".svg)") + text.count(".png)") + text.count(".pdf)") == (
            0 if not there else text.count("](figures/")
        )
        assert "Confirmed networks: score against cost" in text


def test_a_kind_of_figure_that_there_is_not_is_refused_before_anything_is_written(
    write_run: Write, tmp_path: Path
) -> None:
    run = write_run("a", [confirm(80, plan="P", flops=DENSE_FLOPS // 2, budget="50% flops")])
    with pytest.raises(ValueError, match="figures are written as svg, png, pdf, or as none of these, got 'jpg'"):
        write_report([run], tmp_path / "report", figures=["png", "jpg"])
    with pytest.raises(TypeError, match=r"such as \['pdf'\], got 'pdf'"):
        write_report([run], tmp_path / "report", figures="pdf")
    assert not (tmp_path / "report").exists()


def test_every_figure_of_a_comparison_has_its_files(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_files, "rendered", lambda figure, kind: b"")
    with figure_writer(("svg",)) as artist:
        make_report(read_runs(runs), artist)
        stems = set(artist.files())
    keys = (
        "front-flops front-macs front-additions front-parameters front-latency plan protected trials-flops"
        " progress-1-best-by-training "
    )
    keys += "progress-1-hypervolume-by-training importance lambda-residual lambda-top-1 compression latency "
    keys += "agreement-predicted-damage-against-short-training"
    assert {f"figures/cifar10-resnet20-{key}.svg" for key in keys.split()} <= stems
    assert sum("-residuals-" in name for name in stems) == 3  # the structured plans that were trained with a weight
    assert all(name.isascii() for name in stems)


@one_report
def test_the_tidy_data_is_csv_and_parquet_and_both_agree(comparison: Path) -> None:
    for name in ("trials", "summary", "verdict", "effort", "progress"):
        parquet = pd.read_parquet(comparison / "data" / f"{name}.parquet")
        with open(comparison / "data" / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(parquet) > 0
        assert list(rows[0]) == list(parquet.columns)
    assert len(pd.read_parquet(comparison / "data" / "summary.parquet")) == 2 + 4 * len(METHODS)


@one_report
def test_the_page_comes_in_the_order_of_the_questions(comparison: Path) -> None:
    text = text_of(comparison)
    parts = [
        *("## Which network to take", "The smallest network within", "Confirmed networks: score against cost"),
        *("| network |", "## Which method is best at a budget", "At 50 % FLOPs, ", "## cifar10/resnet20"),
        *("### The plan", "### The search"),
    ]
    parts += ["### MACs are not milliseconds", "### All trials", "## Provenance", "Equal effort"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@one_report
def test_failures_and_provenance_stand_in_the_report(comparison: Path) -> None:
    text = text_of(comparison)
    assert "loss is nan at step 12 \\| λ too high" in text
    for fact in ("| commit | 0e6da41 |", "a" * 64, "b" * 64, "| inputs of one latency measurement | 16 |", "2 × CPU"):
        assert fact in text
    failed = sum('"failed"' in line for line in text_of(comparison, "data/trials.csv").splitlines())
    assert failed == 0 or f"{failed} failed" in text


def test_each_command_to_reproduce_is_a_row(write_run: Write, tmp_path: Path) -> None:
    commands = [f"sconv-search search --seed {seed} --data DATA" for seed in range(2)]
    write_report([write_run("a", [confirm(80, command=command) for command in commands])], tmp_path / "report")
    lines = text_of(tmp_path / "report", "tables/provenance.csv").splitlines()
    assert [line for line in lines if "reproduce" in line] == [
        f'"command to reproduce","{command}"' for command in commands
    ]


def test_effort_that_is_not_recorded_is_not_called_equal(write_run: Write, tmp_path: Path) -> None:
    write_report([write_run("a", [confirm(80, budget="50% flops")])], tmp_path / "report")
    text = text_of(tmp_path / "report")
    assert "Equal effort" not in text
    assert "not every run records: trainings planned, epochs of one search training" in text


@one_report
def test_the_page_is_one_small_file_that_loads_nothing(comparison: Path) -> None:
    html = text_of(comparison, "index.html")
    assert len(html.encode("utf-8")) < LARGEST
    assert html.count(library()) == 1
    rest = html.replace(library(), "")
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", rest)
    assert "default-src 'none'" in unescape(rest)


def test_unequal_effort_is_an_alarm(write_run: Write, tmp_path: Path) -> None:
    folders = [write_run(method, study(method, place)) for place, method in enumerate(METHODS[:2])]
    text = (folders[0] / "trials.jsonl").read_text().splitlines()
    (folders[0] / "trials.jsonl").write_text("\n".join(line for line in text if '"number": 3,' not in line))
    write_report(folders, tmp_path / "report")
    assert "**Unequal effort in cifar10/resnet20 at 50 % FLOPs." in text_of(tmp_path / "report")
    assert '<p class="banner alarm">Unequal effort' in text_of(tmp_path / "report", "index.html")


@one_report
def test_equal_effort_raises_no_alarm(comparison: Path) -> None:
    assert "Unequal effort in" not in text_of(comparison)


def test_a_run_in_progress_is_said(write_run: Write, tmp_path: Path) -> None:
    folder = write_run("a", [record(val_score=1.0, flops=4, budget="50% flops")])
    (folder / "spec.json").write_text(json.dumps({"methods": ["structured_conv"], "trials": 12}))
    write_report([folder], tmp_path / "report")
    assert "In progress: structured convolution in cifar10/resnet20 at 50 % FLOPs has 1 of 12 trainings." in text_of(
        tmp_path / "report"
    )


@pytest.mark.filterwarnings("ignore:Glyph")
def test_tasks_have_figures_of_their_own_names(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "USUAL_KINDS", ("png",))
    monkeypatch.setattr(matplotlib_files, "rendered", lambda figure, kind: b"png")
    tasks = ["a/b", "a-b", "../../etc", "日本"]
    folder = write_run("a", [confirm(80, task=task, flops=DENSE_FLOPS // 2) for task in tasks])
    written = write_report([folder], tmp_path / "report")
    pictures = {path.name for path in written if path.name.endswith("front-flops.png")}
    assert pictures == {f"{stem}-front-flops.png" for stem in ("a-b", "a-b-2", "etc", "日本")}
    assert {path.parent.parent for path in written if path.parent != tmp_path / "report"} == {tmp_path / "report"}


def test_the_same_runs_give_the_same_files(write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "USUAL_KINDS", ("svg",))
    folder = write_run("a", [confirm(80 + seed, seed, plan="P", flops=4, budget="50% flops") for seed in range(3)])
    first, second = write_report([folder], tmp_path / "one"), write_report([folder], tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_second_report_leaves_nothing_of_the_first_behind_but_what_is_not_its_own(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "USUAL_KINDS", ("svg",))
    out = tmp_path / "report"
    write_report([write_run("a", [confirm(80, task="first", flops=4)])], out)
    (out / "figures" / "mine.png").write_text("mine")
    write_report([write_run("b", [confirm(80, task="second", flops=4)])], out)
    stems = {path.name.partition("-")[0] for path in (out / "figures").iterdir()}
    assert stems == {"second", "mine.png"}


def test_dropped_lines_stand_in_the_report(write_run: Write, tmp_path: Path) -> None:
    told: list[str] = []
    write_report([write_run("a", [record(val_score=1.0, flops=4), "oops"])], tmp_path / "report", tell=told.extend)
    for name in ("summary.md", "index.html"):
        assert "trials.jsonl line 2 dropped: not JSON" in text_of(tmp_path / "report", name)
    assert "1 damaged line or file dropped" in text_of(tmp_path / "report")
    assert ["trials.jsonl line 2 dropped: not JSON" in message for message in told] == [True]


def test_a_search_without_any_score_still_gives_a_report(write_run: Write, tmp_path: Path) -> None:
    write_report([write_run("a", [record(status="failed", reason="nan")])], tmp_path / "report")
    assert "No trial has a score yet." in text_of(tmp_path / "report")
    assert "1 failed" in text_of(tmp_path / "report")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@pytest.fixture
def hostile(write_run: Write, tmp_path: Path) -> Path:
    names = {
        "study": HOSTILE,
        "task": HOSTILE,
        "reason": HOSTILE,
        "methods": HOSTILE,
        "machine": HOSTILE,
        "budget": HOSTILE,
    }
    failed = record(status="failed", **names)
    folder = write_run(
        "a", [failed, *(confirm(80, seed, variant=HOSTILE, plan=HOSTILE, flops=5, **names) for seed in range(3))]
    )
    (folder / "spec.json").write_text(json.dumps({"methods": [HOSTILE], "trials": HOSTILE, HOSTILE: HOSTILE}))
    write_report([folder], tmp_path / "report")
    return tmp_path / "report"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_are_text_in_html(hostile: Path) -> None:
    html = text_of(hostile, "index.html").replace(library(), "")
    tags = Tags()
    tags.feed(html)
    assert tags.tags.count("script") == 3  # the data, plotly and the page's own
    assert "img" not in tags.tags
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in html
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    assert any("&lt;script&gt;" in text for text in data["texts"])


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_are_text_in_markdown_and_latex(hostile: Path) -> None:
    text = text_of(hostile)
    assert "<script>" not in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 5
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    latex = "".join(path.read_text(encoding="utf-8") for path in (hostile / "tables").glob("*.tex"))
    assert r"\input" not in latex
    assert re.search(r"(?<!\\)\$x", latex) is None


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_survive_csv_and_parquet_as_they_are(hostile: Path) -> None:
    with open(hostile / "data" / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == [HOSTILE] * 4
    assert pd.read_parquet(hostile / "data" / "trials.parquet")["task"].to_list() == [HOSTILE] * 4


def test_formulas_in_texts_are_quoted_in_every_csv_and_numbers_are_not(write_run: Write, tmp_path: Path) -> None:
    starts = ("=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "=cmd|' /C calc'!A0")
    rows = [record(reason=start, val_loss=-1.5, status="failed", methods=start) for start in starts]
    rows.append(confirm(80, methods="=2+2", flops=5, budget="=9 flops"))
    write_report([write_run("a", rows)], tmp_path / "report")
    with open(tmp_path / "report" / "data" / "trials.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["reason"] for row in found[:-1]] == [f"'{start}" for start in starts]
    assert {row["val_loss"] for row in found[:-1]} == {"-1.5"}
    files = [*(tmp_path / "report" / "data").glob("*.csv"), *(tmp_path / "report" / "tables").glob("*.csv")]
    for path in files:
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))):
            assert not [cell for cell in row if cell[:1] in "=@\t\r" and cell], path.name


@pytest.mark.parametrize("inside", ["", "report"])
def test_a_file_in_the_way_is_named(write_run: Write, tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file.*choose another"):
        write_report([write_run("a", [record()])], tmp_path / "file" / inside)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", ["mkdir", "open"])
def test_no_permission_names_the_path(
    write_run: Write, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permission is taken away by hand: for root, who may run these tests, chmod stops nothing."""
    folder, usual = write_run("a", [record()]), getattr(Path, verb)

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if "report" in self.parts:
            raise PermissionError(13, "Permission denied")
        return usual(self, *args, **kwargs)

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


def test_studies_of_different_tasks_share_a_report(write_run: Write) -> None:
    folders = [write_run(task, study("structured_conv", 0, f"{task}/net")) for task in ("mnist", "cifar10")]
    blocks = make_report(read_runs(folders)).blocks
    titles = [block.text for block in blocks if getattr(block, "level", 0) == 2]
    assert titles == [
        *("Which network to take", "Which method is best at a budget", "cifar10/net", "mnist/net", "Provenance")
    ]


def saved_run(write_run: Write, scores: dict[str, Any] | None = None) -> Path:
    """A run with a dense network and two confirmed plans, whose weights lie in its folder."""
    dense = confirm((scores or {}).get("dense", 92.0), variant="dense", methods=None, flops=DENSE_FLOPS)
    rows = [dense]
    for number, flops, score in ((3, DENSE_FLOPS // 4, 90.5), (8, DENSE_FLOPS // 2, 91.5)):
        known = {"number": number, "plan": f"P{number}", "flops": flops, "budget": "50% flops"}
        rows += [confirm(score, seed, latency_ms=2.0, dense_latency_ms=4.0, **known) for seed in range(2)]
    folder = write_run("run", rows)
    (folder / "confirmed" / "searched-8-seed0").mkdir(parents=True)
    return folder


def test_the_answer_its_path_and_its_command_stand_in_page_and_markdown(write_run: Write, tmp_path: Path) -> None:
    folder = saved_run(write_run)
    write_report([folder], tmp_path / "report")
    command = f"sconv-search export {folder} --plan 8 --to onnx"
    html = unescape(text_of(tmp_path / "report", "index.html"))
    assert "The smallest network within" in html
    assert "plan 8 of run run: 50.0 % of the FLOPs, 2.00 ± 0.00 times as fast as dense" in html
    assert f"<code>{command}</code>" in html
    assert f"<code>{folder / 'confirmed' / 'searched-8-seed0'}</code>" in html
    text = text_of(tmp_path / "report")
    assert "**The smallest network within 1.0 points of dense (top-1 92.00 %): structured convolution, plan 8" in text
    assert f"- export: `{command}`" in text
    answers = json.loads(html.partition('id="data">')[2].partition("</script>")[0])["answers"][0]
    assert [answer["least"] for answer in answers] == [None, pytest.approx(0.5), pytest.approx(1.5)]


def test_of_another_metric_no_word_says_top_1(write_run: Write, tmp_path: Path) -> None:
    of = {"metric": "val loss", "metric_unit": "nat", "metric_better": "lower"}
    rows = [record(val_score=0.5 + number / 50, number=number, flops=5 + number, **of) for number in range(9)]
    rows += [confirm(0.4, variant="dense", methods=None, flops=DENSE_FLOPS, **of)]
    for seed in range(3):
        known = {"budget": "50% flops", "flops": DENSE_FLOPS // 2, "val_score": 0.41, "val_score_before": 0.4} | of
        rows.append(confirm(0.403 + seed / 100, seed, plan="P", number=1, val_score_after=0.9, **known))
        rows.append(confirm(0.503 + seed / 90, seed, plan="Q", number=2, methods="cp", **known))
    write_report([write_run("a", rows)], tmp_path / "report")
    html = unescape(text_of(tmp_path / "report", "index.html").replace(library(), ""))
    text = text_of(tmp_path / "report")
    for words in (html, text):
        assert "top-1" not in words
        assert "accuracy" not in words.lower()
        assert "test val loss (nat)" in words
    assert "structured convolution loses 0.013 ± 0.01 nat against the dense network; CP loses" in text
    found = pd.read_parquet(tmp_path / "report" / "data" / "verdict.parquet")
    assert found["family"].to_list()[:2] == ["structured_conv", "cp"]
    assert set(found["metric_better"]) == {"lower"}


def test_an_error_leaves_the_former_files_as_they_were(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = saved_run(write_run), tmp_path / "report"
    write_report([folder], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def broken(*blocks: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "to_html", broken)
    with pytest.raises(OSError, match="No space"):
        write_report([folder], out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not list(out.rglob("*.partial"))


def test_reports_need_neither_torch_nor_fvcore() -> None:
    code = "import sys, sconv_search.reports; print({'torch', 'fvcore', 'plotly'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "set()"
