"""``sconv-search demo``."""

from __future__ import annotations

from pathlib import Path

from sconv_search.studies import recipes
from sconv_search.studies.commands.arguments import context_of
from sconv_search.studies.commands.output import print_json, telling
from sconv_search.studies.commands.report import reported
from sconv_search.studies.commands.results import confirm_result, search_result
from sconv_search.studies.confirmation import confirm
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.search.runner import search


def demo(runs: Path, *, seeds: int, device: str, as_json: bool) -> None:
    """Searches with two methods on embedded data, confirms the best plans, and reports."""
    with telling(as_json) as monitor:
        folders = []
        context = context_of("demo", None, None, device, runs, monitor)
        for spec in recipes.demo():
            folders.append(RunFolder(runs / f"demo-{spec.methods[0]}-{spec.budget.rstrip('%')}"))
            monitor.say(f"\nsearch: {spec.methods[0]} under {spec.budget} of dense FLOPs")
            search(context, spec, folders[-1], monitor)
        monitor.say("\nconfirmation on the full schedule")
        new = confirm(context, folders, seeds=seeds, most=1, monitor=monitor)
        page = reported([folder.path for folder in folders], runs / "demo-report", monitor)
    if as_json:
        searches = [search_result(folder) for folder in folders]
        print_json({"search": searches, "confirm": confirm_result(folders, new), "report": page})
