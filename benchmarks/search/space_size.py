"""What measuring a large network's search space takes: processor time and peak memory, a process for each method.

Weights and images are random. What is measured are the costs of all options and their damage, which take as long.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.timing import facts, markdown_table, publish
from sconv_search.data.splits import DataSet, Split
from sconv_search.studies import context_from_network
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.oneshot.networks import named_network
from sconv_search.studies.space.measuring import measured_space
from sconv_search.training.schedule import Schedule

METHODS = ("structured_conv", "spatial_svd", "weight_svd", "tucker", "cp", "channel_pruning")
GIB = 2**20  # of the KiB that Linux counts in


def _split(count: int, side: int) -> Split:
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return Split(images=images, labels=torch.arange(count) % 1000)


def _row(name: str, method: str, side: int, images: int) -> dict[str, object]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    train, few = _split(images, side), _split(2, side)
    data = DataSet(name="noise", train=train, validation=few, test=few, mean=mean, std=std)
    schedule = Schedule(epochs=1, batch_size=2)
    network = named_network(name)
    context = context_from_network(
        network, data, name="space_size", search_schedule=schedule, confirm_schedule=schedule
    )
    before, begun = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    space = measured_space(context, [method], Monitor())
    return {
        "method": method,
        "layers": len(space.sites),
        "options": sum(map(len, space.sites.values())),
        "minutes": (time.process_time() - before) / 60,
        "gib_before": begun / GIB,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="torchvision:densenet201")
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=256, help="that the methods may fit themselves to")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_row(given.network, given.one, given.side, given.images)))
        return
    rows = []
    for method in given.methods:
        command = [sys.executable, "-m", "benchmarks.search.space_size", "--one", method]
        command += ["--network", given.network, "--side", str(given.side), "--images", str(given.images)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr, flush=True)
    table = markdown_table(
        ("method", "layers", "options", "processor minutes", "peak memory (GiB)", "before it (GiB)"),
        [
            (
                row["method"],
                row["layers"],
                row["options"],
                f"{row['minutes']:.1f}",
                f"{row['gib']:.2f}",
                f"{row['gib_before']:.2f}",
            )
            for row in rows
        ],
    )
    words = f"{given.images} images of {given.side}x{given.side}, random weights and pixels."
    publish(f"# The search space of {given.network}\n\n{facts(['fp32'], 1)}\n\n{words}\n\n{table}", given.out)


if __name__ == "__main__":
    main()
