"""What flags say may stand in a file; what is wrong there is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sconv_search.studies import RunFolder
from tests.studies.conftest import Typed

STUDY = """
task = "corners"

[search]
out = "run"
trials = 1
budget = "60%"
epochs = 1
confirm_epochs = 0.5
exclude = "8"
method = ["weight_svd"]
device = "cpu"

[report]
runs = ["absent"]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study.toml"


def test_a_search_reads_its_flags_from_a_file_and_flags_win(typed: Callable[..., Typed], file: Path) -> None:
    file.write_text(STUDY)
    said = typed("search", "--config", file, "--budget", "70%")
    assert said.status == 0, said
    spec = RunFolder(file.parent / "run").read_spec()
    assert spec is not None
    assert (spec.task, spec.trials, spec.budget, spec.exclude, spec.methods) == (
        "corners",
        1,
        "70%",
        ("8",),
        ("weight_svd",),
    )
    assert (spec.search_schedule.epochs, spec.confirm_schedule.epochs, spec.seed) == (1, 0.5, 0)


def test_a_file_says_the_same_as_the_flags(typed: Callable[..., Typed], file: Path) -> None:
    file.write_text('network = "corners"\nmethod = "tucker"\nexclude = ["0"]\njson = true\n')
    flags = typed("sites", "corners", "--method", "tucker", "--exclude", "0", "--json")
    assert typed("sites", "--config", file) == flags
    assert json.loads(flags.out)["methods"] == ["tucker"]


def test_lists_of_the_command_line_replace_those_of_the_file(typed: Callable[..., Typed], file: Path) -> None:
    file.write_text('method = ["tucker", "cp"]')
    said = typed("sites", "corners", "--config", file, "--json", "--method", "weight_svd")
    assert json.loads(said.out)["methods"] == ["weight_svd"]


def test_arguments_may_stand_in_the_file_too(typed: Callable[..., Typed], file: Path) -> None:
    file.write_text('[report]\nruns = ["absent"]\nout = "page"\n')
    said = typed("report", "--config", file)
    assert (said.status, "absent is missing, not a run folder" in said.err) == (2, True), said
    said = typed("confirm", "--config", file)
    assert (said.status, "Missing argument" in said.err) == (2, True), said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails = 3", "unknown key in study.toml 'trails'; nearest: trials"),
        ("[serch]\ntrials = 3", "unknown table in study.toml 'serch'; nearest: search"),
        ("before = 3", "study.toml: 'before' means nothing to search; put it under [compare]"),
        ("debug = true", "unknown key in study.toml 'debug'"),
        ('trials = "3"', "study.toml: 'trials' is '3', it should be a whole number"),
        ("trials = 3.0", "study.toml: 'trials' is 3.0, it should be a whole number"),
        ("trials = true", "study.toml: 'trials' is True, it should be a whole number"),
        ("budget = 0.5", "study.toml: 'budget' is 0.5, it should be a text in quotes, or a list of such"),
        ("learning_rate = '1e-2'", "study.toml: 'learning_rate' is '1e-2', it should be a number"),
        ("quantity = 'flop'", "study.toml: 'quantity' is 'flop', it should be one of 'flops', 'macs', 'params'"),
        ("out = 1", "study.toml: 'out' is 1, it should be a path in quotes"),
        ("method = [1]", "study.toml: 'method' is [1], it should be a text in quotes, or a list of such"),
        ("json = 1", "study.toml: 'json' is 1, it should be true or false"),
        ("trials 3", "the file of --config 'study.toml' is not TOML: Expected '='"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(typed: Callable[..., Typed], file: Path, text: str, message: str) -> None:
    file.write_text(text)
    said = typed("search", "--task", "corners", "--out", "run", "--config", "study.toml")
    assert (said.status, message in said.err) == (2, True), said
    assert len(said.err.splitlines()) == 1
    assert not (file.parent / "run").exists()


def test_a_file_that_cannot_be_read_is_named(typed: Callable[..., Typed], file: Path) -> None:
    said = typed("search", "--config", "absent.toml")
    assert said.status == 2
    assert said.err == "error: the file of --config 'absent.toml' cannot be read: No such file or directory\n"


def test_one_file_serves_all_steps_as_the_page_says(typed: Callable[..., Typed], file: Path) -> None:
    readme = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL)
    file.write_text(example)
    said = typed("search", "--config", file)
    assert (said.status, said.err) == (2, "error: weights file 'resnet20.safetensors' does not exist\n")
    said = typed("confirm", "--config", file)
    assert (said.status, "'runs/mixed' holds no study" in said.err) == (2, True), said
