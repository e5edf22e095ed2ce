from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "patient", deadline=None, derandomize=True
)  # a first call imports and compiles, and other processes share the cores
settings.load_profile("patient")


BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless chromium; without it the tests are skipped, and say what is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; `pip install playwright`"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed; on Debian `apt-get install chromium`")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield opened
        opened.close()
