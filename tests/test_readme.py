"""The examples of the README and of the page on the command line do what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from sconv_search.studies import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
PYTHON = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
(EXAMPLE,), (TASK,) = PYTHON.findall(README), PYTHON.findall(COMMANDS)


def test_the_python_example_prints_what_the_readme_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLE.splitlines()) <= 10
    exec(compile(EXAMPLE, "README.md", "exec"), {})
    printed = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert printed is not None
    assert capsys.readouterr().out == printed[1]
    assert {path.name for path in Path("small").iterdir()} == {"plan.json", "weights.safetensors", "config.json"}


def test_the_readme_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 90


def save_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("train", 128), ("validation", 32), ("test", 32)):
        np.save(folder / f"{name}_images.npy", generator.integers(0, 255, (count, 3, 32, 32), dtype=np.uint8))
        np.save(folder / f"{name}_labels.npy", generator.integers(0, 4, count))


def test_the_task_of_ones_own_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = [line for line in TASK.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(functions) <= 10
    assert (TASK.count('"dense": 30'), TASK.count("num_classes=4")) == (1, 1)  # made smaller, for the test to be quick
    short = TASK.replace('"dense": 30', '"dense": 1').replace("num_classes=4", "num_classes=4, width_mult=0.1")
    (tmp_path / "mytask.py").write_text(short)
    save_images(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mytask", raising=False)
    monkeypatch.chdir(tmp_path)
    command = (
        "search --task mytask:task --data . --method weight_svd --include features.18.0 --trials 1 --epochs 0.5 --out"
        " runs/mine"
    )
    monkeypatch.setattr(sys, "argv", ["sconv-search", *command.split(), "--budget", "97%", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code in (0, None), said
    assert "trial 0 (1/1)" in said.out
    assert '"task": "mytask:task"' in (tmp_path / "runs" / "mine" / "spec.json").read_text()


def test_the_commands_exist() -> None:
    named = set(re.findall(r"`?sconv-search (\w+)", COMMANDS))
    assert named <= {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
