"""The working directory is searched for the user's modules alone, after all that is installed."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sconv_search.system.working_directory import SAFE_PATH, UserModules, safe_path, search_working_directory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    files = {"ownnets": "import ownparts\nnet = ownparts.net", "ownparts": "net = 3", "chancefile": "net = 4"}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in files:
        sys.modules.pop(name, None)


def test_modules_that_were_named_are_found_and_what_they_import(here: Path) -> None:
    search_working_directory(str(here), "ownnets")
    assert importlib.import_module("ownnets").net == 3
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("chancefile")
    assert str(here) not in sys.path


def test_an_installed_module_is_hidden_by_no_file(here: Path) -> None:
    (here / "colorsys.py").write_text("raise RuntimeError('of the working directory')")
    sys.modules.pop("colorsys", None)
    search_working_directory(str(here), "colorsys")
    assert importlib.import_module("colorsys").__file__ != str(here / "colorsys.py")


def test_another_process_that_is_sent_an_object_finds_its_module(here: Path) -> None:
    search_working_directory(str(here), "ownnets")
    importlib.import_module("ownnets")
    sent = pickle.dumps(UserModules())
    script = f"import pickle; pickle.loads({sent!r}); import ownnets; print(ownnets.net); import ownparts"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), SAFE_PATH: "1"}
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=here.parent, capture_output=True, encoding="utf-8"
    )
    assert (said.returncode, said.stdout) == (0, "3\n"), said.stderr


def test_processes_started_meanwhile_do_not_search_it_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "socket.py").write_text("raise RuntimeError('of the working directory')")
    monkeypatch.delenv(SAFE_PATH, raising=False)
    for safe, status in ((True, 0), (False, 1)):
        if safe:
            with safe_path():
                said = subprocess.run([sys.executable, "-c", "import socket"], capture_output=True)
        else:
            said = subprocess.run([sys.executable, "-c", "import socket"], capture_output=True)
        assert said.returncode == status
    assert SAFE_PATH not in os.environ


@pytest.mark.parametrize("installed", [True, False])
def test_the_program_as_a_module_does_not_search_it_first(tmp_path: Path, installed: bool) -> None:
    """``python -m`` puts it there, also where the package itself lies in it."""
    for name in ("typing", "json", "rich", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the working directory')")
    places = [place for place in sys.path if place and not (Path(place) / "sconv_search").is_dir()]
    root = Path(__file__).parents[3]
    if installed:
        places.append(str(root))
    else:
        for part in ("sconv_search", "studies", "reports", "baselines"):
            (tmp_path / part).symlink_to(root / part)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    environment.pop(SAFE_PATH, None)
    command = [sys.executable, "-m", "sconv_search.studies", "--version"]
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert (said.returncode, said.stdout[:13]) == (0, "sconv-search "), said.stderr
