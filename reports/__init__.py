"""From records to a page, figures and tables; reads files alone."""

from reports.comparison import Change, compare_reports, report_changes
from reports.page import write_report
from reports.pareto import pareto_front
from reports.summary import summarize
from reports.table import read_runs

__all__ = ["Change", "compare_reports", "pareto_front", "read_runs", "report_changes", "summarize", "write_report"]
