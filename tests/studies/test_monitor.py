"""Bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sconv_search.studies.monitor import RichMonitor, monitor_of


def test_bars_nest_on_one_terminal() -> None:
    out = io.StringIO()
    monitor = RichMonitor(Console(file=out, force_terminal=True, width=120))
    with monitor.bar("outer") as outer:
        outer(1, 2)
        with monitor.bar("inner"):
            monitor.say("a line draws the bars anew")
    shown = out.getvalue()
    assert all(text in shown for text in ("outer", "1/2", "inner", "a line draws the bars anew"))


def test_a_pipe_sees_lines_alone() -> None:
    out = io.StringIO()
    monitor = RichMonitor(Console(file=out))
    with monitor.bar("work") as step:
        step(1, 2)
        monitor.say("[news]")
    assert out.getvalue() == "[news]\n"


@pytest.mark.parametrize(("terminal", "notebook"), [(False, False), (True, False), (False, True)])
def test_bars_are_shown_by_default_in_a_terminal_and_in_a_notebook(
    terminal: bool, notebook: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "is_terminal", terminal)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    assert isinstance(monitor_of(), RichMonitor) is (terminal or notebook)
    assert isinstance(monitor_of(True), RichMonitor)
    assert not isinstance(monitor_of(False), RichMonitor)
