"""Command line: ``run`` appends rows, cell by cell; ``table`` makes the page and its figures of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.accuracy.claims.cells import all_cells
from benchmarks.accuracy.claims.running import Study
from sconv_search.system.malloc import keep_freed_memory

ROWS = Path("benchmarks/results/claims.jsonl")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="carry out the cells that have no row yet, in order")
    run.add_argument("--data", type=Path, required=True, help="folder with weights/ and cifar10/")
    run.add_argument("--work", type=Path, required=True, help="folder for search space, networks and checkpoints")
    run.add_argument("--threads", type=int, default=1)
    run.add_argument("--rows", type=Path, default=ROWS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    given.work.mkdir(parents=True, exist_ok=True)
    study = Study(given.data, given.work, given.rows)
    for cell in all_cells():
        study.run(cell)


if __name__ == "__main__":
    main()
