"""What a network's time owes to what ran right before it: PyTorch's threads wait busily for a while after their last
task.

Networks are run by PyTorch, onnxruntime and OpenVINO; each runs after each, once without warming up and once after
having run for a while, as the benchmarks measure. On one thread nobody waits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.speed.candidates import SUBJECTS
from benchmarks.speed.measuring import MODES
from benchmarks.timing import WARM_SECONDS, facts, markdown_table, publish
from sconv_search.cost.timing import seconds_of, warm_up

WAYS = ("eager", "onnxruntime", "openvino")
COLUMNS = ("network", "threads", "warmed up", "run by", *(f"after {way}, ms" for way in WAYS), "largest / least")


def after_each(runs: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Median seconds of each run after each, warmed up for so long, or not at all; by its name, in the order of the
    runs.
    """
    seconds_by_pair: dict[tuple[str, str], list[float]] = {pair: [] for pair in product(runs, runs)}
    for _ in range(rounds):
        for name, before in seconds_by_pair:
            warm_up(runs[before], WARM_SECONDS)
            if seconds:
                warm_up(runs[name], seconds)
            seconds_by_pair[name, before].append(seconds_of(runs[name]))
    return {name: [median(seconds_by_pair[name, before]) for before in runs] for name in runs}


def rows(network: str, batch: int, threads: int, rounds: int) -> list[list[str]]:
    """A line of the table for each way of running the network, without and with warming up."""
    torch.set_num_threads(threads)
    subject, layout = SUBJECTS[network], torch.channels_last
    x = torch.randn(batch, *subject.shape).contiguous(memory_format=layout)
    module: Any = subject.make().eval()
    runs = {way: MODES[way](module.to(memory_format=layout), x) for way in WAYS}
    lines = []
    for seconds in (0.0, WARM_SECONDS):
        for name, taken in after_each(runs, rounds, seconds).items():
            ms = [f"{1e3 * each:.2f}" for each in taken]
            warmed = f"{1e3 * seconds:.0f} ms" if seconds else "no"
            lines.append(
                [f"{network}, batch {batch}", str(threads), warmed, name, *ms, f"{max(taken) / min(taken):.2f}"]
            )
    return lines


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SUBJECTS, default=["resnet18", "resnet20"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16], help="of each network (default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    given = parser.parse_args()
    if len(given.batch) != len(given.networks):
        parser.error(f"--batch must have one number for each of {len(given.networks)} networks, got {len(given.batch)}")
    lines = [
        line
        for network, batch in zip(given.networks, given.batch, strict=True)
        for threads in given.threads
        for line in rows(network, batch, threads, given.rounds)
    ]
    title = "# A network's time after another's"
    note = "Medians of single forwards, each right after another; *warmed up* is for how long it was run between them."
    publish("\n\n".join([title, facts(["fp32"], given.rounds), note, markdown_table(COLUMNS, lines)]), given.out)


if __name__ == "__main__":
    main()
