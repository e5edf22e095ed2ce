"""What a user's own name stands for, and what is said where it stands for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan
from sconv_search.studies import Task, compress, rebuild, save_compressed
from sconv_search.studies.tasks import task_named, with_network
from sconv_search.studies.user_code import made_by, network_by, require_findable

MINE = """
from torch import nn
from dataclasses import replace
from sconv_search.studies.tasks import demo

def network():
    body = nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, 10))
def task(): return replace(demo(), name="anything")
class Network(nn.Linear):
    def __init__(self, size=3): super().__init__(size, size)
    made = staticmethod(network)
def number(): return 3
def nothing(): pass
def sized(width, *, depth): return nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
def fails(): raise RuntimeError("no luck")
linear = nn.Linear(2, 2)
constant = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    files = {"minenets": MINE, "needsnets": "import absentlibrary", "brokennets": "def f(:"}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield
    for name in files:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["network", "Network", "Network.made"])
def test_a_function_or_class_without_required_arguments_makes_a_network(name: str) -> None:
    first, second = (made_by(f"minenets:{name}", nn.Module) for _ in range(2))
    assert isinstance(first, nn.Module)
    assert first is not second


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("minenets", ValueError, "'minenets' must have the form package.module:function, such as mynets:small"),
        ("mine-nets:network", ValueError, "must have the form package.module:function"),
        (
            "minenet:network",
            KeyError,
            r"no module 'minenet' for 'minenet:network': neither .* nor .*; nearest file: minenets",
        ),
        ("minenets.inner:network", KeyError, "no module 'minenets.inner'"),
        ("needsnets:network", ValueError, "importing 'needsnets' .* needs 'absentlibrary', which is not installed"),
        ("brokennets:network", ValueError, "importing 'brokennets' .* raises SyntaxError: .*line 1"),
        (
            "minenets:netwrok",
            KeyError,
            "'minenets' has no 'netwrok', asked for by 'minenets:netwrok'; nearest: network",
        ),
        ("minenets:Network.make", KeyError, "has no 'Network.make'.*nearest: made"),
        (
            "minenets:constant",
            TypeError,
            r"is a value of type int, it should be a function that returns a torch.nn.Module",
        ),
        (
            "minenets:linear",
            TypeError,
            r"is a value of type Linear, it should be a function that returns a torch.nn.Module",
        ),
        (
            "minenets:sized",
            TypeError,
            "needs the arguments width, depth; give them, as minenets:sized\\?width=VALUE, or name a function",
        ),
        ("minenets:number", TypeError, "returns a value of type int, it should return a torch.nn.Module"),
        ("minenets:nothing", TypeError, "returns None, it should return a torch.nn.Module"),
        (
            "os:abort",
            TypeError,
            "'os:abort' is a function of Python itself or of compiled code, it should be a function",
        ),
        ("minenets:fails", ValueError, "'minenets:fails' raises RuntimeError: no luck"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made_by(text, nn.Module)


def test_a_function_takes_the_arguments_after_a_question_mark() -> None:
    made = made_by("minenets:sized?width=3&depth=2", nn.Module)
    assert [layer.weight.shape for layer in made] == [(3, 3), (3, 3)]
    assert len(network_by("minenets:sized?width=3&depth=4").make(False)) == 4  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"raises TypeError: .*unexpected keyword argument 'deep'"):
        made_by("minenets:sized?width=3&depth=2&deep=1", nn.Module)


@pytest.mark.parametrize("arguments", ["num_classes", "=3", "a=1&a=2", "a b=1", ""])
def test_arguments_without_name_or_value_are_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match="is no argument; write NAME"):
        network_by(f"torchvision:resnet18?{arguments}")


def test_a_task_of_ones_own_keeps_the_name_that_finds_it_again() -> None:
    found = task_named("minenets:task")
    assert isinstance(found, Task)
    assert found.name == "minenets:task"
    with pytest.raises(TypeError, match=r"returns a value of type Sequential, it should return a studies\.Task"):
        task_named("minenets:network")


@pytest.mark.parametrize("base", ["demo", "minenets:task"])
def test_a_network_of_ones_own_takes_the_place_of_the_tasks(base: str) -> None:
    name = with_network(base, "minenets:network")
    found = task_named(name)
    assert found.name == name == f"{base}@minenets:network"
    assert found.input_shape == task_named(base).input_shape
    assert found.network()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    assert len(list(found.network().modules())) == 6
    with pytest.raises(ValueError, match="names a network already; leave out --network x:y"):
        with_network(name, "x:y")


def test_without_a_network_the_tasks_name_stays() -> None:
    assert with_network("demo", None) == "demo"


def test_a_users_compressed_network_is_rebuilt_by_its_tasks_name(tmp_path: Path) -> None:
    network, image = task_named("demo@minenets:network").network().eval(), torch.randn(1, 1, 28, 28)
    plan = CompressionPlan(sites={"0": Choice(method="weight_svd", structure={"rank": 2})})
    compressed = compress(network, plan)
    save_compressed(compressed, plan, tmp_path / "kept")
    again = rebuild(task_named("demo@minenets:network").network(), tmp_path / "kept")
    torch.testing.assert_close(again(image), compressed(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", ["demo", "timm:resnet18", "torchvision:resnet18@DEFAULT", "demo@timm:resnet18", "json:loads"]
)
def test_names_that_can_be_found_are_taken_without_building_them(name: str) -> None:
    require_findable(name)


@pytest.mark.parametrize("name", ["tim:resnet18", "demo@tim:resnet18", "timm:", ":x", "a b:c"])
def test_names_that_nothing_here_has_are_refused(name: str) -> None:
    with pytest.raises((KeyError, ValueError), match=r"no module 'tim'|names no network"):
        require_findable(name)
