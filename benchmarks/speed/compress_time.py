"""Seconds to compress torchvision's ResNet-50 by each method, every site at once; random weights.

Each method compresses three times: every site at its middle option, then at the next cheaper one (as the next trial of
a search would; what does not depend on the option is remembered), then at that one again (all of it is).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import torchvision
from torch import nn

from benchmarks.timing import facts, markdown_table, publish
from sconv_search import Choice, CompressionPlan, Compressor, Structure
from sconv_search.cost.counting import measure_cost
from sconv_search.studies.methods import METHODS
from sconv_search.system.cache import forget_all

INPUT_SHAPE = (3, 224, 224)
PROMISED_SECONDS = 60.0
Options = dict[str, list[Structure]]
Found = TypeVar("Found")


def plan_at(method: str, options: Options, below_middle: int) -> CompressionPlan:
    """Every site at its middle option, or so many steps below it where there are as many."""
    chosen = {site: structures[max(0, len(structures) // 2 - below_middle)] for site, structures in options.items()}
    return CompressionPlan(
        sites={site: Choice(method=method, structure=structure) for site, structure in chosen.items()}
    )


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """What one call took: of the processor, and on the clock, which others on the machine make longer."""

    processor: float
    clock: float

    def __str__(self) -> str:
        return f"{self.processor:.1f} ({self.clock:.1f})"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a method took: to list its options, then for the three compressions; and the first one's share of dense
    FLOPs.
    """

    method: str
    sites: int
    listing: Seconds
    calls: tuple[Seconds, ...]
    share: float


def timed(call: Callable[[], Found]) -> tuple[Seconds, Found]:
    """What the call took, and its result; the progress goes to standard error."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    seconds = Seconds(processor=time.process_time() - processor, clock=time.perf_counter() - clock)
    print(seconds, end=" ", file=sys.stderr, flush=True)
    return seconds, result


def measured(method: Compressor, network: nn.Module) -> Measured:
    """Lists the options, and compresses three times; nothing is remembered of the methods before."""
    forget_all()
    print(method.name, end=" ", file=sys.stderr, flush=True)
    listing, options = timed(partial(method.options, network))
    plans = [plan_at(method.name, options, below) for below in (0, 1, 1)]
    calls, compressed = zip(*(timed(partial(method.compress, network, plan)) for plan in plans), strict=True)
    print(file=sys.stderr)
    share = measure_cost(compressed[0], INPUT_SHAPE).flops / measure_cost(network, INPUT_SHAPE).flops
    return Measured(method=method.name, sites=len(options), listing=listing, calls=calls, share=share)


def report(names: Sequence[str]) -> tuple[str, bool]:
    """The measurements as Markdown, and whether every compression took seconds, not minutes."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    measurements = [measured(METHODS[name], network) for name in names]
    rows = [(row.method, row.sites, row.listing, *row.calls, f"{row.share:.0%}") for row in measurements]
    columns = (
        "method",
        "sites",
        "list options, s",
        "first call, s",
        "other options, s",
        "the same again, s",
        "FLOPs left",
    )
    most = max(seconds.processor for row in measurements for seconds in row.calls)
    provenance = facts(["fp32 weights, factored in fp64"], 1).rpartition("\n")[0]  # the last line is on repeated timing
    text = "\n\n".join(
        [
            "# Seconds to compress ResNet-50",
            (
                f"{provenance}\n- torchvision {torchvision.__version__}, `resnet50`, random weights (seed 0); a call is"
                " timed once"
            ),
            (
                "First call: every site at its middle option. Other options: the next cheaper one of every site, in the"
                " same process. The same again: that plan once more. No calibration inputs. Seconds of the processor,"
                " which on one thread are those of an idle machine; on the clock in brackets."
            ),
            markdown_table(columns, rows),
            f"The longest call took {most:.1f} s of the processor, of {PROMISED_SECONDS:.0f} s that are promised.",
        ]
    )
    return text, most <= PROMISED_SECONDS


def main() -> None:
    """Prints the table; exit status 1 where a compression takes longer than is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: all CPUs")
    parser.add_argument(
        "--method", action="append", choices=list(METHODS), help="may be given several times; default: all"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", "site .* CP of rank", RuntimeWarning)  # random weights have no low rank to find
    text, kept = report(arguments.method or list(METHODS))
    publish(text, arguments.out)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
