"""The test of a group: a network without some of its channels computes what one computes that does not read them.

Legend: as in ``dependency_groups``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sconv_search.channels.cutting import cut_, sizes
from sconv_search.channels.dependency_graph import Group
from sconv_search.channels.label_tracing import Form, Like, WithoutDropout
from sconv_search.channels.precision import DOUBLE, SINGLE, Precision, Widened
from sconv_search.channels.removal import remaining
from sconv_search.channels.stand_in import Thin, stand_in
from sconv_search.cost.network_inputs import output_values


class UntestableError(Exception):
    """The part fails by itself, whatever is pruned."""


class _FailsInDoubleError(Exception):
    """The part fails by itself in float64."""


Call = tuple[Form, tuple[Any, ...], dict[str, Any]]
"""The path on which a module is called, with what arguments, and with what named ones."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module by itself, and what it is given in each path of the network.

    Args:
        calls: the path, arguments and named arguments of each call; ``Like`` in the place of tensors.
        whole: its layers that keep whole weights.
    """

    module: nn.Module
    calls: Sequence[Call]
    whole: Collection[str] = field(default=())


def defects(part: Part, groups: Sequence[Group]) -> dict[str, str]:
    """Groups whose pruning is not the same as ignoring their channels, found by bisection; site -> what differs.

    Raises:
        UntestableError: the part gives no finite numbers.
        Exception: of any kind, the forward's own.
    """
    try:
        return _defects(part, groups, DOUBLE)
    except _FailsInDoubleError:
        return _defects(part, groups, SINGLE)


def _defects(part: Part, groups: Sequence[Group], precision: Precision) -> dict[str, str]:
    if not groups or (defect := _defect(part, groups, precision)) is None:
        return {}
    half, reasons = len(groups) // 2, {}
    if half:
        reasons = _defects(part, groups[:half], precision) | _defects(part, groups[half:], precision)
    # none found in either half: they fail together only, so none of them is offered
    return reasons or {group.site: f"its channels cannot be followed through the network: {defect}" for group in groups}


def _defect(part: Part, groups: Sequence[Group], precision: Precision) -> str | None:
    ignoring = stand_in(part.module, precision.dtype, part.whole)
    for subset in SUBSETS:
        # one for all: equal choices would hide that two groups are coupled
        generator = torch.Generator().manual_seed(0)
        kept = [(group, _in_each_block(group, subset, generator)) for group in groups]
        if defect := _differs(part, ignoring, kept, precision):
            return defect
    return None


def _random_half(block: int, least: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(block, generator=generator)[: max(least, block // 2)]


def _random_odd(block: int, least: int, generator: torch.Generator) -> Tensor:
    """An odd number where that is a part: views into fixed numbers of parts show."""
    return torch.randperm(block, generator=generator)[: max(least, min(block, block * 3 // 8 | 1))]


def _first_few(block: int, least: int, generator: torch.Generator) -> Tensor:
    return torch.arange(max(least, block // 8))


Subset = Callable[[int, int, torch.Generator], Tensor]
SUBSETS: tuple[Subset, ...] = (_random_half, _first_few, _random_odd)
"""Which channels of a block stay. Random ones show an offset or a shuffle, but may keep the same of each part of a
concatenation by chance; the first few never do."""


def _in_each_block(group: Group, subset: Subset, generator: torch.Generator) -> Tensor:
    block = group.channels // group.blocks
    least = -(-group.least // group.blocks)
    return torch.cat([subset(block, least, generator) + block * i for i in range(group.blocks)]).sort().values


def _differs(part: Part, ignoring: nn.Module, kept: Sequence[tuple[Group, Tensor]], precision: Precision) -> str | None:
    """What is wrong with the part once it has only these channels; None if nothing is.

    Args:
        ignoring: its stand-in, which reads nothing of the other channels afterward.
    """
    pruned = stand_in(part.module, precision.dtype, part.whole)
    remaining_positions = remaining(pruned, kept)
    readers, layers = (dict(double.named_modules(remove_duplicate=False)) for double in (ignoring, pruned))
    for (name, side), positions in remaining_positions.items():
        if side == "in":
            thin = readers[name].forward
            assert isinstance(thin, Thin)
            every = torch.arange(sizes(layers[name])[0])
            thin.ignore_(every[~torch.isin(every, positions)])
    try:
        expected = [_outputs(ignoring, call, precision) for call in part.calls]
    except Exception as error:  # of any kind: the forward is the user's own
        if precision is DOUBLE:
            raise _FailsInDoubleError from error
        raise
    if not any(map(len, expected)) or not all(bool(output.isfinite().all()) for own in expected for output in own):
        raise UntestableError
    try:
        for (name, side), positions in remaining_positions.items():
            layer = layers[name]
            cut_(layer, side, positions)
            if isinstance(layer.forward, Thin):
                layer.forward.cut_(side, positions)
        for call, outputs in zip(part.calls, expected, strict=True):
            _require_close(_outputs(pruned, call, precision), outputs, precision)
    except AssertionError:
        return "without them, others change or take their place"
    except Exception as error:  # of any kind: the forward is the user's own, and may fail on fewer channels
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return None


def _outputs(module: nn.Module, call: Call, precision: Precision) -> list[Tensor]:
    """All values that the module gives for a call."""
    form, args, named = call
    form.set_(module)
    drawn = torch.Generator().manual_seed(2)

    def value(given: Any) -> Any:
        if isinstance(given, Like):
            return torch.randn(given.shape, generator=drawn, dtype=precision.dtype)
        return given.clone() if isinstance(given, Tensor) else given

    widened = Widened() if precision is DOUBLE else nullcontext()
    with torch.set_grad_enabled(form.training), WithoutDropout(), widened, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = module(*tree_map(value, args), **tree_map(value, named))
    return output_values(result)


def _require_close(outputs: Sequence[Tensor], expected: Sequence[Tensor], precision: Precision) -> None:
    assert len(outputs) == len(expected)
    for own, wanted in zip(outputs, expected, strict=True):
        largest = float(wanted.abs().max()) if wanted.numel() else math.inf
        torch.testing.assert_close(own, wanted, rtol=precision.relative, atol=precision.of_the_largest * largest)
