"""A file is there whole or as it was before."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from sconv_search.system.files import atomic_write, partial_file, write_together, write_whole


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


def test_files_that_belong_together_are_replaced_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / name for name in ("a.json", "b.json", "new.json"))
    write_together({first: b"1", second: lambda file: file.write(b"1")})
    real = os.replace
    for broken in range(6):  # each of the names that are given: two files go aside, three come
        names: list[Path] = []

        def counted(source: Path, target: Path, names: list[Path] = names, broken: int = broken) -> None:
            names.append(target)
            if len(names) == broken + 1:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", counted)
        if broken < 5:
            with pytest.raises(KeyboardInterrupt):
                write_together({first: b"2", third: b"2", second: b"2"})
            assert (first.read_bytes(), second.read_bytes()) == (b"1", b"1")
            assert {*tmp_path.iterdir()} == {first, second}
        else:
            write_together({first: b"2", third: b"2", second: b"2"})
            assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"2"] * 3
    with pytest.raises(OSError, match="it is no regular file"):
        write_together({first: b"3", tmp_path: b"3"})
    assert first.read_bytes() == b"2"


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    partial_file(path).write_text("of the process that was killed")
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_the_greatest_length_and_letters_of_patterns_are_no_hindrance(tmp_path: Path) -> None:
    for name in ("x" * 250 + ".json", "日" * 80 + ".json", "a[b]*?.json", "no suffix", "u\u2028v\n.json"):
        write_whole(tmp_path / name, b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 5


def test_the_half_of_a_process_that_lives_is_left_to_it_and_that_of_a_dead_one_is_removed(tmp_path: Path) -> None:
    path, process = tmp_path / "a.json", multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    other = partial_file(path).with_name(partial_file(path).name.replace(f"-{os.getpid()}.", f"-{process.pid}."))
    other.write_text("half")
    write_whole(path, b"ours")
    assert other.read_text() == "half"
    process.kill()
    process.join()
    write_whole(path, b"ours")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(tmp_path / "link.json", b"after")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "after"


def test_into_a_pipe_is_written_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = multiprocessing.get_context("fork").Process(target=lambda: (tmp_path / "pipe").read_bytes())
    reader.start()
    write_whole(tmp_path / "pipe", b"whole")
    reader.join()
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_a_folder_in_its_place_and_one_that_may_not_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a.json'$"):
        write_whole(tmp_path / "a.json", b"x")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"file/a.json'$"):
        write_whole(tmp_path / "file" / "a.json", b"x")


def full(error: Exception) -> Callable[[BinaryIO], object]:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    return write


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_names_the_file_and_the_room_that_is_free(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OSError, match=r"[\d,]+ bytes are free there\): '.*a.json'$"):
        write_whole(tmp_path / "a.json", full(error))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_device_is_not_said_to_have_room() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
        write_whole(Path("/dev/full"), b"text")


def test_the_room_that_is_missing_is_said_where_the_size_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))

    def write() -> None:
        with atomic_write(tmp_path / "a.json", size=5_000):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"\(1,000 bytes are free there; it needs 5,000 bytes, 4,000 more\): '.*a.json'$"):
        write()


def test_a_library_that_fails_on_a_full_disk_in_its_own_words_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = RuntimeError("PytorchStreamWriter failed writing file")
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        write_whole(tmp_path / "a.pt2", full(failure))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=r"No space left on device \(4 bytes are free there\): '.*a.pt2'$"):
        write_whole(tmp_path / "a.pt2", full(failure))
