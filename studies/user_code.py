"""A user's own networks and tasks, named as ``package.module:function`` on the command line and in ``spec.json``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

FORM = "package.module:function"


def made_by(text: str, *wanted: type) -> Any:
    """What the function named by ``text`` returns when it is called without arguments.

    Modules are looked for in the current directory too. Run it only on names that the user typed: importing runs code.

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
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; it stays, for imports that the user's function makes later
    importlib.invalidate_caches()  # the file may be younger than the last look into its folder
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"importing {name!r} of {text!r} fails: it needs {error.name!r}, which is not installed"
            ) from error
        found = [path.stem for path in Path.cwd().glob("*.py")]
        near = ", ".join(get_close_matches(error.name, found)) or "none alike"
        places = f"neither {here!r} nor the installed packages have it"
        raise KeyError(f"no module {error.name!r} for {text!r}: {places}; nearest file: {near}") from error
    except Exception as error:  # of any kind, from the user's own code
        raise ValueError(f"importing {name!r} of {text!r} raises {type(error).__name__}: {error}") from error


def _callable(text: str, module: ModuleType, name: str, wanted: tuple[type, ...]) -> Callable[[], Any]:
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            public = (
                [known for known in vars(function) if not known.startswith("_")]
                if hasattr(function, "__dict__")
                else []
            )
            near = ", ".join(get_close_matches(part, public)) or "none alike"
            raise KeyError(f"{module.__name__!r} has no {name!r}, asked for by {text!r}; nearest: {near}")
        function = getattr(function, part)
    if not callable(function) or isinstance(function, wanted):  # a module of layers is callable, but asks for an input
        advice = f"it should be a function that returns a {_titles(wanted)}"
        raise TypeError(f"{text!r} is {_indefinite(function)}, {advice}")
    if needed := _required(function):
        raise TypeError(f"{text!r} needs the arguments {', '.join(needed)}; name a function that takes none")
    return function  # type: ignore[no-any-return]  # whatever the user named


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
    names = {
        "torch.nn.modules.module": "torch.nn",
        "sconv_search.studies.task": "studies",
    }  # where users import them from
    return " or ".join(f"{names.get(kind.__module__, kind.__module__)}.{kind.__qualname__}" for kind in kinds)


def _indefinite(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__qualname__}"
