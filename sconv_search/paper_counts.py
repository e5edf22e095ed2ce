"""What a plan costs in the columns of the structured convolutions' paper.

Its *mults* are our MACs. Its *additions* are those of convolutions and linear layers, k - 1 for an output of k MACs, and those
of the sum-pooling; biases, batch norms, shortcuts and the average before a classifier are not among them. (Our ``adds`` are
the additions beside the MACs, shortcuts and averages included.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from sconv_search.box_pooling import box_pooled
from sconv_search.compressor import layers
from sconv_search.measurement import measure_modules
from sconv_search.method import StructuredConvolution
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost


@dataclass(frozen=True, kw_only=True)
class PaperCounts:
    """Counts of one input; exact integers.

    Args:
        mults: multiplications of convolutions and linear layers.
        naive_additions: additions in all, where each box is summed on its own, as in the paper.
        chain_additions: additions in all, as this project's layers run.
        params: trainable numbers.
    """

    mults: int
    naive_additions: int
    chain_additions: int
    params: int


def paper_counts(network: nn.Module, plan: CompressionPlan, input_shape: Sequence[int]) -> PaperCounts:
    """The counts of a network compressed by a plan of structured convolutions, measured on both forms as they are built.

    Raises:
        KeyError, TypeError: as ``StructuredConvolution.compress``.
        ValueError: as that, or other operators than convolutions and linear layers multiply; as ``measure_cost``.
    """
    before, names = measure_modules(network, input_shape), layers(network)
    inside, every = sum(before[name].macs for name in names), before[""].macs
    if inside != every:
        raise ValueError(f"the paper counts convolutions and linear layers alone; theirs are {inside} of the {every} MACs")
    outputs = sum(before[name].activations for name in names)
    chain = naive = before
    if plan.sites:
        compressed = network
        for method in plan.methods:
            compressed = StructuredConvolution(name=method).compress(compressed, plan.only(method))
        chain, naive = measure_modules(compressed, input_shape), measure_modules(box_pooled(compressed), input_shape)
    return PaperCounts(
        mults=chain[""].macs, naive_additions=_additions(naive, names) - outputs,
        chain_additions=_additions(chain, names) - outputs, params=chain[""].params,
    )  # fmt: skip


def _additions(costs: Mapping[str, Cost], names: Collection[str]) -> int:
    """One for each MAC of the layers, and what they add beside."""
    return sum(costs[name].macs + costs[name].adds for name in names)
