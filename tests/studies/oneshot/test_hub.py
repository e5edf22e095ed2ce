"""Compressed networks by name: their own folders, and the hub's mixin on local folders, without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from torch import nn

import sconv_search as ss
from sconv_search.studies.runs import rebuild

NAME = "timm:test_resnet?num_classes=5"
SHAPE = (3, 32, 32)
X = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    plan = ss.CompressionPlan(
        sites={
            "layer4.0.conv1": ss.Choice(method="weight_svd", structure={"rank": 4}),
            "fc": ss.Choice(method="structured_conv", structure={"c": 8, "merged": 1}),
        }
    )
    return ss.compress(ss.named_network(NAME), SHAPE, plan)


def test_a_folder_says_what_network_it_is_of(small: nn.Module, tmp_path: Path) -> None:
    ss.save(small, tmp_path, network_name=NAME)
    for again in (ss.load(tmp_path), ss.load(tmp_path, NAME), ss.named_network(f"local-dir:{tmp_path}")):
        assert torch.equal(again(X), small(X))
        assert again.plan == small.plan
        assert (again.example, again.network_name) == (SHAPE, NAME)
    ss.save(ss.load(tmp_path), tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_text())["network"] == NAME


def test_code_that_a_folder_names_is_not_run_unasked(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hubnets.py").write_text(
        f"import sconv_search\ndef net(): return sconv_search.named_network({NAME!r})\n"
    )
    ss.save(small, "small", network_name="hubnets:net")
    with pytest.raises(ValueError, match=r"code that a folder names is not run unasked; .* network='hubnets:net'"):
        ss.load("small")
    assert "hubnets" not in sys.modules
    assert torch.equal(ss.load("small", "hubnets:net")(X), small(X))
    sys.modules.pop("hubnets")
    ss.save(small, "nameless")
    with pytest.raises(ValueError, match="does not say what network it is of"):
        ss.load("nameless")


def test_pretrained_folders_are_written_and_read_by_the_mixin(small: nn.Module, tmp_path: Path) -> None:
    ss.HubNetwork(small, NAME).save_pretrained(tmp_path / "hub")
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert config["plan"]["sites"].keys() == small.plan.sites.keys()  # type: ignore[union-attr, operator]
    assert (tmp_path / "hub/README.md").is_file()
    again = ss.HubNetwork.from_pretrained(tmp_path / "hub")
    assert torch.equal(again(X), small(X))
    assert again.network_name == NAME
    other = ss.HubNetwork.from_pretrained(tmp_path / "hub", network=ss.named_network(NAME))
    assert torch.equal(other(X), small(X))
    with pytest.raises(TypeError, match="has no plan"):
        ss.HubNetwork(nn.Linear(2, 2))


def test_a_pretrained_folder_is_replaced_whole(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = ss.HubNetwork(small, NAME)
    for _ in range(2):
        hub.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped(contents: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "write_together", stopped)
    with pytest.raises(KeyboardInterrupt):
        hub.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_pushed_is_found_by_name_in_the_cache(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload writes into the cache's layout; reading is the library's own, without a network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--someone--small"

    def upload(self: HfApi, *, repo_id: str, folder_path: str, **others: object) -> str:
        assert repo_id == "someone/small"
        target = place / "snapshots" / commit
        target.mkdir(parents=True)
        for path in Path(folder_path).iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        (place / "refs").mkdir()
        (place / "refs/main").write_text(commit)
        return "pushed"

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **others: type("Repo", (), {"repo_id": repo_id}))
    ss.HubNetwork(small, NAME).push_to_hub("someone/small")
    again = ss.HubNetwork.from_pretrained("someone/small", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(again(X), small(X))
    assert not (place / "snapshots" / commit / "model.safetensors").exists()
