"""The demo on three Ray nodes and PostgreSQL, both started here: a node is killed half-way, and the report is written.

``make cluster-demo`` runs it; nodes are processes of this machine, so it shows what a cluster does, not how fast it is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.search.local_cluster import LocalCluster
from benchmarks.search.local_postgres import Server, missing
from sconv_search.records import TrialRecord
from sconv_search.studies import RunFolder, confirm, recipes
from sconv_search.studies.commands.arguments import context_of
from sconv_search.studies.commands.report import reported
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.search.runner import search

NODES = 3


class Striking(RichMonitor):
    """Tells as usual, and strikes once, when the third record is written."""

    def __init__(self, strike: Callable[[], None]) -> None:
        super().__init__(Console())
        self._strike, self._records = strike, 0

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._records += 1
        if self._records == NODES:
            self.say("a node is killed")
            self._strike()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    with ExitStack() as ending:
        cluster = LocalCluster()
        ending.callback(cluster.end)
        nodes = [cluster.join(f"node {index}") for index in range(NODES)]
        monitor = Striking(lambda: cluster.kill(nodes[0]))
        storage = None
        if (reason := missing()) is None:
            server = Server(Path(ending.enter_context(tempfile.TemporaryDirectory())))
            ending.callback(server.stop)
            storage = server.url()
        else:
            monitor.say(f"the studies stay in the folders: {reason}")
        context = context_of("demo", None, None, "cpu", given.runs, monitor)
        placement = Placement(cluster=Cluster(address=cluster.address))
        checkpoints, folders = str(given.runs / "checkpoints"), []
        for spec in recipes.demo():
            folders.append(RunFolder(given.runs / f"cluster-{spec.methods[0]}-{spec.budget.rstrip('%')}"))
            monitor.say(f"\nsearch: {spec.methods[0]} under {spec.budget} of dense FLOPs")
            search(context, spec, folders[-1], monitor, placement=placement, storage=storage, checkpoints=checkpoints)
        confirm(context, folders, seeds=given.seeds, most=1, monitor=monitor, placement=placement)
        reported([folder.path for folder in folders], given.runs / "cluster-report", monitor)


if __name__ == "__main__":
    main()
