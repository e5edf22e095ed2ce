"""How much memory a training step and a forward pass of structured layers take at their peak, beside the dense
network's.

Every layer but the first gets the same structure. Counted are tensors made during the step: activations, gradients and
what is recomputed, not the weights, nor what allocators and libraries keep. Beside the step as it is stands one in
which autograd keeps every layer's sums.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.timing import facts, markdown_table, publish
from benchmarks.training.peak_memory import live_peak_mib
from benchmarks.training.step import LAYERS, NETWORKS, forward, step, structured
from sconv_search.structured.sums.eager_sums import sums_kept

COLUMNS = (
    "network",
    "dtype",
    "structure of every layer",
    "step, MiB",
    "of dense",
    "with sums kept",
    "forward, MiB",
    "of dense",
)


def peaks(network: nn.Module, run: Callable[[], None], grown: Callable[[], None]) -> tuple[float, float, float]:
    """MiB of a training step, of one that keeps sums, and of a forward pass; each after one that made the gradients'
    memory.
    """
    network.train()
    run()
    made = live_peak_mib(run)
    with sums_kept():
        kept = live_peak_mib(run)
    network.eval()
    return made, kept, live_peak_mib(grown)


def lines(name: str, dtype: str) -> Iterator[tuple[str, ...]]:
    """A line for the dense network, and one for each structure."""
    make, (batch, channels, side) = NETWORKS[name]
    torch.manual_seed(0)
    dense = make().to(memory_format=torch.channels_last)
    x, y = (
        torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last),
        torch.randint(0, 10, (batch,)),
    )
    base: tuple[float, float, float] | None = None
    for words, network in {"dense": dense, **{words: structured(dense, *how) for words, how in LAYERS.items()}}.items():
        given = (network, x, y, dtype == "bf16")
        made, kept, passed = measured = peaks(network, partial(step, *given), partial(forward, *given))
        base = base or measured
        ratios = f"{made / base[0]:.2f}", f"{kept / base[0]:.2f}", f"{passed / base[2]:.2f}"
        yield name, dtype, words, f"{made:.0f}", *ratios[:2], f"{passed:.0f}", ratios[2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="else all")
    parser.add_argument(
        "--dtype", action="append", choices=("fp32", "bf16"), help="bf16: weights in fp32, under autocast; else both"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dtypes = given.dtype or ["fp32", "bf16"]
    rows = [line for name in given.network or NETWORKS for dtype in dtypes for line in lines(name, dtype)]
    publish(f"# The memory of a training step\n\n{facts(dtypes, 1)}\n\n{markdown_table(COLUMNS, rows)}", given.out)


if __name__ == "__main__":
    main()
