"""The commands as a user types them: what they make, and what they say to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import studies.tasks
from studies import cli
from studies.tasks import Task

SMALL = ("--trials", "2", "--budget", "50%", "--epochs", "0.5", "--confirm-epochs", "0.5", "--device", "cpu")


@pytest.fixture(autouse=True)
def _tiny_task(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies.tasks, "TASKS", {task.name: task, **studies.tasks.TASKS})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``sconv-search`` with arguments: (exit status, what it printed)."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["sconv-search", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out + captured.err

    return call


def test_search_confirm_and_report_lead_to_a_page(run, tmp_path: Path) -> None:
    runs = [tmp_path / method for method in ("structured_conv", "spatial_svd")]
    for folder in runs:
        status, said = run("search", "--task", "corners", "--method", folder.name, "--out", folder, *SMALL)
        assert status == 0, said
        assert f"next: sconv-search confirm {folder}" in said
    status, said = run("confirm", *runs, "--seeds", 2, "--plans", 1, "--device", "cpu")
    assert status == 0, said
    assert "structured_conv dense, seed 0: test top-1" in said
    status, said = run("report", *runs, "--out", tmp_path / "report")
    assert (status, f"report: open {tmp_path / 'report' / 'index.html'}" in said) == (0, True), said
    table = (tmp_path / "report" / "summary.md").read_text()
    for label in ("dense", "dense, fine-tuned", "structured convolution, searched", "spatial SVD, uniform"):
        assert f"| {label} |" in table
    assert "±" in table


def test_the_same_command_continues(run, tmp_path: Path) -> None:
    command = ("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)
    assert run(*command)[0] == 0
    before = (tmp_path / "run" / "trials.jsonl").read_text()
    assert run(*command)[0] == 0
    assert (tmp_path / "run" / "trials.jsonl").read_text() == before
    assert len(before.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "0"), "error: budget '0' leaves nothing; write a share of the dense network ('50%') or an amount"),
        (("--budget", "200%"), "error: budget '200%' is 200% of the dense network's"),
        (("--budget", "fifty"), "error: budget 'fifty' is not understood"),
        (("--budget", "1%"), "cannot be met: the cheapest plan needs"),
        (("--task", "cornes"), "error: unknown task 'cornes'; nearest: corners; known: corners, demo, cifar10/resnet20"),
        (("--method", "spatial_sdv"), "error: unknown method 'spatial_sdv'; nearest: spatial_svd"),
        (("--trials", "0"), "error: StudySpec.trials must be at least 1, got 0"),
        (("--epochs", "0"), "error: Schedule.epochs must be positive, got 0"),
        (("--weights", "absent.safetensors"), "error: weights file 'absent.safetensors' does not exist"),
        (
            ("--task", "cifar10/resnet20", "--data", "absent"),
            "error: the data folder 'absent' does not exist; name one with --data",
        ),
        (("--device", "abacus"), "error: "),
    ],
)
def test_wrong_input_is_one_line_that_names_it(run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    status, said = run("search", "--task", "corners", "--out", tmp_path / "run", *SMALL, *arguments)
    assert status == 2
    assert message in said
    assert "Traceback" not in said
    assert "1%" in arguments or not (tmp_path / "dense").exists(), "no network was trained for it"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["sconv-search", "--debug", "report", str(tmp_path / "absent")])
    with pytest.raises((FileNotFoundError, ValueError)):
        cli.main()


@pytest.mark.parametrize("command", ["confirm", "report"])
def test_a_folder_without_a_run_is_named(run, tmp_path: Path, command: str) -> None:
    status, said = run(command, tmp_path / "absent")
    assert status == 2
    assert "absent" in said
    assert "sconv-search search" in said


def test_a_folder_that_cannot_be_written_is_named(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, said = run("search", "--task", "corners", "--out", tmp_path / "file" / "run", *SMALL)
    assert status == 2
    assert "cannot be written" in said
    status, said = run("search", "--task", "corners", "--out", tmp_path / "dense" / "x", *SMALL)
    assert status == 0, said
    (tmp_path / "dense" / "x" / "trials.jsonl").unlink()
    status, said = run("report", tmp_path / "dense" / "x", "--out", tmp_path / "file" / "report")
    assert status == 2
    assert "error: " in said


def test_a_damaged_record_is_reported_and_the_rest_is_drawn(run, tmp_path: Path) -> None:
    assert run("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)[0] == 0
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps({"schema": 1, "colour": 3})]) + "\n")
    status, said = run("report", tmp_path / "run", "--out", tmp_path / "report")
    assert status == 0, said
    assert "line 2" in (tmp_path / "report" / "summary.md").read_text()
