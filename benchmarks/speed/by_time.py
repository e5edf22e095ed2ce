"""Forms of a network whose layers are compressed where that saves time: of all plans with the MACs asked for, the
fastest.

A little compression of every layer pays for sums, or a second convolution, in every layer; the same MACs may be had by
compressing some layers more and leaving others dense. Each kind of layer is timed in each of its options, between two
small pointwise ones in the mode in which the network will run, and an integer program takes the fastest set. Spatial
SVD is chosen so too. What a plan costs in accuracy is not asked here; a search under a budget of latency asks both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp  # type: ignore[import-untyped]
from torch import Tensor, nn

from benchmarks.speed.candidates import NEAR, STEPS, Candidate, Subject, is_stem
from benchmarks.speed.layer_kinds import Kind, kinds
from sconv_search.baselines.spatial_svd import SpatialSVD
from sconv_search.baselines.weight_svd import WeightSVD
from sconv_search.compressor import site
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.timing import Prepare, timed_in_turn
from sconv_search.inference.implementations import DENSE, implementations
from sconv_search.inference.layer_times import sortable_sites
from sconv_search.inference.surroundings import surrounded_runs
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.structured.kinds import STRUCTURED
from sconv_search.studies.methods import compress

SHARES = (4 / 9, 2 / 9, 1 / 9)
"""Of a layer's MACs that its options keep; of a 1x1 layer's, a half, a quarter and an eighth."""
POINTWISE_SHARES = (1 / 2, 1 / 4, 1 / 8)


@dataclass(frozen=True, kw_only=True)
class Option:
    """What may stand in a layer's place, its MACs and its milliseconds; no choice is the dense layer."""

    choice: Choice | None
    macs: int
    ms: float


def structured_choices(layer: nn.Conv2d, multiple: int) -> list[Choice]:
    """Fewer sums of channels under all taps, and under (N + 1) / 2 taps an axis."""
    channels, taps = layer.weight.shape[1], max(layer.kernel_size)
    few = (taps + 1) // 2
    pairs = [(channels * share, taps) for share in (SHARES if taps > 1 else POINTWISE_SHARES)]
    pairs += [(channels * share, few) for share in (1, 1 / 2, 1 / 4) if taps > 1]
    pairs_of_sizes = dict.fromkeys((_rounded(sums, multiple, channels), n) for sums, n in pairs)
    structures = [
        {"c": c, "n": n, **({"merged": 1} if c < channels else {})}
        for c, n in pairs_of_sizes
        if (c, n) != (channels, taps)
    ]
    return [Choice(method="structured_conv", structure=structure) for structure in structures]


def _rounded(sums: float, multiple: int, most: int) -> int:
    return min(most, max(1, round(sums / multiple)) * multiple)


def svd_choices(layer: nn.Conv2d, multiple: int) -> list[Choice]:
    """Spatial SVD at about these shares of the MACs, weight SVD of a 1x1 layer."""
    pointwise = max(layer.kernel_size) == 1
    method = (WeightSVD if pointwise else SpatialSVD)(steps=STEPS, multiple=multiple)
    structures = method.options(nn.Sequential(layer)).get("0", [])
    steps = len(structures) + 1
    positions = {round(share * steps) - 1 for share in (POINTWISE_SHARES if pointwise else SHARES)}
    return [
        Choice(method=method.name, structure=structures[position])
        for position in sorted(positions)
        if 0 <= position < len(structures)
    ]


CHOICES = {"structured": structured_choices, "spatial_svd": svd_choices}


def timed_options(
    kind: Kind, dense: nn.Conv2d, choices: Sequence[Choice], prepare: Prepare, *, sortable: bool
) -> list[Option]:
    """The dense layer and the choices, each by its fastest implementation; all are measured in turn."""
    built = [dense, *(_layer(dense, choice) for choice in choices)]
    ways: dict[str, nn.Module] = {}
    for index, layer in enumerate(built):
        if type(layer) in STRUCTURED:
            forms = implementations(layer, kind.x, sortable=sortable)
            ways |= {f"{index} {way}": form.module for way, form in forms.items() if way != DENSE}
        else:
            ways[f"{index} {DENSE}"] = layer
    seconds = timed_in_turn(surrounded_runs(ways, kind.x, prepare, axis=1))
    ms = [
        min(1e3 * median(own) for name, own in seconds.items() if name.startswith(f"{index} "))
        for index in range(len(built))
    ]
    macs = [measure_cost(layer, tuple(kind.x.shape[1:])).macs for layer in built]
    return [Option(choice=c, macs=m, ms=t) for c, m, t in zip((None, *choices), macs, ms, strict=True)]


def _layer(dense: nn.Conv2d, choice: Choice) -> nn.Module:
    small: Any = compress(nn.Sequential(dense), CompressionPlan(sites={"0": choice}))
    return small[0].eval().requires_grad_(False)  # type: ignore[no-any-return]


def fastest_counts(
    options: Sequence[Sequence[Option]], counts: Sequence[int], macs: tuple[float, float]
) -> list[list[int]] | None:
    """Of each kind, how many of its layers take each option, for the least time in all; none where no set has such
    MACs.

    Args:
        macs: the least and the most.
    """
    owner = np.repeat(np.arange(len(options)), [len(own) for own in options])
    flat = [option for own in options for option in own]
    once = (owner[None, :] == np.arange(len(options))[:, None]).astype(float)
    millions = np.array([option.macs / 1e6 for option in flat])
    solution = milp(
        [option.ms for option in flat],
        integrality=np.ones(len(flat)),
        constraints=[LinearConstraint(once, counts, counts), LinearConstraint(millions, macs[0] / 1e6, macs[1] / 1e6)],
    )
    if solution.x is None:
        return None
    taken = np.round(solution.x).astype(int)
    return [taken[owner == index].tolist() for index in range(len(options))]


def by_time(
    subject: Subject, network: nn.Module, macs: Mapping[str, int], x: Tensor, prepare: Prepare
) -> Iterator[Candidate]:
    """Structured networks and spatial SVDs of such MACs by strength, their layers chosen by their times."""
    names = [
        name for name, layer in network.named_modules() if type(layer) is nn.Conv2d and _is_compressed(layer, subject)
    ]
    sortable = sortable_sites(network, subject.shape, names)
    network = network.to(x.dtype).to(memory_format=torch.channels_last)
    layer_kinds = list(kinds(network, names, x, apart=sortable))
    for method, choices in CHOICES.items():
        options = []
        for kind in layer_kinds:
            layer = site(network, kind.name)
            assert isinstance(layer, nn.Conv2d)
            print(f"  {method} by time: {kind.name}", file=sys.stderr, flush=True)
            given = choices(layer, subject.multiple)
            options.append(timed_options(kind, layer, given, prepare, sortable=kind.name in sortable))
        rest = measure_cost(network, subject.shape).macs - sum(
            kind.count * own[0].macs for kind, own in zip(layer_kinds, options, strict=True)
        )
        for strength, wanted in macs.items():
            name, macs_of_sites = f"{method}_by_time", (wanted - rest, NEAR * wanted - rest)
            taken = fastest_counts(options, [kind.count for kind in layer_kinds], macs_of_sites)
            if taken is None:
                reason = f"no plan of 1 to {NEAR} times {wanted / 1e6:.1f} M MACs"
                yield Candidate(method=name, strength=strength, network=None, reason=reason)
                continue
            plan = CompressionPlan(sites=dict(_sites(layer_kinds, options, taken)))
            yield Candidate(method=name, strength=strength, network=compress(network, plan))


def _is_compressed(layer: nn.Conv2d, subject: Subject) -> bool:
    return not is_stem(layer) and (subject.pointwise or max(layer.kernel_size) > 1)


def _sites(
    layer_kinds: Sequence[Kind], options: Sequence[Sequence[Option]], taken: Sequence[Sequence[int]]
) -> Iterator[tuple[str, Choice]]:
    """Choices by site; of layers alike, later ones are compressed more."""
    for kind, own, counts in zip(layer_kinds, options, taken, strict=True):
        each = [option for option, count in zip(own, counts, strict=True) for _ in range(count)]
        for name, option in zip(kind.names, sorted(each, key=lambda one: -one.macs), strict=True):
            if option.choice is not None:
                yield name, option.choice
