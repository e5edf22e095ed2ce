"""Whole networks against the clock: do fewer MACs mean fewer milliseconds, by which method, and how much memory?

For each network: dense; structured at about 2 and 4 times fewer MACs, by the paper's structures and by merged channels alone;
spatial SVD, Tucker-2 and channel pruning of equal MACs (weight SVD takes the 1x1 layers where those are compressed). All forms
are made ready by ``optimize_for_inference`` for the mode in which they then run (PyTorch as it is, compiled, onnxruntime,
OpenVINO), and measured in turn, in one run.

Rows are appended to a file, all modes of a type, number of threads and batch together, so an interrupted run continues.
Without ``--network`` the rows become tables and a figure.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from peak_memory import peak_mib
from speed_candidates import SUBJECTS, Candidate, Subject, candidates
from timing import Quartiles, facts, interleaved, markdown_table, publish, quartiles
from torch import Tensor

from sconv_search.allocation import keep_freed_memory
from sconv_search.inference import WHOLE, LayerTimes, optimize_for_inference
from sconv_search.measurement import measure_cost
from sconv_search.memo import KEPT_BYTES, Memo, forget_all
from sconv_search.running import Prepare, compiled, eager
from sconv_search.runtimes import onnx_run, openvino_has_bf16, openvino_run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES: Mapping[str, Prepare] = {"eager": eager, "compiled": compiled, "onnxruntime": onnx_run, "openvino": openvino_run}
RUNTIMES = ("onnxruntime", "openvino")
BEGAN = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
"""Names the run that rows are of: the machine's own speed changes between runs, so only modes of one run are compared."""
Row = dict[str, Any]
Key = tuple[str, str, str, int, int]
"""Network, mode, dtype, threads, batch: what is measured in one go."""


def key_of(row: Row) -> Key:
    """The go in which a row was measured."""
    return row["network"], row["mode"], row["dtype"], row["threads"], row["batch"]


def measure(keys: Sequence[Key], forms: Sequence[Candidate], subject: Subject, rounds: int) -> list[Row]:
    """One go: every form made ready for every mode, then all timed in turn, then the peak of each alone.

    Args:
        keys: which differ in their modes alone.
    """
    torch.set_num_threads(keys[0][3])
    torch.compiler.reset()  # what was compiled for another number of threads keeps it
    rows, runs, measured = list[Row](), dict[str, Callable[[], object]](), Memo[LayerTimes](KEPT_BYTES)
    for key in keys:
        own, ready = _prepared(key, forms, subject, measured)
        rows += own
        runs |= ready
    seconds = interleaved(runs, rounds)
    for row in rows:
        if (name := _name(row)) in seconds:
            found = quartiles(seconds[name])
            row |= {"rounds": rounds, "ms": [1e3 * found.q1, 1e3 * found.median, 1e3 * found.q3]}
            row["peak_mib"] = None if row["mode"] in RUNTIMES else peak_mib(runs[name])[2]  # arenas keep what they once took
    return rows


def _name(row: Row) -> str:
    return f"{row['mode']}: {row['candidate']}"


def _prepared(
    key: Key, forms: Sequence[Candidate], subject: Subject, measured: Memo[LayerTimes]
) -> tuple[list[Row], dict[str, Callable[[], object]]]:
    """A mode's rows, without times, and a forward of each form that has one, by the row's name."""
    network, mode, dtype, threads, batch = key
    x = torch.randn(batch, *subject.shape).to(DTYPES[dtype]).contiguous(memory_format=torch.channels_last)
    dense = forms[0].network
    assert dense is not None
    known = {"network": network, "mode": mode, "dtype": dtype, "threads": threads, "batch": batch, "run": BEGAN}
    known["dense_macs"] = measure_cost(dense, subject.shape).macs
    if dtype != "fp32" and (reason := _no_bf16(mode)):
        return [{**known, "candidate": form.name, "reason": reason} for form in forms], {}
    rows, runs = list[Row](), {}
    for form in forms:
        row = {**known, "candidate": form.name, "method": form.method, "strength": form.strength}
        if form.network is None:
            rows.append({**row, "reason": form.reason})
            continue
        print(f"  {mode}: {form.name}", file=sys.stderr, flush=True)
        runs[_name(row)], ways = _ready(form, x, MODES[mode], measured)
        cost = measure_cost(form.network, subject.shape)
        rows.append({**row, "macs": cost.macs, "flops": cost.flops, "params": cost.params, "realisations": ways})
    return rows, runs


def _no_bf16(mode: str) -> str:
    """Why a mode runs nothing in bf16; empty where it does."""
    if mode == "onnxruntime":
        return "onnxruntime is run in fp32 alone"
    return "OpenVINO has no bf16 on this CPU" if mode == "openvino" and not openvino_has_bf16() else ""


def _ready(
    form: Candidate, x: Tensor, prepare: Prepare, known: Memo[LayerTimes]
) -> tuple[Callable[[], object], dict[str, int]]:
    """A forward of the form, and how many of its structured layers are computed in which way.

    Args:
        known: what layers took in other forms.
    """
    assert form.network is not None
    given = copy.deepcopy(form.network).to(x.dtype).to(memory_format=torch.channels_last)
    ready, choices = optimize_for_inference(given, x, prepare=prepare, known=known)
    whole = [choice.chosen for choice in choices if choice.site == WHOLE]
    ways = Counter(choice.chosen for choice in choices if choice.site != WHOLE)
    return prepare(ready, x), dict(ways) if whole != ["dense"] else {"dense": sum(ways.values())}


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
    for place in dict.fromkeys(key[2:] for key in missing):
        print(arguments.network, *place, file=sys.stderr, flush=True)
        rows = measure([key for key in missing if key[2:] == place], forms, subject, arguments.rounds)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def read(paths: Iterable[Path]) -> list[Row]:
    """The rows of files, those that are there."""
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


COLUMNS = (
    "candidate",
    "MAC ratio",
    "ms (quartiles)",
    "speed-up",
    "efficiency",
    "parameters",
    "peak MiB",
    "structured layers run as",
)
COLUMNS_OF_PANELS = 4
BEST_COLUMNS = (
    "network",
    "dtype",
    "threads",
    "batch",
    "candidate",
    "MAC ratio",
    "speed-up",
    "efficiency",
    "mode",
    "dense mode",
    "run",
)


def ratios(row: Row, dense: Row) -> tuple[float, float]:
    """MAC ratio and speed-up over the dense form."""
    return row["dense_macs"] / row["macs"], dense["ms"][1] / row["ms"][1]


def table(rows: Sequence[Row]) -> str:
    """The forms of one go."""
    dense = next((row for row in rows if row["candidate"] == "dense" and "ms" in row), None)
    lines: list[tuple[object, ...]] = []
    for row in rows:
        if dense is None or "ms" not in row:
            lines.append((row["candidate"], "", row.get("reason", "no dense row"), *[""] * (len(COLUMNS) - 3)))
            continue
        macs, speed = ratios(row, dense)
        q1, middle, q3 = (taken / 1e3 for taken in row["ms"])
        took = Quartiles(q1=q1, median=middle, q3=q3).milliseconds()
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        ways = ", ".join(f"{count} {way}" for way, count in row["realisations"].items())
        cells = (f"{macs:.2f}", took, f"{speed:.2f}", f"{speed / macs:.2f}")
        lines.append((row["candidate"], *cells, f"{row['params'] / 1e6:.2f} M", peak, ways))
    return markdown_table(COLUMNS, lines)


def _same_again(rows: Sequence[Row]) -> list[str]:
    """How far apart the dense network and the forms that are nothing else were found: what to make of small differences."""
    dense = next((row["ms"][1] for row in rows if row["candidate"] == "dense" and "ms" in row), None)
    again = [row["ms"][1] for row in rows if "ms" in row and row["realisations"].keys() == {"dense"}]
    if dense is None or not again:
        return []
    speeds = " and ".join(f"{dense / taken:.2f}" for taken in again)
    return [f"Forms with all structured layers run dense are the dense network timed again: {speeds} of its speed is noise."]


def best(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Each form in its best mode of a run, against dense in its own best mode of that run."""
    lines: list[tuple[object, ...]] = []
    timed = [row for row in rows if "ms" in row]
    for place in dict.fromkeys(map(_place, timed)):
        here = [r for r in timed if _place(r) == place]
        fastest = {
            name: min((r for r in here if r["candidate"] == name), key=lambda r: float(r["ms"][1])) for name in _names(here)
        }
        if "dense" not in fastest:
            continue
        for name, row in fastest.items():
            macs, speed = ratios(row, fastest["dense"])
            numbers = (f"{macs:.2f}", f"{speed:.2f}", f"{speed / macs:.2f}")
            lines.append((*place[:-1], name, *numbers, row["mode"], fastest["dense"]["mode"], place[-1]))
    return lines


def _place(row: Row) -> tuple[str, str, int, int, str]:
    return row["network"], row["dtype"], row["threads"], row["batch"], row.get("run", "")


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["candidate"] for row in rows))


def report(rows: Sequence[Row]) -> str:
    """The whole Markdown document."""
    rounds = max((row.get("rounds", 0) for row in rows), default=0)
    parts = ["# Whole networks: fewer MACs, fewer milliseconds?", facts(sorted({row["dtype"] for row in rows}), rounds)]
    parts.append(
        "MAC ratio is dense / candidate, speed-up the dense median / the candidate's in the same mode, efficiency speed-up / "
        "MAC ratio. Threads are named above each table. Peak is what one forward takes on top of weights and inputs."
    )
    parts += [
        "## Each form in its best mode",
        "Speed-up over dense in *its* best mode of the same run.",
        markdown_table(BEST_COLUMNS, best(rows)),
    ]
    for key, began in dict.fromkeys((key_of(row), row.get("run", "")) for row in rows):
        network, mode, dtype, threads, batch = key
        own = [row for row in rows if (key_of(row), row.get("run", "")) == (key, began)]
        again = f", run of {began}" if any(key_of(row) == key for row in rows if row not in own) else ""
        parts.append(f"## {network}, {mode}, {dtype}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}{again}")
        parts += [table(own), *_same_again(own)]
    return "\n\n".join(parts)


def draw(rows: Sequence[Row], path: Path, *, batch: int = 16, dtype: str = "fp32") -> None:
    """Speed-up against MAC ratio in the best mode, a panel a network and run; on the diagonal time falls as MACs do."""
    lines = [line for line in best(rows) if line[1] == dtype and line[3] == batch]
    panels_of = list(dict.fromkeys((line[0], line[2], line[-1]) for line in lines))
    if not panels_of:
        print(f"no figure: no rows of batch {batch} in {dtype}", file=sys.stderr)
        return
    methods = list(dict.fromkeys(str(line[4]).partition(" ")[0] for line in lines))
    lines_of_panels = -(-len(panels_of) // COLUMNS_OF_PANELS)
    wide = min(len(panels_of), COLUMNS_OF_PANELS)
    size = (4 * wide, 3.8 * lines_of_panels)
    figure, panels = plt.subplots(lines_of_panels, wide, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(panels_of) :]:
        axes.set_axis_off()
    for axes, panel in zip(panels.flat, panels_of, strict=False):
        _draw_panel(axes, [line for line in lines if (line[0], line[2], line[-1]) == panel], methods)
    panels[0][0].legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _draw_panel(axes: Axes, lines: Sequence[tuple[object, ...]], methods: Sequence[str]) -> None:
    """One network and run; of each method, its points."""
    for place, method in enumerate(methods):
        points = [(float(str(line[5])), float(str(line[6]))) for line in lines if str(line[4]).partition(" ")[0] == method]
        axes.plot(*zip(*points, strict=True), "osDv^P"[place % 6], color=f"C{place}", label=method) if points else None
    axes.axline((1, 1), slope=1, color="grey", linewidth=0.8)
    axes.axhline(1, color="black", linewidth=0.8)
    network, threads, modes = lines[0][0], lines[0][2], ", ".join(sorted({str(line[8]) for line in lines}))
    axes.set_title(f"{network}, {modes}, {threads} thread{'s' if threads != 1 else ''}\n{lines[0][-1]}", fontsize=10)
    axes.set(xlabel="MAC ratio", ylabel="speed-up")
    axes.grid(alpha=0.3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SUBJECTS, help="measure this one; without it, write tables and figure")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
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
