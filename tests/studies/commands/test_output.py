"""With JSON, standard output holds the document alone, whoever prints."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sconv_search.studies.commands.output import print_json, telling


def test_what_libraries_and_processes_print_is_no_part_of_the_document(capfd: pytest.CaptureFixture[str]) -> None:
    with telling(as_json=True) as monitor:
        print("by print")
        os.write(1, b"by descriptor\n")
        subprocess.run(["echo", "by a process"], check=True)
        ctypes.CDLL(None).puts(b"by a library in C")
        monitor.say("by the monitor")
    print_json({"a": 1})
    said = capfd.readouterr()
    assert said.out == '{\n "a": 1\n}\n'
    assert sorted(said.err.splitlines()) == [
        "by a library in C",
        "by a process",
        "by descriptor",
        "by print",
        "by the monitor",
    ]


def test_without_json_all_of_it_stays_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with telling(as_json=False) as monitor:
        os.write(1, b"by descriptor\n")
        monitor.say("by the monitor")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("by descriptor\nby the monitor\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_hindrance(tmp_path: Path, closed: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from sconv_search.studies.commands.output import telling\n"
        "from sconv_search.studies.commands.streams import lasting_streams\n"
        "with lasting_streams(), telling(as_json=True): open('done', 'w').close()\n"
    )
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(["sh", "-c", f"{sys.executable} script.py {closed}"], cwd=tmp_path, env=known, check=True)
    assert (tmp_path / "done").exists()
