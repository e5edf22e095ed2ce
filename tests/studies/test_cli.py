"""The commands as a user types them: what they make, and what they say to wrong input."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from rich.console import Console
from torch import nn

from sconv_search.studies import RunFolder, cli
from sconv_search.studies.commands.sites import say_sites
from sconv_search.studies.space.sites import site_table
from sconv_search.studies.user_code import made_by
from tests.studies.conftest import SMALL, Typed


@pytest.fixture
def run(typed: Callable[..., Typed]) -> Callable[..., tuple[int, str]]:
    """Runs ``sconv-search`` with arguments: (exit status, what it printed)."""

    def call(*arguments: object) -> tuple[int, str]:
        said = typed(*arguments)
        return said.status, said.out + said.err

    return call


@pytest.mark.slow
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
        (
            ("--budget", "0"),
            "error: budget '0' leaves nothing; write a share of the dense network ('50%') or an amount",
        ),
        (("--budget", "200%"), "error: budget '200%' is 200% of the dense network's"),
        (("--budget", "fifty"), "error: budget 'fifty' is not understood"),
        (("--budget", "50"), "error: budget '50' is 50 flops; did you mean '50%'?"),
        (("--budget", "0.5"), "error: budget '0.5' is 0.5 flops; did you mean '50%'?"),
        (("--budget", "macs=30..90"), "error: budget 'macs=30..90' is 30 macs; did you mean 'macs=30%..90%'?"),
        (("--budget", "1%"), "cannot be met: the cheapest plan needs"),
        (
            ("--task", "cornes"),
            "error: unknown task 'cornes'; nearest: corners; known: corners, demo, cifar10/resnet20",
        ),
        (("--method", "spatial_sdv"), "error: unknown method 'spatial_sdv'; nearest: spatial_svd"),
        (("--exclude", "convolution"), "error: exclude pattern 'convolution' matches no site; nearest: 0, 3, 6, 8"),
        (("--multiple", "0"), "error: multiple must be a positive whole number, such as 8, got 0"),
        (("--network", "absentnets:small"), "error: no module 'absentnets' for 'absentnets:small'"),
        (
            ("--network", "json:loads"),
            "error: 'json:loads' needs the arguments s; give them, as json:loads?s=VALUE, or name a function",
        ),
        (("--network", "torch.nn:Identity"), "error: budget '50%'"),
        (
            ("--task", "torch.nn:Identity"),
            "error: 'torch.nn:Identity' returns a value of type Identity, it should return a studies.Task",
        ),
        (("--trials", "0"), "error: StudySpec.trials must be at least 1, got 0"),
        (("--epochs", "-1"), "error: Schedule.epochs must not be below 0, got -1"),
        (("--weights", "absent.safetensors"), "error: weights file 'absent.safetensors' does not exist"),
        (
            ("--task", "cifar10/resnet20", "--data", "absent"),
            "error: the data folder 'absent' does not exist; name one with --data",
        ),
        (("--device", "abacus"), "error: device 'abacus' cannot be used here; name one of auto, cpu"),
        (("--device", "meta"), "error: device 'meta' cannot be used here"),
        (("--epochs", "inf"), "error: Schedule.epochs must be finite, got inf"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    status, said = run("search", "--task", "corners", "--out", tmp_path / "run", *SMALL, *arguments)
    assert status == 2
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "dense").exists(), "no network was trained for it"


@pytest.mark.parametrize("arguments", [("--debug", "report", "absent"), ("report", "absent", "--debug")])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr("sys.argv", ["sconv-search", *arguments])
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


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (["jpg"], "figures are written as svg, png, pdf, or as none of these, got 'jpg'"),
        (["svg", "none"], "--figures none stands alone, got svg, none"),
    ],
)
def test_kinds_of_figures_that_cannot_be_are_refused(run, tmp_path: Path, figures: list[str], said: str) -> None:
    arguments = [word for kind in figures for word in ("--figures", kind)]
    status, error = run("report", tmp_path, "--out", tmp_path / "report", *arguments)
    assert status == 2
    assert said in error
    assert not (tmp_path / "report").exists()


def test_the_figures_files_are_those_that_are_asked_for(run, tmp_path: Path) -> None:
    assert run("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)[0] == 0
    for figures, kinds in (("pdf", {".pdf"}), ("none", set())):
        assert run("report", tmp_path / "run", "--out", tmp_path / "report", "--figures", figures)[0] == 0
        assert {path.suffix for path in (tmp_path / "report" / "figures").iterdir()} == kinds


def test_a_damaged_record_is_reported_and_the_rest_is_drawn(run, tmp_path: Path) -> None:
    assert run("search", "--task", "corners", "--out", tmp_path / "run", *SMALL)[0] == 0
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps({"schema": 1, "color": 3})]) + "\n")
    status, said = run("report", tmp_path / "run", "--out", tmp_path / "report")
    assert status == 0, said
    assert "line 2" in (tmp_path / "report" / "summary.md").read_text()


MYNETS = """
import torch
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4),
    )

def logits_of_three():
    return nn.Sequential(nn.Flatten(), nn.Linear(288, 3))

def not_flat():
    return nn.Sequential(nn.Conv2d(2, 4, 3))

class Unready(nn.Conv2d):
    def forward(self, x):
        return x.unready

def raises_later():
    return Unready(2, 4, 3)

def raises():
    raise OSError("no checkpoint")

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).abs()

def spectral():
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), Spectrum(), nn.Flatten(), nn.Linear(1152, 4))

def talks():
    print("built")
    return small()
"""


@pytest.fixture
def mynets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's file in the current directory."""
    (tmp_path / "mynets.py").write_text(MYNETS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    monkeypatch.chdir(tmp_path)
    return "mynets"


def test_a_network_of_ones_own_is_searched_confirmed_and_reported(run, tmp_path: Path, mynets: str) -> None:
    folder = tmp_path / "run"
    search = ("search", "--task", "corners", "--network", f"{mynets}:small", "--exclude", "7", "--multiple", 4)
    status, said = run(*search, "--out", folder, *SMALL)
    assert status == 0, said
    assert "skipped 7: excluded by '7'" in said
    space, spec = RunFolder(folder).read_space(), RunFolder(folder).read_spec()
    assert space is not None
    assert spec is not None
    assert set(space.sites) == {"0", "3"} or set(space.sites) == {"3"}
    assert all(option.choice.structure["c"] % 4 == 0 for option in space.sites["3"])
    assert (spec.task, spec.exclude, spec.multiple) == ("corners@mynets:small", ("7",), 4)
    confirm = ("confirm", folder, "--seeds", 1, "--plans", 1, "--device", "cpu")
    status, said = run(*confirm)
    assert (status, f"give --network '{mynets}:small'" in said) == (2, True), (
        "code that a folder names is not run unasked"
    )
    status, said = run(*confirm, "--network", f"{mynets}:small")
    assert status == 0, said
    assert "run searched-" in said
    status, said = run("report", folder, "--out", tmp_path / "report")
    assert status == 0, said


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("logits_of_three", "gives (1, 3) for one input, which is 3 classes, but the train labels go up to 3"),
        ("raises", "error: 'mynets:raises' raises OSError: no checkpoint"),
        ("raises_later", "error: Unready fails on an input of shape (2, 12, 12): AttributeError: "),
        ("not_flat", "gives (1, 4, 10, 10) for one input; the data's 4 classes need logits of shape (1, 4)"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(
    run, tmp_path: Path, mynets: str, function: str, message: str
) -> None:
    arguments = ("--task", "corners", "--network", f"{mynets}:{function}", "--out", tmp_path / "run")
    status, said = run("search", *arguments, *SMALL)
    assert (status, message in said) == (2, True), said
    assert not (tmp_path / "dense").exists()


def test_sites_are_listed_with_a_letter_a_method_and_what_is_left_out(run, mynets: str) -> None:
    methods = ("--method", "tucker", "--method", "weight_svd")
    status, said = run("sites", f"{mynets}:small", "--input", "2,12,12", *methods, "--exclude", "0")
    assert status == 0, said
    rows = {line.split()[0]: line for line in said.splitlines()}
    assert "8→8 3×3" in rows["3"]
    assert (" ab " in rows["3"], " ·b " in rows["7"]) == (True, True)
    assert "excluded by '0'" in rows["0"]
    assert "Sequential on 2×12×12: 27,072 MACs" in said  # 36 (8 2 9 + 8 8 9) + 288 4
    assert "by method: a tucker: 1, b weight_svd: 2" in said


def test_sites_of_a_network_with_an_operator_without_a_cost_are_listed_as_its_error_says(run, mynets: str) -> None:
    given = ("sites", f"{mynets}:spectral", "--input", "2,12,12", "--method", "weight_svd")
    status, said = run(*given)
    assert (status, len(said.strip().splitlines())) == (2, 1)
    assert (
        "no cost is known for aten::fft_fft2, run by 1 (Spectrum). To count as nothing: --count-free aten::fft_f"
        in said
    )
    status, said = run(*given, "--count-free", "aten::fft_fft2")
    assert (status, "Sequential on 2×12×12: 25,344 MACs" in said) == (0, True), said
    status, said = run(*given, "--count-free", "aten::fft_ftt2")
    assert (status, "torch has no operator aten::fft_ftt2; did you mean aten::fft_fft2" in said) == (2, True), said


def test_a_pipe_has_a_line_a_layer_with_full_names(mynets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    say_sites(site_table(made_by(f"{mynets}:small", nn.Module), (2, 12, 12)), Console(file=out))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("3 ") and "Conv2d" in line)
    assert all(name in row for name in ("structured_conv", "spatial_svd", "weight_svd", "tucker", "cp"))
    assert "(rank=" in row


def test_sites_as_json_hold_every_methods_options_and_reasons(typed: Callable[..., Typed], mynets: str) -> None:
    said = typed("sites", f"{mynets}:talks", "--input", "2x12x12", "--json")
    assert (said.status, said.err) == (0, "built\n")
    table = json.loads(said.out)
    head = next(layer for layer in table["layers"] if layer["site"] == "7")
    assert head["macs"] == 1152
    assert head["offers"]["weight_svd"]["cheapest"]["structure"] == {"rank": 1}
    assert head["reasons"]["spatial_svd"] == "not for a Linear layer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mynets:small",), "does not say what inputs it takes; give the shape of one, such as --input 3,224,224"),
        (("mynets:small", "--input", "3,12,12"), "error: Sequential fails on an input of shape (3, 12, 12)"),
        (("mynets:small", "--input", "2,-1"), "--input must be positive whole numbers, such as 3,224,224"),
        (("mynets:smal", "--input", "2,12,12"), "'mynets' has no 'smal', asked for by 'mynets:smal'; nearest: small"),
        (("corner",), "unknown network 'corner': networks of libraries are written torchvision:corner"),
        (("corners", "--include", "0.conv"), "include pattern '0.conv' matches no site; nearest: "),
    ],
)
def test_wrong_sites_are_one_line(run, mynets: str, arguments: tuple[str, ...], message: str) -> None:
    status, said = run("sites", *arguments)
    assert (status, message in said) == (2, True), said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["sites", "search", "confirm", "report", "compare", "demo"])
def test_each_commands_help_has_an_example_the_exit_statuses_and_words_for_every_option(run, command: str) -> None:
    status, said = run(command, "--help")
    assert status == 0
    assert f"Example: sconv-search {command}" in said
    assert "Exit status: 0 done, 2 wrong input" in said
    parameters = typer.main.get_command(cli.app).commands[command].params
    assert [parameter.name for parameter in parameters if not parameter.help] == []


def test_the_version_is_told(run) -> None:
    assert run("--version") == (0, f"sconv-search {version('sconv-search')}\n")


@pytest.mark.parametrize("package", ["sconv_search", "sconv_search.studies"])
def test_python_runs_the_package_as_the_program(package: str) -> None:
    command = [sys.executable, "-m", package, "--version"]
    assert subprocess.check_output(command, text=True) == f"sconv-search {version('sconv-search')}\n"
