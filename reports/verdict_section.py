"""The report's first part: which method at which budget, and what a reader must know before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sconv_search.reports import words
from sconv_search.reports.cells import Form, data_table
from sconv_search.reports.effort import inequalities, unfinished
from sconv_search.reports.markup import Block, Heading, Paragraph, Table
from sconv_search.reports.table import Reading
from sconv_search.reports.verdict import Verdict, paired_words

READING_AID = (
    "Test scores are mean ± sample standard deviation over seeds, from confirmation runs alone; the verdict takes each"
    f" method's best plan by validation accuracy. Rows marked '{words.VALIDATION_MARK.strip()}' are not confirmed yet:"
    f" their score steered the search and flatters them. '{words.MISSING}' means not measured."
)


def opening(reading: Reading, spent: pd.DataFrame) -> list[Block]:
    """What was read, and what a reader must know first."""
    table = reading.table
    trials = table["status"].value_counts()
    names = [name for name in ("complete", "screened", "over_budget", "failed") if name != "screened" or name in trials]
    kept = ", ".join(f"{int(trials.get(name, 0)):,} {name.replace('_', ' ')}" for name in names)
    dropped = (
        f"; {len(reading.dropped)} damaged lines or files were dropped (listed at the end)" if reading.dropped else ""
    )
    runs = table["run"].nunique()
    blocks: list[Block] = [Paragraph(text=f"{runs} run{'s' * (runs != 1)}, {len(table):,} records: {kept}{dropped}.")]
    blocks += [Paragraph(text=text, look="banner alarm") for text in inequalities(spent)]
    blocks += [Paragraph(text=text, look="banner") for text in _left_out_of_costs(reading)]
    return blocks + [Paragraph(text=text, look="banner") for text in unfinished(spent)]


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


def verdict_section(verdicts: Sequence[Verdict]) -> list[Block]:
    """A sentence and a table for each task and budget."""
    blocks: list[Block] = [Heading(text="Verdict", level=2, anchor="verdict")]
    tasks = list(dict.fromkeys(verdict.task for verdict in verdicts))
    if not verdicts:
        blocks.append(
            Paragraph(text="No run was searched under a budget, so there is nothing to decide.", look="verdict")
        )
    for place, verdict in enumerate(verdicts, start=1):
        blocks.append(Heading(text=f"{verdict.task}, {verdict.budget}" if len(tasks) > 1 else verdict.budget, level=3))
        blocks.append(Paragraph(text=verdict.sentence, look="verdict"))
        if verdict.entries:
            blocks.append(_verdict_table(verdict, place))
    return [*blocks, Paragraph(text=READING_AID, look="caption")]


def _verdict_table(verdict: Verdict, place: int) -> Table:
    made = verdict_frame([verdict])
    forms: dict[str, Form] = {
        "label": words.text,
        "key": words.text,
        "score": words.text,
        "difference": words.signed,
        "flops_share": words.tenths,
        "seeds": words.text,
        "plans": words.text,
        "test": words.text,
    }
    headings = {
        "score": "test top-1 (%)",
        "plans": "plans confirmed",
        "test": "paired t-test with the best (Holm-corrected)"
        if len(verdict.entries) > 2
        else "paired t-test with the best",
    }
    return data_table(made, forms, f"verdict-{place}", headings=headings, texts=2, last_is_text=True)


def verdict_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row a method, budget and task, references last: the verdict as tidy data."""
    made: list[dict[str, Any]] = []
    for verdict in verdicts:
        for place, entry in enumerate((*verdict.entries, *([verdict.finetuned] if verdict.finetuned else []))):
            reference = entry is verdict.finetuned
            pair = entry.against_best
            made.append(
                {
                    "task": verdict.task,
                    "budget_group": verdict.budget,
                    "label": entry.label,
                    "key": entry.key,
                    "family": entry.family,
                    "score": words.spread(entry.mean, pd.NA if entry.deviation is None else entry.deviation),
                    "test_top1": entry.mean,
                    "test_top1_std": entry.deviation,
                    "difference": entry.difference,
                    "flops_share": entry.flops_share,
                    "seeds": len(entry.scores),
                    "plans": entry.plans,
                    "test": "reference" if reference else paired_words(entry, best=place == 0),
                    "p_t_test": entry.p,
                    "p_sign_flip": pair.sign_flip if pair else None,
                    "pairs": pair.n if pair else None,
                }
            )
        if verdict.dense is not None:
            reference_row = {
                "task": verdict.task,
                "budget_group": verdict.budget,
                "label": "dense",
                "key": "",
                "family": "",
            }
            scores = {
                "score": words.hundredths(verdict.dense),
                "test_top1": verdict.dense,
                "difference": 0.0,
                "flops_share": 100.0,
            }
            made.append(reference_row | scores | {"test": "reference"})
    columns = ["task", "budget_group", "label", "key", "family", "score", "test_top1", "test_top1_std", "difference"]
    columns += ["flops_share", "seeds", "plans", "test", "p_t_test", "p_sign_flip", "pairs"]
    frame = pd.DataFrame(made, columns=columns)
    whole = {name: "Int64" for name in ("seeds", "plans", "pairs")}
    numbers = {
        name: "Float64"
        for name in ("test_top1", "test_top1_std", "difference", "flops_share", "p_t_test", "p_sign_flip")
    }
    return frame.astype(whole | numbers | {name: "string" for name in columns if name not in whole | numbers})
