"""The report's first part: which network to take, which method is best at which budget, and what a reader must know
before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sconv_search.reports import wording
from sconv_search.reports.analysis.choice import Choice, export_command, network_path, speed_cell
from sconv_search.reports.analysis.effort import inequalities, unfinished
from sconv_search.reports.analysis.latency import BUSY, ELSEWHERE, MEASURED
from sconv_search.reports.analysis.method_comparison import Verdict, paired_words
from sconv_search.reports.document.blocks import Block, Heading, Paragraph, Question, Table, placed
from sconv_search.reports.figures.pareto import front_figure
from sconv_search.reports.reading.records_table import Reading, records
from sconv_search.reports.sections.tables import Format, data_table

READING_AID = (
    "Test scores are mean ± sample standard deviation over seeds, from confirmation runs alone; a method's best "
    "plan is the one "
    "with the best validation score. "
    "Speed-ups are the dense network's latency over the plan's own, measured in turn, mean ± standard deviation over "
    f"measurements; those marked '{BUSY}' were taken while the machine had other work, those marked '{ELSEWHERE}' "
    "on another "
    "machine or with other threads, number type or batch: the sentences above leave both out. "
    f"Rows marked '{wording.VALIDATION_MARK.strip()}' are not confirmed yet: their score steered the search and "
    "flatters them. "
    f"'{wording.MISSING}' means not measured."
)


def opening(reading: Reading, spent: pd.DataFrame) -> list[Block]:
    """What was read, and what a reader must know first."""
    table = reading.table
    trials = table["status"].value_counts()
    names = [name for name in ("complete", "screened", "over_budget", "failed") if name != "screened" or name in trials]
    kept = ", ".join(f"{int(trials.get(name, 0)):,} {name.replace('_', ' ')}" for name in names)
    count = len(reading.dropped)
    dropped = (
        f"; {count} damaged line{'s' * (count != 1)} or file{'s' * (count != 1)} dropped (listed at the end)"
        if count
        else ""
    )
    runs = table["run"].nunique()
    blocks: list[Block] = [Paragraph(text=f"{runs} run{'s' * (runs != 1)}, {len(table):,} records: {kept}{dropped}.")]
    blocks += [Paragraph(text=text, role="banner alarm") for text in inequalities(spent)]
    blocks += [Paragraph(text=text, role="banner") for text in _left_out_of_costs(reading)]
    return blocks + [Paragraph(text=text, role="banner") for text in unfinished(spent)]


def _left_out_of_costs(reading: Reading) -> list[str]:
    """A sentence for the runs that count operators without a known cost as nothing."""
    runs: dict[str, list[str]] = {}
    for facts in reading.runs:
        operators = facts.spec.get("count_free")
        if isinstance(operators, list) and operators:
            runs.setdefault(", ".join(map(str, operators)), []).append(facts.name)
    return [
        f"Costs leave out operators whose cost is not known, as was asked for: {operators} ({', '.join(names)})."
        for operators, names in runs.items()
    ]


def verdict_section(
    reading: Reading,
    summary: pd.DataFrame,
    choices: Sequence[Choice],
    verdicts: Sequence[Verdict],
    stems: Mapping[str, str],
) -> Iterator[Block]:
    """For each task the answer, the figure that shows it and the networks; then the methods at each budget.

    Args:
        stems: task -> beginning of its files' names.
    """
    yield Heading(text="Which network to take", level=2, anchor="verdict")
    several = len(stems) > 1
    by_task = {choice.task: choice for choice in choices}
    for task, stem in stems.items():
        if several:
            yield Heading(text=task, level=3)
        if task not in by_task:
            yield Paragraph(text="No trial has a score yet.", role="verdict")
            continue
        yield Question(choice=by_task[task])
        yield placed(front_figure(reading.table, summary, by_task[task]), stem, task)
        yield _networks(summary[summary["task"] == task], by_task[task], reading, stem)
    yield Heading(text="Which method is best at a budget", level=2, anchor="methods")
    if not verdicts:
        yield Paragraph(text="No run was searched under a budget, so there is nothing to decide.", role="verdict")
    for number, verdict in enumerate(verdicts, start=1):
        yield Heading(text=f"{verdict.task}, {verdict.budget}" if several else verdict.budget, level=3)
        yield Paragraph(text=verdict.sentence, role="verdict")
        if verdict.entries:
            yield _verdict_table(verdict, number)
    yield Paragraph(text=READING_AID, role="caption")


def _networks(plans: pd.DataFrame, choice: Choice, reading: Reading, stem: str) -> Table:
    """All networks of a task, those that stand in for methods that are not confirmed included."""
    scores, runs = choice.scores, {run.name: run for run in reading.runs}
    rows = records(plans)
    confirmed = [row["stage"] == "confirm" for row in rows]
    shown = plans.assign(
        test_score=[scores.spread(row["test_score"], row["test_score_std"]) for row in rows],
        speed_up=[speed_cell(row) for row in rows],
        latency_ms=plans["latency_ms"].where((plans["timing"] == MEASURED).fillna(False)),
        files=[
            network_path(row, runs.get(row["run"])) if known else "" for row, known in zip(rows, confirmed, strict=True)
        ],
        export=[
            export_command(row, runs.get(row["run"])) if known else ""
            for row, known in zip(rows, confirmed, strict=True)
        ],
    )
    formats: dict[str, Format] = {
        "label": wording.text,
        "name": wording.text,
        "run": wording.text,
        "test_score": wording.text,
        "speed_up": wording.text,
        "difference": scores.signed,
        "flops_share": wording.tenths,
        "seeds": wording.amount,
        "params": wording.amount,
        "macs": wording.amount,
        "adds": wording.amount,
        "flops": wording.amount,
        "latency_ms": wording.thousandths,
        "best_val_score": scores.number,
        "regularization": wording.general,
        "budget_group": wording.text,
        "files": str,
        "export": str,
    }
    headings = {name: scores.heading(name) for name in ("test_score", "difference", "best_val_score")}
    headings |= {"latency_ms": latency_heading(plans), "files": "files", "export": "export"}
    return data_table(
        shown,
        formats,
        f"{stem}-networks",
        headings=headings,
        texts=3,
        commands=("files", "export"),
        copied={"name": list(shown["export"])},
    )


def latency_heading(plans: pd.DataFrame) -> str:
    """The heading of latencies, with the batch where it is one for all plans."""
    batches = plans["latency_batch"].dropna().unique()
    return f"latency of {batches[0]} inputs (ms)" if len(batches) == 1 else "latency (ms)"


def _verdict_table(verdict: Verdict, number: int) -> Table:
    made = verdict_frame([verdict])
    formats: dict[str, Format] = {
        "label": wording.text,
        "name": wording.text,
        "run": wording.text,
        "score": wording.text,
        "speed": wording.text,
        "difference": verdict.scores.signed,
        "flops_share": wording.tenths,
        "seeds": wording.text,
        "plans": wording.text,
        "test": wording.text,
    }
    corrected = " (Holm-corrected)" if len(verdict.entries) > 2 else ""
    headings = {
        "score": verdict.scores.heading("test_score"),
        "speed": wording.heading("speed_up"),
        "plans": "plans confirmed",
        "difference": verdict.scores.heading("difference"),
        "test": f"paired t-test with the best{corrected}",
    }
    return data_table(made, formats, f"verdict-{number}", headings=headings, texts=3, last_is_text=True)


def verdict_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row a method, budget and task, references last: the verdict as tidy data."""
    made: list[dict[str, Any]] = []
    for verdict in verdicts:
        scores = verdict.scores
        same = {
            "task": verdict.task,
            "budget_group": verdict.budget,
            "metric": scores.metric.name,
            "metric_unit": scores.metric.unit,
            "metric_better": scores.metric.better,
        }
        for number, entry in enumerate((*verdict.entries, *([verdict.finetuned] if verdict.finetuned else []))):
            reference, pair = entry is verdict.finetuned, entry.against_best
            made.append(
                same
                | {
                    "label": entry.label,
                    "key": entry.key,
                    "run": entry.run,
                    "name": entry.name,
                    "family": entry.family,
                    "score": scores.spread(entry.mean, pd.NA if entry.deviation is None else entry.deviation),
                    "speed": entry.speed_cell,
                    "test_score": entry.mean,
                    "test_score_std": entry.deviation,
                    "difference": entry.difference,
                    "flops_share": entry.flops_share,
                    "seeds": len(entry.scores),
                    "plans": entry.plans,
                    "test": "reference" if reference else paired_words(entry, best=number == 0),
                    "p_t_test": entry.p,
                    "p_sign_flip": pair.sign_flip if pair else None,
                    "pairs": pair.n if pair else None,
                }
            )
        if verdict.dense is not None:
            known = {
                "score": scores.number(verdict.dense),
                "test_score": verdict.dense,
                "difference": 0.0,
                "flops_share": 100.0,
            }
            names = {
                "label": "dense",
                "key": "",
                "run": pd.NA,
                "name": "dense",
                "family": "",
                "speed": "1",
                "test": "reference",
            }
            made.append(same | names | known)
    frame = pd.DataFrame(made, columns=_VERDICT_COLUMNS)
    dtypes = {name: _VERDICT_DTYPES.get(name, "string") for name in _VERDICT_COLUMNS}
    return frame.astype(dtypes)


_VERDICT_COLUMNS = [
    "task",
    "budget_group",
    "label",
    "key",
    "run",
    "name",
    "family",
    "metric",
    "metric_unit",
    "metric_better",
    "score",
    "speed",
    "test_score",
    "test_score_std",
    "difference",
    "flops_share",
    "seeds",
    "plans",
    "test",
    "p_t_test",
    "p_sign_flip",
    "pairs",
]
_VERDICT_DTYPES = {
    **dict.fromkeys(("seeds", "plans", "pairs"), "Int64"),
    **dict.fromkeys(
        ("test_score", "test_score_std", "difference", "flops_share", "p_t_test", "p_sign_flip"), "Float64"
    ),
}
