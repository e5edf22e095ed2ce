"""From records to tables and figures; reads files alone."""

from reports.page import write_report
from reports.pareto import pareto_front
from reports.summary import summarize
from reports.table import read_runs

__all__ = ["pareto_front", "read_runs", "summarize", "write_report"]
