"""The shell's completion, driven as a shell drives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sconv_search.studies import METHODS, TASKS, cli


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The completions of a line's last word."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("_SCONV_SEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit) as end:
            cli.app(prog_name="sconv-search")
        assert not end.value.code
        return capsys.readouterr().out.split()

    return complete


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "sconv-search ",
            ["tasks", "sites", "compress", "search", "confirm", "best", "export", "report", "compare", "demo"],
        ),
        ("sconv-search se", ["search"]),
        ("sconv-search search --method ", list(METHODS)),
        ("sconv-search search --method cp --method struct", [name for name in METHODS if name.startswith("struct")]),
        ("sconv-search sites --method spatial", ["spatial_svd"]),
        ("sconv-search search --task ", list(TASKS)),
        ("sconv-search sites cifar10/resnet5", ["cifar10/resnet56"]),
        ("sconv-search search --quantity ", ["flops", "macs", "params", "activations", "latency_ms"]),
        ("sconv-search confirm runs/a --dev", ["--device", "--devices"]),
        ("sconv-search search --config absent.toml --quantity p", ["params"]),
    ],
)
def test_values_are_completed(completed, line: str, wanted: list[str]) -> None:
    assert completed(line) == wanted


def test_completion_is_shown_and_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is named: tests run in none
    monkeypatch.setenv("HOME", str(tmp_path))
    for option in ("--show-completion", "--install-completion"):
        with pytest.raises(SystemExit) as end:
            cli.app([option, "bash"], prog_name="sconv-search")
        assert not end.value.code
    assert "_SCONV_SEARCH_COMPLETE=complete_bash" in capsys.readouterr().out
    assert any("_SCONV_SEARCH_COMPLETE" in path.read_text() for path in tmp_path.rglob("*.sh"))
