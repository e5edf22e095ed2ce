"""Bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from studies.monitor import RichMonitor


def test_bars_nest_on_one_terminal() -> None:
    out = io.StringIO()
    monitor = RichMonitor(Console(file=out, force_terminal=True, width=120))
    with monitor.bar("outer") as outer:
        outer(1, 2)
        with monitor.bar("inner"):
            monitor.say("a line draws the bars anew")
        both = out.getvalue()
        monitor.say("the outer bar goes on")
        rest = out.getvalue()[len(both) :]
    assert all(text in both for text in ("outer", "1/2", "inner", "a line draws the bars anew"))
    assert ("outer" in rest.partition("goes on")[2], "inner" in rest.partition("goes on")[2]) == (True, False)
    with monitor.bar("afterwards"):
        monitor.say("and a new one begins")
    assert "afterwards" in out.getvalue()


def test_a_pipe_sees_lines_alone() -> None:
    out = io.StringIO()
    monitor = RichMonitor(Console(file=out))
    with monitor.bar("work") as step:
        step(1, 2)
        monitor.say("[news]")
    assert out.getvalue() == "[news]\n"
