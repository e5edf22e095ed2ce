from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).parents[2] / "benchmarks")
)  # scripts, not a package: they import one another by name


@pytest.fixture
def hindered(clock: list[float]) -> dict[str, Callable[[], None]]:
    """Two runs of 2 ms; what runs within 10 ms after *hinders* takes five times as long, as after threads that wait
    busily.
    """
    until = [0.0]

    def hinders() -> None:
        clock[0] += 0.002
        until[0] = clock[0] + 0.01

    def other() -> None:
        clock[0] += 0.002 if clock[0] >= until[0] else 0.01

    return {"hinders": hinders, "other": other}
