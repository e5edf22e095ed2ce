"""Pages of real runs in a real browser.

Debian: ``apt-get install chromium``; then ``pip install -e .[dev]`` brings playwright, which needs no download of its
own here. ``pytest tests/browser --screenshots FOLDER`` keeps pictures to look at. Nothing is asserted of them, so no
other run takes any: a whole page can take a busy machine half a minute.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sconv_search import Choice, CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.reports import page as report_page
from sconv_search.reports import write_report
from tests.reports.conftest import confirm, record, write_studies

RUNS = Path(__file__).parent / "runs"
HOSTILE = "<img src=x onerror=document.title='run'><script>document.title='run'</script>\"'&amp; \n Größe 深 %{y}"


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``picture(what, name, **options)`` keeps a picture of a page or a part of it, where they are asked for."""
    folder: Path | None = request.config.getoption("--screenshots")

    def take(what: Any, name: str, **options: Any) -> None:
        if folder is not None:
            what.screenshot(path=folder / f"{name}.png", **options)

    return take


def _folder(root: Path, name: str, lines: list[Any]) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "trials.jsonl").write_text("".join(f"{line.to_json()}\n" for line in lines), encoding="utf-8")
    return root / name


def _hostile(root: Path) -> list[Path]:
    names = {
        "task": HOSTILE,
        "study": HOSTILE,
        "methods": HOSTILE,
        "machine": HOSTILE,
        "budget": "50% flops",
        "plan": CompressionPlan(sites={HOSTILE: Choice(method=HOSTILE, structure={"rank": 1})}).to_json(),
    }
    rows = [confirm(80.0 + seed, seed, flops=40_000_000, **names) for seed in range(3)]
    rows.append(record(status="failed", reason=HOSTILE, **names))
    folder = _folder(root, "hostile", rows)
    (folder / "spec.json").write_text(json.dumps({"methods": [HOSTILE], HOSTILE: HOSTILE}))
    return [folder]


def _with_networks(root: Path, source: Path) -> list[Path]:
    """The runs, with a folder for each confirmed network, as ``confirm`` leaves them."""
    shutil.copytree(source, root)
    for run in root.iterdir():
        for line in (run / "trials.jsonl").read_text(encoding="utf-8").splitlines():
            found = TrialRecord.from_json(line)
            if found.stage == "confirm":
                label = found.plan_name if found.number is None else f"{found.variant}-{found.number}"
                (run / "confirmed" / f"{label}-seed{found.seed}").mkdir(parents=True, exist_ok=True)
    return sorted(root.iterdir())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> page: the demo, ResNet-20 on CIFAR-10 (both real runs), six methods (made up), hostile names."""
    root = tmp_path_factory.mktemp("pages")
    runs = {name: _with_networks(root / f"{name}-runs", RUNS / name) for name in ("demo", "resnet20")}
    runs["six"] = write_studies(lambda name, lines: _folder(root / "six-runs", name, list(lines)))
    runs["hostile"] = _hostile(root)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report_page, "USUAL_KINDS", ())  # the page holds its own figures
        for name, folders in runs.items():
            write_report(folders, root / name)
    return {name: root / name / "index.html" for name in runs}
