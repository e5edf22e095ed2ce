"""Exit statuses that scripts can tell apart, and one line for each failure."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

import sconv_search.studies.commands.search
import sconv_search.studies.trials.trial
from sconv_search.studies.commands.failures import guarded
from sconv_search.training.loop import TrainingDiverged
from tests.studies.conftest import SMALL, Typed


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("a"), 2, "error: a"),
        (KeyError("b"), 2, "error: b"),
        (FileNotFoundError("c"), 2, "error: c"),
        (TrainingDiverged("d"), 1, "error: d"),
        (RuntimeError("e"), 1, "error: e"),
        (KeyboardInterrupt(), 130, "stopped; the same command continues"),
        (SystemExit(130), 130, "stopped; the same command continues"),
    ],
)
def test_each_failure_has_its_status_and_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    assert guarded(raising(error)) == status
    assert capsys.readouterr().err == f"{line}\n"


def test_what_nobody_expected_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(raising(ZeroDivisionError()))


@pytest.mark.parametrize("kind", [RuntimeError, ZeroDivisionError])
def test_an_error_of_a_library_on_the_way_out_of_a_signal_is_no_error(
    capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise kind("flushing half of a stream")

    assert guarded(command) == 143
    assert capsys.readouterr().err == "stopped; the same command continues\n"
    with pytest.raises(ZeroDivisionError):
        guarded(raising(ZeroDivisionError()))  # the next command was not stopped


@pytest.mark.parametrize("flag", ["--seeds", "--plans"])
def test_repeats_that_would_never_end_are_refused(typed: Callable[..., Typed], flag: str) -> None:
    said = typed("confirm", "run", flag, "18446744073709551616")
    assert said.status == 2
    assert "less than or equal to 1000" in said.err


def test_ctrl_c_is_told_through_the_command_line(typed: Callable[..., Typed], tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        sconv_search.studies.commands.search, "run_search", lambda *arguments, **options: raising(KeyboardInterrupt())()
    )
    monkeypatch.setattr(sconv_search.studies.commands.search, "context_of", lambda *arguments: None)
    said = typed("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)
    assert (said.status, said.err) == (130, "stopped; the same command continues\n")


def test_a_search_whose_trials_all_diverge_is_failed_work(typed: Callable[..., Typed], tmp_path, monkeypatch) -> None:
    def diverges(*arguments, **options):
        raise TrainingDiverged("the loss is nan")

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", diverges)
    said = typed("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)
    assert (said.status, "error: 3 trials in a row gave no result" in said.err) == (1, True), said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serch",), "No such command 'serch'. Did you mean 'search'?"),
        (("search", "--methd", "cp"), "(Possible options: --method"),
        (("search", "--trials", "few", "--out", "x"), "Invalid value for '--trials'"),
        (("search", "--quantity", "flop", "--out", "x"), "'flop' is not one of 'flops', 'macs', 'params'"),
        (("search",), "a search needs a folder for its run; name one with --out"),
        (("confirm", "run", "--plans", "0"), "Invalid value for '--plans'"),
        (("report",), "Missing argument 'RUNS"),
        (("compare", "one"), "Missing argument 'AFTER"),
    ],
)
def test_a_slip_of_the_command_line_is_wrong_input(
    typed: Callable[..., Typed], arguments: tuple[str, ...], message: str
) -> None:
    said = typed(*arguments)
    assert (said.status, said.out, message.casefold() in said.err.casefold()) == (2, "", True), said
    assert "Traceback" not in said.err
