"""What an operator does to the labels of its inputs: carries them on, joins them, or makes channels stay.

An operator without a rule makes the channels that it meets stay, so a missing rule costs options and nothing else. The
rules need not know whether an operator would still run on fewer channels (a view of fixed sizes does not): each group
is put to the test afterward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sconv_search.channels.labels import Bonds, axes, collapsed, numbers

Labeled = Callable[[Tensor], Tensor | None]
"""The labels of a tensor; None where it has none."""


class Stays(Exception):
    """The channels that an operator meets must stay; the reason is given."""


def outputs_labels(
    operator: Any,
    args: Sequence[Any],
    named: Mapping[str, Any],
    outputs: Sequence[Tensor],
    labeled: Labeled,
    bonds: Bonds,
) -> list[Tensor | None]:
    """The labels of each output.

    Raises:
        Stays: the channels of all inputs must stay.
    """
    name = operator._schema.name.removeprefix("aten::").rstrip("_")
    if name in FRESH:
        return [None] * len(outputs)
    if name in SAME:
        return [labeled(args[0])] * len(outputs)
    if name == "cat":
        return [_concatenated(args[0], args[1] if len(args) > 1 else named.get("dim", 0), labeled)]
    if name in MOVES:
        return _moved(operator, args, named, labeled)
    if name in REDUCTIONS:
        return _reduced(operator, args, named, outputs, labeled)
    if name in SPATIAL:
        return _spatial(name, args, outputs, labeled, bonds)
    if torch.Tag.pointwise in operator.tags or name in POINTWISE:
        operands = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
        return [_pointwise(operands, output.dim(), labeled, bonds) for output in outputs]
    raise Stays("mixes them, or is not known")


FRESH = {f"new_{kind}" for kind in ("zeros", "ones", "full", "empty", "empty_strided")}
"""Operators that take the type of a tensor alone."""
SAME = {
    "clone",
    "detach",
    "alias",
    "contiguous",
    "_to_copy",
    "lift_fresh",
    *(f"{kind}_like" for kind in ("zeros", "ones")),
} | {f"{kind}_like" for kind in ("empty", "full", "rand", "randn")}
MOVES = {
    *(
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "permute",
        "transpose",
        "t",
        "expand",
        "squeeze",
        "unsqueeze",
    ),
    *(
        "slice",
        "select",
        "narrow",
        "split",
        "split_with_sizes",
        "unbind",
        "chunk",
        "stack",
        "index",
        "index_select",
        "repeat",
    ),
    *(
        "flip",
        "roll",
        "unfold",
        "im2col",
        "diagonal",
        "tril",
        "triu",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
    ),
    "native_channel_shuffle",
}
"""Operators that put entries elsewhere: labels move as the entries do."""
REDUCTIONS = {
    *(
        "mean",
        "sum",
        "prod",
        "amax",
        "amin",
        "max",
        "min",
        "var",
        "std",
        "var_mean",
        "logsumexp",
        "linalg_vector_norm",
        "norm",
    ),
    *("all", "any", "argmax", "argmin", "_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk"),
}
"""Operators along some axes, each of the other axes alone."""
SPATIAL = {
    *(f"{kind}_pool{n}d" for kind in ("avg", "_adaptive_avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)),
    *(f"max_pool{n}d{form}" for n in (1, 2, 3) for form in ("", "_with_indices")),
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *(f"upsample_nearest{form}{n}d" for form in ("", "_exact") for n in (1, 2, 3)),
    *(
        "upsample_linear1d",
        "upsample_bilinear2d",
        "_upsample_bilinear2d_aa",
        "upsample_bicubic2d",
        "_upsample_bicubic2d_aa",
    ),
    *("upsample_trilinear3d", "grid_sampler_2d", "grid_sampler_3d", "max_unpool2d", "max_unpool3d", "constant_pad_nd"),
}
"""Operators along the last axes, each channel alone."""
POINTWISE = {"hardswish", "log_sigmoid_forward", "_prelu_kernel", "bernoulli", "native_dropout", "normal", "uniform"}
"""Those that torch does not mark as such."""


def _concatenated(tensors: Sequence[Tensor], axis: int, labeled: Labeled) -> Tensor | None:
    """Labels side by side, expanded no further than that needs."""
    # an empty vector goes with everything
    tensors = [tensor for tensor in tensors if tensor.dim() > 1 or tensor.numel()]
    axis %= tensors[0].dim()
    parts = []
    for tensor in tensors:
        label = labeled(tensor)
        own = torch.zeros([1] * tensor.dim()) if label is None else label
        parts.append(own.expand([tensor.size(axis) if a == axis else -1 for a in range(tensor.dim())]))
    common = [max(part.size(a) for part in parts) for a in range(tensors[0].dim())]
    whole = [part.expand([part.size(a) if a == axis else common[a] for a in range(part.dim())]) for part in parts]
    return collapsed(torch.cat(whole, axis))


def _moved(operator: Any, args: Sequence[Any], named: Mapping[str, Any], labeled: Labeled) -> list[Tensor | None]:
    """What the operator does to the labels themselves."""
    seen: list[Tensor] = []
    name = operator._schema.name

    def whole(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        label = labeled(value)
        if label is None and not (value.is_floating_point() or value.is_complex()):
            return value  # places to take, for index
        if label is not None:
            seen.append(label)
        return (torch.zeros(()) if label is None else label).expand(value.shape).contiguous()

    moved = operator(*tree_map(whole, args), **tree_map(whole, named))
    result = [collapsed(part) for part in (moved if isinstance(moved, (list, tuple)) else [moved])]
    given = {label for labels in seen for label in numbers(labels.unique()).tolist()}
    for part in result:
        if given - {0} - set(numbers(part.unique()).tolist()):
            raise Stays("takes some of them by their place")
    if name in ("aten::flip", "aten::roll") and any(_order(part) != _order(seen[0]) for part in result):
        raise Stays("changes their order")
    return list(result)


def _order(labels: Tensor) -> list[int]:
    return [int(label) for label in numbers(labels)]


def _reduced(
    operator: Any, args: Sequence[Any], named: Mapping[str, Any], outputs: Sequence[Tensor], labeled: Labeled
) -> list[Tensor | None]:
    """Labels without the axes that are reduced, along which they must not differ."""
    labels = labeled(args[0])
    if labels is None:
        raise Stays("reads them by another argument than its first")
    wanted = dict(zip((argument.name for argument in operator._schema.arguments), args, strict=False)) | dict(named)
    given = wanted.get("dim", wanted.get("dims"))
    count = labels.dim()
    along = (
        set(range(count))
        if given is None or given == []
        else {axis % count for axis in ([given] if isinstance(given, int) else given)}
    )
    if axes(labels) & along:
        raise Stays("mixes them")
    left = [size for axis, size in enumerate(labels.shape) if axis not in along]
    return [labels if output.dim() == count else labels.reshape(left) for output in outputs]


def _spatial(
    name: str, args: Sequence[Any], outputs: Sequence[Tensor], labeled: Labeled, bonds: Bonds
) -> list[Tensor | None]:
    """The same labels: they must not differ along the axes that change."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    labels = labeled(tensors[0])
    if labels is None:
        raise Stays("reads them by another argument than its first")
    count = labels.dim()
    if name == "constant_pad_nd":
        changed = {count - 1 - index // 2 for index, size in enumerate(args[1]) if size}
    else:
        match = re.search(r"(\d)d", name)
        assert match is not None
        changed = set(range(count - int(match[1]), count))
    if axes(labels) & changed:
        raise Stays("adds to them or mixes them")
    for other in tensors[1:]:
        if (own := labeled(other)) is not None:
            if own.shape != labels.shape:
                raise Stays("mixes them")
            bonds.join(labels, own)
    return [labels if output.dim() == count else None for output in outputs]


def _pointwise(operands: Sequence[Tensor], count: int, labeled: Labeled, bonds: Bonds) -> Tensor | None:
    """All labels that meet at a place go together; each channel of one operand must meet one of every other, or
    none.
    """
    shapes = [[1] * (count - operand.dim()) + list(operand.shape) for operand in operands]
    labels_and_shapes = [(labeled(operand), shape) for operand, shape in zip(operands, shapes, strict=True)]
    known = [
        labels.reshape([1] * (count - labels.dim()) + list(labels.shape))
        for labels, _ in labels_and_shapes
        if labels is not None
    ]
    along = axes(known[0])
    if any(axes(labels) != along for labels in known):
        raise Stays("combines each of them with others")
    for labels, shape in labels_and_shapes:
        if labels is None and any(shape[axis] > 1 for axis in along):
            raise Stays("combines them with as many fixed numbers")
    result = known[0]
    for other in known[1:]:
        bonds.join(result, other)
        result = torch.maximum(*torch.broadcast_tensors(result, other))
    return result
