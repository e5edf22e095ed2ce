"""The figures and tables of one task, in the order of the questions that they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sconv_search.reports import wording
from sconv_search.reports.analysis.method_comparison import Verdict
from sconv_search.reports.analysis.summary import counts, failures, quality
from sconv_search.reports.document.blocks import Block, Fold, Heading, Paragraph, Table, placed
from sconv_search.reports.drawing.chart import Figure
from sconv_search.reports.figures.compression_loss import compression_loss_figure, compression_losses
from sconv_search.reports.figures.damage import damage_figure
from sconv_search.reports.figures.importance import importance_figure
from sconv_search.reports.figures.latency import latency_figure
from sconv_search.reports.figures.pareto import search_figure
from sconv_search.reports.figures.plan import Layer, layers_of, plan_figure, protection_figure
from sconv_search.reports.figures.rank_agreement import estimates, rank_agreement_figure, rank_correlations
from sconv_search.reports.figures.regularization import residual_figure, weight_figure
from sconv_search.reports.figures.search_progress import hypervolumes, progress_figures
from sconv_search.reports.figures.sites import SiteTable, site_tables
from sconv_search.reports.reading.records_table import Reading, records
from sconv_search.reports.sections.tables import Format, data_table
from sconv_search.reports.wording import ScoreFormat, score_format

MOST_LAYER_ROWS = 2000
"""So many rows of layer tables stand in the page, those of the best plans; ``data/summary`` holds all."""
_COUNTS: dict[str, Format] = {
    "run": wording.text,
    "stage": wording.text,
    "label": wording.text,
    "complete": wording.text,
    "screened": wording.text,
    "over_budget": wording.text,
    "failed": wording.text,
    "wall_s": wording.duration,
}
_FAILURES: dict[str, Format] = {name: wording.text for name in ("run", "stage", "label", "trials", "reason")}


def task_section(
    reading: Reading, summary: pd.DataFrame, verdicts: Sequence[Verdict], progress: pd.DataFrame, task: str, stem: str
) -> Iterator[Block]:
    """Figures and tables of one task, one by one; ``progress`` is that of its searches."""
    rows = reading.table[reading.table["task"] == task]
    facts = _Task(
        reading=reading,
        rows=rows,
        summary=summary,
        plans=summary[summary["task"] == task],
        progress=progress,
        name=task,
        verdicts=[verdict for verdict in verdicts if verdict.task == task],
        scores=score_format(rows),
        sites=site_tables(reading.table, reading.runs, task),
        stem=stem,
    )
    yield Heading(text=task, level=2, anchor=f"task-{stem}")
    if facts.plans.empty:
        yield Paragraph(text="No trial has a score yet.")
    for item in (*_plan_part(facts), *_search_part(facts)):
        yield placed(item, stem, task) if isinstance(item, Figure) else item
    yield Heading(text="MACs are not milliseconds", level=3)
    yield placed(latency_figure(summary, task), stem, task)
    yield Heading(text="All trials", level=3)
    yield data_table(counts(rows), _COUNTS, f"{stem}-counts", texts=3)
    if len(failed := failures(rows)):
        yield Heading(text="Failures", level=3)
        yield data_table(failed, _FAILURES, f"{stem}-failures", texts=3, last_is_text=True)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What the parts of a task's section share."""

    reading: Reading
    rows: pd.DataFrame
    summary: pd.DataFrame
    plans: pd.DataFrame
    progress: pd.DataFrame
    name: str
    verdicts: Sequence[Verdict]
    scores: ScoreFormat
    sites: Sequence[SiteTable]
    stem: str


def _plan_part(task: _Task) -> Iterator[Block | Figure]:
    yield from (Heading(text="The plan", level=3), plan_figure(task.plans, task.verdicts))
    yield from _folds(task)
    yield protection_figure(task.sites)


def _folds(task: _Task) -> list[Block]:
    """Before and after, layer by layer: the verdict's plans first, then the others by score."""
    chosen = {entry.key for verdict in task.verdicts for entry in verdict.entries}
    order = task.plans[task.plans["stage"] == "confirm"].assign(first=lambda table: table["key"].isin(chosen))
    order = order.assign(quality=quality(order, "test_score"))
    order = order.sort_values(["first", "quality"], ascending=[False, False], kind="stable")
    folds: list[Block] = []
    room, hidden = MOST_LAYER_ROWS, 0
    for row in records(order):
        layers = layers_of(row)
        if not layers or not any(layer.choice != "dense" for layer in layers):
            continue
        if (room := room - len(layers)) < 0:
            hidden += 1
            continue
        score = f"{task.scores.spread(row['test_score'], row['test_score_std'])}{task.scores.unit}"
        title = f"{row['label']}, {wording.plan_text(row)}: {score} at "
        title += f"{wording.tenths(row['flops_share'])} % FLOPs"
        inside = _layer_table(layers, f"{task.stem}-plan-{row['key']}")
        folds.append(Fold(anchor=f"plan-{row['key']}", title=wording.one_line(title), inside=inside))
    if hidden:
        folds.append(
            Paragraph(
                text=f"Layer tables of {hidden} more plans are left out; data/summary holds them.", role="caption"
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
                    f"{name}_{when}": getattr(layer, when)[index]
                    for index, name in enumerate(("macs", "adds", "params"))
                    for when in ("before", "after")
                },
                "kept": layer.kept,
            }
            for layer in layers
        ]
    )
    forms: dict[str, Format] = dict.fromkeys(("layer", "kind", "weight", "choice"), wording.text)
    forms |= {name: wording.amount for name in frame.columns if name.endswith(("_before", "_after"))}
    names = {"macs": "MACs", "adds": "other additions", "params": "parameters"}
    headings = {f"{name}_{when}": f"{text} {when}" for name, text in names.items() for when in ("before", "after")}
    headings |= {"layer": "layer", "kind": "kind", "weight": "weight", "choice": "becomes", "kept": "FLOPs kept (%)"}
    return data_table(frame, forms | {"kept": wording.tenths}, key, headings=headings, texts=4)


def _search_part(task: _Task) -> Iterator[Block | Figure]:
    table, runs, scores = task.reading.table, task.reading.runs, task.scores
    yield Heading(text="The search", level=3)
    yield search_figure(table, task.summary, task.name, scores)
    yield from progress_figures(table, runs, task.name, scores, task.progress)
    yield from _hypervolume(task)
    yield from (damage_figure(table, runs, task.name), importance_figure(task.sites))
    yield from (weight_figure(table, task.name, scores), residual_figure(table, task.summary, task.name))
    yield compression_loss_figure(table, task.name, scores)
    yield from _compression_table(task)
    if len(task.plans):
        yield Heading(text="Training (mean over seeds)", level=4)
        formats: dict[str, Format] = {
            "label": wording.text,
            "name": wording.text,
            "run": wording.text,
            "regularization": wording.general,
            "epochs": wording.general,
            "flops_share": wording.tenths,
            "residual": wording.general,
            "val_score_before": scores.number,
            "val_score_after": scores.number,
            "wall_s": wording.duration,
        }
        yield data_table(task.plans, formats, f"{task.stem}-training", headings=_score_headings(scores), texts=3)
    predictions = estimates(table, runs, task.sites, task.name)
    yield rank_agreement_figure(predictions, scores)
    if len(correlations := rank_correlations(predictions)):
        formats = {"family": wording.method_name, "estimates": wording.text, "rho": wording.signed, "n": wording.text}
        headings = {"family": "method", "estimates": "estimates", "rho": "Spearman's ρ", "n": "plans"}
        yield data_table(correlations, formats, f"{task.stem}-agreement", headings=headings, texts=2)


def _score_headings(scores: ScoreFormat) -> dict[str, str]:
    return {name: scores.heading(name) for name in ("val_score_before", "val_score_after", "val_score", "lost")}


def _hypervolume(task: _Task) -> list[Block]:
    volumes = hypervolumes(task.reading.table, task.summary, task.name, task.scores)
    if volumes[["confirmed_area", "searched_area"]].isna().all(axis=None):
        return []
    headings = {
        "family": "method",
        "confirmed_area": "hypervolume of confirmed plans (test, %)",
        "plans": "plans",
        "searched_area": "hypervolume of search trials (validation, %)",
        "trials": "trials",
    }
    formats: dict[str, Format] = {
        "family": wording.method_name,
        "confirmed_area": wording.hundredths,
        "plans": wording.text,
        "searched_area": wording.hundredths,
        "trials": wording.text,
    }
    note = "Hypervolume: the area that a method's networks dominate over all budgets, in % of the rectangle "
    note += "between the fixed "
    note += f"reference point (the dense network's FLOPs, the worst possible {task.scores.name}) and a perfect "
    note += "network that "
    note += "costs nothing. It grows with every cheaper plan that a method was given: compare methods that were "
    note += "searched at the "
    note += "same budgets."
    table = data_table(volumes, formats, f"{task.stem}-hypervolume", headings=headings)
    said = [Paragraph(text=text) for text in hypervolume_against_verdict(volumes, task.verdicts)]
    return [*said, table, Paragraph(text=note, role="caption")]


def hypervolume_against_verdict(volumes: pd.DataFrame, verdicts: Sequence[Verdict]) -> list[str]:
    """Why the method with the largest hypervolume is not the verdict's, where that is so."""
    rows = records(volumes[volumes["confirmed_area"].notna()])
    known = {str(row["family"]): row for row in rows}
    if not known:
        return []
    first = max(known, key=lambda family: float(known[family]["confirmed_area"]))
    said = []
    for verdict in verdicts:
        best = verdict.entries[0].family if verdict.entries else first
        if best != first and best in known:
            said.append(
                f"By hypervolume {wording.method_name(first)} comes first, at {verdict.budget} "
                f"{wording.method_name(best)} does. "
                "The two answer different questions: hypervolume counts all plans at all costs "
                f"({_range_words(known[first], first)}; {_range_words(known[best], best)}), "
                "while at a budget the one best plan of each method is compared."
            )
    return said


def _range_words(row: dict[str, Any], family: str) -> str:
    costs = [wording.tenths(row[name]) for name in ("least_share", "most_share")]
    span = f"at {costs[0]}" if costs[0] == costs[1] else f"from {costs[0]} to {costs[1]}"
    return f"{wording.method_name(family)}: {row['plans']} plan{'s' * (row['plans'] != 1)} {span} % of the FLOPs"


def _compression_table(task: _Task) -> list[Block]:
    scores, losses = task.scores, compression_losses(task.reading.table, task.name, task.scores)
    if losses.empty:
        return []
    shown = losses.assign(
        **{
            name: [scores.spread(mean, std) for mean, std in zip(losses[name], losses[f"{name}_std"], strict=True)]
            for name in ("val_score_before", "val_score_after", "val_score", "lost")
        }
    )
    formats: dict[str, Format] = {
        "budget_group": wording.text,
        "label": wording.text,
        "name": wording.text,
        "regularization": wording.general,
        "residual": wording.general,
        "val_score_before": wording.text,
        "val_score_after": wording.text,
        "lost": wording.text,
        "val_score": wording.text,
        "seeds": wording.text,
    }
    return [data_table(shown, formats, f"{task.stem}-compression", headings=_score_headings(scores), texts=3)]
