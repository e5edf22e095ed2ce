"""From records to a page, figures and tables; reads files alone."""

from sconv_search.reports.analysis.fronts import pareto_front
from sconv_search.reports.analysis.summary import summarize
from sconv_search.reports.comparison import Change, compare_reports, report_changes
from sconv_search.reports.page import write_report
from sconv_search.reports.reading import read_runs

__all__ = ["Change", "compare_reports", "pareto_front", "read_runs", "report_changes", "summarize", "write_report"]
