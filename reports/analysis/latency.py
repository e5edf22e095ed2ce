"""Measured speed-ups of confirmed plans: which measurements can be trusted, and one dense reference for all plans of a
task.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

CONDITIONS = ["machine", "threads", "dtype", "latency_batch"]
"""Latencies under other conditions are not compared."""
BUSY_SHARE = 0.1
"""Where other work took more of the processors than this, a measurement says more of that work than of the network."""
SLOW_DENSE = 1.25
"""So many times its least latency under the same conditions, the dense network itself was slowed down: the machine was
busy.
"""
MEASURED, BUSY, ELSEWHERE = "measured", "busy", "other conditions"
_READ = ["task", "plan", "latency_ms", "dense_latency_ms", "busy_share", *CONDITIONS]


def timings(confirmed: pd.DataFrame) -> pd.DataFrame:
    """A row a confirmed record with its index: ``speed_up``, ``timing`` and ``dense_reference_ms``.

    ``speed_up`` is the dense network's latency over the record's own, measured in turn. ``timing`` is ``measured``,
    ``busy`` where the machine had other work, ``other conditions`` where most records of the task have others; missing
    without a measurement. ``dense_reference_ms`` is the same for all records of one task and one set of conditions: the
    median of the dense network's latencies over the measurements that were not disturbed.
    """
    rows = confirmed[_READ]
    known = (rows["latency_ms"] > 0).fillna(False) & (rows["dense_latency_ms"] > 0).fillna(False)
    timed = rows[known].assign(speed_up=rows["dense_latency_ms"] / rows["latency_ms"])
    same = timed.groupby(["task", *CONDITIONS], dropna=False)
    least = same["dense_latency_ms"].transform("min")
    busy = (timed["busy_share"] > BUSY_SHARE).fillna(False) | (timed["dense_latency_ms"] > SLOW_DENSE * least)
    quiet = timed["dense_latency_ms"].mask(busy)
    keys = [timed[name] for name in ["task", *CONDITIONS]]
    reference = (
        quiet.groupby(keys, dropna=False).transform("median").fillna(same["dense_latency_ms"].transform("median"))
    )
    size = same["plan"].transform("size")
    elsewhere = size < size.groupby(timed["task"]).transform("max")
    timing = pd.Series(MEASURED, index=timed.index, dtype="string").mask(busy, BUSY).mask(elsewhere, ELSEWHERE)
    return timed.assign(timing=timing, dense_reference_ms=reference)[
        ["speed_up", "timing", "dense_reference_ms"]
    ].reindex(rows.index)


def plan_timing(records: pd.DataFrame) -> dict[str, Any]:
    """One plan's columns ``speed_up``, ``speed_up_spread``, ``latency_ms`` and ``timing`` from the records of its
    seeds.

    Undisturbed measurements alone count where there is one. The spread is the sample standard deviation over them, or
    what a single measurement says of its rounds. The latency is the dense reference divided by the speed-up, so that
    all plans of a task stand beside one dense network.

    Args:
        records: with the columns of ``timings`` and ``speed_up_spread``.
    """
    known = records[records["speed_up"].notna()]
    if known.empty:
        return {"speed_up": pd.NA, "speed_up_spread": pd.NA, "latency_ms": pd.NA, "timing": pd.NA}
    timing = next(kind for kind in (MEASURED, BUSY, ELSEWHERE) if (known["timing"] == kind).any())
    used = known[known["timing"] == timing]
    mean = float(used["speed_up"].mean())
    spread = used["speed_up"].std() if len(used) > 1 else used["speed_up_spread"].iloc[0]
    return {
        "speed_up": mean,
        "speed_up_spread": spread,
        "latency_ms": float(used["dense_reference_ms"].iloc[0]) / mean,
        "timing": timing,
    }
