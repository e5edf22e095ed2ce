"""Run folders read: their records as one table, and what each says of its study."""

from sconv_search.reports.reading.budgets import budget_group, budget_share, first_number
from sconv_search.reports.reading.records_table import DERIVED, REFERENCES, Reading, read_runs, records
from sconv_search.reports.reading.runs import RunFacts

__all__ = [
    "DERIVED",
    "REFERENCES",
    "Reading",
    "RunFacts",
    "budget_group",
    "budget_share",
    "first_number",
    "read_runs",
    "records",
]
