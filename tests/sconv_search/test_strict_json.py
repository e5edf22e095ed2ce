"""Whatever a text holds, it is read or refused in few words that name what is wrong."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from sconv_search import strict_json
from sconv_search.strict_json import (
    LARGEST,
    MOST_LETTERS,
    built,
    content_of,
    numbered_lines,
    parsed,
    quickly_parsed,
    shortened,
    shown,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    share: float = 0.5
    pair: tuple[float, float] | None = None
    inner: Inner | None = None
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ("1" * 5000, "not JSON: Exceeds the limit"),
        (b'"\xff"', "'utf-8' codec can't decode"),
        ('"\\ud800"', "surrogates not allowed"),
        ("{", "not JSON: Expecting"),
        ("", "not JSON: Expecting"),
        ("\ufeff{}", "not JSON"),
    ],
    ids=["brackets", "tables", "digits", "bytes", "half a pair", "cut", "empty", "mark"],
)
def test_what_cannot_be_read_is_said_in_few_words(text: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        parsed(text)
    assert len(str(error.value)) < MOST_LETTERS


@pytest.mark.parametrize("line", ["[1]", "3", "", "{", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, b'{"a": "\xff"}'])
def test_what_the_fast_parser_does_not_read_as_a_table_is_left_to_the_other(line: str | bytes) -> None:
    assert quickly_parsed(line) is None


def test_a_table_is_read_fast_where_there_is_the_parser_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quickly_parsed(b'{"a": 1, "b": "\xc3\xa9"}\n') == {"a": 1, "b": "é"}
    monkeypatch.setattr(strict_json, "orjson", None)
    assert quickly_parsed("{}") is None


def test_a_pair_of_surrogates_is_one_letter() -> None:
    assert parsed(b'["\\ud83d\\ude00", "\xe2\x80\xa8"]') == ["😀", "\u2028"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"name": 3}, "field 'name' must be a text, got 3"),
        ({}, "it lacks 'name'"),
        ([], r"it must be a table, got \[\]"),
        ({"name": "x", "nmae": 1}, "unknown field 'nmae'"),
        ({"name": "x", "kind": "c"}, "field 'kind' must be one of a, b, got 'c'"),
        ({"name": "x", "kind": ["a"]}, r"field 'kind' must be one of a, b, got \['a'\]"),
        ({"name": "x", "share": float("nan")}, "field 'share' must be a finite number, got nan"),
        ({"name": "x", "share": 10**400}, "field 'share' must be a finite number, got a whole number of 1329 bits"),
        ({"name": "x", "share": True}, "field 'share' must be a finite number, got True"),
        (
            {"name": "x", "pair": [1]},
            r"field 'pair' must be a list of 2 values, each a finite number or null, got \[1\]",
        ),
        ({"name": "x", "inner": {"size": LARGEST + 1}}, "field 'inner.size' must be a whole number of at most 64 bits"),
        ({"name": "x", "inner": {"size": 1.0}}, "field 'inner.size' must be a whole number"),
        ({"name": "x", "names": ["a", 3]}, r"field 'names\[1\]' must be a text, got 3"),
        ({"name": ["x" * 5000] * 50}, "field 'name' must be a text"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_its_value_and_what_would_be_right(entry: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        built(Outer, entry)
    assert len(str(error.value)) < MOST_LETTERS


def test_lists_become_tuples_and_tables_dataclasses() -> None:
    entry = json.loads('{"name": "x", "share": 1, "pair": [1, 2.5], "inner": {"size": 3}, "names": ["a"]}')
    assert built(Outer, entry) == Outer(name="x", share=1, pair=(1, 2.5), inner=Inner(size=3), names=("a",))


def test_lines_end_at_newlines_alone_and_the_last_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes("a\u2028b\x0bc\x85\rd\n\n \nlast".encode())
    assert list(numbered_lines(path)) == [(1, "a\u2028b\x0bc\x85\rd\n".encode()), (4, b"last")]
    assert list(numbered_lines(tmp_path / "absent")) == []


def test_values_and_texts_are_cut_short() -> None:
    assert shown("x" * 10_000) == f"'{'x' * 27}...{'x' * 28}'"
    assert len(shown({str(number): [number] * 100 for number in range(100)})) < 200
    assert shortened("abc") == "abc"
    assert len(shortened("x" * 10_000)) == MOST_LETTERS


def test_what_is_no_regular_file_is_named_and_not_read(tmp_path: Path) -> None:
    """A named pipe that nobody writes to would be waited for, and a device read until memory ends."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (tmp_path / "zero", "a device"), (tmp_path, "a folder")):
        for read in (content_of, lambda path: list(numbered_lines(path))):
            with pytest.raises(ValueError, match=f"file '{path}' is not a regular file, it is {kind}"):
                read(path)
    with pytest.raises(FileNotFoundError, match="absent' does not exist"):
        content_of(tmp_path / "absent")
    assert list(numbered_lines(tmp_path / "absent")) == []


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="the shell has no such pipes here")
def test_a_pipe_that_the_shell_hands_over_is_read() -> None:
    source, target = os.pipe()
    with os.fdopen(target, "wb") as file:
        file.write(b"{}")
    assert content_of(Path(f"/dev/fd/{source}")) == b"{}"
    os.close(source)
