"""Whole networks against the clock: do fewer MACs mean fewer milliseconds, by which method, and how much memory?

For each network: dense; structured at about 2 and 4 times fewer MACs, by the paper's structures and by merged channels
alone; spatial SVD, Tucker-2 and channel pruning of equal MACs (weight SVD takes the 1x1 layers where those are
compressed); with ``--by-time`` structured forms and SVDs of these MACs too whose layers are chosen by their measured
times. All forms are made ready by ``optimize_for_inference`` for the mode in which they then run (PyTorch as it is,
compiled, onnxruntime, OpenVINO), and measured in turn, in one run.

Rows are appended to a file, all modes of a type, number of threads and batch together, so an interrupted run continues.
Without ``--network`` the rows become tables and a figure.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import torch

from benchmarks.speed.by_time import by_time
from benchmarks.speed.candidates import SUBJECTS, Candidate, Subject, candidates
from benchmarks.speed.figure import draw
from benchmarks.speed.measuring import DTYPES, MODES, Row, key_of, measure
from benchmarks.speed.tables import report
from benchmarks.timing import publish
from sconv_search.cost.counting import measure_cost
from sconv_search.system.cache import forget_all
from sconv_search.system.malloc import keep_freed_memory


def run(arguments: argparse.Namespace) -> None:
    """Appends the rows that the file lacks."""
    subject, path = SUBJECTS[arguments.network], arguments.rows[0]
    wanted = product([arguments.network], arguments.modes, arguments.dtypes, arguments.threads, arguments.batch)
    missing = [key for key in wanted if key not in {key_of(row) for row in read([path])}]
    if not missing:
        print(f"{path} has all rows of {arguments.network}", file=sys.stderr)
        return
    print(f"{arguments.network}: making the forms", file=sys.stderr, flush=True)
    forms = candidates(subject)
    forget_all()  # the factors of decompositions, which would count as memory
    for setting in dict.fromkeys(key[2:] for key in missing):
        print(arguments.network, *setting, file=sys.stderr, flush=True)
        more = chosen(forms, subject, setting, arguments.by_time) if arguments.by_time else []
        rows = measure([key for key in missing if key[2:] == setting], [*forms, *more], subject, arguments.rounds)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def chosen(forms: Sequence[Candidate], subject: Subject, setting: tuple[str, int, int], mode: str) -> list[Candidate]:
    """Forms whose layers are chosen by their times in a mode, of the structured forms' MACs."""
    dtype, threads, batch = setting
    torch.set_num_threads(threads)
    x = torch.randn(batch, *subject.shape).to(DTYPES[dtype]).contiguous(memory_format=torch.channels_last)
    dense = copy.deepcopy(forms[0].network)
    assert dense is not None
    macs = {
        form.strength: measure_cost(form.network, subject.shape).macs
        for form in forms
        if form.method == "structured" and form.network is not None
    }
    return list(by_time(subject, dense, macs, x, MODES[mode]))


def read(paths: Iterable[Path]) -> list[Row]:
    """The rows of files, those that are there; ends the program where a line is none."""
    rows = list[Row]()
    for path in (path for path in paths if path.exists()):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                sys.exit(
                    f"{path}, line {number} is not a row ({error.msg}); without it, what it held is measured again"
                )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SUBJECTS, help="measure this one; without it, write tables and figure")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument(
        "--by-time", choices=MODES, help="add forms whose layers are chosen by their times in this mode; else none"
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each form (default: %(default)s)")
    parser.add_argument("--rows", type=Path, nargs="+", default=[Path("benchmarks/results/network_speed.jsonl")])
    parser.add_argument("--out", type=Path, help="Markdown file for the tables; the figure is put beside it")
    return parser.parse_args()


def main() -> None:
    """Measures, or publishes what was measured."""
    given = _arguments()
    keep_freed_memory()
    if given.network:
        run(given)
        return
    rows = read(given.rows)
    if not rows:
        sys.exit(f"no rows in {', '.join(map(str, given.rows))}; measure a network with --network first")
    publish(report(rows), given.out)
    if given.out:
        draw(rows, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
