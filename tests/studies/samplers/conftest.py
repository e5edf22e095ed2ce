from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.search.local_postgres import Server, missing


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    for name in ("psycopg", "sqlalchemy"):
        pytest.importorskip(name, reason=f"{name} is not installed; `pip install 'sconv-search[cluster]'`")
    if (reason := missing()) is not None:
        pytest.skip(reason)
    # No folder of pytest's: each of its sessions closes those of all to other users, the server's among them.
    with tempfile.TemporaryDirectory() as folder:
        made = Server(Path(folder))
        yield made
        made.stop()
