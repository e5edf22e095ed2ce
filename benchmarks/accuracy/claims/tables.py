"""From rows to the page: a line for each network, what was not run included, and two figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.accuracy.claims.cells import all_cells
from benchmarks.timing import markdown_table

LOW = 30
"""Lines of budgets below so many percent are dashed."""
DENSE_TEST, DENSE_VALIDATION = 91.48, 91.98
"""Top-1 of the dense network on the two halves of the test images."""
COLUMNS = ("network", "FLOPs, %", "labels", "test top-1, %", "difference to dense", "validation", "processor minutes")
PUBLISHED = (
    ("TRP, ResNet-20, 2.17x fewer FLOPs", 164, "−1.24"),
    ("TRP, ResNet-20, 2.84x fewer FLOPs", 164, "−1.12"),
    ("Torch-Pruning's logs, ResNet-56, 2.12x, last epoch", 100, "−0.8"),
    ("ModelOpt FastNAS's notebook, ResNet-20, −27 % of FLOPs", 120, "−0.7"),
)
"""Name, epochs of training with labels, points of top-1 lost, as their authors say."""
STEPS = {"fitted": "fitted in sequence", "reconstructed": "and blocks reconstructed"}
_STRUCTURAL_LOSS = """Plan A. The first half of the epochs trains the dense network with the structural loss (the mean
relative distance of the kernels to their structure, times the weight); then it is decomposed, its layers are fitted
to 1,024 images, and the second half trains the compressed network. Two epochs in all, at a rate of 0.02, distilled
from the dense network as above; at weight 0 both are of the compressed network. Residual, and top-1 before and after
decomposing, are of the validation images.
"""
CELL = ("kind", "budget", "epochs", "rate", "weight", "constant", "reconstructed")
"""What seeds of one cell share."""
Row = dict[str, Any]


def report(rows: Sequence[Row]) -> str:
    """The tables of all networks that were made, and the cells that were not run."""
    trained = [row for row in rows if row["step"] == "trained"]
    lines = [_start_line(row) for row in starts(rows)]
    lines += [_trained_line(own, rows) for own in _by_cell([row for row in trained if row["weight"] is None])]
    lines.sort(key=lambda line: (line[0], line[-1]))
    missing = [cell.name for cell in all_cells() if not any(cell.key().items() <= row.items() for row in trained)]
    return "\n".join(
        [
            "\n## What was run\n",
            markdown_table(COLUMNS, [line[1] for line in lines]),
            *_structural_loss([row for row in trained if row["weight"] is not None]),
            "\n## Published neighbors, for comparison\n",
            markdown_table(("network", "epochs", "points lost"), PUBLISHED),
            f"\n## Not run: {len(missing)} of {len(all_cells())} cells\n",
            "\n".join(f"- {name}" for name in missing),
        ]
    )


def starts(rows: Sequence[Row]) -> list[Row]:
    """The rows of networks before training, of each the newest."""
    newest = {(row["kind"], row["budget"], row["step"]): row for row in rows if row["step"] in STEPS}
    return list(newest.values())


def minutes_before(rows: Sequence[Row], kind: str, budget: int) -> float:
    """Processor minutes of fit and reconstruction."""
    own = [row["cpu_s"] for row in starts(rows) if (row["kind"], row["budget"]) == (kind, budget)]
    return max(own, default=0.0) / 60


def share_of(rows: Sequence[Row], kind: str, budget: int) -> float:
    """Of the dense FLOPs, in percent."""
    own = [row["flops"] for row in starts(rows) if (row["kind"], row["budget"]) == (kind, budget)]
    return 100 * own[0] if own else 100.0


def _by_cell(trained: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ in the seed alone."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in trained:
        groups.setdefault(tuple(row.get(name) for name in CELL), []).append(row)
    return list(groups.values())


def _start_line(row: Row) -> tuple[Any, ...]:
    minutes = row["cpu_s"] / 60
    name = f"{row['kind']}, {STEPS[row['step']]}"
    cells = (name, f"{100 * row['flops']:.1f}", "none", *_scores([row]), f"{minutes:.1f}")
    return row["kind"], cells, minutes


def _trained_line(own: list[Row], rows: Sequence[Row]) -> tuple[Any, ...]:
    first = own[0]
    kind, budget = first["kind"], first["budget"]
    before = minutes_before(rows, kind, budget) if first["reconstructed"] else 0.0
    minutes = before + statistics.fmean(row["cpu_s"] for row in own) / 60
    epochs = "1 epoch" if first["epochs"] == 1 else f"{first['epochs']:g} epochs"
    name = f"{kind}, then {epochs} at {first['rate']:g}"
    name += "" if first["reconstructed"] else ", blocks not reconstructed"
    name += f" ({len(own)} seeds)" if len(own) > 1 else ""
    return kind, (name, f"{share_of(rows, kind, budget):.1f}", "none", *_scores(own), f"{minutes:.1f}"), minutes


def _structural_loss(trained: Sequence[Row]) -> list[str]:
    """What the network loses as it is decomposed, after a training with the structural loss, by the loss's weight."""
    if not trained:
        return []
    columns = ("weight", "residual", "before", "after", "lost by decomposing", "trained on, test top-1, %")
    ordered = sorted(
        trained, key=lambda row: (row["kind"], row["budget"], row["epochs"], row["weight"], row["constant"])
    )
    lines = [
        (
            f"{row['weight']:g}{', constant' if row['constant'] else ', rising' if row['weight'] else ''}",
            f"{row['residual']:.4f}",
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['before'] - row['after']:.2f}",
            f"{row['test']:.2f}",
        )
        for row in ordered
    ]
    return ["\n## Trained towards the structure first\n", _STRUCTURAL_LOSS, markdown_table(columns, lines)]


def _scores(own: Sequence[Row]) -> tuple[str, str, str]:
    test, validation = (statistics.fmean(row[name] for row in own) for name in ("test", "validation"))
    spread = f" ± {statistics.stdev(row['test'] for row in own):.2f}" if len(own) > 1 else ""
    return f"{test:.2f}{spread}", f"{test - DENSE_TEST:+.2f}".replace("-", "−"), f"{validation:.2f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Test top-1 over FLOPs kept, and over processor minutes of fit, reconstruction and training."""
    figure, (by_flops, by_minutes) = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    kinds = list(dict.fromkeys(row["kind"] for row in starts(rows)))
    for index, kind in enumerate(kinds):
        look: dict[str, Any] = {"color": plt.get_cmap("tab10")(index), "marker": "osDv^<>"[index]}
        for budget in dict.fromkeys(row["budget"] for row in starts(rows) if row["kind"] == kind):
            points = _points(rows, kind, budget)
            flops = share_of(rows, kind, budget)
            by_flops.plot([flops] * len(points), [top1 for _, top1 in points], linestyle=":", **look)
            line = "-" if budget > LOW else "--"
            by_minutes.plot(*zip(*points, strict=True), label=f"{kind}, {flops:.0f} % of FLOPs", linestyle=line, **look)
    for axes, label in ((by_flops, "FLOPs kept, % of dense"), (by_minutes, "minutes of one processor, no labels read")):
        axes.axhline(DENSE_TEST, color="black", linewidth=0.8, label=f"dense, {DENSE_TEST} %")
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    by_flops.set(xlim=(20, 60), ylabel="test top-1, %", title="ResNet-20, CIFAR-10")
    by_minutes.legend(fontsize=8, loc="lower right")
    figure.savefig(path)
    plt.close(figure)


def _points(rows: Sequence[Row], kind: str, budget: int) -> list[tuple[float, float]]:
    """(Minutes, test top-1) of a network fitted, reconstructed, and trained, of equal epochs at the best rate on the
    validation images.
    """
    own = [row for row in starts(rows) if (row["kind"], row["budget"]) == (kind, budget)]
    before = minutes_before(rows, kind, budget)
    trained = [row for row in rows if row["step"] == "trained" and row["weight"] is None and row["reconstructed"]]
    trained = [row for row in trained if (row["kind"], row["budget"]) == (kind, budget)]
    best = {row["epochs"]: row for row in sorted(trained, key=lambda row: row["validation"])}
    points = [(row["cpu_s"] / 60, row["test"]) for row in own]
    return sorted(points + [(before + row["cpu_s"] / 60, row["test"]) for row in best.values()])
