"""The checks of one network: its cost beside another counter's, and its compression by each method."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.zoo.networks import ZooNetwork, zoo
from sconv_search import METHODS, Choice, CompressionPlan, Cost, compress, measure_cost
from sconv_search.cost.input_shape import takes
from sconv_search.inference.export import export_onnx
from sconv_search.studies.methods import compress_again
from sconv_search.studies.selection import candidates

ONNX_EVERY, PARITY = 5, 1e-4
"""One network in so many is exported; largest difference of the file's outputs, over the largest output."""
REBUILT_TOLERANCE = 1e-6
COMPILED = (
    *(f"torchvision/{name}" for name in ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf")),
    *("torchvision/squeezenet1_1", "torchvision/r3d_18"),
    *(f"timm/{name}" for name in ("test_convnext", "test_vit", "ghostnet_050", "efficientvit_m0")),
)
"""Of different operators, and with outputs that hang on the input at random weights (those of ShuffleNet and GoogLeNet
do not)."""


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """The cost of one network.

    Args:
        network: name in the zoo.
        kind: what the network does.
        input: shapes that it was called with.
        macs: ours; None where the network has no cost.
        adds: ours.
        counted: MACs by ``torch.utils.flop_counter``; None where that fails.
        reason: why there is no cost, in words.
        exportable: whether ``torch.export`` traces the network; asked where there is no cost.
        seconds: of our count.
    """

    network: str
    kind: str
    part: str = "cost"
    input: str = ""
    params: int | None = None
    macs: int | None = None
    adds: int | None = None
    counted: int | None = None
    reason: str = ""
    exportable: bool | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CompressionRow:
    """One network through all methods.

    Args:
        layers: of the kinds that some method may replace.
        offered: layers with options of some method.
        shares: method -> FLOPs that are left, of the dense network's, with the middle option everywhere.
        failures: method, or ``onnx``, -> what went wrong.
        parity: of the exported file; None where none was written.
        note: why not, where that is not ours to mend.
    """

    network: str
    kind: str
    part: str = "compression"
    layers: int = 0
    offered: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    parity: float | None = None
    note: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CompiledRow:
    """One compressed network through ``torch.compile``.

    Args:
        difference: of the outputs, compiled and not, over the largest output.
    """

    network: str
    kind: str
    part: str = "compiled"
    difference: float | None = None
    reason: str = ""
    seconds: float = 0.0


def cost_row(member: ZooNetwork) -> CostRow:
    """Counts a network, by us and by torch's counter."""
    network = _built(member)
    example = member.example(network)
    shapes = ", ".join("×".join(map(str, x.shape)) for x in pytree.tree_leaves(example))
    known: dict[str, Any] = {"network": member.name, "kind": member.kind, "input": shapes}
    known |= {"params": sum(weight.numel() for weight in network.parameters()), "counted": _counted(network, example)}
    began = time.perf_counter()
    try:
        cost = measure_cost(network, example)
    except ValueError as error:
        return CostRow(**known, reason=str(error), exportable=_works(lambda: torch.export.export(network, example)))
    return CostRow(**known, macs=cost.macs, adds=cost.adds, seconds=round(time.perf_counter() - began, 2))


def _counted(network: nn.Module, example: tuple[Any, ...]) -> int | None:
    """MACs by torch's counter, which sees products of matrices alone: attention and recurrence must run as such."""
    copied = copy.deepcopy(network).requires_grad_(False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
            FlopCounterMode(display=False) as counter,
        ):
            copied(*example)
    except Exception:  # of any kind: a network or operator that the counter does not know
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return int(counter.get_total_flops()) // 2


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:  # of any kind: torch's exporter's own, or the network's
        return False
    return True


def compression_row(member: ZooNetwork) -> CompressionRow:
    """Compresses a network by each method, the middle option of every site, and looks at what comes out."""
    began = time.perf_counter()
    network = _built(member)
    example = member.example(network)
    takes(network, example)
    dense, offered, shares, failures = measure_cost(network, example), set[str](), {}, {}
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, method in METHODS.items():
        try:
            options = method.options(network)
            offered |= {site for site, own in options.items() if own}
            plan = CompressionPlan(
                sites={site: Choice(method=name, structure=own[len(own) // 2]) for site, own in options.items() if own}
            )
            if plan.sites:
                shares[name] = _compressed(member, network, example, plan, dense)
        except Exception as error:  # of any kind: it becomes the row's
            failures[name] = f"{type(error).__name__}: {error}"[:400]
        if any(not torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items()):
            failures[name] = "the argument was modified"
            network.load_state_dict(state)
    parity, note = None, ""
    if list(zoo()).index(member.name) % ONNX_EVERY == 0 and "structured_conv" in shares:
        try:
            parity = _exported(member, network, example)
        except Exception as error:  # of any kind: it becomes the row's
            words = f"{type(error).__name__}: {error}"[:400]
            if _works(lambda: _written(network, example)):
                failures["onnx"] = words
            else:
                note = f"torch writes no ONNX of the dense network either: {words}"
    return CompressionRow(
        network=member.name,
        kind=member.kind,
        layers=len(candidates(network)),
        offered=len(offered),
        shares=shares,
        failures=failures,
        parity=parity,
        note=note,
        seconds=round(time.perf_counter() - began, 1),
    )


def _compressed(
    member: ZooNetwork, network: nn.Module, example: tuple[Any, ...], plan: CompressionPlan, dense: Cost
) -> float:
    """The share of FLOPs that a plan leaves.

    Raises:
        AssertionError: the compressed network breaks a law.
    """
    small = compress(network, plan)
    with torch.no_grad():
        wanted, outputs = network(*example), small(*example)
    _require(_form(outputs, member) == _form(wanted, member), "the outputs' shapes changed")
    _require(
        all(bool(x.isfinite().all()) for x in _tensors(outputs) if x.is_floating_point()), "outputs are not finite"
    )
    cost = measure_cost(small, example)
    _require(cost.flops < dense.flops, f"{cost.flops} FLOPs are not fewer than the dense network's {dense.flops}")
    rebuilt = compress_again(_built(member, seed=1), plan)  # as a saved network is loaded
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        again = rebuilt(*example)
    _require(
        _difference(again, outputs) <= REBUILT_TOLERANCE, "rebuilt from plan and weights, it computes something else"
    )
    _require_gradients(network, small, example)
    return cost.flops / dense.flops


def _require_gradients(network: nn.Module, small: nn.Module, example: tuple[Any, ...]) -> None:
    """As many of the parameters get a gradient as of the dense network, and all of these are finite."""
    without = []
    for model in (network, small):
        model.zero_grad()
        total = sum(x.float().square().sum() for x in _tensors(model(*example)) if x.requires_grad)
        if isinstance(total, Tensor):
            total.backward()
        without.append(
            {name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None}
        )
    gradients = [weight.grad for weight in small.parameters() if weight.grad is not None]
    for model in (network, small):
        model.zero_grad()
    modules = {name.rpartition(".")[0] for name in without[0]}
    more = [name for name in without[1] - without[0] if not any(name.startswith(f"{path}.") for path in modules)]
    _require(not more, f"no gradient reaches {', '.join(more[:3])}")
    _require(all(bool(gradient.isfinite().all()) for gradient in gradients), "gradients are not finite")


def _exported(member: ZooNetwork, network: nn.Module, example: tuple[Any, ...]) -> float | None:
    """The parity of an ONNX file of the network, compressed by structured convolutions; None of one that has no such
    form: it takes or gives more than one tensor.
    """
    with torch.no_grad():
        result = network(*example)
    if len(example) > 1 or not isinstance(example[0], Tensor) or not isinstance(result, Tensor):
        return None
    parity = _written(_structured(network), example)
    _require(parity <= PARITY, f"its outputs differ by {parity:.1e}")
    return parity


def _written(network: nn.Module, example: tuple[Any, ...]) -> float:
    """The parity of an ONNX file of the network."""
    with tempfile.TemporaryDirectory() as folder:
        images = example[0].repeat(2, *[1] * (example[0].dim() - 1))
        return max(export_onnx(network, images, Path(folder) / "network.onnx", {}).values())


def compiled_row(member: ZooNetwork) -> CompiledRow:
    """Compiles a network of structured layers by torch's default backend, and compares what both compute."""
    began = time.perf_counter()
    network = _built(member)
    example = member.example(network)
    takes(network, example)
    small = _structured(network)
    torch.compiler.reset()
    with torch.no_grad():
        difference = _difference(torch.compile(small)(*example), small(*example))
    reason = "" if difference <= PARITY else f"its outputs differ by {difference:.1e}"
    seconds = round(time.perf_counter() - began, 1)
    return CompiledRow(network=member.name, kind=member.kind, difference=difference, reason=reason, seconds=seconds)


def _structured(network: nn.Module) -> nn.Module:
    """The network with the middle structured option at every site."""
    options = METHODS["structured_conv"].options(network)
    sites = {site: Choice(method="structured_conv", structure=own[len(own) // 2]) for site, own in options.items()}
    return compress(network, CompressionPlan(sites=sites)).eval()


def _built(member: ZooNetwork, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return member.build()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _form(result: Any, member: ZooNetwork) -> Any:
    """The shapes of a result; of a detector's, whose boxes may be more or fewer, what it consists of."""
    leaves, structure = pytree.tree_flatten(result)
    number = 1 if member.kind == "detection" else 0
    return structure, [x.shape[number:] if isinstance(x, Tensor) else x for x in leaves]


def _difference(left: Any, other: Any) -> float:
    """The largest difference of two results, over the largest number; infinite where their shapes differ."""
    pairs = list(zip(_tensors(left), _tensors(other), strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return float("inf")
    parts = [
        (float((x - y).abs().max()), float(y.abs().max())) for x, y in pairs if x.numel() and x.is_floating_point()
    ]
    return max((error / largest if largest else error for error, largest in parts), default=0.0)


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise AssertionError(words)


PARTS: dict[str, Callable[[ZooNetwork], CostRow | CompressionRow | CompiledRow]] = {
    "cost": cost_row,
    "compression": compression_row,
    "compiled": compiled_row,
}


def is_checked(part: str, name: str) -> bool:
    """Whether the network has that part: few are compiled, which takes a minute each."""
    return part != "compiled" or name in COMPILED


def row_of(part: str, name: str) -> dict[str, Any]:
    """One part of a network's checks, as an entry of the results file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asdict(PARTS[part](zoo()[name]))
