"""Matplotlib and plotly: what stands in their figures, that they draw the same data, and the same twice."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from sconv_search.reports import summarize
from sconv_search.reports.document.blocks import Plot
from sconv_search.reports.drawing import matplotlib_files
from sconv_search.reports.drawing.chart import Axis, Chart, HeatMap, Label, Nothing, Rule, Trace
from sconv_search.reports.drawing.matplotlib_files import Job, draw, figure_writer, job_files, rendered
from sconv_search.reports.drawing.plotly_figures import figure_json
from sconv_search.reports.drawing.styles import OTHERS, STYLES, styles
from sconv_search.reports.figures.pareto import search_figure
from sconv_search.reports.page import make_report
from sconv_search.reports.reading.records_table import read_runs
from tests.reports.conftest import METHODS, SCORES, run_folder, write_studies

TASK = "cifar10/resnet20"
HOSTILE = "<script>alert('$x^{')</script>\n\"a\", Größe \x00 %{y} %s"


@pytest.fixture(scope="module")
def pareto(table: pd.DataFrame) -> Chart:
    found = search_figure(table, summarize(table), TASK, SCORES).drawings["FLOPs"]
    assert isinstance(found, Chart)
    return found


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Chart | HeatMap]:
    """Every drawing of a whole report."""
    runs = write_studies(lambda name, lines: run_folder(tmp_path_factory.mktemp("runs") / name, lines))
    plots = [block for block in make_report(read_runs(runs)).blocks if isinstance(block, Plot)]
    return [drawing for plot in plots for drawing in plot.figure.drawings.values() if not isinstance(drawing, Nothing)]


def test_every_known_method_has_its_own_color_and_marker() -> None:
    assert len({color for color, _ in STYLES.values()}) == len({marker for _, marker in STYLES.values()}) == len(STYLES)
    assert set(METHODS) <= set(STYLES)
    assert len(styles([f"site{number}" for number in range(20)])) == 20
    assert len({*OTHERS}) == len(OTHERS)


def test_every_figure_of_a_report_is_valid_plotly_and_json(drawings: list[Chart | HeatMap]) -> None:
    assert len(drawings) >= 15
    for drawing in drawings:
        made = figure_json(drawing)
        go.Figure(data=made["data"], layout=made["layout"])  # it refuses unknown properties and values
        json.dumps(made, allow_nan=False)


def test_both_libraries_show_the_same_points(pareto: Chart) -> None:
    wanted = sorted((x, y) for trace in pareto.traces for x, y in zip(trace.x, trace.y, strict=True))
    interactive = [trace for trace in figure_json(pareto)["data"] if trace["x"] != [None]]
    found = sorted((x, y) for trace in interactive for x, y in zip(trace["x"], trace["y"], strict=True))
    assert [value for point in found for value in point] == pytest.approx(
        [value for point in wanted for value in point]
    )
    (axes,) = draw(pareto).axes
    lines = [
        line for line in axes.lines if line.get_transform() == axes.transData and line.get_label().startswith("_child")
    ]
    points = {(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert set(wanted) <= points


def test_confirmed_points_carry_the_key_of_their_table(pareto: Chart) -> None:
    keys = [key for trace in figure_json(pareto)["data"] for key in trace.get("customdata", [])]
    assert len(keys) == len(set(keys)) == 4 * len(METHODS)


def test_labels_and_legend_say_what_is_shown(pareto: Chart) -> None:
    figure = draw(pareto, TASK)
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert "structured convolution" in texts
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[0] == "dense: 91.70"
    assert "budget 50 %" in entries
    assert axes.get_ylabel() == "test top-1 (%)"
    assert axes.get_xlabel() == "FLOPs (2 MACs + additions), % of the dense network"
    names = [note["text"] for note in figure_json(pareto)["layout"]["annotations"]]
    assert any("spatial SVD" in name for name in names)
    assert "dense: 91.70" in names


def test_nothing_is_cut_off_and_the_legend_covers_no_point(drawings: list[Chart | HeatMap]) -> None:
    for drawing in drawings:
        figure = draw(drawing, TASK)
        figure.draw_without_rendering()
        whole = figure.bbox
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box.x0 >= whole.x0 - 1, drawing.title
            assert box.y0 >= whole.y0 - 1, drawing.title
            assert box.x1 <= whole.x1 + 1, drawing.title
            assert box.y1 <= whole.y1 + 1, drawing.title
            for legend in figure.legends:
                assert legend.get_window_extent().y1 <= box.y0 + 2, drawing.title


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_data_gives_the_same_bytes(pareto: Chart, kind: str) -> None:
    first, second = rendered(draw(pareto), kind), rendered(draw(pareto), kind)
    assert first == second
    assert len(first) > 10_000


def test_the_png_has_its_points_where_the_axes_put_them(pareto: Chart) -> None:
    figure = draw(pareto)
    picture = Image.open(io.BytesIO(rendered(figure, "png")))
    assert picture.size == (9 * 150, 5 * 150)
    # A confirmed point's color stands where the axes put it: y grows upwards there, downwards in the picture.
    (axes,) = figure.axes
    point = next(trace for trace in reversed(pareto.traces) if trace.kind == "strong")
    x, y = axes.transData.transform((point.x[-1], point.y[-1])) * 150 / figure.dpi
    assert (
        "#{:02X}{:02X}{:02X}".format(*picture.convert("RGB").getpixel((round(x), round(750 - y))))
        == STYLES[point.style][0]
    )


def hostile_chart() -> Chart:
    points: dict[str, Any] = {"x": [1.0, 2.0], "y": [3.0, 4.0], "texts": [HOSTILE, HOSTILE], "keys": [HOSTILE, ""]}
    trace = Trace(name=HOSTILE, style=HOSTILE, kind="strong", **points)
    rule, label = Rule(name=HOSTILE, at=3.0, axis="y"), Label(text=HOSTILE, style=HOSTILE, y=3.0)
    axis = Axis(label=HOSTILE)
    return Chart(title=HOSTILE, x=axis, y=axis, traces=[trace], rules=[rule], labels=[label], notes=[HOSTILE])


def hostile_map() -> HeatMap:
    words = {"rows": [HOSTILE], "columns": [HOSTILE], "texts": [[HOSTILE]], "hovers": [[HOSTILE]]}
    return HeatMap(title=HOSTILE, values=[[50.0]], label=HOSTILE, limits=(0.0, 100.0), **words)


@pytest.mark.parametrize("drawing", [hostile_chart(), hostile_map()], ids=["chart", "map"])
def test_hostile_names_draw_and_are_no_markup(drawing: Chart | HeatMap) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(drawing, HOSTILE)
        ElementTree.fromstring(rendered(figure, "svg"))
        rendered(figure, "pdf")
    made = figure_json(drawing)
    texts = [trace["hovertext"] for trace in made["data"] if "hovertext" in trace]
    assert "<script" not in json.dumps(made["layout"]) + json.dumps(texts)
    assert all("<script" not in str(trace.get("name", "")) for trace in made["data"])


@pytest.mark.parametrize("count", [2, 5, 40])
def test_what_is_counted_has_ticks_at_whole_numbers(count: int) -> None:
    trace = Trace(name="a", style="a", kind="steps", x=[1.0, float(count)], y=[3.0, 4.0], texts=["", ""])
    chart = Chart(
        title="t", x=Axis(label="x", limits=(0.0, 1.03 * count), whole=True), y=Axis(label="y"), traces=[trace]
    )
    figure = draw(chart)
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())
    assert ("dtick" in figure_json(chart)["layout"]["xaxis"]) == (count <= 12)


def test_lines_differ_by_shape_too(drawings: list[Chart | HeatMap]) -> None:
    """In files as on the page: color alone does not tell lines of different methods apart."""
    progress = [found for found in drawings if isinstance(found, Chart) and found.x.label == "trainings"]
    assert progress
    for chart in progress:
        lines = [line for line in draw(chart).axes[0].get_lines() if len(line.get_xdata()) > 1]
        assert len({line.get_marker() for line in lines}) == len({trace.style for trace in chart.traces}) > 1


def test_numbers_that_are_none_are_left_out_by_both() -> None:
    trace = Trace(name="a", style="a", kind="strong", x=[1.0, 2.0], y=[3.0, float("nan")])
    found = Chart(title="t", x=Axis(label="x", logarithmic=True), y=Axis(label="y"), traces=[trace])
    assert figure_json(found)["data"][0]["y"] == [3.0, None]
    rendered(draw(found), "png")


def test_points_beyond_the_upper_edge_are_arrows_upwards() -> None:
    trace = Trace(name="a", style="a", kind="above", x=[1.0], y=[3.0])
    chart = Chart(title="t", x=Axis(label="x"), y=Axis(label="y", limits=(0.0, 3.0)), traces=[trace])
    assert figure_json(chart)["data"][0]["marker"]["symbol"] == "triangle-up"
    assert draw(chart).axes[0].get_lines()[0].get_marker() == "^"


JOBS = [
    Job(
        stem=f"s{number}",
        heading="task",
        drawing=Chart(
            title=f"chart {number}",
            x=Axis(label="x"),
            y=Axis(label="y"),
            traces=[Trace(name="a", style="a", kind="strong", x=[1.0], y=[float(number)])],
        ),
    )
    for number in range(4)
]


@pytest.mark.parametrize("processors", [1, 2])
def test_the_files_are_the_same_whoever_draws_them(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_files, "_processors", lambda: processors)
    with figure_writer(("svg", "pdf")) as artist:
        for job in JOBS:
            artist.submit(job)
        files = artist.files()
    assert list(files) == [f"figures/{job.stem}.{kind}" for job in JOBS for kind in ("svg", "pdf")]
    assert files["figures/s3.svg"] == job_files(JOBS[3], ("svg",))["figures/s3.svg"]
    assert files["figures/s3.pdf"] == job_files(JOBS[3], ("pdf",))["figures/s3.pdf"]


def test_an_error_of_a_drawing_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_files, "_processors", lambda: 2)
    with figure_writer(("tiff-that-is-none",)) as artist:
        artist.submit(JOBS[0])
        with pytest.raises((ValueError, KeyError), match="tiff-that-is-none"):
            artist.files()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes that draw are forked")
def test_what_a_killed_process_was_to_draw_is_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_files, "_processors", lambda: 2)
    with figure_writer(["svg"]) as writer:
        assert writer.pool is not None
        os.kill(writer.pool.submit(os.getpid).result(), signal.SIGKILL)
        for job in JOBS:
            writer.submit(job)
        assert list(writer.files()) == [f"figures/{job.stem}.svg" for job in JOBS]


STOPPED = """
import os, signal, sys, time
from sconv_search.reports.drawing import matplotlib_files
from sconv_search.system.signals import stopping_in_order

matplotlib_files._processors = lambda: 2
try:
    with stopping_in_order(), matplotlib_files.figure_writer(["png"]) as writer:
        writer.pool.submit(os.getpid).result()
        time.sleep(0.1)  # now it waits for the next drawing
        os.killpg(0, int(sys.argv[1]))
        time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes that draw are forked")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_the_command_ends_its_drawings_without_a_word(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPED, str(int(number))]
    said = subprocess.run(command, capture_output=True, encoding="utf-8", start_new_session=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "stopped\n", "")


def test_names_of_lines_at_one_height_are_on_either_side_of_it() -> None:
    axis = Axis(label="points", limits=(0.0, 10.0))
    rules = [Rule(name=name, at=at, axis="y") for name, at in (("dense", 9.0), ("fine-tuned", 9.0), ("least", 8.0))]
    trace = Trace(name="a", style="a", kind="strong", x=[1.0], y=[8.5])
    chart = Chart(title="t", x=axis, y=axis, traces=[trace], rules=rules, labels=[Label(text="a", style="a", y=8.5)])
    notes = figure_json(chart)["layout"]["annotations"]
    sides = {note["text"]: note["yanchor"] for note in notes}
    assert {name: sides[name] for name in ("dense", "fine-tuned", "least")} == {
        "dense": "bottom",
        "fine-tuned": "top",
        "least": "top",
    }
