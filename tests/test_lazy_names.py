"""Packages that load their names when they are asked for: every name is there, and nothing is loaded before."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in sorted((ROOT / "sconv_search").glob("**/__init__.py"))
    if "lazy_names" in path.read_text(encoding="utf-8")
] + ["sconv_search.studies"]


@pytest.mark.parametrize("package", sorted(set(PACKAGES)))
def test_every_name_is_there(package: str) -> None:
    module = import_module(package)
    assert set(module._HOMES) == set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", sorted(set(PACKAGES)))
def test_static_tools_see_the_same_names(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.asname or alias.name: f"{node.module}:{alias.name}" if alias.asname else str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"{package}.{home}" for name, home in module._HOMES.items()}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sconv_search' has no attribute 'nothing'"):
        getattr(import_module("sconv_search"), "nothing")  # noqa: B009  # a static tool would refuse the other way


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        ("import sconv_search", {"torch", "pandas", "optuna", "fvcore", "typer"}),
        ("import sconv_search.plan, sconv_search.budget, sconv_search.records", {"torch", "numpy", "pandas"}),
        ("import sconv_search.reports", {"torch", "fvcore", "optuna"}),
        ("from sconv_search import report", {"torch", "fvcore", "optuna"}),
    ],
)
def test_imports_load_only_what_they_need(statement: str, without: set[str]) -> None:
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert not without & set(loaded.split())
