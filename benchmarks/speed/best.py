"""Each form of the speed benchmark in its best mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.speed.measuring import Row

PLACE_COLUMNS = ("network", "dtype", "threads", "batch")
BEST_COLUMNS = (*PLACE_COLUMNS, "candidate", "MAC ratio", "speed-up", "efficiency", "mode", "dense mode", "run")
Place = tuple[str, str, int, int, str]
"""What is measured in one go: network, dtype, threads, batch, run."""


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
    def place(self) -> Place:
        """Where it was measured."""
        return self.network, self.dtype, self.threads, self.batch, self.run

    def cells(self) -> tuple[object, ...]:
        """In the order of ``BEST_COLUMNS``."""
        numbers = (f"{self.mac_ratio:.2f}", f"{self.speed_up:.2f}", f"{self.speed_up / self.mac_ratio:.2f}")
        return (*self.place[:4], self.candidate, *numbers, self.mode, self.dense_mode, self.run)


def ratios(row: Row, dense: Row) -> tuple[float, float]:
    """MAC ratio and speed-up over the dense form."""
    return row["dense_macs"] / row["macs"], dense["ms"][1] / row["ms"][1]


def best(rows: Sequence[Row]) -> list[Best]:
    """Each form in its best mode of a run, against dense in its own best mode of that run."""
    best_rows = list[Best]()
    timed = [row for row in rows if "ms" in row]
    for setting in dict.fromkeys(map(place_of, timed)):
        here = [row for row in timed if place_of(row) == setting]
        forms = dict.fromkeys(row["candidate"] for row in here)
        fastest = {
            name: min((r for r in here if r["candidate"] == name), key=lambda r: float(r["ms"][1])) for name in forms
        }
        if "dense" in fastest:
            best_rows += [_best(row, fastest["dense"]) for row in fastest.values()]
    return best_rows


def place_of(row: Row) -> Place:
    """Where a row was measured."""
    return row["network"], row["dtype"], row["threads"], row["batch"], row.get("run", "")


def _best(row: Row, dense: Row) -> Best:
    network, dtype, threads, batch, began = place_of(row)
    macs, speed = ratios(row, dense)
    return Best(
        network=network,
        dtype=dtype,
        threads=threads,
        batch=batch,
        run=began,
        candidate=row["candidate"],
        mac_ratio=macs,
        speed_up=speed,
        mode=row["mode"],
        dense_mode=dense["mode"],
    )
