"""Copies of networks in which other modules stand in for some, wherever the network refers to them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _WrappedHook
from torch.utils import _pytree as pytree

Module = TypeVar("Module", bound=nn.Module)
OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of tensors of so many dimensions."""
MOST_DEPTH = 8
"""Of containers and bound methods that a function holds, one within the other, in which modules are looked for."""
HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)
"""Those of calls."""
STATE_HOOKS = (
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def hooked(module: nn.Module) -> bool:
    """Whether a call of the module may do more than its forward: it has forward hooks, or ones before the forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def without_hooks(module: Module) -> Module:
    """Another module of the same tensors and parts, whose calls are its forward alone.

    It is for calls beside the network's own, on what the forward reads there: the hooks have run on that already. The
    hooks of its parts stay, since these are called by the forward.
    """
    bare = copy.copy(module)
    for kind in HOOKS:
        setattr(bare, kind, type(getattr(module, kind))())
    return bare


def copied(
    network: Module, replacements: Mapping[nn.Module, nn.Module] | None = None, *, memo: Mapping[int, Any] | None = None
) -> Module:
    """A deep copy of the network, in which other modules stand in for some of its own.

    A replacement stands wherever the network refers to the module: under its names, in plain lists, in hooks. It takes
    over what the outside can see of the module: hooks, mode, and, from a layer with a weight, the attributes that it
    lacks, the memory format, and whether weights and bias are trained.

    Functions that hold modules of the network, such as ``lambda x: self.conv(x)``, are copied with it. Tensors that a
    forward left in attributes, with the graph that made them, are copied without that graph: torch copies no others.

    Args:
        replacements: by module of the network; they become part of the copy.
        memo: by id of an object of the network, what the copy has in its place, as ``copy.deepcopy`` takes it.

    Raises:
        TypeError: the network holds what cannot be copied.
    """
    known: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in _left_by_forwards(network)}
    known |= dict(memo or {}) | {id(old): new for old, new in (replacements or {}).items()}
    try:
        result = copy.deepcopy(network, known)
        for old, new in (replacements or {}).items():
            _take_over_(new, old, known)
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{type(network).__name__} cannot be copied: {error}") from error
    parts = {part for replacement in (replacements or {}).values() for part in replacement.modules()}
    for module in (module for module in result.modules() if module not in parts):
        for name, value in vars(module).items():
            vars(module)[name] = _with_copied_functions(value, known)
    return result


def without_values(network: Module) -> Module:
    """A deep copy whose parameters and buffers have shapes alone: they are on the device ``meta``."""
    memo: dict[int, Any] = {id(x): nn.Parameter(x.detach().to("meta"), x.requires_grad) for x in network.parameters()}
    return copied(network, memo=memo | {id(x): x.to("meta") for x in network.buffers()})


def with_zeros(network: Module) -> Module:
    """A deep copy in which parameters and buffers that have shapes alone are zeros, on the device of the others."""
    tensors = [*network.parameters(), *network.buffers()]
    device = next((x.device for x in tensors if not x.is_meta), torch.device("cpu"))
    zeros = {id(x): torch.zeros_like(x, device=device) for x in tensors if x.is_meta}
    memo = zeros | {id(x): nn.Parameter(zeros[id(x)], x.requires_grad) for x in network.parameters() if id(x) in zeros}
    return copied(network, memo=memo)


def _left_by_forwards(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        own = [value for name, value in vars(module).items() if name not in OF_EVERY_MODULE]
        for leaf in (*pytree.tree_leaves(own), *module._buffers.values()):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                yield leaf


def _take_over_(new: nn.Module, old: nn.Module, known: dict[int, Any]) -> None:
    for kind in (*HOOKS, *STATE_HOOKS):
        if hooks := getattr(old, kind):
            setattr(
                new,
                kind,
                type(hooks)({**getattr(new, kind), **_with_copied_functions(copy.deepcopy(hooks, known), known)}),
            )
    if old._is_full_backward_hook is not None:
        new._is_full_backward_hook = old._is_full_backward_hook
    new.train(old.training)
    weight, bias = old._parameters.get("weight"), old._parameters.get("bias")
    if weight is None:
        return
    for name, value in vars(old).items():
        if name not in OF_EVERY_MODULE and not hasattr(new, name):
            vars(new)[name] = _with_copied_functions(copy.deepcopy(value, known), known)
    for name, parameter in new.named_parameters():
        like = bias if bias is not None and name.rpartition(".")[2] == "bias" else weight
        parameter.requires_grad_(like.requires_grad)
    last = CHANNELS_LAST.get(weight.dim())
    if last is not None and weight.is_contiguous(memory_format=last) and not weight.is_contiguous():
        for parameter in (parameter for parameter in new.parameters() if parameter.dim() == weight.dim()):
            parameter.data = parameter.data.to(memory_format=last)


def _with_copied_functions(value: Any, known: dict[int, Any]) -> Any:
    """An attribute of a copy in which functions hold the copies of what they held; containers are changed in place."""
    if isinstance(value, (FunctionType, MethodType, partial)):
        return _in_copy(value, known)
    if isinstance(value, _WrappedHook):  # torch's own holder of a hook that is called with its module
        value.hook = _in_copy(value.hook, known)
    if type(value) in (dict, OrderedDict):
        for key, attribute in value.items():
            value[key] = _with_copied_functions(attribute, known)
    elif type(value) is list:
        value[:] = [_with_copied_functions(attribute, known) for attribute in value]
    return value


def _in_copy(held: Any, known: dict[int, Any], depth: int = MOST_DEPTH) -> Any:
    """What stands in a copy for what a function held: itself where that holds nothing that was copied."""
    if id(held) in known:
        return known[id(held)]
    if isinstance(held, FunctionType):
        return _rebound(held, known)
    if isinstance(held, MethodType):
        parts: list[Any] = [held.__func__, held.__self__]
    elif type(held) is partial:
        parts = [held.func, *held.args, *held.keywords.values()]
    elif type(held) in (list, tuple):
        parts = list(held)
    elif type(held) is dict:
        parts = list(held.values())
    else:
        return held
    made = [_in_copy(part, known, depth - 1) for part in parts] if depth else parts
    if all(new is old for new, old in zip(made, parts, strict=True)):
        return held
    if isinstance(held, MethodType):
        return MethodType(made[0], made[1])
    if isinstance(held, partial):
        after = 1 + len(held.args)
        return partial(made[0], *made[1:after], **dict(zip(held.keywords, made[after:], strict=True)))
    changed: Any = (
        dict(zip(held, made, strict=True)) if isinstance(held, dict) else made if type(held) is list else tuple(made)
    )
    known[id(held)] = changed  # other functions hold the same one
    return changed


def _rebound(function: FunctionType, known: dict[int, Any]) -> FunctionType:
    """The function with the copies of the objects that it encloses, or has as defaults; itself where none of them was
    copied.
    """
    if id(function) in known:
        return known[id(function)]  # type: ignore[no-any-return]  # what was made of it
    closure = function.__closure__ or ()
    defaults, named = function.__defaults__, function.__kwdefaults__
    if not (closure or defaults or named):
        return function
    cells = tuple(CellType() for _ in closure)
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    made.__qualname__ = function.__qualname__
    vars(made).update(vars(function))
    known[id(function)] = made  # before its cells are filled: it may enclose itself
    made.__defaults__, made.__kwdefaults__ = _in_copy(defaults, known), _in_copy(named, known)
    changed = made.__defaults__ is not defaults or made.__kwdefaults__ is not named
    for new, old in zip(cells, closure, strict=True):
        try:
            held = old.cell_contents
        except ValueError:  # of a name that was never set
            continue
        new.cell_contents = _in_copy(held, known)
        changed = changed or not any(new.cell_contents is same for same in (held, made))
    if not changed:
        known[id(function)] = function
    return known[id(function)]  # type: ignore[no-any-return]  # one of the two
