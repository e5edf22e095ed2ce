"""Groups of options: dataclasses become flags, and flags become dataclasses again."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sconv_search.studies import cli
from sconv_search.studies.options.groups import Command, Group, flattened
from tests.studies.conftest import Typed


@dataclass(frozen=True, kw_only=True)
class Paint:
    """Paint and brush."""

    color: Annotated[str, typer.Option(help="Color.")]
    coats: Annotated[int, typer.Option("--coats", "-c", help="Coats.", min=1)] = 2
    glossy: Annotated[bool, typer.Option("--glossy", help="Shine.")] = False


@dataclass(frozen=True, kw_only=True)
class Wall:
    """Wall."""

    side: Annotated[list[str] | None, typer.Option(help="Side.")] = None


Seen = list[tuple[str, Paint, Wall, float]]


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def app(seen: Seen) -> typer.Typer:
    made = typer.Typer(cls=Group)

    def paint(
        name: Annotated[str, typer.Argument(help="Name.")],
        paint: Paint,
        wall: Wall,
        price: Annotated[float, typer.Option(help="Price.")] = 0.5,
    ) -> None:
        """Paint a wall."""
        seen.append((name, paint, wall, price))

    made.command(cls=Command)(flattened(paint))
    made.callback()(lambda: None)
    return made


def test_flags_become_the_groups_that_a_command_takes(app: typer.Typer, seen: Seen) -> None:
    line = ["paint", "hall", "--color", "red", "-c", "3", "--side", "north", "--side", "west", "--glossy"]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert CliRunner().invoke(app, ["paint", "attic", "--color", "blue", "--price", "2"]).exit_code == 0
    assert seen == [
        ("hall", Paint(color="red", coats=3, glossy=True), Wall(side=["north", "west"]), 0.5),
        ("attic", Paint(color="blue"), Wall(), 2.0),
    ]


def test_help_has_a_panel_for_each_group_and_no_value_for_a_flag(app: typer.Typer) -> None:
    text = CliRunner().invoke(app, ["paint", "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    panels = [line.strip("╭─╮ ") for line in text.splitlines() if line.startswith("╭")]
    assert panels == ["Arguments", "Options", "Paint and brush", "Wall"]
    (row,) = (line for line in text.splitlines() if "--glossy" in line)
    assert row.strip("│ ").split() == ["--glossy", "Shine."]


def test_what_a_group_requires_is_missed(app: typer.Typer) -> None:
    said = CliRunner().invoke(app, ["paint", "hall"])
    assert (said.exit_code, "Missing option '--color'" in said.output) == (2, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--glossy", "true"], "a flag takes no value; leave out 'true'"),
        (["--glossy", "False"], "a flag takes no value; leave out '--glossy False'"),
    ],
)
def test_a_value_after_a_flag_is_explained(app: typer.Typer, seen: Seen, line: list[str], message: str) -> None:
    said = CliRunner().invoke(app, ["paint", "--color", "red", *line], env={"COLUMNS": "120"})
    assert (said.exit_code, message in said.output, seen) == (2, True, [])


def test_true_may_be_a_value_where_no_flag_stands_before_it(app: typer.Typer, seen: Seen) -> None:
    assert CliRunner().invoke(app, ["paint", "--color", "true", "--glossy", "--", "false"]).exit_code == 0
    assert seen == [("false", Paint(color="true", glossy=True), Wall(), 0.5)]


def test_two_groups_with_one_option_are_refused() -> None:
    def twice(first: Paint, second: Paint) -> None: ...

    with pytest.raises(TypeError, match="twice has two options 'color'"):
        flattened(twice)


def test_every_option_of_search_stands_in_a_panel_of_its_group(typed, monkeypatch: pytest.MonkeyPatch) -> None:
    command = typer.main.get_command(cli.app).commands["search"]  # type: ignore[attr-defined]  # a group
    options = {option.name: option.rich_help_panel for option in command.params}
    assert None not in options.values()
    said: Typed = typed("search", "--help")
    titles = dict.fromkeys(options.values())
    assert len(titles) == 8
    places = [said.out.index(f"─ {title} ─") for title in titles]
    assert places == sorted(places)


def test_groups_are_values() -> None:
    paint = Paint(color="red")
    with pytest.raises(AttributeError):
        paint.color = "blue"  # type: ignore[misc]
    assert [field.name for field in fields(Paint)] == ["color", "coats", "glossy"]
