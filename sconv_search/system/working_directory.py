"""Where a user's own modules are found: in the working directory, after all that is installed, and for nobody else.

A file ``json.py`` or ``tensorboard.py`` that lies there by chance, or came with a folder of somebody else's, is
imported by no library; only modules that the user named are looked for there, and what those import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

SAFE_PATH = "PYTHONSAFEPATH"


class _Finder(MetaPathFinder):
    """The last to be asked for a module.

    Args:
        folder: the working directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's file, where the module is the user's or is imported by the user's."""
        if path is not None or (fullname not in self.names and not self._is_within(_importer(sys._getframe(1)))):
            return None
        spec = PathFinder.find_spec(fullname, [self.folder], target)
        if spec is not None:
            self.names.add(fullname)  # another process that is sent an object of it has to find it too
        return spec

    def _is_within(self, file: str) -> bool:
        return os.path.abspath(file).startswith(os.path.join(self.folder, ""))


def _importer(frame: FrameType | None) -> str:
    """The file whose code imports."""
    while frame is not None and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def search_working_directory(folder: str, *names: str) -> None:
    """From now on the modules of these names are looked for in the folder too, after all other places."""
    finder = next(
        (
            finder_seen
            for finder_seen in sys.meta_path
            if isinstance(finder_seen, _Finder) and finder_seen.folder == folder
        ),
        None,
    )
    if finder is None:
        finder = _Finder(folder)
        sys.meta_path.append(finder)
    for other in sys.meta_path:  # a name is looked for in the folder that was named last
        if isinstance(other, _Finder):
            other.names.difference_update(names)
    finder.names.update(names)


class UserModules:
    """What of working directories was searched here, for another process: unpickled there, it is searched there too."""

    def __init__(self) -> None:
        self.found = [(finder.folder, *sorted(finder.names)) for finder in sys.meta_path if isinstance(finder, _Finder)]

    def __reduce__(self) -> tuple[object, ...]:
        return _search_all, (self.found,)


def _search_all(folders: Sequence[tuple[str, ...]]) -> None:
    for folder, *names in folders:
        search_working_directory(folder, *names)


@contextmanager
def safe_path() -> Iterator[None]:
    """The time in which processes of Python's are started: they do not look into the working directory before all
    others.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before
