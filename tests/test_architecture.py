"""The folders mean something: which room may import which, and one doorway for each large library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VALUES = "values"
"""The modules that lie directly in ``sconv_search/``: plans, budgets, records, the protocol of methods."""
ROOMS = {
    VALUES: set(),
    "system": {VALUES},
    "data": {VALUES, "system"},
    "networks": {VALUES, "system", "data"},
    "cost": {VALUES, "system"},
    "calibration": {VALUES, "system", "cost"},
    "channels": {VALUES, "system", "cost"},
    "search_space": {VALUES, "system"},
    "structured": {VALUES, "system", "cost", "calibration"},
    "training": {VALUES, "system", "cost", "data", "structured"},
    "inference": {VALUES, "system", "cost", "calibration", "structured"},
    "baselines": {VALUES, "system", "cost", "calibration", "channels"},
    "reports": {VALUES, "system"},
    "studies": {
        *(VALUES, "system", "data", "networks", "cost", "calibration", "channels", "search_space", "structured"),
        *("training", "inference", "baselines", "reports"),
    },
}
"""Room -> the rooms that it may import. There is no circle: each names only rooms above it."""
STUDY_ROOMS = {
    "": set(),
    "samplers": {""},
    "runs": {""},
    "space": {"", "runs"},
    "trials": {"", "runs"},
    "executors": {""},
    "search": {"", "samplers", "runs", "space", "trials", "executors"},
    "oneshot": {"", "runs", "space"},
    "folder_tasks": {""},
    "options": {""},
    "callbacks": {""},
    "commands": {"", "samplers", "runs", "space", "trials", "executors", "search", "oneshot", "options"},
}
"""The same within ``studies/``. "" are the values that its rooms share, among them methods, tasks and the context."""
STUDY_ENTRANCES = {"api", "cli", "confirmation", "export", "__init__", "__main__"}
"""Modules directly in ``studies/`` that put its rooms together, which only they and commands import."""
REPORT_ROOMS = {
    "wording": set(),
    "drawing": {"wording"},
    "reading": {"wording"},
    "analysis": {"reading", "wording"},
    "figures": {"analysis", "drawing", "reading", "wording"},
    "document": {"analysis", "drawing", "wording"},
    "sections": {"analysis", "document", "drawing", "figures", "reading", "wording"},
}
"""The same within ``reports/``; its other modules put the rooms together."""
DOORWAYS = {
    "fvcore": {"sconv_search/cost/counting.py"},
    "lightning_fabric": {"sconv_search/training/distributed.py"},
    "optuna": {f"studies/samplers/{name}.py" for name in ("study", "optuna_samplers", "halving", "database", "mirror")},
    "psycopg": set(),  # SQLAlchemy loads it
    "sqlalchemy": set(),  # the sampler's database loads it when there is one
    "jinja2": {"reports/document/html.py"},
    "matplotlib": {"reports/drawing/matplotlib_files.py"},
    "moocore": {"reports/analysis/fronts.py"},
    "plotly": {"reports/drawing/plotly_figures.py"},
    "pyarrow": {"reports/data_files.py"},
    "ray": {"studies/executors/ray_cluster.py"},
}
MOST_MODULES = 16
"""In one folder; a larger one wants rooms of its own."""
FACADE = (ROOT / "sconv_search" / "__init__.py", ROOT / "sconv_search" / "__main__.py")
"""The modules that point up: the names that users import, loaded when they are used, and the program."""
TOPS = {"sconv_search": "", "baselines": "baselines", "studies": "studies", "reports": "reports"}
FILES = [
    path
    for top in TOPS
    for path in sorted((ROOT / top).rglob("*.py"))
    if path not in FACADE and not any(parent.is_symlink() for parent in path.relative_to(ROOT).parents if parent.parts)
]


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Modules that a file imports, with the names that it takes from them."""
    names = list[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def parts_of(path: Path) -> list[str]:
    """A file's place in the package: ``studies/space/sites.py`` is studies, space, sites."""
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return [*([TOPS[top]] if TOPS[top] else []), *rest]


def room_of(parts: list[str]) -> str:
    return parts[0] if parts[0] in ROOMS else VALUES


def ours(path: Path) -> Iterator[list[str]]:
    for name in imported(path):
        package, *parts = name.split(".")
        assert package not in ("baselines", "studies", "reports"), f"{name} is sconv_search.{name}"
        if package == "sconv_search" and parts:
            yield parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    room = room_of(parts_of(path))
    assert {room_of(parts) for parts in ours(path)} - {room} <= ROOMS[room]


def study_room(parts: list[str]) -> str:
    return parts[1] if len(parts) > 1 and parts[1] in STUDY_ROOMS else ""


@pytest.mark.parametrize(
    "path", [path for path in FILES if parts_of(path)[0] == "studies"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_rooms_of_studies_follow_their_arrows(path: Path) -> None:
    own = parts_of(path)
    inside = [parts for parts in ours(path) if parts[0] == "studies"]
    if study_room(own) == "" and own[1] in STUDY_ENTRANCES:
        return
    assert {study_room(parts) for parts in inside} - {study_room(own)} <= STUDY_ROOMS[study_room(own)]
    if study_room(own) != "commands":
        assert not {parts[1] for parts in inside if len(parts) > 1} & STUDY_ENTRANCES


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if parts_of(path)[0] == "reports" and parts_of(path)[1] in REPORT_ROOMS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_rooms_of_reports_follow_their_arrows(path: Path) -> None:
    room = parts_of(path)[1]
    inside = {parts[1] for parts in ours(path) if parts[0] == "reports"}
    assert inside - {room} <= REPORT_ROOMS[room]


def test_rooms_have_no_circle() -> None:
    for rooms in (ROOMS, STUDY_ROOMS, REPORT_ROOMS):
        known: set[str] = set()
        for room, may in rooms.items():
            assert may <= known, f"{room} names a room below it"
            known.add(room)


def test_only_the_command_line_and_the_api_draw_reports() -> None:
    users = {
        "/".join(parts_of(path)[1:])
        for path in FILES
        if room_of(parts_of(path)) == "studies" and any(room_of(parts) == "reports" for parts in ours(path))
    }
    assert {user for user in users if not user.startswith("commands/")} <= {"cli", "api"}


def test_reports_read_records_and_budgets_alone() -> None:
    used = {".".join(parts[:2]) for path in FILES if parts_of(path)[0] == "reports" for parts in ours(path)}
    others = {name for name in used if not name.startswith("reports")}
    assert {name.split(".")[0] for name in others} <= {"budget", "records", "strict_json", "system"}
    system = {"system.files", "system.parent_watch", "system.signals"}  # files, and processes that draw
    assert {name for name in others if name.startswith("system")} == system


@pytest.mark.parametrize(
    "name", ["plan", "records", "budget", "strict_json", "system/files", "system/parent_watch", "system/signals"]
)
def test_the_values_need_the_standard_library_alone(name: str) -> None:
    others = {module.split(".")[0] for module in imported(ROOT / "sconv_search" / f"{name}.py")}
    assert others.isdisjoint({"torch", "numpy", "pandas"})


@pytest.mark.parametrize("library", DOORWAYS)
def test_large_libraries_have_one_doorway(library: str) -> None:
    users = {
        str(path.relative_to(ROOT)) for path in FILES if library in {name.split(".")[0] for name in imported(path)}
    }
    assert users == DOORWAYS[library]


def test_pandas_is_used_in_reports_alone() -> None:
    users = {room_of(parts_of(path)) for path in FILES if "pandas" in {name.split(".")[0] for name in imported(path)}}
    assert users == {"reports"}


def test_folders_are_small() -> None:
    sizes: dict[Path, int] = {}
    for path in FILES:
        if path.name != "__init__.py":
            sizes[path.parent] = sizes.get(path.parent, 0) + 1
    assert {str(folder.relative_to(ROOT)): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_folder_says_what_it_is_for() -> None:
    for folder in {path.parent for path in FILES}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), folder
