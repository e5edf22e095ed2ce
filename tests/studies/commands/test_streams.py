"""Neither a reader that leaves, nor a full disk, nor an encoding without λ ends the work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sconv_search.studies.commands.streams import lasting_streams

SCRIPT = """
import sys
from sconv_search.studies.commands.streams import lasting_streams
with lasting_streams() as out:
    for number in range(100_000):
        print(f"line {number} λ")
    open(sys.argv[1], "w").write("done")
sys.exit(7 if out.broken and not out.was_left else 0)
"""


def run(script: str, tmp_path: Path, shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``{}`` in the shell's text is the script's command."""
    command = shell.format(f"{sys.executable} script.py done.txt")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env=known,
        timeout=120,
    )


def test_a_reader_that_leaves_is_said_and_the_work_goes_on(tmp_path: Path) -> None:
    said = run(SCRIPT, tmp_path, "{} | head -n 1")
    assert (said.returncode, said.stdout) == (0, "line 0 λ\n")
    assert said.stderr == "standard output has no reader any more: nothing more is written to it, the work goes on\n"
    assert (tmp_path / "done.txt").read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_disk_under_standard_output_is_said_and_shows_in_the_status(tmp_path: Path) -> None:
    said = run(SCRIPT, tmp_path, "{} > /dev/full")
    assert said.returncode == 7
    assert "standard output cannot be written (No space left on device)" in said.stderr
    assert (tmp_path / "done.txt").read_text() == "done"


def test_standard_error_may_go_too(tmp_path: Path) -> None:
    assert run(SCRIPT, tmp_path, "{} 2>&1 | head -n 1").returncode == 0
    assert (tmp_path / "done.txt").read_text() == "done"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_written_as_an_escape(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    with open(tmp_path / "out", "w", encoding=encoding) as out, open(tmp_path / "err", "w", encoding=encoding) as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with lasting_streams():
            print("λ ± \u2028")
        assert sys.stdout is out
    wanted = "\\u03bb ± \\u2028\n" if encoding == "latin-1" else "\\u03bb \\xb1 \\u2028\n"
    assert (tmp_path / "out").read_text(encoding=encoding) == wanted


def test_other_streams_pass_on_what_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    with lasting_streams() as out:
        print("one")
        out.writelines(["two\n", "three\n"])
        assert not sys.stdout.isatty()
    assert text.getvalue() == "one\ntwo\nthree\n"
