"""The documentation: its site builds without a broken link, its examples run, and its commands exist."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer

from sconv_search.compressor import Compressor
from sconv_search.studies import METHODS, cli

ROOT = Path(__file__).parent.parent
TASK_PAGES = sorted((ROOT / "docs" / "tasks").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *TASK_PAGES]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', flags=re.DOTALL | re.MULTILINE)
Blocks = list[tuple[str, str, str]]
WORD_BY_WORD = ("your-own.md",)
"""Pages whose commands are quick enough to be run, too."""
USER_MODULES = ("mynets", "mystudy", "mytask", "flowers")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, *languages: str) -> Blocks:
    """(language, title, content) of the fenced blocks, in order."""
    return [found for found in BLOCK.findall(page.read_text(encoding="utf-8")) if found[0] in languages]


@pytest.fixture(autouse=True)
def _methods_and_modules_stay() -> Iterator[None]:
    before, modules = dict(METHODS._methods), {name: sys.modules.pop(name, None) for name in USER_MODULES}
    yield
    for name, module in modules.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module
    METHODS._methods = before


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are their page, tables and data: to draw a hundred files takes longer than all that a page does."""
    monkeypatch.setattr("sconv_search.reports.page.USUAL_KINDS", ())


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command line of a page in this process."""
    if words[0] == "python":
        runpy.run_module(words[2], run_name="__main__") if words[1] == "-m" else runpy.run_path(
            words[1], run_name="__main__"
        )
        return
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None), words


def command_lines(content: str) -> list[list[str]]:
    """The commands of a shell block, in words."""
    lines = (shlex.split(line, comments=True) for line in content.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> ModuleType:
    """The page's Python blocks, run in turn as one module in a folder in which the user's files of the page lie.

    Of some pages the commands are run too, in their places.
    """
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look their annotations up
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])  # as of a script that lies there
    monkeypatch.chdir(folder)
    languages = ("python", "sh") if page.name in WORD_BY_WORD else ("python",)
    for number, (language, title, code) in enumerate(blocks(page, *languages), start=1):
        if language == "sh":
            for words in command_lines(code):
                run_command(words, monkeypatch)
            continue
        if title and "/" not in title:  # a file of the user's; others belong into the repository
            Path(title).write_text(code, encoding="utf-8")
            monkeypatch.delitem(sys.modules, Path(title).stem, raising=False)  # another page's of that name
            continue
        exec(compile(code, f"{page.name}, example {number}", "exec"), vars(module))
    return module


EXAMPLES = [page for page in PAGES if blocks(page, "python") and page.name != "README.md"]  # test_readme.py runs that
SLOW = ("audio.md", "classifier.md", "detection.md", "super-resolution.md", "u-net.md", "video.md")
"""Pages of tasks beside those that are always run."""
RUN = [pytest.param(page, marks=[pytest.mark.slow] if page.name in SLOW else [], id=page.name) for page in EXAMPLES]


@pytest.mark.parametrize("page", RUN)
def test_the_examples_of_a_page_run_and_print_what_it_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_page(page, monkeypatch, tmp_path)
    printed = capsys.readouterr().out
    for _, title, expected in blocks(page, "text"):
        assert title != "prints" or expected in printed


@pytest.mark.parametrize(("name", "most"), [("classifier", 12), ("u-net", 13), ("detection", 20)])
def test_a_study_takes_no_more_lines_than_the_page_says(name: str, most: int) -> None:
    """From the study to the exported file; of the detector, with the module of what is compressed in it."""
    code = "".join(content for _, _, content in blocks(ROOT / "docs" / "tasks" / f"{name}.md", "python"))
    begin = code.index("study = ss.Study(")
    study = code[begin : code.index("\n", code.index("ss.export(", begin))]
    if name == "detection":
        study += "\n" + code[code.index("class Heads") : code.index("def fit(")]
    assert len([line for line in study.splitlines() if line.strip()]) == most
    table = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| `ss.Study`"))
    assert f" {most} |" in row


def test_pages_with_examples_are_found() -> None:
    assert {"adding-a-method.md", "mathematics.md", "quick-start.md", "tasks.md", "your-own.md"} <= {
        page.name for page in EXAMPLES
    }


def options_known() -> set[str]:
    """Long options of all commands."""
    commands = typer.main.get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    every = {option for command in commands for parameter in command.params for option in parameter.opts}
    return {option for option in every if option.startswith("--")} | {"--help", "--debug"}


def check_command(words: list[str], own: Collection[str] = ()) -> None:
    """Refuses a command that does not exist, or that does not take these arguments; ``own`` are files that its page
    shows.
    """
    name, *arguments = words
    if name == "sconv-search":
        group = typer.main.get_command(cli.app)
        context = group.make_context(name, arguments, resilient_parsing=False)
        _, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
        command.make_context(command.name, rest)
    elif name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in arguments), words
    elif name in ("python", "pytest"):
        assert all(word in own or (ROOT / word).exists() for word in arguments if word.endswith(".py")), words
        is_script = name == "pytest" or arguments[0].endswith(".py")
        assert is_script or (arguments[0] == "-m" and importlib.util.find_spec(arguments[1])), words
    else:
        assert name in ("pip", "cd", "for", "done", "git", "jupyter"), f"no check for {words}"


@each_page
def test_every_command_of_a_page_exists(page: Path) -> None:
    own = {title for _, title, _ in blocks(page, "python")}
    for _, _, content in blocks(page, "sh"):
        for words in command_lines(content):
            check_command(words, own)


@each_page
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    assert set(re.findall(r"`(--[a-z][a-z0-9-]*)", page.read_text(encoding="utf-8"))) <= options_known()


@pytest.mark.parametrize(
    "wrong",
    [
        "sconv-search serch --out runs/a",
        "sconv-search search --tirals 3 --out runs/a",
        "make dcos",
        "python no.py",
        "rm -r runs",
    ],
)
def test_a_misspelled_command_is_found(wrong: str) -> None:
    usage_error = typer.BadParameter.__base__
    assert usage_error is not None
    with pytest.raises((AssertionError, usage_error)):
        check_command(shlex.split(wrong))


# The method that adding-a-method.md adds obeys the laws of all methods.


def contract() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contract_laws", ROOT / "tests" / "test_contract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTRACT = contract()
LAWS = {
    name: law
    for name, law in vars(CONTRACT).items()
    if name.startswith("test_") and "method" in inspect.signature(law).parameters
}
CASES = [
    (law, place) for law in LAWS for place in ((0, 1) if "place" in inspect.signature(LAWS[law]).parameters else (0,))
]


@pytest.fixture(scope="module")
def added() -> Compressor:
    with pytest.MonkeyPatch.context() as patch:
        (code,) = (code for _, title, code in blocks(ROOT / "docs" / "adding-a-method.md", "python") if title)
        module = ModuleType("tap_cropping_of_the_page")
        patch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, "tap_cropping.py", "exec"), vars(module))
        method: Compressor = module.TapCropping()
    return method


@pytest.mark.parametrize(("law", "place"), CASES)
def test_the_added_method_obeys(
    law: str, place: int, added: Compressor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = inspect.signature(LAWS[law]).parameters
    METHODS.add(added)
    torch.manual_seed(0)
    known = {
        "method": added,
        "network": CONTRACT.Tiny().eval(),
        "images": CONTRACT.drawn(3, 1),
        "calibration": None,
        "place": place,
        "tmp_path_factory": tmp_path_factory,
    }
    LAWS[law](**{name: known[name] for name in wanted})


def test_the_laws_see_a_broken_method(added: Compressor) -> None:
    broken = copy.copy(added)
    object.__setattr__(broken, "compress", lambda network, plan, calibration=None: network.train())
    with pytest.raises(AssertionError):
        LAWS["test_compressing_keeps_the_argument_and_the_output_shape"](
            broken, CONTRACT.Tiny().eval(), CONTRACT.drawn(3, 1), None, 0
        )


one_site = pytest.mark.xdist_group("site")  # which takes seconds to build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a broken link or anchor, a page that is not in the navigation, a wrong docstring are
    errors.
    """
    folder = tmp_path_factory.mktemp("site")
    # not --quiet, under which mkdocs no longer counts warnings
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@one_site
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(https?:)?//|<link[^>]*stylesheet[^>]*href=[\"']?(https?:)?//"
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name


@one_site
def test_the_reference_tells_of_every_public_name(site: Path) -> None:
    import sconv_search
    import sconv_search.reports
    import sconv_search.studies

    for package in (sconv_search, sconv_search.studies, sconv_search.reports):
        page = (site / "reference" / f"{package.__name__.rpartition('.')[2]}.html").read_text(encoding="utf-8")
        places = set(re.findall(r'id="([\w.]+)"', page))
        assert [name for name in package.__all__ if not any(place.endswith(f".{name}") for place in places)] == []


@one_site
def test_every_method_and_measurement_has_its_place(site: Path) -> None:
    page = (site / "reference" / "baselines.html").read_text(encoding="utf-8")
    for method in METHODS.values():
        kind = type(method)
        assert kind.__module__.startswith("sconv_search") or f'id="{kind.__module__}.{kind.__name__}"' in page
    listed = (site / "measurements.html").read_text(encoding="utf-8")
    for path in (ROOT / "benchmarks" / "results").glob("*.md"):
        assert f"{path.stem}.html" in listed
