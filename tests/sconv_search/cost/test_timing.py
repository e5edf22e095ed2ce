"""Runs are measured by the clock in turn, and each is compiled on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sconv_search.cost.timing import ROUNDS, compiled, screened_in_turn, timed_in_turn


def test_the_clock_measures_each_run_in_turn(clock: list[float]) -> None:
    """Warmed up and repeated until the clock can tell, then one after the other; a slow spell falls on both."""
    order = list[str]()

    def run(name: str, seconds: float) -> None:
        clock[0] += seconds
        order.append(name)

    seconds = timed_in_turn({"short": lambda: run("short", 0.003), "long": lambda: run("long", 0.01)})
    assert seconds == {"short": pytest.approx([0.003] * ROUNDS), "long": pytest.approx([0.01] * ROUNDS)}
    assert order == ["short"] * 4 + ["long"] * 2 + ["short", "short", "long"] * ROUNDS


def test_what_is_clearly_slower_twice_is_measured_no_further(clock: list[float]) -> None:
    """Once may be the machine's own slow spell; then it is measured as often as the fastest."""
    calls = Counter[str]()
    each = {"fast": [1.0], "near": [1.4], "unlucky": [1.2, 9.0, 1.2], "hopeless": [1.6]}

    def run(name: str) -> None:
        given = each[name]
        clock[0] += given[min(calls[name], len(given) - 1)]
        calls[name] += 1

    seconds = screened_in_turn({name: lambda name=name: run(name) for name in each})
    assert seconds == {
        "fast": pytest.approx([1.0] * ROUNDS),
        "near": pytest.approx([1.4] * ROUNDS),
        "unlucky": pytest.approx([1.2] * ROUNDS),
        "hopeless": pytest.approx([1.6] * 2),
    }
    assert calls == {"fast": 2 + ROUNDS, "near": 2 + ROUNDS, "unlucky": 2 + ROUNDS, "hopeless": 3}


def test_every_run_is_compiled_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its limit on the forms of one function, torch would run them as they are, and that would be measured."""
    torch.compiler.reset()
    compile_, graphs = torch.compile, []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))
    x = torch.zeros(1, 2, 3, 3)
    for count in range(1, 13):
        run = compiled(nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(count))).eval(), x)
        run()
        run()
    assert len(graphs) == 12
