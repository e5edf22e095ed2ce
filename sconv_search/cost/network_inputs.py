"""What a network is called with: the shape of one input, or an example of whatever its forward takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Inputs = Sequence[int] | Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""A shape without the batch, ``(3, 32, 32)``; or an example: a tensor, a tuple of positional arguments, or a dict.

A dict holds arguments by keyword where the forward has parameters of its names, and is else the one argument. Within a
tuple or dict a shape stands for zeros of it, with a batch of one.
"""


def example_input(network: nn.Module, input_shape: Sequence[int], batch: int = 1) -> Tensor:
    """Zeros of (batch, *input_shape) with the type and device of the network's weights.

    Raises:
        ValueError: the shape is not made of positive whole numbers.
    """
    if not input_shape or any(not isinstance(size, int) or size < 1 for size in input_shape):
        raise ValueError(f"input_shape must hold positive whole numbers without the batch, got {tuple(input_shape)}")
    weight = next((w for w in network.parameters() if w.is_floating_point()), torch.zeros(()))
    return torch.zeros(batch, *input_shape, dtype=weight.dtype, device=weight.device)


def arguments(network: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments of a call; tensors have values where the network's weights do.

    They are the call's own: a forward may write over what it is given.

    Raises:
        ValueError: a shape is not made of positive whole numbers.
    """
    weight = next(network.parameters(), torch.zeros(()))

    def made(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return example_input(network, value) if is_shape(value) else value
        if weight.is_meta:
            return value.to("meta")
        return torch.zeros_like(value, device=weight.device) if value.is_meta else value.clone()

    if is_shape(inputs) or isinstance(inputs, Tensor):
        return (made(inputs),), {}
    ready = pytree.tree_map(made, inputs, is_leaf=is_shape)
    if isinstance(ready, Mapping):
        return ((), dict(ready)) if _are_parameters(network, ready) else ((ready,), {})
    return (tuple(ready), {}) if isinstance(ready, tuple) else ((ready,), {})


def called(network: nn.Module, inputs: Inputs) -> Any:
    """What the network gives for the inputs."""
    positional, named = arguments(network, inputs)
    return network(*positional, **named)


def first_of(inputs: Inputs, count: int) -> Inputs:
    """The first so many of a batch of inputs, in all its tensors."""
    few: Inputs = pytree.tree_map(lambda leaf: leaf[:count] if isinstance(leaf, Tensor) else leaf, inputs)
    return few


def batch_of(network: nn.Module, inputs: Inputs, count: int) -> Inputs:
    """So many inputs like the first of an example, or zeros of a shape."""
    if is_shape(inputs):
        return example_input(network, inputs, count)  # type: ignore[arg-type]  # of whole numbers

    def repeated(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[:1].expand(count, *leaf.shape[1:]).contiguous()
        return example_input(network, leaf, count) if is_shape(leaf) else leaf

    made: Inputs = pytree.tree_map(repeated, inputs, is_leaf=is_shape)
    return made


def shape_text(inputs: Inputs) -> str:
    """The shape of one input to read, ``3×32×32``; of several tensors all of them, as ``3×32×32 + 8``."""
    if is_shape(inputs):
        return "×".join(map(str, inputs))
    leaves = pytree.tree_leaves(inputs, is_leaf=is_shape)
    shapes = [leaf.shape[1:] if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return " + ".join("×".join(map(str, shape)) for shape in shapes if is_shape(shape))


def in_words(inputs: Inputs) -> str:
    """``an input of shape (3, 32, 32)``, or ``the example`` with its shapes."""
    if is_shape(inputs):
        return f"an input of shape {tuple(inputs)}"
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else x for x in pytree.tree_leaves(inputs, is_leaf=is_shape)]
    return f"the example of shapes {', '.join(map(str, shapes))}"


def is_shape(value: Any) -> bool:
    """Whether it is meant as a shape, right or wrong: a sequence without tensors or further sequences in it."""
    return isinstance(value, (tuple, list)) and all(isinstance(size, (int, float, str)) for size in value)


def _are_parameters(network: nn.Module, named: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(network.forward).bind(**named)
    except TypeError:
        return False
    return True


def output_leaves(output: Any, depth: int = 4, _within: frozenset[int] = frozenset()) -> list[Any]:
    """Everything that a network's output holds, in order: of tuples and dicts, dataclasses and other objects.

    Args:
        depth: how many plain objects within each other are looked into; modules, classes and functions never are.
    """
    leaves: list[Any] = []
    for leaf in [output] if isinstance(output, Tensor) else pytree.tree_leaves(output):
        if id(leaf) in _within:
            continue  # it holds itself
        held = _held(leaf, depth)
        inner = depth if is_dataclass(leaf) else depth - 1
        leaves += [leaf] if held is None else output_leaves(held, inner, _within | {id(leaf)})
    return leaves


def output_tensors(output: Any) -> list[Tensor]:
    """All tensors among the ``output_leaves``."""
    return [leaf for leaf in output_leaves(output) if isinstance(leaf, Tensor)]


def output_values(output: Any) -> list[Tensor]:
    """What can be compared of an output: its tensors, and its NumPy arrays of numbers as tensors."""
    leaves = (_as_tensor(leaf) for leaf in output_leaves(output))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _held(leaf: Any, depth: int) -> dict[str, Any] | None:
    """What an object has in it, by name; None if it is not looked into."""
    if isinstance(leaf, (Tensor, type, nn.Module, ModuleType, FunctionType)):
        return None
    if is_dataclass(leaf):
        return {field.name: getattr(leaf, field.name, None) for field in fields(leaf)}
    if not depth or not hasattr(leaf, "__dict__"):
        return None
    entries: dict[str, Any] = {str(key): value for key, value in leaf.items()} if isinstance(leaf, Mapping) else {}
    entries.update(vars(leaf))
    return entries


def _as_tensor(leaf: Any) -> Any:
    return torch.tensor(leaf) if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc" else leaf
