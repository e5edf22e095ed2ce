"""The folders mean something: who may import whom, and one doorway for each large library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "sconv_search": set(),
    "baselines": {"sconv_search"},
    "studies": {"sconv_search", "baselines", "reports"},
    "reports": {"sconv_search"},
}
DOORWAYS = {
    "fvcore": {"sconv_search/cost/counting.py"},
    "lightning_fabric": {"sconv_search/training/distributed.py"},
    "optuna": {"studies/samplers/study.py", "studies/samplers/optuna_samplers.py", "studies/samplers/halving.py"},
    "matplotlib": {"reports/figures.py", "reports/vector.py"},
    "pypdfium2": {"reports/raster.py"},
    "plotly": {"reports/interactive.py"},
    "pyarrow": {"reports/export.py", "reports/bulk.py"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    package = package_of(path)
    ours = {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT) - {package}
    assert ours <= MAY_IMPORT[package]
    if package == "studies" and path.name != "cli.py":
        assert "reports" not in ours


def test_reports_read_records_alone() -> None:
    ours = {
        name
        for path in FILES
        if package_of(path) == "reports"
        for name in imported(path)
        if name.startswith("sconv_search")
    }
    assert ours == {
        "sconv_search.budget",
        "sconv_search.records",
        "sconv_search.strict_json",
        "sconv_search.system.files",
    }


@pytest.mark.parametrize("name", ["plan", "records", "budget", "strict_json", "whole_file"])
def test_the_values_need_the_standard_library_alone(name: str) -> None:
    ours = {"sconv_search.strict_json", *(["sconv_search.records"] if name == "budget" else [])}
    modules = set(imported(ROOT / "sconv_search" / f"{name}.py")) - ours
    assert {module.split(".")[0] for module in modules}.isdisjoint({"torch", "numpy", "pandas", "sconv_search"})


@pytest.mark.parametrize("library", DOORWAYS)
def test_large_libraries_have_one_doorway(library: str) -> None:
    users = {
        str(path.relative_to(ROOT)) for path in FILES if library in {name.split(".")[0] for name in imported(path)}
    }
    assert users == DOORWAYS[library]


def test_pandas_is_used_in_reports_alone() -> None:
    assert {package_of(path) for path in FILES if "pandas" in imported(path)} == {"reports"}
