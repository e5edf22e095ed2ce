"""The report's last part: what was spent on each method, where, with what, and what could not be read."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from sconv_search.reports import wording
from sconv_search.reports.analysis.effort import EFFORT_COLUMNS, inequalities, unrecorded
from sconv_search.reports.document.blocks import Block, Heading, Paragraph, Table
from sconv_search.reports.reading.records_table import Reading
from sconv_search.reports.sections.tables import Format, data_table

PROVENANCE = (
    "study",
    "seed",
    "budget",
    "machine",
    "threads",
    "dtype",
    "latency_batch",
    "versions",
    "commit",
    "command",
)


def provenance_section(reading: Reading, spent: pd.DataFrame) -> list[Block]:
    """Effort, specs, machine, checksums and commands; what was dropped."""
    blocks: list[Block] = [Heading(text="Provenance", level=2, anchor="provenance")]
    if len(spent):
        blocks.append(Paragraph(text=_effort_words(spent)))
        formats: dict[str, Format] = {"task": wording.text} | dict.fromkeys(EFFORT_COLUMNS, wording.text)
        formats |= {
            "family": wording.method_name,
            "search_wall_s": wording.duration,
            "confirm_wall_s": wording.duration,
        }
        headings = EFFORT_COLUMNS | {"task": "task"}
        blocks.append(data_table(spent.replace("", pd.NA), formats, "effort", headings=headings, texts=4))
    blocks += [Heading(text="Where and with what", level=3), _provenance_table(reading.table), *_specs(reading)]
    if reading.dropped:
        messages = Table(header=["message"], rows=[[wording.one_line(message)] for message in reading.dropped])
        blocks += [Heading(text="Dropped lines", level=3), messages]
    return blocks


def _effort_words(spent: pd.DataFrame) -> str:
    if inequalities(spent):
        return "The effort was not equal; see the banner at the top."
    if missing := unrecorded(spent):
        return f"No inequality of effort is recorded, but not every run records: {', '.join(missing)}."
    return "Equal effort: at each budget all methods had the same trainings, epochs, seeds, start weights and data."


def _provenance_table(rows: pd.DataFrame) -> Table:
    values = {
        name: [wording.text(value) for value in sorted(rows[name].dropna().unique(), key=str)] for name in PROVENANCE
    }
    shown = {
        name: [*texts[:20], f"and {len(texts) - 20} more"] if len(texts) > 20 else texts
        for name, texts in values.items()
    }
    commands = [["command to reproduce", command] for command in shown.pop("command") or [wording.MISSING]]
    cells = [[wording.heading(name), "; ".join(texts) or wording.MISSING] for name, texts in shown.items()] + commands
    return Table(header=["", "values"], rows=cells, texts=2, key="provenance")


def _specs(reading: Reading) -> list[Block]:
    """A row a spec entry: its value where all runs agree, else that of each run."""
    known = [facts for facts in reading.runs if facts.spec]
    blocks: list[Block] = [Heading(text="Specifications", level=3)]
    if not known:
        return [*blocks, Paragraph(text="No run folder holds a specification (spec.json).")]
    names = list(dict.fromkeys(name for facts in known for name in facts.spec))
    cells = [[name, _agreed([(facts.name, _spec_cell(facts.spec.get(name))) for facts in known])] for name in names]
    without = [facts.name for facts in reading.runs if not facts.spec]
    if without:
        blocks.append(Paragraph(text=f"Without a specification: {', '.join(without)}."))
    return [*blocks, Table(header=["entry", "value"], rows=cells, texts=2, key="specifications")]


def _agreed(values: Sequence[tuple[str, str]]) -> str:
    """The value, or each with the runs that have it."""
    runs: dict[str, list[str]] = {}
    for run, value in values:
        runs.setdefault(value, []).append(run)
    if len(runs) == 1:
        return values[0][1]
    return "; ".join(f"{value} ({', '.join(names[:6])}{', …' * (len(names) > 6)})" for value, names in runs.items())


def _spec_cell(value: object) -> str:
    if value is None or value == []:
        return wording.MISSING
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return wording.one_line(", ".join(value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return wording.one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
