"""Keys of user code follow what it names, and nothing that it writes to as it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sconv_search.system.cache import architecture
from sconv_search.system.code import is_users
from sconv_search.system.content import code_content
from sconv_search.system.identity import lasting_sha256

NETWORK = """
class Net(nn.Module):
    {inside}

    def __init__(self):
        super().__init__()
        self.conv, self.plain = nn.Conv2d(1, 1, 1), Plain()

    def forward(self, x):
        return {forward}
"""
HEAD = "import enum, functools, logging, types, torch\nfrom torch import nn\n"
PLAIN = "class Plain:\n    pass\n"
CASES = {
    "helper function": ("def helper(x):\n    return x * {v}\n", "", "helper(self.conv(x))"),
    "helper of a helper": (
        "def inner(x):\n    return x * {v}\ndef helper(x):\n    return inner(x)\n",
        "",
        "helper(self.conv(x))",
    ),
    "remembered helper": ("@functools.lru_cache\ndef helper():\n    return {v}\n", "", "self.conv(x) * helper()"),
    "static method": ("", "@staticmethod\n    def scale(x):\n        return x * {v}", "self.scale(x)"),
    "class method": ("", "@classmethod\n    def scale(cls, x):\n        return x * {v}", "self.scale(x)"),
    "property": ("", "@property\n    def scale(self):\n        return {v}", "x * self.scale"),
    "tuple of the class": ("", "SCALES = ({v}, 1)", "x * self.SCALES[0]"),
    "global tuple": ("SCALES = ({v}, 1)\n", "", "x * SCALES[0]"),
    "global dict": ("SCALES = dict(a={v})\n", "", "x * SCALES['a']"),
    "global tensor": ("SCALE = torch.tensor({v})\n", "", "x * SCALE"),
    "global settings": ("SCALE = types.SimpleNamespace(a={v})\n", "", "x * SCALE.a"),
    "global enum": ("class Kind(enum.Enum):\n    A = 2\n    B = 3\nKIND = Kind({v})\n", "", "x * KIND.value"),
    "global layer": ("ACT = nn.LeakyReLU({v})\n", "", "ACT(x)"),
    "plain object": ("class Plain:\n    def __call__(self, x):\n        return x * {v}\n", "", "self.plain(x)"),
    "another class": ("class Other(nn.Module):\n    def forward(self, x):\n        return x * {v}\n", "", "Other()(x)"),
    "constant": ("", "", "self.conv(x) * {v}"),
    "function with its gradient": (
        "class Scale(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x * {v}\n",
        "",
        "Scale.apply(x)",
    ),
}


def network(head: str, inside: str, forward: str, value: int) -> nn.Module:
    """Of a class without a file."""
    space: dict[str, Any] = {"__name__": "made_here"}
    text = NETWORK.format(inside=inside or "pass", forward=forward)
    exec((HEAD + PLAIN + head + text).replace("{v}", str(value)), space)
    made: nn.Module = space["Net"]()
    return made


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_files_know_a_network_by_all_that_its_code_names(case: tuple[str, str, str]) -> None:
    one, again, other = (lasting_sha256(architecture(network(*case, value))) for value in (2, 2, 3))
    assert one == again
    assert one != other


Module = Callable[[str], Any]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Makes a module of the user's from its source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def load(source: str) -> Any:
        made.append(f"written_for_{tmp_path.name}_{len(made)}")
        (tmp_path / f"{made[-1]}.py").write_text(HEAD + source)
        importlib.invalidate_caches()
        return importlib.import_module(made[-1])

    return load


CHANGING = """
KEPT, SEEN, LOG, COUNT = {}, [], logging.getLogger("mine"), 0

class Plain:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1

PLAIN = Plain()

class Net(nn.Module):
    TABLE = {}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        global COUNT
        COUNT += 1
        KEPT[tuple(x.shape)] = x
        self.TABLE[COUNT] = x
        SEEN.append(len(SEEN))
        LOG.debug("seen")
        PLAIN()
        return self.conv(x)
"""


def test_caches_and_counters_that_a_forward_writes_to_change_no_key(module: Module) -> None:
    net = module(CHANGING).Net()
    before = architecture(net)
    net(torch.ones(1, 1, 2, 2))
    assert architecture(net) == before
    assert lasting_sha256(architecture(net)) == lasting_sha256(before)


def test_functions_of_a_users_own_modules_are_followed_and_those_of_libraries_are_not(module: Module) -> None:
    ours = module("def scaled(x):\n    return x * 2\n")
    user = module(f"import {ours.__name__} as ours\ndef score(x):\n    return torch.relu(ours.scaled(x))\n")
    before = lasting_sha256(code_content(user.score))
    ours.unused = 1
    assert lasting_sha256(code_content(user.score)) == before
    ours.scaled = lambda x: x * 3
    assert lasting_sha256(code_content(user.score)) != before
    assert is_users(user.__name__)
    assert not any(map(is_users, ("torch.nn", "numpy", "collections", "sconv_search.system")))


def test_loaders_count_by_their_class_where_code_names_them(module: Module) -> None:
    user = module(
        "from torch.utils.data import DataLoader\nloader = DataLoader([1, 2, 3], shuffle=True)\nseen = []\n"
        "def score(net):\n    seen.extend(loader)\n    return 0.5\n"
    )
    before = lasting_sha256(code_content(user.score))
    user.score(None)
    assert lasting_sha256(code_content(user.score)) == before
