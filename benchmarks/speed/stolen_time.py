"""How much less a measurement varies if it is repeated where the host gave the processors to other guests.

The same 3x3 convolution is timed by the clock alone and by ``stopwatch.seconds_of``, in turn. On a machine of its own,
or a quiet host, both are alike; the share of time stolen meanwhile is printed, as the gain depends on it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.timing import PATIENT, facts, markdown_table, publish, quartiles
from sconv_search.cost.timing import eager, seconds_of, stolen_seconds

COLUMNS = ("threads", "stolen", "way", "ms", "third / first quartile", "largest, ms")


def measured(threads: int, count: int) -> tuple[list[str], ...]:
    """Rows of both ways, and the share of the processors' time that was stolen in all."""
    torch.set_num_threads(threads)
    module = torch.nn.Conv2d(64, 64, 3, padding=1).eval().to(memory_format=torch.channels_last)
    run = eager(module, torch.randn(16, 64, 56, 56).contiguous(memory_format=torch.channels_last))
    seconds_of(run, 5)
    seconds: dict[str, list[float]] = {"clock alone": [], "repeated where stolen": []}
    began, before = perf_counter(), stolen_seconds()
    for _ in range(count):
        start = perf_counter()
        run()
        seconds["clock alone"].append(perf_counter() - start)
        seconds["repeated where stolen"].append(seconds_of(run, attempts=PATIENT))
    share = (stolen_seconds() - before) / (perf_counter() - began) / (os.cpu_count() or 1)
    return tuple(_row(threads, share, way, values) for way, values in seconds.items())


def _row(threads: int, share: float, way: str, values: list[float]) -> list[str]:
    spread = quartiles(values)
    return [
        str(threads),
        f"{share:.0%}",
        way,
        spread.milliseconds(),
        f"{spread.q3 / spread.q1:.2f}",
        f"{1e3 * max(values):.0f}",
    ]


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--count", type=int, default=100, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    given = parser.parse_args()
    rows = [row for threads in given.threads for row in measured(threads, given.count)]
    title = "# Measurements on a shared host"
    publish("\n\n".join([title, facts(["fp32"], given.count), markdown_table(COLUMNS, rows)]), given.out)


if __name__ == "__main__":
    main()
