"""From records to a page, figures and tables; reads files alone."""

from reports.comparison import compare_reports
from reports.page import write_report
from reports.pareto import pareto_front
from reports.summary import summarize
from reports.table import read_runs

__all__ = ["compare_reports", "pareto_front", "read_runs", "summarize", "write_report"]
