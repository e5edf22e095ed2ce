"""Seconds of the processor to compress networks with wide layers by the default method, and to list their sites.

Every layer is compressed at its middle option; nothing is remembered of the network before. Sites are listed for all
methods.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import nn

from benchmarks.speed.compress_time import Seconds, plan_at, timed
from benchmarks.timing import facts, markdown_table, publish
from sconv_search.studies.methods import METHODS
from sconv_search.studies.space.sites import site_table
from sconv_search.system.cache import forget_all

METHOD = "structured_conv"
COMPRESSED_WITHIN = {"vgg16": 60.0, "alexnet": 20.0, "resnet18": 3.0, "mobilenet_v2": 3.0}
"""Network of torchvision -> seconds that are promised."""
LISTED_WITHIN = 5.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a network took, and what is promised; None where nothing was measured, or nothing is."""

    network: str
    layers: int
    widest: int
    listing: Seconds
    compressing: Seconds | None
    promised: float | None

    @property
    def kept(self) -> bool:
        """Whether it took no longer than is promised."""
        compressed = self.compressing is None or self.promised is None or self.compressing.processor <= self.promised
        return compressed and self.listing.processor <= LISTED_WITHIN


def measured(name: str, network: nn.Module, input_shape: tuple[int, ...], *, compressing: bool) -> Measured:
    """Lists the network's sites, and compresses all its layers."""
    forget_all()
    print(name, end=" ", file=sys.stderr, flush=True)
    listing, table = timed(partial(site_table, network, input_shape))
    compressed = None
    if compressing:
        plan = plan_at(METHOD, METHODS[METHOD].options(network), 0)
        compressed, _ = timed(partial(METHODS[METHOD].compress, network, plan))
    print(file=sys.stderr)
    widest = max(layer.weight[0].shape[0] for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    return Measured(
        network=name,
        layers=len(table.layers),
        widest=widest,
        listing=listing,
        compressing=compressed,
        promised=COMPRESSED_WITHIN.get(name),
    )


def report(names: Sequence[str], *, listing_alone: bool) -> tuple[str, bool]:
    """The measurements as Markdown, and whether all promises were kept."""
    torch.manual_seed(0)
    measurements = []
    for name in names:
        size = 299 if name == "inception_v3" else 224
        network = torchvision.models.get_model(name, weights=None).eval()
        measurements.append(measured(name, network, (3, size, size), compressing=not listing_alone))
    rows = [
        (
            row.network,
            row.layers,
            row.widest,
            row.listing,
            row.compressing or "",
            row.promised or "",
            "" if row.kept else "no",
        )
        for row in measurements
    ]
    columns = ("network", "layers", "widest input", "list sites, s", "compress all, s", "promised, s", "kept")
    provenance = facts(["fp32 weights, grouped in fp64"], 1).rpartition("\n")[0]  # the last line is on repeated timing
    text = "\n\n".join(
        [
            "# Seconds to compress wide layers, and to list sites",
            f"{provenance}\n- torchvision {torchvision.__version__}, random weights; a call is timed once",
            f"Compressed: every layer at its middle option of `{METHOD}`. Listed: all methods, "
            f"in {LISTED_WITHIN:.0f} s "
            "as promised. Seconds of the processor, which on one thread are those of an idle machine; on the clock "
            "in brackets.",
            markdown_table(columns, rows),
        ]
    )
    return text, all(row.kept for row in measurements)


def main() -> None:
    """Prints the table; exit status 1 where something takes longer than is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="of torchvision; may be given several times")
    parser.add_argument("--list-all", action="store_true", help="only list sites, of all networks that classify images")
    parser.add_argument("--out", type=Path, help="Markdown file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    every = torchvision.models.list_models(module=torchvision.models) if arguments.list_all else list(COMPRESSED_WITHIN)
    before = time.process_time()
    site_table(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval(), (3, 16, 16))
    print(f"imports: {time.process_time() - before:.1f} s", file=sys.stderr)
    text, kept = report(arguments.network or every, listing_alone=arguments.list_all)
    publish(text, arguments.out)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
