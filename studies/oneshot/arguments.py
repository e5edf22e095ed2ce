"""What a call is given: refused by name, with what would be right, before any work; or brought into one form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.cost.network_inputs import Inputs, called, first_of, is_shape, output_tensors
from sconv_search.plan import CompressionPlan
from sconv_search.strict_json import shown, typed


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
    require_counts(samples=samples)


def require_counts(**counts: object) -> None:
    """Refuses what is no whole number above 0, by the argument's name."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}= must be a whole number above 0, got {shown(value)}")


def require_iterable(data: object) -> None:
    """Refuses data that is no iterable of batches."""
    if not isinstance(data, Iterable):
        raise TypeError(f"data= must be an iterable of batches, such as a DataLoader, got {shown(data)}")


def require_functions(functions: Mapping[str, object]) -> None:
    """Refuses what is given and cannot be called."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name}= must be a function, got a value of type {type(function).__name__}")


def require_takes_network(functions: Mapping[str, object]) -> None:
    """Refuses functions that are given, and cannot be called with a network alone."""
    for name, function in functions.items():
        try:
            arguments = None if function is None else signature(cast(Callable[..., Any], function))
        except (TypeError, ValueError):  # made in C without a signature: calling it tells
            continue
        try:
            if arguments is not None:
                arguments.bind(None)
        except TypeError as error:
            raise TypeError(f"{name}= is called with the network alone, and takes {arguments}: {error}") from error


def require_instances(kind: type[Any], **given: object) -> None:
    """Refuses what is given and no instance of a public class."""
    for name, value in given.items():
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}= must be a sconv_search.{kind.__name__}, got {shown(value)}")


def require_options(kind: type[Any], given: Mapping[str, object], caller: Callable[..., Any]) -> None:
    """Refuses arguments that are no fields of a dataclass, or not of the fields' types.

    Args:
        caller: takes them beside arguments of its own, among which the nearest is looked for, too.

    Raises:
        TypeError: an argument is unknown; the nearest is named.
        ValueError: a value is of another type.
    """
    hints = get_type_hints(kind)
    known = {*hints, *signature(caller).parameters} - {"self"}
    for name, value in given.items():
        if name not in hints:
            near = ", ".join(get_close_matches(name, known)) or f"none alike; known: {', '.join(sorted(known))}"
            raise TypeError(f"there is no argument {name!r}; nearest: {near}")
        typed(value, hints[name], name)


def require_fit(network: nn.Module, fitted: Inputs) -> None:
    """Refuses data that the network does not take.

    Raises:
        ValueError: what its forward says of the first input.
    """
    floats = [leaf for leaf in pytree.tree_leaves(fitted) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not all(bool(leaf.isfinite().all()) for leaf in floats):
        raise ValueError("data= holds numbers that are not finite among the inputs that layers are fitted to")
    numbers = [leaf for leaf in floats if leaf.numel() > 1]
    if numbers and all(bool((leaf == leaf.flatten()[0]).all()) for leaf in numbers):
        raise ValueError(
            f"data= holds inputs of one number alone, {float(numbers[0].flatten()[0]):g}, which tell nothing of the"
            " network's layers; give inputs as it is used on"
        )
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
