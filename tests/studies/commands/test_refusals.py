"""What is refused before any work: flags that mean nothing, files that would be lost, and inputs that are damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sconv_search.studies import RunFolder, StudySpec
from sconv_search.studies.commands.arguments import require_new
from sconv_search.studies.commands.failures import one_line, require_arguments
from sconv_search.studies.runs.folder import require_not_of_a_run
from tests.studies.conftest import SMALL, Typed

HUGE = json.dumps(
    {"format": "sconv-search space 2", "dense": {"macs": 10**400, "adds": 0, "params": 1}, "sites": {}, "couplings": []}
)
DRY = ("search", "--task", "corners", "--dry-run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "x"), "device 'x' cannot be used here"),
        (("--minutes", "-1"), "--minutes must be above 0, got -1"),
        (("--minutes", "nan"), "--minutes must be above 0, got nan"),
        (("--patience", "0"), "--patience must be above 0, got 0"),
        (("--weights", "absent.safetensors"), "weights file 'absent.safetensors' does not exist"),
        (("--devices", "3", "--workers", "2"), "3 devices train one network together"),
        (("--budget", "9" * 400 + "%"), "budget '999"),
        (("--budget", "1" * 5000), "budget '111"),
        (("--cluster", "slurm"), "a cluster is ray, HOST:PORT or ray://HOST:PORT"),
        (("--cluster", "ray", "--workers", "2"), "give workers or a cluster"),
        (("--cluster", "ray", "--trial-cpus", "0"), "the CPUs of a trial must be above 0"),
        (("--cluster", "ray", "--devices", "2"), "give one of both"),
        (("--trial-gpus", "1"), "--trial-gpus is what a training takes of a cluster; name one with --cluster"),
        (("--storage", "sqlite:///x"), "a database is postgresql+psycopg://USER@HOST:PORT/DATABASE"),
        (("--trials", "9" * 30), "StudySpec.trials must have at most 64 bits"),
    ],
)
def test_a_dry_run_checks_all_flags(typed: Callable[..., Typed], flags: tuple[str, ...], message: str) -> None:
    said = typed(*DRY, *flags)
    assert (said.status, message in said.err, len(said.err) < 520) == (2, True, True), said


def test_a_network_named_alone_is_said_to_be_searched_on_the_demos_digits(typed: Callable[..., Typed]) -> None:
    said = typed("search", "--network", "torchvision:resnet18", "--dry-run")
    words = "without --data and --task, torchvision:resnet18 is searched on the demo's digits"
    assert (said.status, words in said.err, len(said.err) < 520) == (2, True, True), said


@pytest.mark.parametrize(
    "arguments",
    [["best", "runs/a", "--plan", "new/"], ["best", "runs/a", "--plan=new/"], ["export", "runs/a", "--out", "new/"]],
)
def test_a_file_is_not_named_as_a_folder(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="names a file, 'new/' is a folder"):
        require_arguments(arguments)
    require_arguments(["search", "--out", "new/"])


def test_a_dry_run_refuses_a_folder_of_another_study(typed: Callable[..., Typed], tmp_path: Path) -> None:
    assert typed("search", "--task", "corners", "--out", tmp_path / "run", *SMALL).status == 0
    said = typed(*DRY, "--out", tmp_path / "run", "--budget", "60%")
    assert (said.status, "holds another study: budget was '50%', is '60%'" in said.err) == (2, True), said
    other = ("search", "--task", "corners", "--out", tmp_path / "run", *SMALL, "--budget", "60%")
    assert typed(*other).status == 2
    before = (tmp_path / "run" / "trials.jsonl").read_bytes()
    said = typed(*other, "--overwrite")
    assert (said.status, "deleted, as --overwrite says" in said.out) == (0, True), said
    assert (tmp_path / "run" / "trials.jsonl").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "--out", ""), "--out is empty, as an unset variable is"),
        (("search", "--out="), "--out is empty"),
        (("best", ""), "an argument is empty"),
        (("report", "run", "--out", ""), "--out is empty"),
        (("best", "run\udcff"), r"the argument 'run\udcff' is not UTF-8"),
        (("search", "--out", "\udcff" * 5000), "is not UTF-8"),
    ],
)
def test_empty_arguments_and_such_that_are_not_utf8_are_refused(
    typed: Callable[..., Typed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = typed(*arguments)
    assert (said.status, message in said.err) == (2, True), said
    assert os.listdir(tmp_path) == []


def test_arguments_with_a_meaning_pass() -> None:
    require_arguments(["search", "--out", "runs/λ\u2028", "--budget", "flops=50%", "--task=demo", "-h"])


def test_an_error_is_one_line_of_letters_that_a_terminal_shows() -> None:
    assert one_line("a\nb\u2028c\x1b[31m\udcff λ") == r"a\nb\u2028c\x1b[31m\udcff λ"
    assert len(one_line("x" * 10_000)) == 500


def test_a_plan_and_a_report_replace_no_file_unasked(
    typed: Callable[..., Typed], tmp_path: Path, searched: Path
) -> None:
    run, plan, page = searched, tmp_path / "plan.json", tmp_path / "page"
    plan.write_text("mine")
    said = typed("best", run, "--plan", plan)
    assert (said.status, "is there already" in said.err, plan.read_text()) == (2, True, "mine"), said
    assert typed("best", run, "--plan", plan, "--overwrite").status == 0
    assert "sites" in json.loads(plan.read_text())
    page.mkdir()
    (page / "index.html").write_text("mine")
    said = typed("report", run, "--out", page)
    assert (said.status, "index.html is of no report" in said.err) == (2, True), said
    assert [path.name for path in page.iterdir()] == ["index.html"]
    assert typed("report", run, "--out", page, "--overwrite").status == 0
    assert typed("report", run, "--out", page).status == 0, "a report's own folder is written again"
    assert (page / "index.html").read_text(encoding="utf-8").endswith("</html>\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials = " + "[" * 50_000, "is nested too deeply"),
        ("trials = " + "9" * 5000, "is not TOML"),
        ('out = ""', "it should be a path in quotes"),
        ('out = "a\\u0000b"', "it should be a path in quotes"),
        ("minutes = nan", "--minutes must be above 0, got nan"),
        ("trials = '" + "x" * 5000 + "'", "it should be a whole number"),
    ],
)
def test_a_hostile_configuration_is_refused_in_few_words(
    typed: Callable[..., Typed], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "study.toml").write_text(text)
    said = typed(*DRY, "--config", tmp_path / "study.toml")
    assert (said.status, message in said.err, len(said.err) < 520) == (2, True, True), said


@pytest.mark.parametrize("command", ["best", "confirm", "export", "search"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spec.json", "[" * 100_000),
        ("spec.json", '{"format": "sconv-search study 1", "trials": Infinity}'),
        ("spec.json", "\udcff"),
        ("space.json", HUGE),
        ("space.json", '{"format": "sconv-search space 2", "sites": []}'),
    ],
)
def test_a_damaged_document_is_named_by_every_command(
    typed: Callable[..., Typed], tmp_path: Path, searched: Path, command: str, name: str, content: str
) -> None:
    run = RunFolder(searched)
    (run.path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    arguments = {"export": ("--to", "safetensors"), "confirm": ("--device", "cpu")}
    typing = ("search", "--task", "corners", "--out", run.path, *SMALL) if command == "search" else (command, run.path)
    said = typed(*typing, *arguments.get(command, ()))
    if command == "export" and name == "space.json":
        assert "holds no confirmed network" in said.err  # it reads no space
        return
    assert (said.status, str(run.path / name) in said.err, len(said.err) < 520) == (2, True, True), said


@pytest.fixture
def searched(typed: Callable[..., Typed], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched run beside its dense network, a copy of the test's own."""
    kept = tmp_path_factory.getbasetemp() / "searched"
    if not kept.exists():
        assert typed("search", "--task", "corners", "--out", kept / "run", *SMALL).status == 0
    return shutil.copytree(kept, tmp_path / "copy") / "run"


@pytest.mark.parametrize("name", ["spec.json", "space.json", "trials.jsonl"])
@pytest.mark.parametrize("command", [("best",), ("report", "--out", "report"), ("export", "--to", "pt2")])
def test_a_pipe_in_place_of_a_runs_file_is_named_and_not_waited_for(
    typed: Callable[..., Typed],
    spec: StudySpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder("run")
    with folder.locked():
        folder.write("spec.json", spec.to_json())
        folder.write("trials.jsonl", "{}\n")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    said = typed(command[0], "run", *command[1:])
    assert said.status == 2, said
    if (command[0], name) not in {("report", "spec.json"), ("report", "space.json"), ("export", "space.json")}:
        assert (
            "is not a regular file, it is a named pipe" in said.err
        )  # a report has no record here, an export no space


@pytest.mark.parametrize(
    "command",
    [
        ("report", "run", "--out", "run"),
        ("report", "run", "--out", "run/confirmed", "--overwrite"),
        ("best", "run", "--plan", "run/spec.json", "--overwrite"),
        ("best", "run", "--plan", "link/spec.json", "--overwrite"),
        ("compress", "corners", "--out", "run/confirmed/searched-1-seed0", "--overwrite"),
        ("compress", "corners", "--out", "run", "--overwrite"),
    ],
)
def test_what_a_run_keeps_is_replaced_by_no_other_command(
    typed: Callable[..., Typed],
    spec: StudySpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("run")
    folder = RunFolder("run")
    with folder.locked():
        folder.write("spec.json", spec.to_json())
        folder.write("trials.jsonl", "{}\n")
    before = sorted(path.name for path in folder.path.iterdir())
    said = typed(*command)
    assert (said.status, "which only commands that search and confirm write" in said.err) == (2, True), said
    assert sorted(path.name for path in folder.path.iterdir()) == before
    assert StudySpec.from_json((folder.path / "spec.json").read_text()) == spec


def test_other_names_in_a_runs_folder_are_free(spec: StudySpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.write("spec.json", spec.to_json())
    for name in ("plan.json", "exported/a.onnx", "report"):
        require_not_of_a_run(folder.path / name)
    require_not_of_a_run(tmp_path / "spec.json")
    weights = folder.path / "confirmed/searched-1-seed0/weights.safetensors"
    with pytest.raises(ValueError, match=r"weights.safetensors' is what the run in '.*run' keeps"):
        require_new(weights, overwrite=True)
