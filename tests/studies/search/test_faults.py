"""Kills, full disks, damaged files and broken trainings: nothing complete is lost, and the same call continues."""

from __future__ import annotations

import builtins
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sconv_search.studies.search.runner
import sconv_search.studies.trials.trial
from sconv_search import TrialRecord, measure_cost
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.search.runner import search
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.trials.request import Outcome
from sconv_search.training.evaluation import Score
from sconv_search.training.loop import TrainingDiverged

pytestmark = pytest.mark.usefixtures("untrained")


def facts(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.number, r.plan, r.regularization, r.val_score, r.status) for r in records]


def whole(context: StudyContext, spec: StudySpec, folder: RunFolder) -> list[TrialRecord]:
    """The records of an uninterrupted run."""
    return search(context, spec, RunFolder(folder.path.parent / "whole"))


@pytest.fixture
def forkable(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search runs no layer, once its plans were measured: convolutions may wait for ever in a forked process."""
    dense, shape = measure_cost(context.network, context.task.input_shape), context.task.input_shape
    shapes = input_shapes(context.network, shape, [name for name, layer in context.network.named_modules() if name])
    monkeypatch.setattr(sconv_search.studies.search.runner, "measure_cost", lambda network, shape, **_: dense)
    monkeypatch.setattr(sconv_search.studies.search.runner, "require_training_step", lambda *_: None)
    monkeypatch.setattr(sconv_search.studies.search.runner, "input_shapes", lambda network, shape, names: shapes)


def forked(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """A started child process, which ends without the tests' own clean-up."""

    def child() -> None:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


@pytest.mark.usefixtures("forkable")
@pytest.mark.parametrize("budget", ["50%", "30%..90%"], ids=["one budget", "front"])
def test_a_search_killed_at_random_moments_gives_the_records_of_an_uninterrupted_one(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    spec = replace(spec, trials=10, budget=budget)
    wanted, run_trial, draw = (
        whole(context, spec, folder),
        sconv_search.studies.trials.trial.run_trial,
        random.Random(0),
    )
    assert [r.origin for r in wanted].count("surrogate") == 5, "half of the trials are by the default sampler"

    def takes_a_moment(*args: object, **options: object) -> object:
        time.sleep(0.01)
        return run_trial(*args, **options)

    def rows() -> int:
        return folder.trials.read_bytes().count(b"\n") if folder.trials.exists() else 0

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", takes_a_moment)
    kills, reached = 0, set()
    while kills < 20:
        process = forked(lambda: search(context, spec, folder))
        goal = rows() + draw.randint(0, 2)  # by the search's own progress: a busy machine comes to as many places
        while process.is_alive() and rows() < goal:
            time.sleep(0.001)
        process.join(draw.uniform(0, 0.1))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        seen = facts(folder.records()[0])
        assert seen == facts(wanted)[: len(seen)]
        reached.add(len(seen))
        if process.exitcode == 0:
            shutil.rmtree(folder.path)  # complete before all kills were made: once more
    assert facts(search(context, spec, folder)) == facts(wanted)
    assert facts(folder.records()[0]) == facts(wanted)
    assert len(reached) > 5, "the kills come in many places"


@pytest.mark.usefixtures("forkable")
@pytest.mark.parametrize("part", ["trials.jsonl", "study.journal"])
def test_a_search_killed_while_it_writes_gives_the_records_of_an_uninterrupted_one(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, part: str
) -> None:
    """Each command is killed with half of its fourth text in the file, a line that is not complete."""
    spec = replace(spec, trials=8)
    wanted = whole(context, spec, folder)

    def killed_halfway() -> None:
        opened, written = builtins.open, itertools.count(1)

        def opens(path: object, *arguments: object, **options: object) -> object:
            file = opened(path, *arguments, **options)  # type: ignore[call-overload]
            if Path(str(path)).name == part and "a" in str(arguments):
                write = file.write

                def writes(text: str) -> None:
                    if text and next(written) == 4:
                        write(text[: len(text) // 2])
                        file.flush()
                        os.kill(os.getpid(), signal.SIGKILL)
                    write(text)

                return Writing(file, writes)
            return file

        builtins.open = opens
        search(context, spec, folder)

    kills = 0
    for _ in range(20):
        process = forked(killed_halfway)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert kills >= 2
    assert facts(search(context, spec, folder, notes)) == facts(wanted)
    assert facts(folder.records()[0]) == facts(wanted)


class Writing:
    """A file of which one method is replaced."""

    def __init__(self, file: Any, write: Callable[[str], None]) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@pytest.mark.usefixtures("forkable")
@pytest.mark.parametrize("name", ["trials.jsonl", "study.journal"])
def test_a_full_disk_names_the_file_and_loses_nothing_complete(
    context: StudyContext, spec: StudySpec, folder: RunFolder, tmp_path: Path, notes, name: str
) -> None:
    """No file may grow beyond what the named one has after two trials and a bit: appending fails half-way in a line."""
    wanted = whole(context, replace(spec, trials=5), folder)
    first, second = search(context, replace(spec, trials=2), folder)
    if name == "trials.jsonl":  # made larger than the journal, so that it hits the limit first
        folder.trials.write_text(f"{replace(first, notes=50_000 * 'x').to_json()}\n{second.to_json()}\n")
    largest = (folder.path / name).stat().st_size + 100
    message = tmp_path / "message"

    def on_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        try:
            search(context, spec, folder)
        except OSError as error:
            message.write_text(str(error))

    process = forked(on_a_full_disk)
    process.join()
    assert f"{name}'" in message.read_text()
    assert facts(folder.records()[0]) == facts(wanted)[:2]
    records = search(context, replace(spec, trials=5), folder, notes)
    assert facts(records) == facts(wanted)
    assert folder.records() == (records, [])
    assert any(re.search(rf"{name}: an incomplete last line of \d+ bytes was dropped", line) for line in notes.lines)


def test_a_journal_with_a_torn_last_line_is_mended(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    wanted = whole(context, replace(spec, trials=5), folder)
    search(context, spec, folder)
    content = folder.journal.read_bytes()
    folder.journal.write_bytes(content[:-20])
    assert facts(search(context, replace(spec, trials=5), folder, notes)) == facts(wanted)
    assert any("study.journal: an incomplete last line of" in line for line in notes.lines)


def test_a_journal_with_a_damaged_line_inside_is_refused_with_what_to_do(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    search(context, spec, folder)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:10] + b"\xff\n"
    folder.journal.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"study.journal line 5 is damaged: .*; without the file the search goes on"):
        search(context, replace(spec, trials=5), folder)
    folder.journal.unlink()
    assert len(search(context, replace(spec, trials=5), folder)) == 5


def test_a_damaged_line_of_the_records_is_named_and_its_training_counts(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    first = search(context, spec, folder)
    lines = folder.trials.read_bytes().splitlines(keepends=True)
    folder.trials.write_bytes(b"".join([lines[0], b'{"study": \xff}\n', *lines[2:]]))
    records = search(context, replace(spec, trials=4), folder, notes)
    assert records[:2] == [first[0], first[2]]
    assert len(records) == 3
    assert any("trials.jsonl line 2 is not read" in line for line in notes.lines)
    assert any("trial 1 was trained, but its record is lost" in line for line in notes.lines)


@pytest.mark.parametrize(
    "damage", [b"{}\n", b'{"site": "0", "opt\xff\n', b'{"site": "0", "options": [{"cost": 1}]}\n', b'{"si']
)
def test_a_damaged_line_of_the_measured_layers_is_named_and_the_layer_measured_again(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, damage: bytes
) -> None:
    search(context, spec, folder)
    space = folder.read_space()
    assert space is not None
    with folder.locked():
        other = RunFolder(folder.path.parent / "other")
        other.path.mkdir()
        for name, options in space.sites.items():
            other.keep_site(name, options)
    path = other.path / "space.partial.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], damage]))
    measured = dict(list(space.sites.items())[:-1])
    complete = damage.endswith(b"\n")
    found, damaged = other.measured_sites()
    assert found == measured
    assert [f"{path} line {len(lines)} is not read" in message for message in damaged] == [True] * complete
    assert other.measured_sites() == (measured, []), "the damaged line is gone"
    other.write(
        "spec.json", replace(spec, weights_sha256=context.weights_sha256, data_sha256=context.data_sha256).to_json()
    )
    path.write_bytes(b"".join([*lines[:-1], damage]))
    assert facts(search(context, spec, other, notes)) == facts(folder.records()[0])
    assert other.read_space() == space
    assert any("its layer is measured again" in line for line in notes.lines) == complete


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "missing"])
def test_a_lost_journal_is_said_and_the_search_goes_on_without_repetition(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, content: bytes | None
) -> None:
    first = search(context, spec, folder)
    folder.journal.unlink()
    if content is not None:
        folder.journal.write_bytes(content)
    records = search(context, replace(spec, trials=6), folder, notes)
    assert records[:3] == first
    assert [r.status for r in records] == ["complete"] * 6
    numbers = [r.number or 0 for r in records]
    assert numbers == sorted(set(numbers))
    assert len({(r.plan, r.regularization) for r in records}) == 6
    assert any("study.journal: lost trial 0, 1, 2; the sampler goes on" in line for line in notes.lines)


def test_a_training_whose_record_is_lost_counts_and_is_said(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    first = search(context, spec, folder)
    folder.trials.write_text("".join(folder.trials.read_text().splitlines(keepends=True)[:2]))
    assert search(context, spec, folder, notes) == first[:2]
    assert any("trial 2 was trained, but its record is lost; it counts as trained" in line for line in notes.lines)


@pytest.mark.parametrize("name", ["spec.json", "space.json"])
def test_a_folder_of_another_format_is_refused_by_name(
    context: StudyContext, spec: StudySpec, folder: RunFolder, name: str
) -> None:
    search(context, replace(spec, trials=1), folder)
    path = folder.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "sconv-search 99"}))
    refusal = (
        rf"{name}: not a .*its 'format' must be 'sconv-search.*; a run that is damaged or of another version cannot"
        r" go on"
    )
    with pytest.raises(ValueError, match=refusal + ": name another folder"):
        search(context, spec, folder)


def test_a_folder_of_other_weights_is_refused(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, trials=1), folder)
    with pytest.raises(
        ValueError, match=r"holds another study: weights_sha256 was '[0-9a-f]+\.\.\.[0-9a-f]+', is 'other'"
    ):
        search(replace(context, weights_sha256="other"), spec, folder)


def test_a_folder_of_another_network_is_refused(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, trials=1), folder)
    with pytest.raises(
        ValueError, match=r"holds another study: task was 'corners', is 'cifar10/resnet20'; name another"
    ):
        search(context, replace(spec, task="cifar10/resnet20"), folder)


def test_a_clock_that_goes_back_changes_nothing(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, now = whole(context, spec, folder), [2e9]

    def backwards() -> float:
        now[0] -= 3600.0
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    assert facts(search(context, replace(spec, trials=2), folder)) == facts(wanted)[:2]
    assert facts(search(context, spec, folder)) == facts(wanted)
    assert all((r.wall_s or 0) >= 0 for r in folder.records()[0])


NAN = Outcome(
    network=torch.nn.Identity(), residual=None, before=None, after=None, final=Score(value=10.0, loss=float("nan"))
)
NAN_SCORE = replace(NAN, final=Score(value=float("nan")))
FAULTS: dict[str, tuple[BaseException | Outcome, str, str]] = {
    "diverged": (TrainingDiverged("the loss is nan at step 4"), "the loss is nan at step 4", "a lower --learning-rate"),
    "nan": (NAN, "the loss is not finite: val_loss is nan", "a lower --learning-rate"),
    "nan of a score": (NAN_SCORE, "the score is not finite: val_score is nan", "the function that scores"),
    "memory of the device": (
        torch.OutOfMemoryError("no memory"),
        "OutOfMemoryError: no memory",
        "a smaller batch, or fewer --workers",
    ),
    "memory": (MemoryError(), "MemoryError: no message", "a smaller batch, or fewer --workers"),
    "algebra": (np.linalg.LinAlgError("SVD did not converge"), "LinAlgError: SVD did not converge", "LinAlgError"),
    "algebra of torch": (torch.linalg.LinAlgError("singular"), "_LinAlgError: singular", "LinAlgError"),
}


def failing(
    calls: set[int] | None, fault: BaseException | Outcome, run_trial: Callable[..., object]
) -> Callable[..., object]:
    """A training that meets the fault at some calls, or at all."""
    counted: list[None] = []

    def trains(*args: object, **options: object) -> object:
        counted.append(None)
        if calls is not None and len(counted) not in calls:
            return run_trial(*args, **options)
        if isinstance(fault, BaseException):
            raise fault
        return fault

    return trains


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_training_leaves_its_reason_and_three_in_a_row_stop_the_study_with_advice(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, reason, advice = FAULTS[name]
    run_trial = sconv_search.studies.trials.trial.run_trial
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", failing({2}, fault, run_trial))
    records = search(context, spec, folder)
    assert [r.status for r in records] == ["complete", "failed", "complete", "complete"]
    assert (records[1].reason, records[1].val_loss) == (reason, None)
    assert folder.records() == (records, [])
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", failing(None, fault, run_trial))
    with pytest.raises(
        RuntimeError, match=f"3 trials in a row gave no result, the last because: {reason}.*{advice}|{advice}"
    ):
        search(context, replace(spec, trials=9), folder)
    assert [r.status for r in folder.records()[0]][4:] == ["failed"] * 3


def test_failures_for_other_reasons_stop_the_study_after_ten(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers in a reason make it no other one."""
    counted: list[None] = []

    def fails(*args: object, **options: object) -> object:
        counted.append(None)
        raise (ValueError if len(counted) % 2 or len(counted) > 10 else KeyError)(f"at step {len(counted)}")

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", fails)
    with pytest.raises(
        RuntimeError, match="10 trials in a row gave no result, the last because: KeyError: 'at step 10'"
    ):
        search(context, spec, folder)
    with pytest.raises(
        RuntimeError, match="3 trials in a row gave no result, the last because: ValueError: at step 13"
    ):
        search(context, spec, folder)
    assert len(folder.records()[0]) == 13


def test_failures_that_are_not_in_a_row_do_not_stop_the_study(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sconv_search.studies.trials.trial,
        "run_trial",
        failing({1, 2, 4, 5}, MemoryError(), sconv_search.studies.trials.trial.run_trial),
    )
    records = search(context, spec, folder)
    assert [r.status for r in records] == ["failed", "failed", "complete", "failed", "failed", "complete", "complete"]


@pytest.mark.usefixtures("forkable")
def test_a_second_command_on_a_folder_is_refused_while_the_first_is_at_work(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    run_trial = sconv_search.studies.trials.trial.run_trial

    def waits(*args: object, **options: object) -> object:
        os.write(writing, b"at work")
        time.sleep(60)
        return run_trial(*args, **options)

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", waits)
    process = forked(lambda: search(context, spec, folder))
    try:
        assert os.read(reading, 7) == b"at work"
        with pytest.raises(RuntimeError, match=r"another command is working on the run folder '.*/run'"):
            search(context, spec, folder)
    finally:
        process.kill()
        process.join()
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", run_trial)
    assert len(search(context, spec, folder)) == 3, "the system frees the folder of a killed command"
