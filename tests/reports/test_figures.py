"""The drawing: what stands in it, and that it is the same twice."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from reports import summarize
from reports.figures import STYLES, draw, rendered
from reports.series import pareto_data
from reports.table import to_table
from sconv_search.records import TrialRecord
from tests.reports.conftest import METHODS, confirm, record

TASK = "cifar10/resnet20"
HOSTILE = "<script>alert('$x^{')</script>\n\"a\", Größe \x00 %s"


def data(records: list[TrialRecord], task: str = TASK):
    table = to_table(records)
    return pareto_data(table, summarize(table), task)


def test_every_known_method_has_its_own_colour_and_marker() -> None:
    assert len({color for color, _ in STYLES.values()}) == len({marker for _, marker in STYLES.values()}) == len(STYLES)
    assert set(METHODS) <= set(STYLES)


def test_legend_and_labels_say_what_is_shown(table: pd.DataFrame) -> None:
    figure = draw(pareto_data(table, summarize(table), TASK))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[2:4] == ["structured convolution", "spatial SVD"]
    assert entries[0] == "dense: 91.70"
    assert entries[-1] == "budget: 50 % of dense"
    (axes,) = figure.axes
    assert axes.get_ylabel() == "test top-1 (%)"
    assert axes.get_xlabel() == "FLOPs (2 MACs + additions), % of the dense network"
    assert any("search trials below" in text.get_text() for text in axes.texts)


def test_nothing_is_cut_off_and_the_legend_covers_no_point(table: pd.DataFrame) -> None:
    figure = draw(pareto_data(table, summarize(table), TASK))
    figure.draw_without_rendering()
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0]
    whole, inner = figure.bbox, axes.get_tightbbox()
    for box in (legend, inner):
        assert box.x0 >= whole.x0 - 1
        assert box.y0 >= whole.y0 - 1
        assert box.x1 <= whole.x1 + 1
        assert box.y1 <= whole.y1 + 1
    assert legend.x0 >= axes.get_window_extent().x1


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_data_gives_the_same_bytes(table: pd.DataFrame, kind: str) -> None:
    made = pareto_data(table, summarize(table), TASK)
    first, second = rendered(draw(made), kind), rendered(draw(made), kind)
    assert first == second
    assert len(first) > 10_000


@pytest.mark.filterwarnings("error")
def test_hostile_names_draw_and_the_svg_is_well_formed() -> None:
    made = data(
        [confirm(80, task=HOSTILE, methods=HOSTILE, flops=5), record(task=HOSTILE, methods="_x", val_top1=70.0, flops=4)],
        HOSTILE,
    )
    ElementTree.fromstring(rendered(draw(made), "svg"))


@pytest.mark.filterwarnings("error")
def test_a_task_without_scores_draws_and_says_so() -> None:
    axes = draw(data([record(status="failed")])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["no trial with a score yet"]
