"""A training step compiled beside the same step as PyTorch runs it: what it saves, and what the compiler takes first.

A step is forward, backward and clearing of the gradients, of the network as it is, of its spatial SVD at half of the
MACs, and with structured layers. The compiler's time is that of the first step; its cache on disk should be empty
before (``TORCHINDUCTOR_CACHE_DIR`` names another).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.candidates import SUBJECTS, at_equal_macs
from benchmarks.timing import facts, interleaved, markdown_table, publish, quartiles
from benchmarks.training.step import arguments, structured
from sconv_search.cost.counting import measure_cost
from sconv_search.structured.kinds import LINEAR_MAPS
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.training.compile import CompiledForward
from sconv_search.training.loss import Forward

BATCH = {32: 128, 224: 8}
NETWORKS = ("resnet20", "resnet18")
"""What is timed where no network is given."""
FORMS = ("dense", "spatial SVD", "half of the channels, merged", "(C, 2)")
COLUMNS = ("network", "form", "layers", "compiler, s", "eager, ms", "compiled, ms", "speed-up")


def form(name: str, words: str) -> nn.Module:
    """The network in that form, in training mode and channels-last memory."""
    subject = SUBJECTS[name]
    torch.manual_seed(0)
    network = subject.make()
    if words == "spatial SVD":
        macs = measure_cost(network.eval(), subject.shape).macs // 2
        candidate = at_equal_macs("spatial_svd", network, subject, macs, "2x").network
        assert candidate is not None
        network = candidate
    elif words != "dense":
        network = structured(network, *(("merged", 2, 3) if "merged" in words else ("natural", 1, 2)))
    return network.train().to(memory_format=torch.channels_last)


def step(forward: Forward, network: nn.Module, x: Tensor, y: Tensor, bf16: bool) -> None:
    """Forward, backward, gradients cleared."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(forward(x), y)
    loss.backward()
    network.zero_grad()


def row(name: str, words: str, rounds: int, bf16: bool) -> tuple[str, ...]:
    """A line of the table."""
    shape = SUBJECTS[name].shape
    network = form(name, words)
    batch = BATCH[shape[1]]
    x, y = torch.randn(batch, *shape).to(memory_format=torch.channels_last), torch.randint(0, 10, (batch,))
    compiled = partial(step, CompiledForward(network), network, x, y, bf16)
    began = time.perf_counter()
    compiled()
    took = time.perf_counter() - began
    runs: dict[str, Callable[[], object]] = {"eager": partial(step, network, network, x, y, bf16), "compiled": compiled}
    seconds = interleaved(runs, rounds)
    speed = quartiles([slow / fast for slow, fast in zip(seconds["eager"], seconds["compiled"], strict=True)])
    layers = sum(type(module) in LINEAR_MAPS for module in network.modules())
    times = (quartiles(seconds[way]).milliseconds() for way in runs)
    shown = f"{speed.median:.2f} ({speed.q1:.2f}–{speed.q3:.2f})"
    return name, words, str(layers), f"{took:.0f}", *times, shown


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser, SUBJECTS, rounds=9, dtype="bf16")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    rows = [
        row(name, words, given.rounds, given.dtype == "bf16")
        for name in given.network or NETWORKS
        for words in given.form
    ]
    text = f"# A training step, compiled\n\n{facts([given.dtype], given.rounds)}\n\n{markdown_table(COLUMNS, rows)}"
    publish(text, given.out)


if __name__ == "__main__":
    main()
