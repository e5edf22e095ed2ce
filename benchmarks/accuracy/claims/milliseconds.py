"""How long the networks of the study take, as the runtimes run their files, beside the accuracy that they reached."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from torch import nn

from benchmarks.accuracy.claims.cells import DENSE
from benchmarks.accuracy.claims.running import Row
from benchmarks.accuracy.claims.tables import DENSE_TEST
from benchmarks.speed.candidates import SUBJECTS, Candidate
from benchmarks.speed.measuring import RUNTIMES, measure
from benchmarks.timing import facts, markdown_table
from sconv_search.plan import CompressionPlan
from sconv_search.studies.methods import compress

MARKERS = "*osDv^<>"
"""Of the dense network, and of each budget."""
NETWORK, BATCHES, THREADS = "resnet20", (1, 16), 1
NOTE = """The networks of [this study](claims.md), made ready by `optimize_for_inference` for the runtime and run by
it, fp32, {threads} thread; all forms and the dense network in turn in one run of {rounds} rounds a batch. Milliseconds
of a batch: median, and quartiles in brackets. Speed-up is over dense in the same run and runtime. Top-1 is that of the
longest training of the study of each kind (dense 91.48 % on the same 5,000 test images). Weights do not change the
time; the plans are those of the study."""


def forms(starts: Path) -> list[Candidate]:
    """The dense network, and each kind whose plan the study has made.

    Args:
        starts: its folder of start networks, ``KIND-BUDGET/plan.json``.

    Raises:
        FileNotFoundError: there is none.
    """
    dense: nn.Module = SUBJECTS[NETWORK].make().eval()
    made = [Candidate(method=DENSE, strength="", network=dense)]
    for path in sorted(starts.glob("*/plan.json")):
        kind, _, budget = path.parent.name.rpartition("-")
        plan = CompressionPlan.from_json(path.read_text())
        if plan.sites:
            made.append(Candidate(method=kind, strength=f"{budget} %", network=compress(dense, plan).eval()))
    if len(made) == 1:
        raise FileNotFoundError(f"{starts} holds no KIND-BUDGET/plan.json; run the study first")
    return made


def measured(starts: Path, out: Path, rounds: int) -> None:
    """Writes a row for each form, runtime and batch."""
    candidates, rows = forms(starts), list[Row]()
    for batch in BATCHES:
        keys = [(NETWORK, runtime, "fp32", THREADS, batch) for runtime in RUNTIMES]
        rows += measure(keys, candidates, SUBJECTS[NETWORK], rounds)
    for row in rows:
        row["facts"] = facts(["fp32"], rounds)
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))


def longest(rows: Sequence[Row], kind: str, budget: str) -> tuple[float, float] | None:
    """Mean test top-1 of the longest training of a kind, at the rate that is best on the validation images, and its
    epochs; None where none was run.
    """
    own = [row for row in rows if row["step"] == "trained" and row["weight"] is None and row["reconstructed"]]
    own = [row for row in own if row["kind"] == kind and f"{row['budget']} %" == budget]
    if not own:
        return None
    epochs = max(row["epochs"] for row in own)
    by_rate: dict[float, list[Row]] = {}
    for row in own:
        if row["epochs"] == epochs:
            by_rate.setdefault(row["rate"], []).append(row)
    best = max(by_rate.values(), key=lambda seeds: statistics.fmean(row["validation"] for row in seeds))
    return statistics.fmean(row["test"] for row in best), epochs


def page(times: Sequence[Row], rows: Sequence[Row]) -> str:
    """A table of each batch."""
    parts = ["# Accuracy against milliseconds", times[0]["facts"]]
    parts.append(NOTE.format(threads=times[0]["threads"], rounds=times[0]["rounds"]))
    for batch in sorted({row["batch"] for row in times}):
        own = [row for row in times if row["batch"] == batch]
        lines = []
        for name in dict.fromkeys(row["candidate"] for row in own):
            mine = {row["mode"]: row for row in own if row["candidate"] == name}
            first = next(iter(mine.values()))
            reached = longest(rows, first["method"], first["strength"])
            accuracy = "" if reached is None else f"{reached[0]:.2f} ({_epochs(reached[1])})"
            cells = [cell for mode in RUNTIMES for cell in _cells(mine[mode], own)]
            lines.append((name, f"{100 * first['macs'] / first['dense_macs']:.1f}", *cells, accuracy))
        columns = ["network", "MACs, %", *(c for mode in RUNTIMES for c in (f"{mode}, ms", "speed-up")), "top-1, %"]
        parts += [f"## Batch {batch}", markdown_table(columns, lines)]
    return "\n\n".join(parts)


def _cells(row: Row, others: Sequence[Row]) -> tuple[str, str]:
    dense = next(r for r in others if r["mode"] == row["mode"] and r["method"] == DENSE)
    first, median, last = row["ms"]
    return f"{median:.3f} [{first:.3f}, {last:.3f}]", f"{dense['ms'][1] / median:.2f}"


def _epochs(epochs: float) -> str:
    return f"{epochs:g} epoch{'s' * (epochs != 1)}"


def draw(times: Sequence[Row], rows: Sequence[Row], path: Path) -> None:
    """Top-1 over milliseconds of an input, a panel for each runtime and batch."""
    panels = [(mode, batch) for batch in sorted({row["batch"] for row in times}) for mode in RUNTIMES]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.9), sharey=True, layout="constrained")
    kinds, budgets = (list(dict.fromkeys(row[part] for row in times)) for part in ("method", "strength"))
    for panel, (mode, batch) in zip(axes, panels, strict=True):
        for row in (row for row in times if (row["mode"], row["batch"]) == (mode, batch)):
            reached = longest(rows, row["method"], row["strength"])
            top1 = DENSE_TEST if row["method"] == DENSE else None if reached is None else reached[0]
            if top1 is not None:
                kind, budget = kinds.index(row["method"]), budgets.index(row["strength"])
                look: dict[str, Any] = {"color": plt.get_cmap("tab10")(kind % 10), "marker": MARKERS[budget]}
                panel.plot([row["ms"][1] / batch], [top1], linestyle="", label=row["candidate"], **look)
        panel.set(title=f"{mode}, batch {batch}", xlabel="ms an input")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("test top-1, %")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    figure.savefig(path)
    plt.close(figure)
