"""A network that runs again on the same inputs after one layer changed: what comes before that layer is not computed
anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from sconv_search.compressor import site
from sconv_search.copying import copied

Run = Callable[[nn.Module], Any]
"""Calls a network once, on the inputs in question."""


class Given(NamedTuple):
    """What a module gave.

    Attributes:
        output: a copy.
        in_place: the module wrote it over its input, as ``ReLU(inplace=True)`` does.
    """

    output: Tensor
    in_place: bool


class _Reached(Exception):
    """The layer is about to be called: all before it is known."""


def called_once(network: nn.Module, run: Run) -> set[str]:
    """Names of the modules that a run calls exactly once; the network is copied."""
    observed, calls = copied(network), Counter[str]()
    for path, module in observed.named_modules():
        module.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
    run(observed)
    return {path for path, count in calls.items() if count == 1}


def outputs_before(network: nn.Module, name: str, run: Run, once: Collection[str]) -> dict[str, Given]:
    """What the outermost modules gave that are done when the named one is called, by their names.

    Left out are those whose calls cannot be replaced by what they gave: which give something else than one tensor, or
    change their inputs beyond it.

    Args:
        network: deterministic; it is copied.
        once: see ``called_once``; others are left out, and where one around the named module is called more often, all
            are.
    """
    around = {"", *(name[:end] for end, letter in enumerate(name) if letter == ".")}
    observed, inputs_by_path = copied(network), dict[str, Given]()
    if any(path not in once for path, _ in observed.named_modules() if path in around and _is_called(observed, path)):
        return {}
    running: list[tuple[str, list[tuple[Tensor, int]]]] = []

    def begin(path: str, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if path == name:
            raise _Reached
        running.append((path, [(x, x._version) for x in (*positional, *named.values()) if isinstance(x, Tensor)]))

    def end(path: str, output: Any) -> None:
        _, inputs = running.pop()
        outermost = path not in around and all(other in around for other, _ in running)
        if outermost and path in once and (given := _given(inputs, output)) is not None:
            inputs_by_path[path] = given

    for path, module in observed.named_modules():
        module.register_forward_pre_hook(lambda _, x, named, path=path: begin(path, x, named), with_kwargs=True)
        module.register_forward_hook(lambda _, x, output, path=path: end(path, output))
    try:
        run(observed)
    except _Reached:
        return inputs_by_path
    return {}


def _is_called(network: nn.Module, name: str) -> bool:
    """Lists of modules are not, whatever is around."""
    return not isinstance(network.get_submodule(name), nn.ModuleList | nn.ModuleDict)


def _given(inputs: list[tuple[Tensor, int]], output: Any) -> Given | None:
    """What a call gave, if no more than that came of it."""
    if not isinstance(output, Tensor):
        return None
    changed = [x for x, version in inputs if x._version != version]
    if changed:
        return Given(output.clone(), True) if all(x is output for x in changed) else None
    shared = any(x.untyped_storage().data_ptr() == output.untyped_storage().data_ptr() for x, _ in inputs)
    return None if shared else Given(output.clone(), False)  # a view costs nothing to make, and may be written through


def replay_(network: nn.Module, given: Mapping[str, Given]) -> nn.Module:
    """The network, whose named modules from now on give at once what they gave before; they keep their attributes."""
    for name, before in given.items():
        site(network, name).forward = _giving(before)
    return network


def _giving(before: Given) -> Callable[..., Tensor]:
    def forward(*positional: Tensor, **named: Tensor) -> Tensor:
        if before.in_place:
            return next(iter((*positional, *named.values()))).copy_(before.output)
        return before.output.clone()  # what follows may write over it

    return forward
