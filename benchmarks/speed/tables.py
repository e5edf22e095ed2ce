"""Tables of the speed benchmark: in short, each form in its best mode, and the forms of one go."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.speed.best import BEST_COLUMNS, PLACE_COLUMNS, best, ratios
from benchmarks.speed.measuring import Row, key_of
from benchmarks.speed.summary import summary
from benchmarks.timing import Quartiles, facts, markdown_table

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
        ways = ", ".join(f"{count} {way}" for way, count in row["implementations"].items())
        cells = (f"{macs:.2f}", took, f"{speed:.2f}", f"{speed / macs:.2f}")
        lines.append((row["candidate"], *cells, f"{row['params'] / 1e6:.2f} M", peak, ways))
    return markdown_table(COLUMNS, lines)


def _same_again(rows: Sequence[Row]) -> list[str]:
    """How far apart the dense network and the forms that are nothing else were found: what to make of small
    differences.
    """
    dense = next((row["ms"][1] for row in rows if row["candidate"] == "dense" and "ms" in row), None)
    again = [row["ms"][1] for row in rows if "ms" in row and row["implementations"].keys() == {"dense"}]
    if dense is None or not again:
        return []
    speeds = " and ".join(f"{dense / taken:.2f}" for taken in again)
    return [
        f"Forms with all structured layers run dense are the dense network timed again: {speeds} of its speed is noise."
    ]


def glance(rows: Sequence[Row]) -> str:
    """Speed-ups of all forms in their best modes, a line a network, dtype, threads, batch and run."""
    lines = best(rows)
    forms = list(dict.fromkeys(line.candidate for line in lines if line.candidate != "dense"))
    cells = list[tuple[object, ...]]()
    for setting in dict.fromkeys(line.place for line in lines):
        speeds = {line.candidate: f"{line.speed_up:.2f}" for line in lines if line.place == setting}
        cells.append((*setting[:4], *(speeds.get(form, "") for form in forms), setting[4]))
    return markdown_table((*PLACE_COLUMNS, *forms, "run"), cells)


def report(rows: Sequence[Row]) -> str:
    """The whole Markdown document."""
    rounds = max((row.get("rounds", 0) for row in rows), default=0)
    parts = ["# Whole networks: fewer MACs, fewer milliseconds?", facts(sorted({row["dtype"] for row in rows}), rounds)]
    parts.append(
        "MAC ratio is dense / candidate, speed-up the dense median / the candidate's in the same mode, efficiency"
        " speed-up / MAC ratio. Threads are named above each table. Peak is what one forward takes on top of weights"
        " and inputs."
    )
    parts += [
        "## In short",
        "Speed-up at about half, then a quarter of the MACs, over dense in *its* best mode of the same run: the faster "
        "structured form's, and in brackets spatial SVD's. Of several runs, that in most modes, and of these the last.",
        summary(rows),
        "## Each form in its best mode",
        "Speed-up over dense in *its* best mode of the same run.",
        glance(rows),
        markdown_table(BEST_COLUMNS, [line.cells() for line in best(rows)]),
    ]
    for key, began in dict.fromkeys((key_of(row), row.get("run", "")) for row in rows):
        network, mode, dtype, threads, batch = key
        own = [row for row in rows if (key_of(row), row.get("run", "")) == (key, began)]
        again = f", run of {began}" if any(key_of(row) == key for row in rows if row not in own) else ""
        parts.append(
            f"## {network}, {mode}, {dtype}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}{again}"
        )
        parts += [table(own), *_same_again(own)]
    return "\n\n".join(parts)
