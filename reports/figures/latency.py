"""MACs are not milliseconds: measured latency against MACs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sconv_search.reports.analysis.latency import BUSY, MEASURED
from sconv_search.reports.drawing.chart import Axis, Chart, Figure, Nothing, Trace
from sconv_search.reports.reading.records_table import REFERENCES, records
from sconv_search.reports.wording import (
    MISSING,
    amount,
    hundredths,
    method_name,
    multiline,
    network_label,
    one_line,
    plan_text,
    tenths,
    thousandths,
)

_TITLE = "Latency against MACs"


def latency_figure(summary: pd.DataFrame, task: str) -> Figure:
    """Latency in % of the dense network's, measured in turn, against MACs in % of the dense network's."""
    plans = summary[(summary["task"] == task) & (summary["stage"] == "confirm")]
    dense = plans.loc[plans["variant"].isin(REFERENCES), "macs"].dropna()
    timed = plans[(plans["speed_up"] > 0).fillna(False) & plans["macs"].notna() & ~plans["variant"].isin(REFERENCES)]
    known = timed[(timed["timing"] == MEASURED).fillna(False)]
    if dense.empty or known.empty:
        reason = "No confirmed plan has its latency measured beside the dense network's"
        reason += ", but on busy machines." if len(timed) and len(dense) else "."
        return Figure(key="latency", title=_TITLE, drawings={"": Nothing(title=_TITLE, reason=reason)})
    whole = float(dense.iloc[0])
    traces = []
    for family, part in known.groupby("family"):
        for uniform in (False, True):
            chosen = part[(part["variant"] == "uniform") == uniform]
            if len(chosen):
                traces.append(_trace(str(family), chosen, whole, uniform=uniform))
    traces.append(
        Trace(
            name="dense",
            style="random",
            kind="strong",
            x=[100.0],
            y=[100.0],
            texts=[f"dense network\n{amount(whole)} MACs"],
        )
    )
    chart = Chart(
        title="Latency against MACs, % of the dense network",
        x=Axis(label="MACs, % of the dense network", limits=(0.0, 106.0)),
        y=Axis(label="latency, % of the dense network measured in turn"),
        traces=traces,
        diagonal=True,
    )
    return Figure(
        key="latency",
        title=_TITLE,
        drawings={"": chart},
        caption=f"{conditions(known)}{_left_out(timed)} Hollow: uniform plans. On the thin line latency would "
        "follow MACs.",
    )


def _left_out(timed: pd.DataFrame) -> str:
    count = int((timed["timing"] != MEASURED).sum())
    busy = int((timed["timing"] == BUSY).sum())
    if not count:
        return ""
    reasons = [f"{busy} measured on a busy machine"] if busy else []
    reasons += [f"{count - busy} under other conditions"] if count > busy else []
    return f" Left out: plans with latencies of which {' and '.join(reasons)}."


def conditions(plans: pd.DataFrame) -> str:
    """Device, threads, number type and batch of the measurements, in words."""
    names = {"machine": "device", "threads": "threads", "dtype": "number type", "latency_batch": "inputs at once"}
    values = {
        text: "; ".join(one_line(str(v)) for v in sorted(plans[name].dropna().unique(), key=str))
        for name, text in names.items()
    }
    return (
        "Measured: "
        + ", ".join(f"{text} {value or MISSING + ' (not recorded)'}" for text, value in values.items())
        + "."
    )


def _trace(family: str, plans: pd.DataFrame, dense: float, *, uniform: bool) -> Trace:
    return Trace(
        name=method_name(family),
        style=family,
        kind="hollow" if uniform else "strong",
        x=[100 * float(macs) / dense for macs in plans["macs"]],
        y=[100 / float(speed) for speed in plans["speed_up"]],
        texts=[_text(row) for row in records(plans)],
        keys=[str(key) for key in plans["key"]],
    )


def _text(row: dict[str, Any]) -> str:
    return multiline(
        f"{network_label(row['variant'], row['family'])}, {plan_text(row)}",
        f"{amount(row['macs'])} MACs, FLOPs {tenths(row['flops_share'])} %",
        f"{thousandths(row['latency_ms'])} ms, {hundredths(row['speed_up'])} times as fast as dense in turn",
    )
