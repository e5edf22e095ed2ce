"""Tables of the speed benchmark: the forms of one go, and each form in its best mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speed_measuring import Row, key_of
from timing import Quartiles, facts, markdown_table

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
PLACE_COLUMNS = ("network", "dtype", "threads", "batch")
BEST_COLUMNS = (*PLACE_COLUMNS, "candidate", "MAC ratio", "speed-up", "efficiency", "mode", "dense mode", "run")


@dataclass(frozen=True, kw_only=True)
class Best:
    """A form in its fastest mode of a run, and what that is of dense in *its* fastest mode of that run."""

    network: str
    dtype: str
    threads: int
    batch: int
    candidate: str
    mac_ratio: float
    speed_up: float
    mode: str
    dense_mode: str
    run: str

    @property
    def place(self) -> tuple[str, str, int, int, str]:
        """What is measured in one go: network, dtype, threads, batch, run."""
        return self.network, self.dtype, self.threads, self.batch, self.run

    def cells(self) -> tuple[object, ...]:
        """In the order of ``BEST_COLUMNS``."""
        numbers = (f"{self.mac_ratio:.2f}", f"{self.speed_up:.2f}", f"{self.speed_up / self.mac_ratio:.2f}")
        return (*self.place[:4], self.candidate, *numbers, self.mode, self.dense_mode, self.run)


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


def best(rows: Sequence[Row]) -> list[Best]:
    """Each form in its best mode of a run, against dense in its own best mode of that run."""
    found = list[Best]()
    timed = [row for row in rows if "ms" in row]
    for place in dict.fromkeys(map(_place, timed)):
        here = [row for row in timed if _place(row) == place]
        forms = dict.fromkeys(row["candidate"] for row in here)
        fastest = {name: min((r for r in here if r["candidate"] == name), key=lambda r: float(r["ms"][1])) for name in forms}
        if "dense" in fastest:
            found += [_best(row, fastest["dense"]) for row in fastest.values()]
    return found


def _place(row: Row) -> tuple[str, str, int, int, str]:
    return row["network"], row["dtype"], row["threads"], row["batch"], row.get("run", "")


def _best(row: Row, dense: Row) -> Best:
    network, dtype, threads, batch, began = _place(row)
    macs, speed = ratios(row, dense)
    return Best(
        network=network, dtype=dtype, threads=threads, batch=batch, run=began,
        candidate=row["candidate"], mac_ratio=macs, speed_up=speed, mode=row["mode"], dense_mode=dense["mode"],
    )  # fmt: skip


def glance(rows: Sequence[Row]) -> str:
    """Speed-ups of all forms in their best modes, a line a network, dtype, threads, batch and run."""
    lines = best(rows)
    forms = list(dict.fromkeys(line.candidate for line in lines if line.candidate != "dense"))
    cells = list[tuple[object, ...]]()
    for place in dict.fromkeys(line.place for line in lines):
        speeds = {line.candidate: f"{line.speed_up:.2f}" for line in lines if line.place == place}
        cells.append((*place[:4], *(speeds.get(form, "") for form in forms), place[4]))
    return markdown_table((*PLACE_COLUMNS, *forms, "run"), cells)


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
        glance(rows),
        markdown_table(BEST_COLUMNS, [line.cells() for line in best(rows)]),
    ]
    for key, began in dict.fromkeys((key_of(row), row.get("run", "")) for row in rows):
        network, mode, dtype, threads, batch = key
        own = [row for row in rows if (key_of(row), row.get("run", "")) == (key, began)]
        again = f", run of {began}" if any(key_of(row) == key for row in rows if row not in own) else ""
        parts.append(f"## {network}, {mode}, {dtype}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}{again}")
        parts += [table(own), *_same_again(own)]
    return "\n\n".join(parts)
