"""A Ray cluster whose nodes are processes of this machine, which join and are killed as machines are."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

OBJECT_STORE = 80 * 2**20
ROOT = Path(__file__).parents[2]
"""Where nodes find the benchmarks, as tests do; a search gives nodes no working directory."""
NODE = "SCONV_SEARCH_LOCAL_NODE"
"""Environment variable that tells the processes of a node which node they are of."""


class LocalCluster:
    """Nodes as processes, each with one CPU, or as asked for; the first one, the head, has none."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "include_log_monitor": False,
                "no_monitor": True,
                "object_store_memory": OBJECT_STORE,
            },
        )
        self.address: str = self._cluster.address
        self._nodes: list[Any] = []

    def join(self, name: str, cpus: int = 1, **variables: str) -> Any:
        """A new node, whose processes have these environment variables."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        changed = {NODE: name, "PYTHONPATH": path, **variables}
        before = {key: os.environ.get(key) for key in changed}
        os.environ.update(changed)
        try:
            self._nodes.append(self._cluster.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE))
            return self._nodes[-1]
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value

    def kill(self, node: Any) -> None:
        """Ends a node, its workers too, as a power failure does."""
        raylet = node.all_processes["raylet"][0].process.pid
        workers = [int(pid) for pid in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()]
        for pid in (raylet, *workers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def alone(self) -> Any:
        """A node that is the only one; one that another test left serves as well."""
        for node in self._nodes[1:]:
            self.kill(node)
        return self._nodes[0] if self._nodes else self.join("first")

    def end(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()  # type: ignore[no-untyped-call]
