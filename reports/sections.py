"""The figures and tables of one task, in the order of the questions that they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from sconv_search.reports import words
from sconv_search.reports.cells import Form, data_table
from sconv_search.reports.charts import Figure
from sconv_search.reports.markup import Block, Fold, Heading, Paragraph, Table
from sconv_search.reports.prepared.course import course_figures, hypervolumes
from sconv_search.reports.prepared.damage import damage_figure
from sconv_search.reports.prepared.decomposition import decomposition_figure, decompositions
from sconv_search.reports.prepared.importance import importance_figure
from sconv_search.reports.prepared.latency import latency_figure
from sconv_search.reports.prepared.pareto import pareto_figure
from sconv_search.reports.prepared.plan import Layer, layers_of, plan_figure, protection_figure
from sconv_search.reports.prepared.regularization import residual_figure, weight_figure
from sconv_search.reports.prepared.rungs import rung_correlations, rung_figure, rung_points
from sconv_search.reports.prepared.sites import SiteTable, site_tables
from sconv_search.reports.summary import counts, failures
from sconv_search.reports.table import Reading, records
from sconv_search.reports.verdict import Verdict

MOST_LAYER_ROWS = 2000
"""So many rows of layer tables stand in the page, those of the best plans; ``data/summary`` holds all."""
NETWORK_CELLS: dict[str, Form] = {
    "label": words.text,
    "key": words.text,
    "budget_group": words.text,
    "regularization": words.general,
    "seeds": words.amount,
    "test_top1": words.text,  # filled with mean ± deviation
    "difference": words.signed,
    "flops_share": words.tenths,
    "flops": words.amount,
    "macs": words.amount,
    "adds": words.amount,
    "params": words.amount,
    "latency_ms": words.thousandths,
    "speed_up": words.hundredths,
    "best_val_top1": words.hundredths,
}
TRAINING_CELLS: dict[str, Form] = {
    "label": words.text,
    "key": words.text,
    "regularization": words.general,
    "epochs": words.general,
    "flops_share": words.tenths,
    "residual": words.general,
    "val_top1_before": words.hundredths,
    "val_top1_after": words.hundredths,
    "wall_s": words.duration,
}
COUNT_CELLS: dict[str, Form] = {
    "run": words.text,
    "stage": words.text,
    "label": words.text,
    "complete": words.text,
    "screened": words.text,
    "over_budget": words.text,
    "failed": words.text,
    "wall_s": words.duration,
}
FAILURE_CELLS: dict[str, Form] = {name: words.text for name in ("run", "stage", "label", "trials", "reason")}


def task_section(
    reading: Reading, summary: pd.DataFrame, verdicts: Sequence[Verdict], course: pd.DataFrame, task: str, stem: str
) -> Iterator[Block | Figure]:
    """Figures and tables of one task, one by one; ``course`` is that of its searches."""
    rows, plans = reading.table[reading.table["task"] == task], summary[summary["task"] == task]
    here = [verdict for verdict in verdicts if verdict.task == task]
    yield Heading(text=task, level=2, anchor=f"task-{stem}")
    if plans.empty:
        yield Paragraph(text="No trial has a score yet.")
    yield pareto_figure(reading.table, summary, task)
    yield from _hypervolume(reading.table, summary, task, stem)
    if len(plans):
        yield from (Heading(text="Networks", level=3), _networks(plans, stem))
    tables = site_tables(reading.table, reading.runs, task)
    yield from _plan_part(plans, here, tables, stem)
    yield from _search_part(reading, summary, course, tables, task, stem)
    yield from (Heading(text="MACs are not milliseconds", level=3), latency_figure(summary, task))
    yield from (Heading(text="All trials", level=3), data_table(counts(rows), COUNT_CELLS, f"{stem}-counts", texts=3))
    if len(failed := failures(rows)):
        yield Heading(text="Failures", level=3)
        yield data_table(failed, FAILURE_CELLS, f"{stem}-failures", texts=3, last_is_text=True)


def _hypervolume(table: pd.DataFrame, summary: pd.DataFrame, task: str, stem: str) -> list[Block]:
    found = hypervolumes(table, summary, task)
    if found.empty:
        return []
    headings = {
        "family": "method",
        "confirmed_area": "hypervolume of confirmed plans (test, %)",
        "plans": "plans",
        "searched_area": "hypervolume of search trials (validation, %)",
        "trials": "trials",
    }
    forms: dict[str, Form] = {
        "family": words.method_words,
        "confirmed_area": words.hundredths,
        "plans": words.text,
        "searched_area": words.hundredths,
        "trials": words.text,
    }
    note = (
        "Hypervolume: the area that a method's networks dominate, in % of the rectangle between the fixed reference"
        " point "
    )
    note += (
        "(100 % of the dense FLOPs, 0 % top-1) and a network that costs nothing and is always right, over all budgets. "
    )
    note += (
        "It grows with every cheaper plan that a method was given: compare methods that were searched at the same"
        " budgets."
    )
    return [data_table(found, forms, f"{stem}-hypervolume", headings=headings), Paragraph(text=note, look="caption")]


def _networks(plans: pd.DataFrame, stem: str) -> Table:
    means = [words.spread(mean, std) for mean, std in zip(plans["test_top1"], plans["test_top1_std"], strict=True)]
    return data_table(plans.assign(test_top1=means), NETWORK_CELLS, f"{stem}-networks", texts=3)


def _plan_part(
    plans: pd.DataFrame, verdicts: Sequence[Verdict], tables: Sequence[SiteTable], stem: str
) -> Iterator[Block | Figure]:
    yield from (Heading(text="The plan", level=3), plan_figure(plans, verdicts))
    yield from _folds(plans, verdicts, stem)
    yield protection_figure(tables)


def _folds(plans: pd.DataFrame, verdicts: Sequence[Verdict], stem: str) -> list[Block]:
    """Before and after, layer by layer: the verdict's plans first, then the others by accuracy."""
    chosen = {entry.key for verdict in verdicts for entry in verdict.entries}
    order = plans[plans["stage"] == "confirm"].assign(first=lambda found: found["key"].isin(chosen))
    order = order.sort_values(["first", "test_top1"], ascending=[False, False], kind="stable")
    folds: list[Block] = []
    room, hidden = MOST_LAYER_ROWS, 0
    for row in records(order):
        layers = layers_of(row)
        if not layers or not any(layer.choice != "dense" for layer in layers):
            continue
        if (room := room - len(layers)) < 0:
            hidden += 1
            continue
        title = f"{row['label']}, plan {row['key']}: {words.spread(row['test_top1'], row['test_top1_std'])} % at "
        title += f"{words.tenths(row['flops_share'])} % FLOPs"
        folds.append(
            Fold(anchor=f"plan-{row['key']}", title=title, inside=_layer_table(layers, f"{stem}-plan-{row['key']}"))
        )
    if hidden:
        folds.append(
            Paragraph(
                text=f"Layer tables of {hidden} more plans are left out; data/summary holds them.", look="caption"
            )
        )
    return folds


def _layer_table(layers: Sequence[Layer], key: str) -> Table:
    frame = pd.DataFrame(
        [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "weight": "×".join(map(str, layer.weight)),
                "choice": layer.choice,
                **{
                    f"{name}_{when}": getattr(layer, when)[place]
                    for place, name in enumerate(("macs", "adds", "params"))
                    for when in ("before", "after")
                },
                "kept": layer.kept,
            }
            for layer in layers
        ]
    )
    forms: dict[str, Form] = dict.fromkeys(("layer", "kind", "weight", "choice"), words.text)
    forms |= {name: words.amount for name in frame.columns if name.endswith(("_before", "_after"))}
    names = {"macs": "MACs", "adds": "other additions", "params": "parameters"}
    headings = {f"{name}_{when}": f"{text} {when}" for name, text in names.items() for when in ("before", "after")}
    headings |= {"layer": "layer", "kind": "kind", "weight": "weight", "choice": "becomes", "kept": "FLOPs kept (%)"}
    return data_table(frame, forms | {"kept": words.tenths}, key, headings=headings, texts=4)


def _search_part(
    reading: Reading, summary: pd.DataFrame, course: pd.DataFrame, tables: Sequence[SiteTable], task: str, stem: str
) -> Iterator[Block | Figure]:
    table, runs = reading.table, reading.runs
    yield Heading(text="The search", level=3)
    yield from course_figures(table, runs, task, course)
    yield from (damage_figure(table, runs, task), importance_figure(tables))
    yield from (weight_figure(table, task), residual_figure(table, summary, task))
    yield decomposition_figure(table, task)
    yield from _decomposition_table(table, task, stem)
    if len(plans := summary[summary["task"] == task]):
        yield Heading(text="Training (mean over seeds)", level=4)
        yield data_table(plans, TRAINING_CELLS, f"{stem}-training", texts=2)
    found = rung_points(table, runs, tables, task)
    yield rung_figure(found)
    if len(correlations := rung_correlations(found)):
        forms: dict[str, Form] = {
            "family": words.method_words,
            "rungs": words.text,
            "rho": words.signed,
            "n": words.text,
        }
        headings = {"family": "method", "rungs": "rungs", "rho": "Spearman's ρ", "n": "plans"}
        yield data_table(correlations, forms, f"{stem}-rungs", headings=headings, texts=2)


def _decomposition_table(table: pd.DataFrame, task: str, stem: str) -> list[Block]:
    found = decompositions(table, task)
    if found.empty:
        return []
    shown = found.assign(
        **{
            name: [words.spread(mean, std) for mean, std in zip(found[name], found[f"{name}_std"], strict=True)]
            for name in ("val_top1_before", "val_top1_after", "val_top1", "lost")
        }
    )
    forms: dict[str, Form] = {
        "budget_group": words.text,
        "label": words.text,
        "key": words.text,
        "regularization": words.general,
        "residual": words.general,
        "val_top1_before": words.text,
        "val_top1_after": words.text,
        "lost": words.text,
        "val_top1": words.text,
        "seeds": words.text,
    }
    return [data_table(shown, forms, f"{stem}-compression", headings={"lost": "lost by compression (points)"}, texts=3)]
