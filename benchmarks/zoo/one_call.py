"""``ss.compress`` at half of the FLOPs on public networks by every method: whether the budget is met, and how long it
takes.

``python -m benchmarks.zoo.one_call run`` adds the rows that are missing, ``table`` prints them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import sconv_search as ss
from benchmarks.timing import markdown_table

RESULTS = Path(__file__).parents[2] / "benchmarks/results/one_call.jsonl"
BUDGET, SIZE = "50%", 64
NETWORKS = (
    *(
        "torchvision:resnet18",
        "torchvision:mobilenet_v2",
        "torchvision:squeezenet1_1",
        "torchvision:shufflenet_v2_x1_0",
    ),
    *(
        "torchvision:regnet_y_400mf",
        "torchvision:mnasnet1_0",
        "torchvision:googlenet?aux_logits=false&init_weights=false",
    ),
    *("torchvision:efficientnet_b0", "torchvision:densenet121", "torchvision:convnext_tiny"),
    *("timm:resnet26d", "timm:res2net50_14w_8s", "timm:ghostnet_100", "timm:mixnet_s", "timm:hrnet_w18_small"),
    *("timm:repvgg_a0", "timm:dla34", "timm:mobilenetv3_small_100", "timm:edgenext_xx_small", "timm:vovnet39a"),
)
METHODS = ("structured_conv", "spatial_svd", "weight_svd", "channel_pruning", "tucker", "cp")
Row = Mapping[str, Any]


def read_rows(path: Path) -> dict[tuple[str, str], Row]:
    """The rows of the file, by network and method."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(row["network"], row["method"]): row for row in map(json.loads, lines)}


def add_rows(path: Path, minutes: float) -> Iterator[Row]:
    """Makes the rows that are missing, a method at a time, and writes each as it is made."""
    ends, known = time.monotonic() + 60 * minutes, read_rows(path)
    for method in METHODS:
        for name in NETWORKS:
            if (name, method) in known:
                continue
            if time.monotonic() > ends:
                return
            row = measured(name, method)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            yield row


def measured(name: str, method: str) -> Row:
    """One network by one method, without data; what is refused has the reason."""
    torch.manual_seed(0)
    network = ss.named_network(name)
    began, row = time.process_time(), {"network": name, "method": method, "size": SIZE, "budget": BUDGET}
    try:
        small = ss.compress(network, (3, SIZE, SIZE), budget=BUDGET, methods=[method], progress=False)
    except ValueError as error:
        return {**row, "seconds": time.process_time() - began, "reason": str(error)}
    flops = [ss.measure_cost(each, (3, SIZE, SIZE)).flops for each in (network, small)]
    seconds = time.process_time() - began
    return {**row, "seconds": seconds, "share": flops[1] / flops[0], "layers": len(small.plan.sites)}


def table(rows: Mapping[tuple[str, str], Row]) -> str:
    """A line a network: the share of the FLOPs that is left, and seconds of processor time, by method."""
    asked = [method for method in METHODS if any(own == method for _, own in rows)]
    lines = [
        (name.partition("?")[0], *(_cell(rows.get((name, method))) for method in asked))
        for name in NETWORKS
        if any(network == name for network, _ in rows)
    ]
    return markdown_table(("network", *asked), lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if "reason" in row:
        least = re.search(r"cannot be met: the cheapest plan needs .*\(([\d.]+%)\)", row["reason"])
        return f"out of reach: {least[1]}" if least else "refused"
    return f"{row['share']:.1%}, {row['seconds']:.0f} s"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo.one_call", description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the rows")
    parser.add_argument("--minutes", type=float, default=20.0, help="no row is begun after so many")
    arguments = parser.parse_args()
    if arguments.what == "table":
        print(table(read_rows(arguments.results)))
        return
    torch.set_num_threads(1)
    for row in add_rows(arguments.results, arguments.minutes):
        print(
            f"{row['network']} {row['method']}: {row.get('share', row.get('reason'))} ({row['seconds']:.1f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
