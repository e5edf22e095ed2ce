"""A training step of structured layers beside the dense network's: sums as products by ones, and as additions of
slices.

Every layer but the first gets the same structure. A step is forward, backward and clearing of the gradients, in
channels-last memory; by default sums are made again in the backward pass, and a step that keeps them is timed beside
it, as is the forward pass without gradients. Ratios are those of the same round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Quartiles, facts, interleaved, markdown_table, publish, quartiles
from sconv_search.compressor import swapped
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.sums.eager_sums import sums_kept
from sconv_search.system.malloc import keep_freed_memory

USES = ("channel_pooling", "structured_conv")
LAYERS = {
    "half of the channels, merged": ("merged", 2, 3),
    "half of the channels, permuted chains": ("permuted", 2, 3),
    "half of the channels, natural chains": ("natural", 2, 3),
    "(C, 2)": ("natural", 1, 2),
    "half of the channels, merged, and 2 taps": ("merged", 2, 2),
}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "resnet20": (partial(cifar_resnet, 20), (128, 3, 32)),
    "resnet18": (torchvision.models.resnet18, (8, 3, 224)),
    "resnet50": (torchvision.models.resnet50, (8, 3, 224)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (8, 3, 224)),
}


def structured(network: nn.Module, variant: str, divisor: int, taps: int) -> nn.Module:
    """A copy in which every ungrouped convolution but the first has that structure."""
    layers = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels > 3:
            n = min(taps, *layer.kernel_size)
            layers[name] = StructuredConv2d.from_conv(
                layer, c=max(1, layer.in_channels // divisor), n=n, variant=variant
            )
    return swapped(network, layers)


def step(network: nn.Module, x: Tensor, y: Tensor, bf16: bool) -> None:
    """Forward, backward, gradients cleared."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(network(x), y)
    loss.backward()
    network.zero_grad()


def forward(network: nn.Module, x: Tensor, y: Tensor, bf16: bool) -> None:
    """Forward without gradients."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        network(x)


def by_additions(run: Callable[[], None]) -> None:
    """The same with sums as slices and gathers, as traced and exported networks make them."""
    with patch(f"sconv_search.{USES[0]}.products_pay", never), patch(f"sconv_search.{USES[1]}.products_pay", never):
        run()


def keeping_sums(run: Callable[[], None]) -> None:
    """The same with sums kept for the backward pass."""
    with sums_kept():
        run()


def never(x: Tensor) -> bool:
    """Products never pay."""
    return False


def rows(name: str, rounds: int, dtype: str) -> list[tuple[str, ...]]:
    """A line for each structure: time relative to dense, of steps and of forward passes."""
    make, (batch, channels, side) = NETWORKS[name]
    torch.manual_seed(0)
    dense = make().to(memory_format=torch.channels_last)
    x, y = (
        torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last),
        torch.randint(0, 10, (batch,)),
    )
    candidates: dict[str, Callable[[], None]] = {}
    for words, network in {"dense": dense, **{words: structured(dense, *how) for words, how in LAYERS.items()}}.items():
        for what, run in (("step", step), ("forward", forward)):
            candidates[f"{words}/{what}"] = partial(run, network.train(), x, y, dtype == "bf16")
            if words != "dense":
                candidates[f"{words}/{what}/additions"] = partial(by_additions, candidates[f"{words}/{what}"])
        if words != "dense":
            candidates[f"{words}/step/kept"] = partial(keeping_sums, candidates[f"{words}/step"])
    seconds = interleaved(candidates, rounds)

    def ratio(words: str, what: str, how: str = "") -> str:
        spread: Quartiles = quartiles(
            [own / whole for own, whole in zip(seconds[f"{words}/{what}{how}"], seconds[f"dense/{what}"], strict=True)]
        )
        return f"{spread.median:.2f} ({spread.q1:.2f}–{spread.q3:.2f})"

    shown = (("step", ""), ("step", "/kept"), ("step", "/additions"), ("forward", ""), ("forward", "/additions"))
    return [(name, words, *(ratio(words, *pair) for pair in shown)) for words in LAYERS]


def arguments(parser: argparse.ArgumentParser, networks: Iterable[str], rounds: int, dtype: str) -> None:
    """What benchmarks of training steps are given: the networks to choose from, and what is taken where nothing is
    given.
    """
    parser.add_argument("--network", nargs="+", choices=tuple(networks), help="default: those of the results")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16"), default=dtype, help="bf16: weights in fp32, under autocast"
    )
    parser.add_argument("--out", type=Path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser, NETWORKS, rounds=7, dtype="fp32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    measured = [row for name in given.network or NETWORKS for row in rows(name, given.rounds, given.dtype)]
    steps = ("step: products", "sums kept", "additions")
    columns = ("network", "structure of every layer", *steps, "forward: products", "additions")
    note = "Time relative to the dense network's in the same round."
    publish(
        f"# A training step\n\n{facts([given.dtype], given.rounds)}\n\n{markdown_table(columns, measured)}\n\n{note}",
        given.out,
    )


if __name__ == "__main__":
    main()
