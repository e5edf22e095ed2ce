"""Checkpoints at an address, by fsspec: here of a folder, which other processes see too."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from sconv_search.training.checkpoint import Checkpoint
from sconv_search.training.remote_files import RemoteFile, file_at, local_copy, write_file


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared/run"


def test_a_file_at_an_address_is_written_whole_read_renamed_and_removed(address: str, tmp_path: Path) -> None:
    file = file_at(address) / "part" / "x.bin"
    assert isinstance(file, RemoteFile)
    assert not file.exists()
    write_file(file, b"one")
    write_file(file, b"two")
    assert [path.name for path in (tmp_path / "shared/run/part").iterdir()] == ["x.bin"]
    with local_copy(file) as path:
        assert path.read_bytes() == b"two"
    other = file.with_name("y.bin")
    file.rename(other)
    assert (file.exists(), other.exists(), other.name) == (False, True, "y.bin")
    file_at(address).unlink()
    assert not (tmp_path / "shared/run").exists()
    file_at(address).unlink(missing_ok=True)


def test_a_path_stays_one(tmp_path: Path) -> None:
    assert file_at(str(tmp_path)) == tmp_path
    with local_copy(tmp_path / "x") as path:
        assert path == tmp_path / "x"


def test_an_address_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="the address 'nowhere://x' cannot be used: "):
        file_at("nowhere://x")


def test_a_training_goes_on_from_an_address_and_without_one_that_is_full(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    checkpoint = Checkpoint(path=file_at(address) / "before.safetensors", identity={"plan": "p"}, say=said.append)
    tensors = {"weight": torch.arange(3.0)}
    checkpoint.write(tensors, 7, {})
    saved = checkpoint.read({})
    assert saved is not None
    assert (saved.steps, saved.tensors["weight"].tolist()) == (7, [0.0, 1.0, 2.0])

    def full(self: Any, path: str, value: bytes, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(fsspec.filesystem("file")), "pipe_file", full)
    checkpoint.write(tensors, 9, {})
    assert said == [
        f"checkpoint '{checkpoint.path}' cannot be written: No space left on device; the training goes on without"
    ]
    again = checkpoint.read({})
    assert again is not None
    assert again.steps == 7, "the file stays as it was"
    assert Checkpoint(path=checkpoint.path, identity={"plan": "q"}, say=said.append).read({}) is None
    assert "is of another training, which differs in plan; the training starts afresh" in said[-1]
    assert not checkpoint.path.exists()
