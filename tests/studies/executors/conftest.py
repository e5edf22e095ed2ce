"""A Ray cluster of processes on this machine, started once for all tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.search.local_cluster import LocalCluster

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    pytest.importorskip("ray", reason="ray is not installed; `pip install 'sconv-search[cluster]'`")
    changed = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patched:
        for key, value in changed.items():
            patched.setenv(key, value)
        made = LocalCluster()
        yield made
        made.end()
