"""What stands in the page's data cannot break out of it."""

from __future__ import annotations

import json
import re

import pytest

from sconv_search.reports.document.blocks import Heading, Plot
from sconv_search.reports.document.html import to_html
from sconv_search.reports.drawing.chart import Axis, Chart, Figure, Nothing, Trace
from sconv_search.reports.drawing.plotly_figures import library

HOSTILE = "</script><script>alert(1)</script><!--\u2028"


def page_of(figure: Figure) -> str:
    plot = Plot(figure=figure, stems=dict.fromkeys(figure.drawings, "stem"))
    return to_html("title", [Heading(text="a report", level=1), plot]).replace(library(), "")


def data_of(page: str) -> dict:
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def chart(**entries) -> Chart:
    trace = Trace(name="a", style="a", kind="strong", x=[1.0], y=[2.0], texts=[HOSTILE])
    return Chart(title="t", x=Axis(label="x"), y=Axis(label="y"), traces=[trace], **entries)


@pytest.mark.parametrize(
    "drawing",
    [Nothing(title="t", reason=HOSTILE), chart(notes=[HOSTILE])],
    ids=["a sentence for a figure", "a note under one"],
)
def test_texts_that_are_not_plotly_s_come_back_whole(drawing: Chart | Nothing) -> None:
    page = page_of(Figure(key="k", title=HOSTILE, drawings={"": drawing}, caption=HOSTILE))
    assert len(re.findall("<script", page)) == 3
    (stored,) = data_of(page)["figures"].values()
    assert HOSTILE in (stored.get("missing"), *stored.get("notes", []))


def test_the_drawing_that_opens_first_shows_something() -> None:
    page = page_of(Figure(key="k", title="t", drawings={"none": Nothing(title="t", reason="because"), "some": chart()}))
    assert re.search(r'data-figure="f1" aria-pressed="true">some<', page)
    assert 'class="plot" role="img" aria-label="t" data-figure="f1"' in page


def test_a_hover_text_that_several_drawings_share_is_stored_once() -> None:
    page = page_of(Figure(key="k", title="t", drawings={"one": chart(), "two": chart()}))
    stored = data_of(page)
    assert len(stored["texts"]) == 1
    assert {tuple(figure["data"][0]["hovertext"]) for figure in stored["figures"].values()} == {(0,)}
