"""The page opens from disk without a network, shows its figures, and answers the mouse: light, dark, and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
LOOKS = {
    "light": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
}
PAGES = [
    *((name, look) for name in ("demo", "resnet20", "six", "hostile") for look in ("light", "phone-dark")),
    *(("six", "dark"), ("six", "phone")),
]
"""Every page on both screens and grounds; the other two pairs of them with the page that shows most."""
FRONT, TRIALS = (f'.figure[data-key="{key}"] .plot' for key in ("front", "trials"))
PATIENCE_MS = 180_000
"""What is waited for takes milliseconds, but other processes share the cores; only what never comes is a fault."""
METRICS = ("FLOPs", "MACs", "additions", "parameters", "latency")
MARKS = ".scatterlayer .points path, .scatterlayer .lines path, .heatmaplayer image"
# Points that have data but no marker on the page: drawn as nothing, or left over from another drawing.
LOST = """plot => plot._fullData
  .filter(trace => trace.type === 'scatter' && trace.mode.includes('markers') && trace.x[0] !== null)
  .filter(trace => {
    const group = plot.querySelector('.trace' + trace.uid);
    const paths = group ? [...group.querySelectorAll('.points path')] : [];
    const visible = path => path.getBoundingClientRect().width > 2 && getComputedStyle(path).display !== 'none';
    const shown = paths.filter(visible);
    return shown.length < trace.x.filter(x => x !== null).length;
  }).map(trace => trace.name + ' ' + trace.meta.kind)"""
# Texts of a figure that reach out of it are cut off; a text that is not drawn has no width.
CUT_OFF = """plot => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('svg text')].filter(text => {
    const own = text.getBoundingClientRect();
    return own.width > 0 && !text.closest('.hoverlayer') && !text.closest('.modebar')
      && (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1);
  }).map(text => text.textContent);
}"""
# A map's columns and rows are all named: plotly by itself hides labels that have no room.
NAMELESS = """plot => plot._fullData.filter(trace => trace.type === 'heatmap').filter(trace =>
  plot.querySelectorAll('.xtick text').length < trace.x.length
  || plot.querySelectorAll('.ytick text').length < trace.y.length
  || [...plot.querySelectorAll('.xtick text, .ytick text')].some(text =>
    text.getBoundingClientRect().width < 1 || getComputedStyle(text).opacity === '0')
).map(trace => trace.x.length + ' columns')"""
# Rows of tables whose cells are wrapped to many short lines; so many pixels a row are 8 lines.
TALL = """() => [...document.querySelectorAll('tbody tr')].filter(row => row.getBoundingClientRect().height > 200
  && ![...row.children].some(cell => cell.textContent.length > 120)).map(row => row.innerText.slice(0, 80))"""
WIDER = """() => [...document.querySelectorAll('body *')].filter(one =>
    !one.closest('.scroll') && !one.closest('svg') && one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => one.outerHTML.slice(0, 80))"""


def eventually(tab: Any, condition: str, arg: Any = None) -> None:
    """Waits until the condition holds in the page.

    Asks from outside: playwright's ``wait_for_function`` asks again by ``eval`` in the page, which its own policy
    forbids.
    """
    deadline = monotonic() + PATIENCE_MS / 1000
    while not tab.evaluate(condition, arg):
        assert monotonic() < deadline, f"never came true: {condition}"
        tab.wait_for_timeout(50)


@contextmanager
def opened(browser: Any, page: Path, look: str, figures: str = ".plot") -> Iterator[tuple[Any, list[str]]]:
    """The page, scrolled through once so that every figure is drawn; and all that went wrong, requests included.

    Args:
        figures: those that are scrolled to, where a test looks at few: to draw all takes most of its time.
    """
    context = browser.new_context(offline=True, **LOOKS[look])
    context.set_default_timeout(PATIENCE_MS)
    tab, complaints = context.new_page(), []
    tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    asked = lambda request: complaints.append(f"asked for {request.url}")  # noqa: E731
    tab.on("request", lambda request: None if request.url.startswith(("data:", page.as_uri())) else asked(request))
    tab.goto(page.as_uri())
    for plot in tab.query_selector_all(figures):
        plot.evaluate("plot => plot.scrollIntoView()")
        eventually(tab, "plot => plot.dataset.width || plot.hidden", plot)
    yield tab, complaints
    context.close()


@pytest.mark.parametrize(("name", "look"), PAGES)
def test_the_page_opens_whole(
    browser: Any, pages: dict[str, Path], picture: Callable[..., None], name: str, look: str
) -> None:
    with opened(browser, pages[name], look) as (tab, complaints):
        plots = tab.query_selector_all(".plot")
        assert len(plots) >= 8
        for plot in plots:
            if plot.is_visible():
                title = plot.get_attribute("aria-label")
                assert plot.query_selector_all(MARKS), f"{title} shows nothing"
                assert plot.evaluate(CUT_OFF) == [], f"{title} is cut off"
                assert plot.evaluate(LOST) == [], f"{title} has lost points"
                assert plot.evaluate(NAMELESS) == [], f"{title} lacks names"
            else:
                assert plot.evaluate("plot => plot.parentElement.querySelector('.missing').textContent.length") > 20
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("innerWidth")
        assert tab.evaluate(WIDER) == []
        assert name == "hostile" or tab.evaluate(TALL) == []
        assert tab.title() == "sconv-search report"
        assert complaints == []
        tab.evaluate("scrollTo(0, 0)")
        picture(tab, f"{name}-{look}", full_page=True)


@pytest.mark.parametrize(("name", "look"), [("demo", "phone-dark"), ("resnet20", "light"), ("six", "light")])
def test_the_switch_changes_the_axis_and_the_points(
    browser: Any, pages: dict[str, Path], picture: Callable[..., None], name: str, look: str
) -> None:
    with opened(browser, pages[name], look, FRONT) as (tab, complaints):
        figure = tab.locator('.figure[data-key="front"]').first
        titles, places = [], []
        for metric in METRICS:
            figure.get_by_role("button", name=metric, exact=True).click()
            assert figure.locator('button[aria-pressed="true"]').all_inner_texts() == [metric]
            tab.wait_for_timeout(60)
            other = "known => document.querySelector('.figure[data-key=front] .xtitle').textContent !== known"
            eventually(tab, other, titles[-1] if titles else "")
            titles.append(figure.locator(".xtitle").text_content())
            places.append(figure.locator(".plot").evaluate("plot => JSON.stringify(plot.data.map(trace => trace.x))"))
            assert figure.locator(".plot").evaluate(CUT_OFF) == []
            assert figure.locator(".plot").evaluate(LOST) == []
            picture(figure, f"{name}-{look}-pareto-{metric}")
        assert len(set(titles)) == len(set(places)) == len(METRICS)
        assert complaints == []


def test_every_drawing_of_every_switch_is_whole(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["six"], "light") as (tab, complaints):
        for button in tab.locator(".switch button").all():
            button.click()
            figure = button.locator("xpath=ancestor::div[contains(@class, 'figure')]")
            plot = figure.locator(".plot")
            if plot.is_visible():
                tab.wait_for_timeout(30)
                assert plot.locator(MARKS).count() > 0, button.inner_text()
                assert plot.evaluate(CUT_OFF) == [], button.inner_text()
                assert plot.evaluate(LOST) == [], button.inner_text()
            else:
                assert len(figure.locator(".missing").inner_text()) > 20
        assert complaints == []


def confirmed_point(tab: Any) -> Any:
    """The first strong point of the Pareto figure, scrolled into sight."""
    place = tab.evaluate("""() => {
      const plot = document.querySelector('.figure[data-key="front"] .plot');
      return plot.data.findIndex(trace => trace.meta && trace.meta.kind === 'strong');
    }""")
    plot = tab.locator('.figure[data-key="front"] .plot').first
    plot.scroll_into_view_if_needed()
    handle = plot.evaluate_handle(f"plot => plot.calcdata[{place}][0].node3.node().querySelector('.points path')")
    box = handle.as_element().bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize(("name", "look"), [("demo", "light"), ("resnet20", "dark")])
def test_hovering_names_the_plan_and_a_click_opens_its_table(
    browser: Any, pages: dict[str, Path], picture: Callable[..., None], name: str, look: str
) -> None:
    with opened(browser, pages[name], look, FRONT) as (tab, complaints):
        tab.evaluate("""document.querySelector('.figure[data-key="front"]').scrollIntoView()""")
        x, y = confirmed_point(tab)
        tab.mouse.move(x, y)
        tab.wait_for_selector(".hoverlayer .hovertext")
        shown = "".join(tab.locator(".hoverlayer").all_text_contents())
        assert "plan " in shown
        assert "test top-1" in shown
        picture(tab.locator('.figure[data-key="front"]').first, f"{name}-{look}-hover")
        assert tab.locator("details[open]").count() == 0
        tab.mouse.click(x, y)
        tab.wait_for_selector("details.picked[open]")
        table = tab.locator("details.picked")
        title = table.locator("summary").inner_text()
        plan = title[title.index("plan ") : title.index(":")]
        assert plan in shown.replace("\xa0", " ")
        assert "FLOPs kept (%)" in table.inner_text()
        assert table.locator("tbody tr").count() >= 7
        assert plan in tab.locator(".chosen").first.inner_text()
        tab.wait_for_timeout(500)
        picture(tab, f"{name}-{look}-click")
        assert complaints == []


def brightness(color: str) -> float:
    numbers = [float(part) for part in color[color.index("(") + 1 : color.index(")")].split(",")[:3]]
    return sum(numbers) / 3


def test_dark_is_dark_and_follows_the_reader_s_choice(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["demo"], "dark", FRONT) as (tab, complaints):
        colors = (
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('.xtitle')).fill]"
        )
        dark = tab.evaluate(colors)
        assert brightness(dark[0]) < 60 < 190 < brightness(dark[1])
        tab.emulate_media(color_scheme="light")
        eventually(tab, f"dark => {colors}.every((color, place) => color !== dark[place])", dark)
        ground, words = tab.evaluate(colors)
        assert brightness(words) < 60 < 190 < brightness(ground)
        assert complaints == []


def test_the_figures_follow_the_window_s_width(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["demo"], "light") as (tab, complaints):
        tab.set_viewport_size({"width": 390, "height": 844})
        widths = "[...document.querySelectorAll('.main-svg')].map(one => one.getBoundingClientRect().width)"
        eventually(tab, f"document.documentElement.scrollWidth <= 390 && Math.max(...{widths}) <= 390")
        assert len(tab.evaluate(widths)) >= 8
        assert complaints == []


@pytest.mark.parametrize(("look", "least"), [("light", 0.4), ("dark", 0.7)])
def test_faint_points_are_seen_on_either_ground(browser: Any, pages: dict[str, Path], look: str, least: float) -> None:
    with opened(browser, pages["resnet20"], look, TRIALS) as (tab, complaints):
        faint = tab.locator('.figure[data-key="trials"] .plot').first.evaluate(
            "plot => plot.data.filter(trace => trace.meta && trace.meta.kind === 'faint').map(trace => trace.opacity)"
        )
        assert faint
        assert all(least <= opacity < 1 for opacity in faint)
        assert complaints == []


LINES = """() => document.querySelector('.figure[data-key="front"] .plot').layout.shapes
  .filter(shape => shape.name === 'tolerance').map(shape => shape.y0)"""


def test_the_tolerance_changes_the_answer_its_command_and_the_line(
    browser: Any, pages: dict[str, Path], picture: Callable[..., None]
) -> None:
    with opened(browser, pages["demo"], "light", FRONT) as (tab, complaints):
        question = tab.locator(".question").first
        field = question.locator("input")
        (line,) = tab.evaluate(LINES)
        dense = line + float(field.input_value())
        answers = []
        for tolerance in ("0", "1.0", "1.5"):
            field.fill(tolerance)
            answers.append((question.locator(".smallest").inner_text(), question.locator(".export code").inner_text()))
            assert tab.evaluate(LINES) == [pytest.approx(dense - float(tolerance))]
            tab.locator('.figure[data-key="front"]').get_by_role("button", name="MACs", exact=True).click()
            assert tab.evaluate(LINES) == [pytest.approx(dense - float(tolerance))]
            picture(question, f"question-{tolerance}")
        assert answers[0][0].startswith("none of the 8 confirmed networks. The nearest: spatial SVD, plan 2 of run")
        assert "plan 0 of run demo-spatial_svd-25" in answers[1][0]
        assert "uniform plan of run demo-spatial_svd-25" in answers[2][0]
        assert answers[2][1].endswith("demo-spatial_svd-25 --plan uniform --to onnx")
        field.fill("")
        assert question.locator(".smallest").inner_text() == answers[2][0]
        assert complaints == []


def test_a_button_copies_the_command(browser: Any, pages: dict[str, Path]) -> None:
    empty = "field => { field.type = 'text'; field.value = ''; field.focus(); }"
    with opened(browser, pages["demo"], "light", FRONT) as (tab, complaints):
        export = tab.locator(".question .export").first
        command = export.locator("code").inner_text()
        export.get_by_role("button").click()
        eventually(tab, "() => document.querySelector('.question .export button').textContent === 'copied'")
        tab.locator(".question input").first.evaluate(empty)
        tab.keyboard.press("Control+V")
        assert tab.locator(".question input").first.input_value() == command
        row = tab.locator("tbody tr", has_text="spatial SVD, uniform").first
        row.get_by_role("button").first.click()
        tab.locator(".question input").first.evaluate(empty)
        tab.keyboard.press("Control+V")
        assert tab.locator(".question input").first.input_value().endswith("--plan uniform --to onnx")
        assert complaints == []


def test_the_links_to_layers_open_them(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["demo"], "light", FRONT) as (tab, complaints):
        link = tab.locator(".question .layers").first
        link.click()
        assert tab.locator(link.get_attribute("href")).get_attribute("open") is not None
        assert complaints == []
