from __future__ import annotations

import pytest

from sconv_search.studies.trials.provenance import provenance


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("postgresql+psycopg://me:s3cr/et@host:5432/x", "postgresql+psycopg://me:***@host:5432/x"),
        ("--storage=postgresql+psycopg://me:p@ss@host/x", "--storage=postgresql+psycopg://me:***@host/x"),
        ("postgresql+psycopg://me@host:5432/x", "postgresql+psycopg://me@host:5432/x"),
        ("s3://bucket/folder", "s3://bucket/folder"),
    ],
)
def test_a_record_tells_the_command_without_passwords(monkeypatch: pytest.MonkeyPatch, given: str, kept: str) -> None:
    monkeypatch.setattr("sys.argv", ["sconv-search", "search", given])
    said = provenance()["command"]
    assert said is not None
    assert said.replace("'", "") == f"sconv-search search {kept}"
