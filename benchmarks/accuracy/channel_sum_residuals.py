"""How near a trained ResNet-20 is to each way of summing channels: mean relative residual of its kernels."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.timing import facts, markdown_table, publish
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.sums.variants import VARIANTS, channel_pooling
from sconv_search.system.weights import file_checksum, load_weights_

RATIOS = (1.33, 1.5, 2.25, 4.0)
"""Input channels over channel sums; of the layer's own MACs, this is how many times fewer it needs."""


def relative_residual(layer: nn.Conv2d, count: int, variant: str) -> float:
    """``|w - projection of w| / |w|`` of the layer's kernel, with ``count`` sums of its channels."""
    kernel = layer.weight.detach().double()
    pooling = channel_pooling(layer, count, variant)
    projected: Tensor = pooling.kernel(pooling.coefficients(kernel))
    return float((kernel - projected).norm() / kernel.norm())


def mean_residuals(network: nn.Module) -> Mapping[str, list[float]]:
    """By variant, the mean over all 3x3 layers but the first, one value for each of ``RATIOS``."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)][1:]

    def mean(variant: str, ratio: float) -> float:
        return statistics.fmean(relative_residual(layer, round(layer.in_channels / ratio), variant) for layer in layers)

    return {variant: [mean(variant, ratio) for ratio in RATIOS] for variant in VARIANTS}


def report(weights: Path) -> str:
    """The table as Markdown, with the weights' checksum."""
    network = cifar_resnet(20)
    load_weights_(network, weights)
    rows = [(variant, *(f"{value:.3f}" for value in values)) for variant, values in mean_residuals(network).items()]
    provenance = facts(["fp64"], 1).rpartition("\n")[0]  # without its last line, on timing
    return "\n\n".join(
        [
            "# How near trained kernels are to each way of summing channels",
            f"{provenance}\n- weights: `{weights.name}`, sha256 `{file_checksum(weights)[:16]}`",
            "Mean relative residual of ResNet-20's 3x3 kernels but the first's, n = 3; 0 is exact, less is better.",
            markdown_table(("channel sums", *(f"c = C/{ratio:g}" for ratio in RATIOS)), rows),
        ]
    )


def main() -> None:
    """Parses the options, measures and publishes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file of a CIFAR ResNet-20")
    parser.add_argument("--out", type=Path, help="Markdown file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    publish(report(arguments.weights), arguments.out)


if __name__ == "__main__":
    main()
