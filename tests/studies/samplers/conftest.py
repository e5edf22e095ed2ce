from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.search.local_postgres import Server, missing


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for name in ("psycopg", "sqlalchemy"):
        pytest.importorskip(name, reason=f"{name} is not installed; `pip install 'sconv-search[cluster]'`")
    if (reason := missing()) is not None:
        pytest.skip(reason)
    made = Server(tmp_path_factory.mktemp("postgresql"))
    yield made
    made.stop()
