from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from sconv_search.studies.samplers.journal import JournalFile
from sconv_search.studies.samplers.study import Domain, Sampler

ENTRIES = [{"op_code": number, "text": f"line {number}\n"} for number in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def test_entries_come_back_in_order_from_the_one_asked_for(path: Path) -> None:
    journal = JournalFile(path)
    journal.append_logs(ENTRIES[:2])
    assert list(journal.read_logs(0)) == ENTRIES[:2]
    journal.append_logs(ENTRIES[2:4])
    assert list(journal.read_logs(1)) == ENTRIES[1:4]
    assert list(journal.read_logs(4)) == []
    assert list(JournalFile(path).read_logs(2)) == ENTRIES[2:4]


def test_optunas_own_reader_reads_the_same(path: Path) -> None:
    journal = JournalFile(path)
    with journal.together():
        journal.append_logs(ENTRIES[:2])
    journal.append_logs(ENTRIES[2:])
    assert list(JournalFileBackend(str(path)).read_logs(0)) == ENTRIES


def test_entries_added_together_are_read_at_once_and_reach_the_disk_in_one_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    journal = JournalFile(path)
    with journal.together():
        for entry in ENTRIES:
            journal.append_logs([entry])
        assert list(journal.read_logs(0)) == ENTRIES
        assert path.read_bytes() == b""
    assert list(JournalFile(path).read_logs(0)) == ENTRIES
    assert len(waits) == 1


def test_entries_added_before_an_error_are_written(path: Path) -> None:
    journal = JournalFile(path)

    def fails() -> None:
        with journal.together():
            journal.append_logs(ENTRIES[:1])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    journal.append_logs(ENTRIES[1:2])
    assert list(JournalFile(path).read_logs(0)) == ENTRIES[:2]


def test_a_damaged_line_is_named_with_what_to_do(path: Path) -> None:
    JournalFile(path).append_logs(ENTRIES[:1])
    with path.open("a") as file:
        file.write('{"op_code": \n')
    with pytest.raises(ValueError, match=r"study.journal line 2 is damaged: .*; without the file the search goes on"):
        JournalFile(path)


def sampler(journal: Path) -> Sampler:
    return Sampler(journal, Domain(random_keys=("a",)), "random", seed=0, startup=1)


def study_names(journal: Path) -> list[str]:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    return [study.study_name for study in optuna.get_all_study_summaries(storage)]


def test_a_study_is_named_by_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "tucker-40" / "study.journal"
    path.parent.mkdir()
    sampler(path).ask()
    assert study_names(path) == ["tucker-40"]
    path.parent.rename(tmp_path / "moved")
    path = tmp_path / "moved" / "study.journal"
    assert sampler(path).reconcile({}) == [0], "the study that was begun continues"
    assert study_names(path) == ["tucker-40"]


def test_a_study_of_an_older_version_continues_under_its_name(path: Path) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(storage=storage, study_name="search", direction="maximize").ask().set_user_attr("number", 4)
    assert sampler(path).reconcile({}) == [4]
    assert study_names(path) == ["search"]
