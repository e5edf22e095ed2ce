"""What code depends on beside itself: whose it is, which globals it names, and what it writes to as it runs."""

from __future__ import annotations

import ast
import dis
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Set
from functools import cache, lru_cache
from pathlib import Path

READS, ATTRIBUTES = ("LOAD_GLOBAL", "LOAD_NAME"), ("LOAD_ATTR", "LOAD_METHOD")
OWN_PACKAGE = __name__.partition(".")[0]
INSTALLED = frozenset({"site-packages", "dist-packages"})
FIRST_CALLS = ("__init__", "__new__", "__post_init__", "__setstate__")
"""Methods whose writing to ``self`` makes an object, rather than changing one."""
MUTATORS = frozenset(
    {
        *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
        *("remove", "setdefault", "update"),
    }
)
"""Methods of containers that change them; those of tensors end in ``_``."""
REMEMBERED = 4096


@cache
def is_users(module: str) -> bool:
    """Whether a module is of the user's own code, which may change from run to run.

    Installed packages and this one are known by their versions, the standard library by Python's.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("builtins", OWN_PACKAGE):
        return False
    package = sys.modules.get(top)
    places = [getattr(package, "__file__", None) or "", *map(str, getattr(package, "__path__", ()))]
    return not any(INSTALLED & set(Path(place).parts) for place in places)


@lru_cache(REMEMBERED)
def names_in(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The globals that code reads, in its order, and all attributes; those of functions within it, too."""
    read: dict[str, None] = {}
    attributes: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname in READS:
            read[step.argval] = None
        elif step.opname in ATTRIBUTES:
            attributes.add(step.argval)
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            inner, of_inner = names_in(part)
            read.update(dict.fromkeys(inner))
            attributes |= of_inner
    return tuple(read), frozenset(attributes)


def written_by(function: types.FunctionType) -> frozenset[str]:
    """Names and attributes that functions of the function's module write to as they run, such as caches and counters.

    What they hold changes from call to call, without another meaning of the code. Empty where there is no source.
    """
    module = function.__globals__.get("__name__", "")
    known = sys.modules.get(module)
    if known is not None and vars(known) is function.__globals__ and (found := written_in(module)) is not None:
        return found
    return _written_by_code(function.__code__)


def written_by_class(kind: type) -> frozenset[str]:
    """The same of a class and its bases, where they are the user's."""
    values = (value for base in kind.__mro__ if is_users(base.__module__) for value in vars(base).values())
    functions = (value for value in values if isinstance(value, types.FunctionType))
    return frozenset(name for function in functions for name in written_by(function))


@cache
def written_in(module: str) -> frozenset[str] | None:
    """The same of a module; None where it has no source, as that of a notebook."""
    try:
        return _written(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return None


@lru_cache(REMEMBERED)
def _written_by_code(code: types.CodeType) -> frozenset[str]:
    try:
        return _written(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return frozenset()


Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _written(source: str) -> frozenset[str]:
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    return frozenset(name for function in functions for name in _written_within(function))


def _written_within(function: Function) -> Iterator[str]:
    """Of a function without those inside it; its own variables are left out, as they begin anew with each call."""
    makes = getattr(function, "name", "") in FIRST_CALLS
    nodes = list(_nodes(function))
    shared = {name for node in nodes if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = (stored | {node.arg for node in nodes if isinstance(node, ast.arg)}) - shared
    yield from shared
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _mutates(node.func.attr):
            yield from _chain(node.func.value, own)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield from _chain(node.value, own)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            yield from _chain(node.value if of_self and makes else node, own)


def _nodes(function: Function) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [function]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            yield child
            if not isinstance(child, Function):
                waiting.append(child)


def _mutates(method: str) -> bool:
    return method in MUTATORS or (method.endswith("_") and not method.endswith("__"))


def _chain(node: ast.expr, own: Set[str]) -> Iterator[str]:
    """``a`` and ``b`` of ``a.b[0]``; ``b`` alone where ``a`` is a variable of the function."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        node = node.value
    if isinstance(node, ast.Name) and node.id not in own:
        yield node.id
