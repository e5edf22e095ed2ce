"""What Ctrl-C and SIGTERM do to a command: both end it in order, with an exit status each."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = "stopped; the same command continues"
INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses, 128 and the signal's number, as shells have them."""
AGAIN_S = 0.02
"""After which a stop that was dropped comes again: what dropped it, a destructor as a rule, has then ended."""
_received: list[int] = []


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """A time in which Ctrl-C, and SIGTERM, which schedulers send, end the command by a KeyboardInterrupt."""
    _received.clear()
    with _handled({signal.SIGINT: _raise, signal.SIGTERM: _raise}), _none_dropped():
        yield


def end_at_once() -> None:
    """Makes both end the process with one line, until something else is said: there is nothing to be put in order.

    An exception could be swallowed, or turned into another one, by whatever module is loading.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes that train together, the first one speaks
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)


def was_stopped() -> bool:
    """Whether a signal has come to the command that runs, or ran last."""
    return bool(_received)


def stopped_status() -> int:
    """The exit status of a command that a signal stopped: by which it was."""
    return TERMINATED if signal.SIGTERM in _received else INTERRUPTED


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


@contextmanager
def _none_dropped() -> Iterator[None]:
    """A time in which a stop that Python drops comes again a moment later.

    Whatever is raised in a destructor, or in the callback of a weak reference, is printed and dropped: the command
    would go on as if nobody had stopped it.
    """
    before, coming = sys.unraisablehook, list[threading.Timer]()

    def hook(dropped: Any) -> None:
        if not (_received and issubclass(dropped.exc_type, KeyboardInterrupt)):
            before(dropped)
            return
        timer = threading.Timer(AGAIN_S, _interrupt, (_received[-1],))
        timer.daemon = True
        coming.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in coming:
            timer.cancel()


def _interrupt(number: int) -> None:
    """Sends the signal to the main thread; where only processes can be sent to, the interpreter passes it on."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


@contextmanager
def held_back() -> Iterator[None]:
    """A time that no signal cuts short: what came in it is raised at its end, and processes started in it never see
    Ctrl-C.

    A process that is started half is one that nobody ends.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    with _handled({signal.SIGINT: note, signal.SIGTERM: note}), _interrupts_blocked():
        yield
    for number in dict.fromkeys(came):
        signal.raise_signal(number)


@contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """A time in which these handle signals; in another thread than the main one, which alone can, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A time in which this thread takes no Ctrl-C; a process that it starts inherits that. Windows knows no such
    thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # here: as it starts, with the first process else, it lets Ctrl-C through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
