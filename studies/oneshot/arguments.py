"""What a call is given: refused by name, with what would be right, before any work; or brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.cost.network_inputs import Inputs, called, first_of, is_shape, output_tensors
from sconv_search.plan import CompressionPlan
from sconv_search.strict_json import shown


def require_kinds(network: object, example: object, inputs: object, samples: object) -> None:
    """Refuses what can be no network, example or function, before any work."""
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"network must be an nn.Module, got {shown(network)}; sconv_search.named_network makes one of a name"
        )
    leaves = pytree.tree_leaves(example)
    if not leaves or any(leaf is None or type(leaf).__module__ == "numpy" for leaf in leaves):
        kinds = ", ".join(sorted({type(leaf).__name__ for leaf in leaves})) or type(example).__name__
        raise TypeError(
            f"example must hold tensors, in a tuple or dict where there are several, or be the shape of one input, as"
            f" (3, 32, 32); got {kinds}"
        )
    if inputs is not None and not callable(inputs):
        raise TypeError(f"inputs= must be a function of a batch, got {shown(inputs)}")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples= must be a whole number above 0, got {shown(samples)}")


def require_fit(network: nn.Module, fitted: Inputs) -> None:
    """Refuses data that the network does not take.

    Raises:
        ValueError: what its forward says of the first input.
    """
    floats = (leaf for leaf in pytree.tree_leaves(fitted) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    if not all(bool(leaf.isfinite().all()) for leaf in floats):
        raise ValueError("data= holds numbers that are not finite among the inputs that layers are fitted to")
    try:
        require_forward(network, first_of(fitted, 2))
    except ValueError as error:
        raise ValueError(
            f"data= does not fit the network: {error}; inputs= is a function of a batch that gives what the network is"
            " called with"
        ) from error


def of_one_input(network: nn.Module, example: Inputs) -> Inputs:
    """The first input of an example that is a batch; the example where the network does not take that alone."""
    tensors = [leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, Tensor) and leaf.dim()]
    sizes = {len(leaf) for leaf in tensors}
    if len(sizes) != 1 or sizes == {1}:
        return example
    first, batch = first_of(example, 1), sizes.pop()
    try:
        with torch.no_grad():
            one, every = (output_tensors(called(network, inputs)) for inputs in (first, example))
    except Exception:  # of any kind: the forward is the user's own, and has run on the whole example
        return example
    is_batch = bool(every) and all(x.dim() and len(x) == batch for x in every) and all(len(x) == 1 for x in one)
    return first if is_batch else example


def shape_or_example(network: nn.Module, example: Inputs) -> Any:
    """The shape of one input where that says all, else the example, of one input."""
    single = of_one_input(network, example)
    if isinstance(single, Tensor):
        return tuple(single.shape[1:]) if single.is_floating_point() and single.dim() > 1 else single
    return tuple(single) if is_shape(single) else single


def budget_text(budget: str | Mapping[str, str]) -> str:
    """A budget of several quantities as the text that ``Budgets.parse`` reads.

    Raises:
        ValueError: it is neither a text nor a mapping.
    """
    if isinstance(budget, str):
        return budget
    if isinstance(budget, Mapping) and budget:
        return ",".join(f"{name}={amount}" for name, amount in budget.items())
    raise ValueError(
        f"a budget is a text, as '50%' or '41M', or a mapping, as {{'macs': '40%', 'params': '60%'}};"
        f" got {shown(budget)}"
    )


def require_alike(compressed: nn.Module, dense: nn.Module, example: Inputs) -> None:
    """Refuses networks that are no pair, before any of their blocks is trained."""
    if isinstance(getattr(dense, "plan", None), CompressionPlan) and not hasattr(compressed, "plan"):
        raise ValueError(
            "the second network is a compressed one; give the compressed network first, then the dense one"
        )
    with torch.no_grad():
        made, wanted = (
            [tuple(x.shape) for x in output_tensors(called(copied(network).eval(), example))]
            for network in (compressed, dense)
        )
    if made != wanted:
        raise ValueError(f"the compressed network gives outputs of shapes {made} for one input, the dense one {wanted}")
