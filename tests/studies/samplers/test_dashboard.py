"""optuna-dashboard shows a search in PostgreSQL: plans, costs and the front, in a real browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.search.local_postgres import Server
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.search.runner import search

pytestmark = [pytest.mark.usefixtures("untrained"), pytest.mark.xdist_group("postgresql")]
PATIENCE_S = 60.0


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """The program serving a database, and its address."""
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("optuna-dashboard is not installed; `pip install optuna-dashboard`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([program, "--host", "127.0.0.1", "--port", str(port), storage], **quiet)  # type: ignore[call-overload]  # two streams
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(address))
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/dashboard").close()
    except OSError:
        return False
    return True


def wait_for(is_so: Callable[[], bool]) -> None:
    """However slow the machine is; what never comes fails."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.2)


def test_the_dashboard_shows_plans_costs_and_the_front(
    server: Server, context: StudyContext, spec: StudySpec, tmp_path: Path, browser: Any
) -> None:
    folder = RunFolder(tmp_path / "front-for-the-dashboard")
    records = search(context, replace(spec, budget="40%..90%", trials=5), folder, storage=server.url())
    with dashboard(server.url()) as address:
        page = browser.new_page()
        page.goto(f"{address}/dashboard")
        page.get_by_text(folder.name).first.click()
        page.get_by_text("Pareto Front", exact=False).first.wait_for(timeout=1e3 * PATIENCE_S)
        study = page.url.rstrip("/").rpartition("/")[2]
        plotted = "() => document.querySelectorAll('.js-plotly-plot .points path').length"
        wait_for(lambda: int(page.evaluate(plotted)) >= len(records))
        page.goto(f"{address}/dashboard/studies/{study}/trials")
        page.get_by_text("User Attributes").first.wait_for(timeout=1e3 * PATIENCE_S)
        shown = page.inner_text("body")
        page.close()
    first = records[0]
    assert "5 Trials" in shown
    assert first.plan in shown.replace("\n", "")
    assert f"flops {first.flops}" in " ".join(shown.split())
