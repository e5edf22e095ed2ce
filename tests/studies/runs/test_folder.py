"""A run folder is read line by line, refused where it is somebody else's, and emptied only when asked."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sconv_search.records import record_fields
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.runs.folder import told
from sconv_search.studies.search.runner import search

pytestmark = pytest.mark.usefixtures("untrained")
SEPARATORS = "a\u2028b\x85c\x0bd\x1ce\nf"


@pytest.fixture
def named(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / SEPARATORS)


def test_a_folder_whose_name_holds_separators_of_lines_is_read_again(
    context: StudyContext, spec: StudySpec, named: RunFolder
) -> None:
    records = search(context, spec, named)
    assert (len(records), records[0].study) == (3, SEPARATORS)
    assert named.records() == (records, [])
    assert search(context, spec, named) == records


def test_a_whole_last_line_without_its_newline_is_kept_and_gets_it(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    wanted = search(context, spec, folder)
    for path in (folder.trials, folder.journal):
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert folder.records() == (wanted, [])
    assert search(context, spec, folder, notes) == wanted
    assert folder.trials.read_bytes().endswith(b"\n")
    assert folder.journal.read_bytes().endswith(b"\n")
    assert not [line for line in notes.lines if "incomplete" in line]


HOSTILE = [b"[" * 100_000, b"\xff\xfe", b'{"schema": 1}', b"1" * 5000, b'"\\ud800"', b"NaN", b"\x00" * 100]


@pytest.mark.parametrize("line", HOSTILE, ids=["brackets", "bytes", "fields", "digits", "surrogate", "nan", "zeros"])
def test_a_damaged_line_costs_that_line(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, line: bytes
) -> None:
    wanted = search(context, spec, folder)
    with folder.trials.open("ab") as file:
        file.write(line + b"\n")
    records, (message,) = folder.records()
    assert records == wanted
    assert message.startswith(f"{folder.trials} line 4 is not read: ")
    assert len(message) < 500 + len(str(folder.trials))
    assert search(context, spec, folder, notes) == wanted
    assert message in notes.lines


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("plan", "[" * 100_000, "field 'plan' must hold a plan as JSON: the plan is not JSON that can be read"),
        ("plan", "{}", "field 'plan' must hold a plan as JSON: the plan's 'format' must be"),
        ("plan", None, "field 'plan' of a complete trial must not be missing"),
        ("val_score", None, "field 'val_score' of a complete trial must not be missing"),
        ("flops", 10**400, "field 'flops' is too large: a whole number of 1329 bits"),
        ("number", "1", "field 'number' has the wrong type: '1', it should be a whole number or null"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_line_and_value(
    context: StudyContext, spec: StudySpec, folder: RunFolder, field: str, value: object, why: str
) -> None:
    search(context, spec, folder)
    first, second, third = folder.trials.read_bytes().split(b"\n")[:-1]
    changed = json.dumps({**record_fields(second), field: value}).encode()
    folder.trials.write_bytes(b"\n".join([first, changed, third]) + b"\n")
    records, (message,) = folder.records()
    assert [r.number for r in records] == [0, 2]
    assert f"line 2 is not read: {why}" in message


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}


@pytest.mark.parametrize("damage", ["another schema", "all lines", "no spec", "spec", "networks"])
def test_a_folder_that_cannot_be_read_is_refused_and_left_as_it_is(
    context: StudyContext, spec: StudySpec, folder: RunFolder, damage: str
) -> None:
    search(context, spec, folder)
    other = replace(spec, budget="40%")
    if damage == "another schema":
        folder.trials.write_bytes(folder.trials.read_bytes().replace(b'"schema": 2', b'"schema": 3'))
        other = spec
    elif damage == "all lines":
        folder.trials.write_bytes(b"\xff\n" * 3)
    elif damage == "no spec":
        (folder.path / "spec.json").unlink()
    elif damage == "spec":
        (folder.path / "spec.json").write_text("[" * 100_000)
    else:
        folder.trials.unlink()
        (folder.path / "confirmed" / "dense-seed0").mkdir(parents=True)
    before = contents(folder)
    with pytest.raises(ValueError, match="--overwrite") as error:
        search(context, other, folder)
    assert len(str(error.value)) < 1000
    assert {**before, ".lock": b""} == contents(folder)
    assert len(search(context, replace(other, trials=1), folder, overwrite=True)) == 1
    assert not (folder.path / "confirmed").exists()


def test_the_same_study_continues_whatever_overwrite_says(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    first = search(context, spec, folder)
    assert search(context, spec, folder, overwrite=True) == first


def test_what_an_untrained_study_left_is_renamed_not_deleted(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    with pytest.raises(ValueError, match="cannot be met"):
        search(context, replace(spec, budget="1%"), folder)
    space = (folder.path / "space.json").read_bytes()
    search(context, replace(spec, methods=("weight_svd",), trials=1), folder, notes)
    assert (folder.path / "space.json.former1").read_bytes() == space
    assert any("space.json is of another study; it was renamed to space.json.former1" in line for line in notes.lines)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the run folder '.*\\udcff' must have a name in UTF-8"):
        RunFolder(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))


def test_of_many_messages_the_first_are_told() -> None:
    assert told([str(number) for number in range(8)]) == ["0", "1", "2", "3", "4", "and 3 more such lines"]
    assert told(["0"]) == ["0"]
