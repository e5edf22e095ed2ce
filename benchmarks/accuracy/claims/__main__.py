"""Command line: ``run`` appends rows, cell by cell; ``fit-again`` fits and reconstructs the networks of all plans anew,
in place of the rows before, without training; ``table`` makes the page and its figures of them; ``time`` measures
the networks in runtimes, and makes the page of accuracy against milliseconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.accuracy.claims import milliseconds
from benchmarks.accuracy.claims.cells import all_cells
from benchmarks.accuracy.claims.running import Study, fit_again, read_rows, run, start_context
from benchmarks.accuracy.claims.tables import draw, report
from benchmarks.timing import facts, publish
from sconv_search.studies.executors.placement import HERE, Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.system.malloc import keep_freed_memory

ROWS = Path("benchmarks/results/claims.jsonl")
TIMES = Path("benchmarks/results/claims_milliseconds.jsonl")
NOTE = """The pretrained ResNet-20 on CIFAR-10. Layers are fitted in sequence to 1,024 images, then blocks are trained
to the dense network's outputs on 2,048 images (400 steps of 64 for each block), then the whole network to the
dense one's logits (mean squared difference; one-cycle rate to 0, batch 128, augmented, bf16). No step reads a
label. Scored on the 5,000 test images that nothing else reads (dense 91.48 %), validation on the other 5,000
(dense 91.98 %). Plans: `plan A` is the paper's, all 3x3 kernels but the first to (C, 2); `uniform` and
channel pruning are uniform plans; the others have the least sum of squared relative errors of the layers'
outputs. Minutes are those of one processor, fit and reconstruction included; where the number of seeds is not
given, there is one."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cells = commands.add_parser("run", help="carry out the cells that have no row yet, in order")
    again = commands.add_parser("fit-again", help="make the rows of fitted and reconstructed networks anew")
    for command in (cells, again):
        command.add_argument("--data", type=Path, required=True, help="folder with weights/ and cifar10/")
        command.add_argument(
            "--work", type=Path, required=True, help="folder for search space, networks and checkpoints"
        )
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--rows", type=Path, default=ROWS)
    cells.add_argument(
        "--cluster", metavar="ADDRESS", help="Ray cluster whose nodes see --data and --work (default: here)"
    )
    table = commands.add_parser("table", help="make the page and its figure of the rows")
    table.add_argument("--rows", type=Path, default=ROWS)
    table.add_argument("--out", type=Path)
    times = commands.add_parser("time", help="time the networks in runtimes, on a machine without other work")
    times.add_argument("--work", type=Path, help="as for run; without it, the page is made of what was measured")
    times.add_argument("--rows", type=Path, default=ROWS)
    times.add_argument("--times", type=Path, default=TIMES)
    times.add_argument("--rounds", type=int, default=31)
    times.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.command == "time":
        torch.set_num_threads(1)
        if given.work is not None:
            milliseconds.measured(given.work / "starts", given.times, given.rounds)
        timed, rows = read_rows(given.times), read_rows(given.rows)
        publish(milliseconds.page(timed, rows), given.out)
        if given.out:
            milliseconds.draw(timed, rows, given.out.with_suffix(".svg"))
        return
    if given.command == "table":
        rows = read_rows(given.rows)
        known = "\n".join(line for line in facts(["bf16"], 1).splitlines() if not line.startswith("- rounds"))
        publish(f"# What compression keeps of ResNet-20\n\n{known}\n\n{NOTE}\n{report(rows)}", given.out)
        if given.out:
            draw(rows, given.out.with_suffix(".svg"))
        return
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.command == "fit-again":
        fit_again(Study(context=start_context(given.data, given.work), work=given.work.resolve()), given.rows)
        return
    placement = HERE if given.cluster is None else Placement(cluster=Cluster(address=given.cluster, cpus=given.threads))
    study = Study(context=start_context(given.data, given.work), work=given.work.resolve())
    if lost := run(study, all_cells(), given.rows, placement):
        parser.exit(1, f"{len(lost)} not made: {'; '.join(lost)}\n")


if __name__ == "__main__":
    main()
