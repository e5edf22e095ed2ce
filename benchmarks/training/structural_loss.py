"""What structural regularization costs: chain sums against the explicit projector, and its share of a training step.

The explicit projector is the matrix I - A A+ of each layer, made once with ``pinv`` and multiplied with the weights at
each step; autograd multiplies a second time. The chain sums are ``sconv_search.structural_loss``.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Quartiles, facts, interleaved, markdown_table, publish, quartiles
from sconv_search import Choice, CompressionPlan, Structure, structural_loss
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.kernels import kronecker_basis
from sconv_search.structured.regularization import METHOD, site_counts

Loss = Callable[[], Tensor]
BAR = 0.03
"""The loss of all sites may cost at most this share of a training step."""
STRENGTH = 0.1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network whose sites are all regularized towards a plan."""

    name: str
    network: nn.Module
    plan: CompressionPlan


def _structure(layer: nn.Conv2d | nn.Linear, half: bool, n: int) -> Structure:
    if isinstance(layer, nn.Linear):
        return {"c": layer.in_features // 2}
    return {"c": (layer.in_channels + 1) // 2 if half else layer.in_channels, "n": n}


def _plan(network: nn.Module, *, half: bool, n: int) -> CompressionPlan:
    """Every 3x3 convolution to (C/2, n) or (C, n), C/2 rounded up, and every linear layer to c = C/2."""
    convolutions = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    return CompressionPlan(
        sites={
            name: Choice(method=METHOD, structure=_structure(layer, half, n)) for name, layer in convolutions.items()
        }
    )


def resnet20_cases() -> list[Case]:
    """ResNet-20 with all of its sites regularized: along space, along the channels, and along both."""
    network = cifar_resnet(20)
    kinds = {"(C, 2)": (False, 2), "(C/2, 3)": (True, 3), "(C/2, 2)": (True, 2)}
    return [
        Case(name=f"ResNet-20, 3x3 to {name}, linear to C/2", network=network, plan=_plan(network, half=half, n=n))
        for name, (half, n) in kinds.items()
    ]


def layer_case(channels: int) -> Case:
    """One 3x3 convolution with as many filters as channels, to (C/2, 2)."""
    network = nn.Sequential(nn.Conv2d(channels, channels, 3, bias=False))
    return Case(name=f"{channels}x{channels}x3x3 to (C/2, 2)", network=network, plan=_plan(network, half=True, n=2))


def explicit_loss(network: nn.Module, plan: CompressionPlan) -> Loss:
    """The same loss as ``structural_loss``, by one dense (C N N, C N N) projector a site."""
    sites: list[tuple[Tensor, Tensor]] = []
    for name, counts in site_counts(network, plan).items():
        weight = network.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        basis = kronecker_basis(weight.shape[1:], counts)
        rest = torch.eye(len(basis), dtype=torch.float64) - basis @ torch.linalg.pinv(basis)
        sites.append((weight, rest.to(weight.dtype)))

    def loss() -> Tensor:
        flat = [(weight.flatten(1), rest) for weight, rest in sites]
        return torch.stack([torch.linalg.vector_norm(w @ rest) / torch.linalg.vector_norm(w) for w, rest in flat]).sum()

    return loss


def _forward_backward(network: nn.Module, loss: Loss) -> float:
    network.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    return float(value.detach())


def _explicit_macs(case: Case) -> int:
    """MACs of one product of each site's weights with its projector."""
    weights = [case.network.get_parameter(f"{name}.weight") for name in case.plan.sites]
    return sum(weight.numel() * math.prod(weight.shape[1:]) for weight in weights)


def compare(case: Case, rounds: int) -> tuple[object, ...]:
    """One row: the case, construction of the explicit projectors, both losses' times, and how many times faster chains
    are.

    Raises:
        ValueError: the two losses differ.
    """
    chains = structural_loss(case.network, case.plan)
    start = time.perf_counter()
    explicit = explicit_loss(case.network, case.plan)
    construction = time.perf_counter() - start
    losses = {"chains": chains, "explicit": explicit}
    values = {name: _forward_backward(case.network, loss) for name, loss in losses.items()}
    if not math.isclose(values["chains"], values["explicit"], rel_tol=1e-4):
        raise ValueError(f"{case.name}: the losses differ, {values}")
    seconds = interleaved(
        {name: partial(_forward_backward, case.network, loss) for name, loss in losses.items()}, rounds
    )
    spreads = {name: quartiles(times) for name, times in seconds.items()}
    faster = spreads["explicit"].median / spreads["chains"].median
    times = (f"{construction:.2f}", spreads["explicit"].milliseconds(), spreads["chains"].milliseconds())
    return case.name, f"{_explicit_macs(case) / 1e6:,.0f}", *times, f"{faster:.1f}"


def comparison(rounds: int) -> str:
    """Chain sums against explicit projectors, as a Markdown table."""
    cases = [*resnet20_cases()[:2], *(layer_case(channels) for channels in (64, 256, 512))]
    rows = []
    for case in cases:
        print(case.name, file=sys.stderr, flush=True)
        rows.append(compare(case, rounds))
    columns = ("sites", "MMAC a product", "explicit: construction, s", "explicit: ms a step", "chain sums: ms a step")
    return markdown_table((*columns, "times faster"), rows)


def _step(
    network: nn.Module, penalty: Loss | None, images_NCHW: Tensor, labels: Tensor, optimizer: torch.optim.SGD
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(network(images_NCHW), labels)
    if penalty is not None:
        loss = loss + STRENGTH * penalty()
    loss.backward()
    optimizer.step()


def _channels_last(case: Case) -> tuple[nn.Module, Loss]:
    """A copy of the case's network laid out as in training, and its loss; the layout changes what the loss costs."""
    network = copy.deepcopy(case.network).to(memory_format=torch.channels_last).train()
    return network, structural_loss(network, case.plan)


def training_steps(cases: list[Case], batch: int) -> dict[str, Callable[[], object]]:
    """For each case a plain training step, then one with its loss; each has its own copy of the network."""
    images_NCHW = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))
    steps: dict[str, Callable[[], object]] = {}
    for case in cases:
        for kind in ("plain", "regularized"):
            network, penalty = _channels_last(case)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            loss = penalty if kind == "regularized" else None
            steps[f"{kind} {case.name}"] = partial(_step, network, loss, images_NCHW, labels, optimizer)
    return steps


def _paired(regularized: list[float], plain: list[float]) -> Quartiles:
    """The added share, step by neighboring step, so that a slow spell meets both."""
    return quartiles([a / b - 1 for a, b in zip(regularized, plain, strict=True)])


def step_shares(batch: int, rounds: int) -> str:
    """What the loss adds to a ResNet-20 training step, as a Markdown table."""
    print(f"ResNet-20 training step, batch {batch}", file=sys.stderr, flush=True)
    cases = resnet20_cases()
    seconds = interleaved(training_steps(cases, batch), rounds)
    alone = interleaved({case.name: partial(_forward_backward, *_channels_last(case)) for case in cases}, rounds)
    rows = []
    for case in cases:
        plain, regularized = seconds[f"plain {case.name}"], seconds[f"regularized {case.name}"]
        share, part = _paired(regularized, plain), quartiles(alone[case.name]).median / quartiles(plain).median
        times = (quartiles(values).milliseconds() for values in (plain, regularized, alone[case.name]))
        rows.append((case.name, *times, share.percent(), f"{part:.1%}", "met" if share.median <= BAR else "missed"))
    columns = (
        "sites",
        "plain step, ms",
        "step with the loss, ms",
        "loss alone, ms",
        "added to the step",
        "loss alone / plain step",
    )
    return markdown_table((*columns, f"at most {BAR:.0%}"), rows)


def report(batch: int, rounds: int, step_rounds: int) -> str:
    """Measures everything; the whole Markdown document."""
    return "\n\n".join(
        [
            "# What structural regularization costs",
            facts(["fp32"], rounds) + f"\n- training step: {step_rounds} rounds, batch {batch}, channels-last",
            "## Chain sums against the explicit projector",
            (
                "Forward and backward of the loss alone. The explicit projector multiplies twice a step, once forward"
                " and once in autograd's backward; it is built in fp64 with `pinv`, once, and that time is not in the"
                " step."
            ),
            comparison(rounds),
            "## Share of a training step",
            (
                "ResNet-20: forward, cross-entropy, backward, SGD with momentum and weight decay; with the loss of all"
                " sites, and without, in turn. The added share is the median over pairs of neighboring steps; the loss"
                " alone (forward and backward) over the plain step is the steadier figure on a shared machine."
            ),
            step_shares(batch, step_rounds),
        ]
    )


def main() -> None:
    """Parses the options, measures and publishes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128, help="images a training step (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: all CPUs")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each loss (default: %(default)s)")
    parser.add_argument(
        "--step-rounds", type=int, default=31, help="measurements of each training step (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    publish(report(arguments.batch, arguments.rounds, arguments.step_rounds), arguments.out)


if __name__ == "__main__":
    main()
