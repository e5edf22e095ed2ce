"""Networks and tasks by name, on the command line, in ``spec.json`` and from Python: of libraries, or a user's own."""

from __future__ import annotations

import importlib.util
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sconv_search.named import UnknownNameError
from sconv_search.system.working_directory import search_working_directory

if TYPE_CHECKING:
    from torch import nn

    from sconv_search.data.crops import Photos

FORM = "package.module:function"
FORMS = f"torchvision:NAME, torchvision:NAME@WEIGHTS, timm:NAME, hf-hub:ORG/NAME, local-dir:PATH or {FORM}"
PYTHON_WORDS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True, kw_only=True)
class NamedNetwork:
    """A network that a name stands for.

    Args:
        text: the name.
        make: builds it, with random weights or, given True, with those that the name says.
        has_weights: whether the name says trained weights; None where only its function knows.
        photos: how the network wants photos; None where nobody says.
    """

    text: str
    make: Callable[[bool], nn.Module]
    has_weights: bool | None
    photos: Callable[[nn.Module], Photos | None]


def network_by(text: str) -> NamedNetwork:
    """The network of a name; it is built later.

    Args:
        text: ``torchvision:resnet18``, ``torchvision:resnet18@IMAGENET1K_V1``, ``timm:resnet18.a1_in1k``,
            ``hf-hub:ORG/NAME``, ``local-dir:PATH`` or ``package.module:function``; then, after a ``?``, keyword
            arguments such as ``num_classes=10&in_chans=1``.

    Raises:
        KeyError: the library has no such network or weights; the nearest are named.
        ValueError: the text has another form, or the library is not installed.
        FileNotFoundError: a folder is missing.
    """
    from sconv_search.networks.libraries import LIBRARIES, LibraryNetwork  # here: with torch

    name, options = with_options(text)
    library, colon, rest = name.partition(":")
    if not colon or not rest:
        raise ValueError(f"{text!r} names no network; write {FORMS}, and arguments as NAME?num_classes=10")
    if library in LIBRARIES:
        source = LibraryNetwork(library, rest, options)
        return NamedNetwork(
            text=text,
            make=lambda trained: source.made(trained=trained),
            has_weights=source.has_weights,
            photos=source.photos,
        )
    return NamedNetwork(text=text, make=partial(_function, text), has_weights=None, photos=lambda network: None)


def require_findable(text: str) -> None:
    """Refuses a network's name whose library or module is not known here; nothing is imported, built or downloaded.

    Raises:
        KeyError: there is no such library, nor a module of that name; the nearest libraries are named.
        ValueError: the text has another form.
    """
    from sconv_search.networks.libraries import LIBRARIES  # here: with torch

    base, _, own = text.partition("@")
    if ":" not in base:  # a task's name, with a network of its own after the @
        if own:
            require_findable(own)
        return
    name, _ = with_options(text)
    library, _, rest = name.partition(":")
    if library in LIBRARIES and rest:
        return
    if not rest or not all(part.isidentifier() for part in library.split(".")):
        raise ValueError(f"{text!r} names no network; write {FORMS}, and arguments as NAME?num_classes=10")
    top = library.partition(".")[0]
    search_working_directory(str(Path.cwd()), top)
    importlib.invalidate_caches()
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        near = ", ".join(get_close_matches(top, LIBRARIES)) or f"none alike; known: {', '.join(LIBRARIES)}"
        raise UnknownNameError(f"no module {top!r} for {text!r}, and no library; nearest library: {near}")


def _function(text: str, trained: bool) -> nn.Module:
    from torch import nn

    made: nn.Module = made_by(text, nn.Module)
    return made


def with_options(text: str) -> tuple[str, Mapping[str, Any]]:
    """The name before the question mark, and the keyword arguments after it.

    Raises:
        ValueError: an argument has no name or no value.
    """
    name, mark, rest = text.partition("?")
    options: dict[str, Any] = {}
    for entry in rest.split("&") if mark else ():
        key, equals, value = entry.partition("=")
        if not equals or not key.isidentifier() or key in options:
            raise ValueError(
                f"{text!r}: {entry!r} is no argument; write NAME?num_classes=10&in_chans=1, each name once"
            )
        options[key] = _value(unquote(value))
    return name, options


def _value(text: str) -> Any:
    """A number, a truth value, a list or, where it is none of those, a text."""
    if text in PYTHON_WORDS:
        return PYTHON_WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def made_by(text: str, *wanted: type) -> Any:
    """What the function named by ``text`` returns when it is called, with the arguments after a ``?`` in the text.

    Its module is looked for among those that are installed, then in the current directory. Run it only on names that
    the user typed: importing runs code.

    Args:
        text: ``package.module:function`` or ``package.module:function?width=8``; any callable without further required
            arguments will do.
        wanted: the types that it may return.

    Raises:
        ValueError: the text has another form, or importing the module or calling the function raises.
        KeyError: the module is not found, or lacks the name.
        TypeError: the name is not callable, needs arguments, or returns something else.
    """
    named, options = with_options(text)
    module, _, name = named.partition(":")
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"{text!r} must have the form {FORM}, such as mynets:small")
    function = _callable(named, _imported(module, text), name, wanted, options)
    try:
        made = function(**options)
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
        raise UnknownNameError(f"no module {error.name!r} for {text!r}: {searched}; nearest file: {near}") from error
    except Exception as error:  # of any kind, from the user's own code
        raise ValueError(f"importing {name!r} of {text!r} raises {type(error).__name__}: {error}") from error


def _callable(
    text: str, module: ModuleType, name: str, wanted: tuple[type, ...], options: Mapping[str, Any]
) -> Callable[..., Any]:
    try:
        function: Any = pkgutil.resolve_name(text)
    except AttributeError as error:
        public = [known for known in getattr(error.obj, "__dict__", {}) if not known.startswith("_")]
        near = ", ".join(get_close_matches(error.name or name, public)) or "none alike"
        raise UnknownNameError(
            f"{module.__name__!r} has no {name!r}, asked for by {text!r}; nearest: {near}{_hiding(module)}"
        ) from error
    advice = f"it should be a function that returns a {_titles(wanted)}"
    if not callable(function) or isinstance(function, wanted):  # a module of layers is callable, but asks for an input
        raise TypeError(f"{text!r} is {_indefinite(function)}, {advice}")
    if inspect.isbuiltin(function):  # not to be tried: os.abort and its kind would end the process without a word
        raise TypeError(f"{text!r} is a function of Python itself or of compiled code, {advice}")
    if needed := [argument for argument in _required(function) if argument not in options]:
        raise TypeError(
            f"{text!r} needs the arguments {', '.join(needed)}; give them, as {text}?{needed[0]}=VALUE, or name a"
            " function that takes none"
        )
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
