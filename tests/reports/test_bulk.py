"""Reading many lines at once gives what reading them one by one gives, or leaves them to it."""

from __future__ import annotations

import pandas as pd
import pytest
from sconv_search.reports.bulk import bulk_frame
from sconv_search.reports.record_lines import DTYPES, LARGEST, one_by_one

from sconv_search.records import COLUMNS
from tests.reports.conftest import record

BASE = record(number=3, val_score=1.5, reason="x").to_json()


def bulk(*lines: str | bytes) -> pd.DataFrame | None:
    return bulk_frame([line if isinstance(line, bytes) else line.encode() for line in lines], DTYPES, LARGEST)


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new, 1)


def test_records_of_every_kind_are_read_as_one_by_one() -> None:
    lines = [
        BASE,
        changed('"x"', '"Größe \\ud83d\\ude00 \\u0000 one\u2028two"'),
        changed('"number": 3', f'"number": {2**63 - 1}'),
        changed("1.5", "88"),
        changed("1.5", "0.1234567890123456789e1"),
        changed("1.5", str(2**53 + 1)),
        '{"schema": 1, "study": "", "task": "t", "stage": "confirm", "variant": "v", "status": "failed"}',
    ]
    found = bulk(*(f"{line}\n" for line in lines))
    assert found is not None
    wanted, dropped = one_by_one(list(enumerate((line.encode() for line in lines), start=1)))
    assert not dropped
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    assert [*found] == [*COLUMNS]


def test_what_repeats_is_kept_once() -> None:
    found = bulk(f"{BASE}\n", BASE)
    assert found is not None
    assert found["study"][0] is found["study"][1]


DAMAGED = [
    changed("{", "\ufeff{"),
    changed("{", "[") + "]",
    "[]",
    "3",
    BASE + BASE,
    BASE + " x",
    BASE[:-1],
    BASE[:-1] + ",}",
    changed("1.5", "NaN"),
    changed("1.5", "Infinity"),
    changed("1.5", "-Infinity"),
    changed("1.5", "1e999"),
    changed("1.5", '"1.5"'),
    changed("1.5", ".5"),
    changed("1.5", "true"),
    changed("1.5", "[1.5]"),
    changed('"number": 3', f'"number": {2**63}'),
    changed('"number": 3', f'"number": {-(2**63)}'),
    changed('"number": 3', '"number": 3.0'),
    changed('"number": 3', '"number": true'),
    changed('"number": 3', '"number": 03'),
    changed('"schema": 1', '"schema": 9'),
    changed('"schema": 1', '"schema": null'),
    changed('"schema": 1, ', ""),
    changed('"stage": "search"', '"stage": "else"'),
    changed('"stage": "search"', '"stage": null'),
    changed('"status": "complete"', '"status": "else"'),
    changed('"reason"', '"raison"'),
    changed('"x"', '{"a": 1}'),
    changed('"x"', '"\\ud800"'),
    changed('"x"', '"\\udc00"'),
    changed('"x"', '"a\tb"'),
    changed('"x"', "3"),
    BASE.encode().replace(b'"x"', b'"\xff"'),
    BASE.encode().replace(b'"x"', b'"\xed\xa0\x80"'),
]


@pytest.mark.parametrize("line", DAMAGED)
@pytest.mark.parametrize("place", [0, 1])
def test_what_the_exact_reader_refuses_is_left_to_it(line: str | bytes, place: int) -> None:
    line = line.encode() if isinstance(line, str) else line
    assert one_by_one([(1, line)])[1]
    lines = [BASE.encode() + b"\n"]
    lines.insert(place, line + b"\n")
    assert bulk(*lines) is None
