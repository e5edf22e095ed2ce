"""Processes that end with their parent; light ones, which load one file alone, so that they begin at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sconv_search.system.parent_watch as parent_watch

ROOT = Path(__file__).parents[3]
CHILD = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("watch", sys.argv[1])
watch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watch)
if sys.argv[2] == "elsewhere":
    watch.sys = type("sys", (), {"platform": "darwin"})
    watch.EVERY_S = 0.01
if sys.argv[2] != "unwatched":
    watch.end_with_parent(int(sys.argv[3]))
print("ready", flush=True)
time.sleep(1000)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:], str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


SPAWNING = """
import sys, time
from sconv_search.system.parent_watch import EndingWithParent
child = EndingWithParent(target=time.sleep, args=(1000,))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


DRAWING = """
import os, sys, time
from sconv_search.reports.drawing import matplotlib_files
matplotlib_files._processors = lambda: 2
with matplotlib_files.figure_writer(["png"]) as writer:
    print(writer.pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""
SCRIPTS = {"spawned": SPAWNING, "drawing a report": DRAWING}


def started(way: str) -> tuple[subprocess.Popen[str], int]:
    """A process, and the id of one that it has started."""
    arguments = [SCRIPTS[way]] if way in SCRIPTS else [PARENT, CHILD, str(parent_watch.__file__), way]
    command = [sys.executable, "-c", *arguments]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("way", ["by the system", "elsewhere", "spawned", "drawing a report"])
def test_a_process_ends_when_its_parent_is_killed(way: str) -> None:
    parent, child = started(way)
    assert is_running(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    ended = not is_running(child)
    if not ended:
        os.kill(child, 9)
    assert ended


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
def test_a_process_that_is_not_told_to_goes_on() -> None:
    """Else the test above would show nothing."""
    parent, child = started("unwatched")
    parent.kill()
    parent.wait()
    time.sleep(0.05)
    assert is_running(child)
    os.kill(child, 9)


def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    script = CHILD.replace('print("ready", flush=True)', "sys.exit(0)")
    command = [sys.executable, "-c", script, str(parent_watch.__file__), "by the system", "1"]
    assert subprocess.run(command, timeout=60).returncode == 1, "its parent is this process, and not the one named"
