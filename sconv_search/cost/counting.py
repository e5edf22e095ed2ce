"""What one input costs a network, counted on the network as it is built. The only user of fvcore.

What is counted and what is not is decided in ``operator_costs``; an operator that has no cost there is refused by name,
with the module that runs it, unless it is asked to be counted as nothing. ``activations`` are the numbers that the
counted operators write.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.copying import copied, without_hooks, without_values
from sconv_search.cost.direct_counting import counted_directly
from sconv_search.cost.forward_tracing import ForwardTrace, HiddenTrace, UnseenResultError
from sconv_search.cost.network_inputs import Inputs, arguments, example_input, in_words, output_tensors
from sconv_search.cost.operator_costs import costs_of_operators, free
from sconv_search.cost.product_costs import PRODUCTS, Handle
from sconv_search.cost.tracing import OnShapes
from sconv_search.records import Cost

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore scripts a function on import, which torch announces as deprecated
    from fvcore.nn.jit_analysis import JitModelAnalysis

__all__ = (
    "cost_of_calls",
    "counting_free",
    "example_input",
    "measure_cost",
    "measure_modules",
    "on_shapes",
    "require_forward",
    "required_operators",
)
Result = TypeVar("Result")
_COUNTED_FREE: ContextVar[frozenset[str]] = ContextVar("_COUNTED_FREE", default=frozenset())
OWN_FUNCTION = "prim::PythonOp."
"""What a trace calls a ``torch.autograd.Function``, before its name; it holds the operators that the function runs."""
SCRIPTED = "prim::CallFunction"
PRODUCT_KINDS = frozenset(
    (OWN_FUNCTION.removesuffix("."), *(f"aten::{name}{end}" for name in PRODUCTS for end in ("", "_")))
)
_get_value_trace: Any = getattr(torch._C, "_get_value_trace")  # noqa: B009  # not in the stubs


def require_forward(network: nn.Module, inputs: Inputs) -> None:
    """Runs the network (in evaluation mode) once on zeros of that shape, or on the example.

    Raises:
        ValueError: its forward fails; shape and cause are given.
    """
    args, named = arguments(network, inputs)
    try:
        with torch.no_grad():
            network(*args, **named)
    except Exception as error:  # of any kind: the forward is the user's own
        words = str(error) if isinstance(error, RuntimeError) and str(error) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{type(network).__name__} fails on {in_words(inputs)}: {words}") from error


def measure_cost(network: nn.Module, inputs: Inputs, *, count_free: Collection[str] = (), direct: bool = False) -> Cost:
    """MACs, other additions and parameters of one call of the network; exact integers.

    Products count even where their results are not used, or are carried on as values (``.data``, NumPy,
    ``.tolist()``); additions do not there.

    Args:
        network: any module; it is copied, and measured in evaluation mode.
        inputs: shape of one input, without the batch: ``(3, 32, 32)``; or what the network is called with: a tensor, a
            tuple of positional arguments, or a dict of arguments by keyword.
        count_free: operators without a known cost, as ``"aten::fft_fft"``, that count nothing.
        direct: counts by the functions that the forward calls where they tell all, else by a trace: the same numbers,
            several times as fast. It is for the many options of a layer; networks as they are reported are traced.

    Raises:
        ValueError: the network's forward fails on the shape, cannot be traced, or runs an operator that has no cost; or
            one to be counted free is unknown to torch, or has a cost.

    >>> measure_cost(nn.Linear(8, 4), (8,))
    Cost(macs=32, adds=0, params=36)
    """
    with counting_free(count_free):
        counts = _counts(network, inputs, direct)[""]
    params = sum(weight.numel() for weight in network.parameters())
    return _cost(counts, params)


def measure_modules(
    network: nn.Module, inputs: Inputs, *, count_free: Collection[str] = (), direct: bool = False
) -> dict[str, Cost]:
    """The cost of each named module, what is inside it included, for one call of the network; exact integers.

    Args:
        direct: as in ``measure_cost``.

    Raises:
        ValueError: as ``measure_cost``.
    """
    with counting_free(count_free):
        counts = _counts(network, inputs, direct)
    costs = {}
    for name, module in network.named_modules():
        params = sum(weight.numel() for weight in module.parameters())
        costs[name] = _cost(counts[name], params)
    return costs


def cost_of_calls(layer: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Cost:
    """A layer's cost over all its calls; its parameters count once. A layer that is never called costs its
    parameters. Its hooks, which saw the inputs before, do not count.
    """
    layer = without_hooks(layer)
    params = sum(weight.numel() for weight in layer.parameters())
    total = sum((measure_cost(layer, shape, direct=True) for shape in shapes), start=Cost(macs=0, adds=0, params=0))
    return replace(total, params=params)


@contextmanager
def counting_free(operators: Collection[str]) -> Iterator[None]:
    """Within it every measurement counts these operators, which have no known cost, as nothing.

    Raises:
        ValueError: as ``required_operators``.
    """
    token = _COUNTED_FREE.set(_COUNTED_FREE.get() | set(required_operators(operators)))
    try:
        yield
    finally:
        _COUNTED_FREE.reset(token)


def required_operators(operators: Collection[str]) -> tuple[str, ...]:
    """The names of operators without a known cost, each once, in order; ``aten::`` may be left out.

    Raises:
        ValueError: torch has no operator of the name, or its cost is known.
    """
    named = sorted({name if "::" in name else f"aten::{name}" for name in operators})
    known = costs_of_operators()
    for name in named:
        if name in known:
            raise ValueError(
                f"the cost of {name} is known; only an operator without a known cost can be counted as free"
            )
        if not name.startswith("prim::") and not torch._C._jit_get_schemas_for_operator(name):
            near = difflib.get_close_matches(name, {schema.name for schema in torch._C._jit_get_all_schemas()}, n=3)
            raise ValueError(f"torch has no operator {name}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return tuple(named)


def _cost(counts: Mapping[str, int], params: int) -> Cost:
    return Cost(params=params, **{name: int(counts[name]) for name in ("macs", "adds", "activations")})


class UntraceableError(ValueError):
    """A network's forward works, but cannot be traced."""


class _Called(nn.Module):
    """A network of any arguments as a module of tensors alone, which is what can be traced."""

    def __init__(self, network: nn.Module, inputs: Inputs, trace: ForwardTrace) -> None:
        super().__init__()
        self.network, self._trace = network, trace
        leaves, self._structure = pytree.tree_flatten(arguments(network, inputs))
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.tensors = tuple(leaves[index] for index in self._places)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = list(self._leaves)
        for index, tensor in zip(self._places, tensors, strict=True):
            leaves[index] = tensor
        args, named = pytree.tree_unflatten(leaves, self._structure)
        with self._trace.forward():
            results = tuple(output_tensors(self.network(*args, **named)))
            self._trace.require_known(results)
        for tensor in results:
            _get_value_trace(tensor)  # a result that depends on no input becomes a constant, which may be returned
        _keep_products()
        return results


def _keep_products() -> None:
    """Makes every product of the trace that runs a result of it, without which those that none depends on are dropped.

    They are computed all the same: their results may be left unused, or be carried on as values, by ``.data`` or NumPy.
    """
    graph = torch._C._get_tracing_state().graph()
    nodes = list(graph.nodes())
    while nodes:
        node = nodes.pop()
        nodes += [inner for block in node.blocks() for inner in block.nodes()]  # of the modules inside
        if node.kind() in PRODUCT_KINDS:
            for result in node.outputs():
                graph.registerOutput(result)


def _counts(network: nn.Module, inputs: Inputs, direct: bool) -> Mapping[str, Counter[str]]:
    """The counts of each module, by its name, in a copy in evaluation mode, every operator known; of shapes alone where
    they suffice.
    """
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UntraceableError(
                f"the cost of {name or 'the network itself'} ({module.original_name}) cannot be counted: it is "
                "compiled by torch.jit.script, which hides what it runs; measure the network before that"
            )
    if direct:
        with suppress(Exception):  # of any kind: it is not known what the forward does, which a trace then says
            return _counted_directly(network, inputs)
    try:
        return _by_name(on_shapes(network, lambda measured: _analyzed(measured, inputs)))
    except (UntraceableError, UnknownOperatorError) as error:
        if isinstance(error, UnknownOperatorError) and not error.scripted:
            raise
        try:  # some networks ask whether they are traced, and go another way then
            return _by_name(_analyzed(_on_values(network), inputs, hidden=True))
        except UntraceableError:
            raise error from None


def _by_name(analysis: JitModelAnalysis) -> dict[str, Counter[str]]:
    counts = analysis.by_module_and_operator()
    return {name.removeprefix("network").removeprefix("."): own for name, own in counts.items() if name}


def _counted_directly(network: nn.Module, inputs: Inputs) -> Mapping[str, Counter[str]]:
    with OnShapes(), torch.no_grad(), _whole_layers():
        measured = without_values(network).eval()
        args, named = arguments(measured, inputs)
        return counted_directly(measured, args, named)


def _analyzed(measured: nn.Module, inputs: Inputs, hidden: bool = False) -> JitModelAnalysis:
    trace = HiddenTrace(measured) if hidden else ForwardTrace(measured)
    called = _Called(measured, inputs, trace)
    analysis = JitModelAnalysis(called, called.tensors)
    analysis.set_op_handle(**costs_of_operators()).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle(**dict.fromkeys(_COUNTED_FREE.get(), free))
    analysis.tracer_warnings("none")
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    _count(analysis, measured, inputs, trace)
    own = [name for name in analysis.unsupported_ops() if name.startswith(OWN_FUNCTION)]
    if own:
        analysis.set_op_handle(**dict.fromkeys(own, _inside))
        _count(analysis, measured, inputs, trace)
    if missing := sorted(analysis.unsupported_ops()):
        raise UnknownOperatorError({name: _runners(analysis, measured, name) for name in missing})
    return analysis


def _count(analysis: JitModelAnalysis, measured: nn.Module, inputs: Inputs, trace: ForwardTrace) -> None:
    """Traces the network and counts.

    Raises:
        ValueError: the forward fails, or an operator's cost cannot be told.
        UntraceableError: the forward fails while it is traced alone.
    """
    try:
        with torch.no_grad(), _whole_layers(), trace:
            analysis.total()
    except Exception as error:  # of any kind: the forward is the user's own
        if (trace.returned and not isinstance(error, UnseenResultError)) or any(
            weight.is_meta for weight in measured.parameters()
        ):
            raise
        require_forward(measured, inputs)  # says it in words
        raise UntraceableError(
            f"{type(measured).__name__} cannot be traced to count its cost: {trace.in_words()} fails with "
            f"{type(error).__name__}: {error}"
        ) from error


@contextmanager
def _whole_layers() -> Iterator[None]:
    """Within it no layer of a transformer runs as one operator, whose products would not be seen."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


class UnknownOperatorError(ValueError):
    """Operators have no known cost.

    Args:
        runners: operator -> the modules that run it, in words.
    """

    def __init__(self, runners: Mapping[str, str]) -> None:
        self.scripted = SCRIPTED in runners
        named = "; ".join(f"{operator}, run by {modules}" for operator, modules in runners.items())
        flags = " ".join(f"--count-free {operator}" for operator in runners)
        super().__init__(
            f"no cost is known for {named}. To count as nothing: {flags}, or in Python count_free={list(runners)}"
        )


def _inside(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A ``torch.autograd.Function``: what its forward runs.

    Raises:
        ValueError: an operator in it has no cost.
    """
    node, known = outputs[0].node(), costs_of_operators() | dict.fromkeys(_COUNTED_FREE.get(), free)
    counts: Counter[str] = Counter()
    for inner in node.g("Subgraph").nodes():
        handle: Handle | None = known.get(inner.kind())
        if inner.kind() == OWN_FUNCTION.removesuffix("."):
            handle = _inside
        if handle is None and not inner.kind().startswith("prim::"):
            raise UnknownOperatorError({inner.kind(): f"the function {node.pyname()}"})
        counts += handle(list(inner.inputs()), list(inner.outputs())) if handle else Counter()
    return counts


def _runners(analysis: JitModelAnalysis, measured: nn.Module, operator: str) -> str:
    """The innermost modules that run an operator, by name and class; three of them."""
    names: list[str] = []
    for name, module in measured.named_modules():
        inside = [f"network.{name}.{child}" if name else f"network.{child}" for child, _ in module.named_children()]
        count = analysis.unsupported_ops(f"network.{name}" if name else "network")[operator]
        if count > sum(analysis.unsupported_ops(child)[operator] for child in inside):
            names.append(f"{name or 'the network itself'} ({type(module).__name__})")
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def on_shapes(network: nn.Module, work: Callable[[nn.Module], Result]) -> Result:
    """What the work gives for a copy in evaluation mode whose tensors have shapes and no values: forwards take no time.

    Batch norms and activations, which keep shapes, are left out of them.

    Where that fails, because a forward reads values or an operator knows no shapes, it is done for a full copy; so the
    work must leave nothing behind when it fails.
    """
    try:
        with OnShapes():
            return work(without_values(network).eval())
    except Exception as error:  # of any kind: the forward is the user's own, which the full copy says in words
        try:
            return work(_on_values(network))
        except Exception:
            if isinstance(error, UnknownOperatorError):  # which an input of zeros may have kept from running
                raise error from None
            raise


def _on_values(network: nn.Module) -> nn.Module:
    """A full copy in evaluation mode; of a network without values, one of zeros."""
    full = copied(network).eval()
    if any(tensor.is_meta for tensor in (*full.parameters(), *full.buffers())):
        full.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*full.parameters(), *full.buffers()):
                tensor.zero_()
    return full
