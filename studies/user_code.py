"""A user's own networks and tasks, named as ``package.module:function`` on the command line and in ``spec.json``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from sconv_search.system.working_directory import search_working_directory

FORM = "package.module:function"


def made_by(text: str, *wanted: type) -> Any:
    """What the function named by ``text`` returns when it is called without arguments.

    Its module is looked for among those that are installed, then in the current directory. Run it only on names that
    the user typed: importing runs code.

    Args:
        text: ``package.module:function``; any callable without required arguments will do.
        wanted: the types that it may return.

    Raises:
        ValueError: the text has another form, or importing the module or calling the function raises.
        KeyError: the module is not found, or lacks the name.
        TypeError: the name is not callable, needs arguments, or returns something else.
    """
    module, _, name = text.partition(":")
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"{text!r} must have the form {FORM}, such as mynets:small")
    function = _callable(text, _imported(module, text), name, wanted)
    try:
        made = function()
    except Exception as error:  # of any kind, from the user's own code
        raise ValueError(f"{text!r} raises {type(error).__name__}: {error}") from error
    if not isinstance(made, wanted):
        raise TypeError(f"{text!r} returns {_indefinite(made)}, it should return a {_titles(wanted)}")
    return made


def _imported(name: str, text: str) -> ModuleType:
    here = Path.cwd()
    search_working_directory(str(here), name.partition(".")[0])
    importlib.invalidate_caches()  # the file may be younger than the last look into its folder
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"importing {name!r} of {text!r} fails: it needs {error.name!r}, which is not installed"
            ) from error
        modules = [path.stem for path in here.glob("*.py")]
        near = ", ".join(get_close_matches(error.name, modules)) or "none alike"
        searched = f"neither {str(here)!r} nor the installed packages have it"
        raise KeyError(f"no module {error.name!r} for {text!r}: {searched}; nearest file: {near}") from error
    except Exception as error:  # of any kind, from the user's own code
        raise ValueError(f"importing {name!r} of {text!r} raises {type(error).__name__}: {error}") from error


def _callable(text: str, module: ModuleType, name: str, wanted: tuple[type, ...]) -> Callable[[], Any]:
    try:
        function: Any = pkgutil.resolve_name(text)
    except AttributeError as error:
        public = [known for known in getattr(error.obj, "__dict__", {}) if not known.startswith("_")]
        near = ", ".join(get_close_matches(error.name or name, public)) or "none alike"
        raise KeyError(
            f"{module.__name__!r} has no {name!r}, asked for by {text!r}; nearest: {near}{_hiding(module)}"
        ) from error
    if not callable(function) or isinstance(function, wanted):  # a module of layers is callable, but asks for an input
        advice = f"it should be a function that returns a {_titles(wanted)}"
        raise TypeError(f"{text!r} is {_indefinite(function)}, {advice}")
    if needed := _required(function):
        raise TypeError(f"{text!r} needs the arguments {', '.join(needed)}; name a function that takes none")
    return function  # type: ignore[no-any-return]  # whatever the user named


def _hiding(module: ModuleType) -> str:
    """That an installed module hides a file of the working directory, in words; empty where it does not."""
    file, own = getattr(module, "__file__", None), Path.cwd() / f"{module.__name__.partition('.')[0]}.py"
    if not own.is_file() or (file is not None and Path(file).is_relative_to(Path.cwd())):
        return ""
    return f"; the installed module of that name hides {own.name} of the current directory: rename the file"


def _required(function: Callable[..., Any]) -> list[str]:
    """Arguments without a default."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []  # made in C without a signature: calling it tells
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        argument.name for argument in arguments if argument.default is argument.empty and argument.kind not in variable
    ]


def _titles(kinds: tuple[type, ...]) -> str:
    names = {"Module": "torch.nn.Module", "Task": "studies.Task", "OfTask": "studies.Study"}
    return " or ".join(names.get(kind.__name__, f"{kind.__module__}.{kind.__qualname__}") for kind in kinds)


def _indefinite(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__qualname__}"
