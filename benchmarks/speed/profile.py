"""Where the time of a structured network goes: its small convolutions, the sums before them, the layers left dense, the
rest.

The network is made ready by ``optimize_for_inference`` and run eagerly, each layer by the clock. Beside the times stand
the MACs, so that the rate shows whether the small convolutions run as fast as the dense ones; what would be left
without the sums bounds what fusing them could gain.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.candidates import STRENGTHS, SUBJECTS, Strength, structured_plan
from benchmarks.timing import Quartiles, facts, markdown_table, publish, quartiles
from sconv_search.inference.optimize import optimize_for_inference
from sconv_search.structured.kinds import STRUCTURED
from sconv_search.studies.methods import compress
from sconv_search.system.malloc import keep_freed_memory

SUMS, SMALL, WHOLE_LAYERS, LEFT, REST = (
    "sums",
    "small convolutions",
    "structured layers as trained",
    "dense layers",
    "all else",
)
PARTS = (SMALL, SUMS, WHOLE_LAYERS, LEFT, REST)
Roles = Mapping[str, str]
"""Name of a layer -> the part of the network that it belongs to."""


def roles(network: nn.Module, structured: Sequence[str]) -> dict[str, str]:
    """The part of each layer: of a structured one's modules, the last is its small convolution, and the others are
    sums.
    """
    role_by_name: dict[str, str] = {}
    for name, module in network.named_modules():
        if name in structured and isinstance(module, nn.Sequential):
            *sums, small = [f"{name}.{own}" for own, _ in module.named_children()]
            role_by_name |= {**dict.fromkeys(sums, SUMS), small: SMALL}
        elif type(module) in STRUCTURED:
            role_by_name[name] = WHOLE_LAYERS
        elif isinstance(module, nn.Conv2d | nn.Linear) and name not in role_by_name:
            role_by_name[name] = LEFT
    return role_by_name


class Watch:
    """Notes how long the layers of each part take, and their MACs."""

    def __init__(self, network: nn.Module, parts: Roles) -> None:
        self.seconds, self.macs, self._began = defaultdict[str, float](float), defaultdict[str, int](int), 0.0
        for name, part in parts.items():
            layer = network.get_submodule(name)
            layer.register_forward_pre_hook(self._starts)
            layer.register_forward_hook(lambda layer, given, out, part=part: self._ends(part, layer, out))

    def _starts(self, *given: Any) -> None:
        self._began = perf_counter()

    def _ends(self, part: str, layer: nn.Module, out: Tensor) -> None:
        self.seconds[part] += perf_counter() - self._began
        if isinstance(layer, nn.Conv2d | nn.Linear):  # not structured layers, which have no such weight
            self.macs[part] += out[0].numel() * layer.weight[0].numel()

    def forward(self, network: nn.Module, x: Tensor) -> dict[str, float]:
        """Seconds of one forward, by part."""
        self.seconds.clear()
        self.macs.clear()
        began = perf_counter()
        with torch.no_grad():
            network(x)
        whole = perf_counter() - began
        return {**self.seconds, REST: whole - sum(self.seconds.values()), "whole": whole}


def profile(
    network: nn.Module, x: Tensor, structured: Sequence[str], rounds: int
) -> tuple[dict[str, Quartiles], Mapping[str, int]]:
    """Seconds of each part, and of the whole, over some forwards after one to warm up; and the parts' MACs an input."""
    watch = Watch(network, roles(network, structured))
    watch.forward(network, x)
    forwards = [watch.forward(network, x) for _ in range(rounds)]
    return {part: quartiles([forward.get(part, 0.0) for forward in forwards]) for part in (*PARTS, "whole")}, dict(
        watch.macs
    )


def rows_of(name: str, strengths: Sequence[Strength], batch: int, rounds: int) -> list[tuple[object, ...]]:
    """A row each for the dense network and its structured forms."""
    subject = SUBJECTS[name]
    torch.manual_seed(0)
    network = subject.make().eval()
    x = torch.randn(batch, *subject.shape).contiguous(memory_format=torch.channels_last)
    rows: list[tuple[object, ...]] = []
    for strength in (None, *strengths):
        print(f"{name} {strength or 'dense'}", file=sys.stderr, flush=True)
        plan = structured_plan(network, strength, pointwise=subject.pointwise) if strength else None
        given = (compress(network, plan) if plan else network).to(memory_format=torch.channels_last)
        ready, _ = optimize_for_inference(given, x)
        times, macs = profile(ready, x, list(plan.sites) if plan else [], rounds)
        rows.append((f"{name}, {f'structured {strength}' if strength else 'dense'}", *_cells(times, macs, batch)))
    return rows


def _cells(times: Mapping[str, Quartiles], macs: Mapping[str, int], batch: int) -> list[str]:
    def cell(part: str) -> str:
        seconds = times[part].median
        rate = (
            f"; {batch * macs[part] / seconds / 1e9:.0f} GMAC/s" if macs.get(part) and seconds and part != SUMS else ""
        )
        return f"{1e3 * seconds:.1f}{rate}" if seconds else ""

    whole, sums = times["whole"], times[SUMS].median
    return [whole.milliseconds(), *map(cell, PARTS), f"{whole.median / (whole.median - sums):.2f}"]


COLUMNS = ("network", "forward, ms", *(f"{part}, ms" for part in PARTS), "times as fast, were the sums free")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=SUBJECTS, default=["resnet18"])
    parser.add_argument("--strength", nargs="+", choices=STRENGTHS, default=list(STRENGTHS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    rows = [row for name in given.network for row in rows_of(name, given.strength, given.batch, given.rounds)]
    words = (
        "Made ready for this machine and run eagerly, batch norms folded; the rate is of convolutions and linear"
        " layers."
    )
    publish(
        f"# Where the time goes\n\n{facts(['fp32'], given.rounds)}\n\n{words}\n\n{markdown_table(COLUMNS, rows)}",
        given.out,
    )


if __name__ == "__main__":
    main()
