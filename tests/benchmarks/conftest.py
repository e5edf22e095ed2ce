from __future__ import annotations

from collections.abc import Callable

import pytest


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
