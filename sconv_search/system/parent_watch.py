"""Processes that end with the one that started them, however that ends: a worker would train on, and write files,
for hours.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import spawn
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

EVERY_S = 0.5
"""Between two looks at the parent, where the system does not tell of its end."""
_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl: the signal that the system sends when the parent dies."""


def end_with_parent(parent: int | None = None) -> None:
    """Makes this process end at once when its parent ends, on Linux by the system itself, elsewhere within a second.

    Args:
        parent: the process id of the parent; None takes the one that there is now.
    """
    parent = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if not _lives(parent):  # it ended before the system was asked
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()


def _watch(parent: int) -> None:
    """Beside the system's signal, which there is on Linux alone."""
    while _lives(parent):
        time.sleep(EVERY_S)
    os._exit(1)  # at once, without what is done at a usual end: it would wait for a training, or for the parent


def _lives(parent: int) -> bool:
    """Whether the parent is there: on Windows a process keeps the id of one that is gone, so its handle tells."""
    started_by = multiprocessing.parent_process()
    if started_by is not None and not started_by.is_alive():
        return False
    return sys.platform == "win32" or os.getppid() == parent


class EndingWithParent(SpawnProcess):
    """A spawned process that ends with its parent from its first moment on, while it loads modules too.

    Spawned, not forked, as threads and CUDA do not survive a fork.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # multiprocessing's name for what starts the process
        """Puts the watch before all else that the new process does: its modules take seconds to load."""
        command = spawn.get_command_line

        def watched(**options: Any) -> list[str]:
            words = list(command(**options))
            if "-c" in words:  # else it is a program of its own, frozen with its interpreter
                index = words.index("-c") + 1
                watch = f"import runpy; runpy.run_path({__file__!r})['end_with_parent']({os.getpid()})"
                words[index] = f"{watch}; {words[index]}"
            return words

        spawn.get_command_line = watched
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            spawn.get_command_line = command
