from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sconv_search.system.signals import INTERRUPTED, TERMINATED, held_back, stopped_status, stopping_in_order

ROOT = Path(__file__).parents[3]


def test_sigterm_interrupts_as_ctrl_c_does_with_a_status_of_its_own() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopping_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped_status() == TERMINATED == 143
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(KeyboardInterrupt), stopping_in_order():
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped_status() == INTERRUPTED == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_held_back_comes_at_the_end(number: signal.Signals) -> None:
    reached, before = [], signal.getsignal(signal.SIGINT)

    def held() -> None:
        with stopping_in_order(), held_back():
            os.kill(os.getpid(), number)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        held()
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_python_drops_comes_again(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """As one does that comes while a destructor runs, or the callback of a weak reference."""

    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.001)  # here at the latest the handler raises

    before, went_on = sys.unraisablehook, []

    def work() -> None:
        dropping = Dropping()
        del dropping
        went_on.append("after the destructor")
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), stopping_in_order():
        work()
    assert went_on
    assert stopped_status() == 128 + number
    assert sys.unraisablehook == before
    assert capsys.readouterr().err == ""


def test_other_errors_of_destructors_are_told_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    told = []

    class Failing:
        def __del__(self) -> None:
            raise ValueError("of the destructor")

    before, sys.unraisablehook = sys.unraisablehook, lambda dropped: told.append(str(dropped.exc_value))
    try:
        with stopping_in_order():
            failing = Failing()
            del failing
    finally:
        sys.unraisablehook = before
    assert told == ["of the destructor"]


def test_a_process_started_meanwhile_never_sees_ctrl_c() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
    with held_back():
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "goes on\n"


def test_in_another_thread_signals_stay_as_they_are() -> None:
    """The main thread alone may say what they do."""
    seen = []

    def work() -> None:
        with stopping_in_order(), held_back():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_while_modules_load_a_signal_ends_the_program_in_one_line(number: signal.Signals, status: int) -> None:
    """Even where what is loading swallows all exceptions."""
    script = f"""
import builtins, os, sys
load = builtins.__import__
def loads(name, *rest):
    if name == "sconv_search.studies.cli":
        try:
            os.kill(os.getpid(), {int(number)})
            for _ in range(1000): pass
        except BaseException: pass
        print("goes on")
    return load(name, *rest)
builtins.__import__ = loads
from sconv_search.studies.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "stopped; the same command continues\n")


STARTS = """
import multiprocessing, signal
from sconv_search.system.signals import held_back

def told():
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)

if __name__ == "__main__":
    for _ in range(2):
        process = multiprocessing.get_context("spawn").Process(target=told)
        with held_back():
            process.start()
        process.join()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system has no masks of signals")
def test_the_first_process_that_is_started_sees_no_ctrl_c_either(tmp_path: Path) -> None:
    """With it the tracker of multiprocessing starts, which lets the signal through again."""
    (tmp_path / "starts.py").write_text(STARTS)
    done = subprocess.run([sys.executable, tmp_path / "starts.py"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
