"""A file is there whole or as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from sconv_search.system.files import atomic_write, partial_file


def test_a_file_gets_its_name_and_its_folder_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.tar.gz"
    for text in ("first", "second"):
        with atomic_write(path) as partial:
            partial.write_text(text)
            assert partial == partial_file(path)
            assert partial.suffix == path.suffix
            assert path.exists() == (text == "second")
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_what_was_there_before_is_all_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")

    def half(target: Path) -> None:
        with atomic_write(target) as partial:
            partial.write_text("half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        half(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    partial_file(path).write_text("of the process that was killed")
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
