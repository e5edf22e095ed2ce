from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "patient", deadline=None, derandomize=True
)  # a first call imports and compiles, and other processes share the cores
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, as pytest reads options from the conftest files it starts with alone."""
    parser.addoption(
        "--screenshots", type=Path, metavar="FOLDER", help="where browser tests put pictures of their pages"
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count how often something is measured; on a busy host it would be more."""
    monkeypatch.setattr("sconv_search.cost.timing.stolen_seconds", lambda: 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock of measurements shows, in seconds; only tests move it on."""
    now = [0.0]
    monkeypatch.setattr("sconv_search.cost.timing.perf_counter", lambda: now[0])
    return now
