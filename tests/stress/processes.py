"""Commands as processes of their own, forked from one that has loaded everything: hundreds a minute rather than ten."""

from __future__ import annotations

import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

import sconv_search
from sconv_search.studies import cli

LARGE = (
    *("optuna.samplers", "plotly.graph_objects", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "jinja2"),
    *("matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf"),
    *("rich.console", "rich.progress", "moocore", "scipy.stats", "scipy.optimize", "torchvision", "torch._dynamo"),
)
"""Libraries that commands load."""
MOST_S = 300.0
"""No command of the harness may take longer: it is then taken to hang."""
HUNG = "hung"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command that was started, in a session of its own.

    Args:
        said: file of what it prints, on both streams.
    """

    pid: int
    said: Path

    def poll(self) -> int | None:
        """Its exit status, the signal's number below 0 where one ended it; None while it runs. To be asked until it is
        known.
        """
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None

    def wait(self, seconds: float = MOST_S) -> int | None:
        """Its exit status, once it is known; None after so many seconds."""
        until = time.monotonic() + seconds
        while (status := self.poll()) is None and time.monotonic() < until:
            time.sleep(0.002)
        return status

    def workers(self) -> list[int]:
        """The processes that it started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(child) for child in children.read_text(encoding="ascii").split()]
        except OSError:
            return []

    def outliving(self, seconds: float) -> list[int]:
        """Processes of its session that are still there after so many seconds; they are killed."""
        until = time.monotonic() + seconds
        while (left := _session(self.pid)) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


@cache
def load_everything() -> None:
    """Imports what commands import when they first need it: each of them would do so again."""
    for part in pkgutil.walk_packages(sconv_search.__path__, "sconv_search."):
        if part.name.rpartition(".")[2] not in ("__main__", "triton_sums"):  # the second one needs a GPU's compiler
            import_module(part.name)
    for name in LARGE:
        import_module(name)


def start(arguments: Sequence[str], folder: Path, said: Path) -> Running:
    """Starts ``sconv-search`` with these arguments in a folder."""
    load_everything()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(arguments, folder, said)
    return Running(pid=pid, said=said)


def run(arguments: Sequence[str], folder: Path, said: Path) -> tuple[int | str, str]:
    """Exit status and what was printed; the status is ``HUNG`` where the command took too long and was killed."""
    running = start(arguments, folder, said)
    status: int | str | None = running.wait()
    if status is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        status = HUNG
    return status, said.read_text(encoding="utf-8", errors="replace")


def _become(arguments: Sequence[str], folder: Path, said: Path) -> None:
    """Never returns."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        file, nothing = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
        for number, source in enumerate((nothing, file, file)):
            os.dup2(source, number)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        sys.argv = ["sconv-search", *arguments]
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            state, _, _, session = text.rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return found
