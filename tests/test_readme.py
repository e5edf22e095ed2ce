"""The README's example does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.splitlines()) <= 10
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Cost(macs=40551040, adds=90112, params=269722) Cost(macs=")


def test_the_commands_exist() -> None:
    from studies.cli import app

    named = set(re.findall(r"sconv-search (\w+)", README))
    assert named <= {command.callback.__name__ for command in app.registered_commands if command.callback}
