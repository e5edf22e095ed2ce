"""The numbers in which groups are put to the test: float64 where the forward allows it, else the network's own float32.

In float64 rounding is far below anything that a channel does. A forward may ask for float32, by ``x.float()`` or a
tensor that it holds outside of its buffers; within ``Widened`` it gets float64 instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

NARROW = (torch.float32, torch.float16, torch.bfloat16)
CASTS: frozenset[Callable[..., Any]] = frozenset((Tensor.float, Tensor.half, Tensor.bfloat16))


@dataclass(frozen=True, kw_only=True)
class Precision:
    """A type of numbers, and by how much equal outputs in it may differ.

    Args:
        relative: of an output's own size.
        of_the_largest: of the largest output's.
    """

    dtype: torch.dtype
    relative: float
    of_the_largest: float


DOUBLE = Precision(dtype=torch.float64, relative=1e-6, of_the_largest=1e-9)
SINGLE = Precision(dtype=torch.float32, relative=1e-4, of_the_largest=1e-5)
"""Rounding of a deep network; what the channels of a group do to random weights is more."""


class Widened(TorchFunctionMode):
    """Within it what asks for narrower floating-point numbers gets float64, and so do products with tensors of them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in CASTS:
            return args[0].double()
        if not all(map(_names_no_type, (*args, *named.values()))):
            args, named = tree_map(lambda value: torch.float64 if _is_narrow(value) else value, (args, named))
        try:
            return func(*args, **named)
        except RuntimeError:  # products do not take numbers of two types; what writes in place does
            dtypes = {leaf.dtype for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)}
            if torch.float64 not in dtypes or not dtypes & set(NARROW):
                raise
            args, named = tree_map(_double, (args, named))
            return func(*args, **named)


def _names_no_type(value: Any) -> bool:
    """Whether it is a tensor, a number or nothing, or a list of such: what most functions are given."""
    if type(value) in (list, tuple):
        return all(map(_names_no_type, value))
    return value is None or isinstance(value, (Tensor, int, float))


def _is_narrow(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in NARROW


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.dtype in NARROW else value
