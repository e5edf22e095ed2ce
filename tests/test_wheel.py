"""What an installation puts into site-packages, and how it gets on with a project of the same folders' names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")
ROOT = Path(__file__).parents[1]
SOURCES = ("sconv_search", "baselines", "studies", "reports", "pyproject.toml", "README.md", "LICENSE")
OWN = {
    "reports.py": "NAME = 'the reports of this project'\n",
    "baselines.py": "NAME = 'the baselines of this project'\n",
    "studies/__init__.py": "NAME = 'the studies of this project'\n",
    "json.py": "raise AssertionError('a file of the working directory stands in for a module of Python')\n",
}


def run(*command: str, folder: Path, **environment: str) -> str:
    """What a command prints; its errors are shown where it fails."""
    finished = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that the checkout stays as it is."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), ".", folder=source)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is unpacked, as an installation does."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with modules of its own that have the names of our folders."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_one_package_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"sconv_search"}
    for room in ("studies/cli.py", "baselines/tucker.py", "reports/page.py", "studies/commands/task_costs.json"):
        assert f"sconv_search/{room}" in names
    assert any(name.endswith(".jinja") for name in names)


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_commands_work_beside_a_project_of_the_same_names(installed: Path, project: Path, flag: str) -> None:
    command = (sys.executable, "-P", "-m", "sconv_search.studies", flag)
    assert run(*command, folder=project, PYTHONPATH=str(installed))


def test_imports_work_beside_a_project_of_the_same_names(installed: Path, project: Path) -> None:
    (project / "json.py").unlink()
    code = (
        "import sconv_search as ss, reports, studies, baselines\n"
        "print(ss.METHODS.named('tucker').name, ss.RunFolder.__module__, ss.report.__module__)\n"
        "print(reports.NAME, studies.NAME, baselines.NAME, sep='; ')\n"
    )
    own, theirs = run(sys.executable, "-c", code, folder=project, PYTHONPATH=str(installed)).splitlines()
    assert own.split()[0] == "tucker"
    assert all(name.startswith("sconv_search.") for name in own.split()[1:])
    assert theirs == "; ".join(f"the {name} of this project" for name in ("reports", "studies", "baselines"))
