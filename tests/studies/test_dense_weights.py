"""A dense network of our own is used for the very training that it says it is of, and never overwritten."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sconv_search.data.splits import DataSet
from sconv_search.studies import StudyContext, Task, context_from_task
from sconv_search.studies.monitor import Monitor
from sconv_search.system.weights import save_weights
from sconv_search.training.dense_weights import alone, views_sha256

CPU = torch.device("cpu")


@pytest.fixture
def quick(task: Task) -> Task:
    return replace(task, dense_schedule=replace(task.dense_schedule, epochs=0.25))


def begun(task: Task, cache: Path, monitor: Monitor | None = None) -> StudyContext:
    return context_from_task(task, data=None, weights=None, cache=cache, device=CPU, monitor=monitor or Monitor())


class Forward(nn.Sequential):
    """Another network with the same weights' names and shapes."""


def other_data(task: Task, **changes: object) -> Task:
    return replace(task, data=lambda folder, seen: replace(task.data(folder, seen), **changes))


OTHERS: dict[str, tuple[Callable[[Task], Task], str]] = {
    "data": (lambda t: other_data(t, train=t.data(None, False).validation), "data"),
    "augmentation": (lambda t: other_data(t, crop_padding=2), "views of the data"),
    "normalization": (lambda t: other_data(t, mean=(0.4, 0.3)), "views of the data"),
    "network": (lambda t: replace(t, network=lambda: Forward(*t.network())), "network"),
    "schedule": (lambda t: replace(t, dense_schedule=replace(t.dense_schedule, learning_rate=0.01)), "schedule"),
}


@pytest.mark.parametrize(("changed", "name"), OTHERS.values(), ids=OTHERS)
def test_another_training_of_the_same_name_has_a_network_of_its_own(
    quick: Task, tmp_path: Path, notes, changed: Callable[[Task], Task], name: str
) -> None:
    first = begun(quick, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    assert begun(quick, tmp_path).weights_sha256 == first.weights_sha256
    other = begun(changed(quick), tmp_path, notes)
    assert other.weights_sha256 != first.weights_sha256
    assert path.read_bytes() == content
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert f"the dense network {str(path)!r} is kept, but not used: it was trained with another {name}" in notes.lines


def test_another_version_has_a_network_of_its_own(
    quick: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes
) -> None:
    begun(quick, tmp_path)
    monkeypatch.setattr("sconv_search.training.dense_weights.version", lambda package: "9.9")
    begun(quick, tmp_path, notes)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert any("it was trained with another version" in line for line in notes.lines)


def test_one_that_does_not_say_what_it_was_trained_on_is_kept_and_not_used(quick: Task, tmp_path: Path, notes) -> None:
    """As those of version 0.1."""
    old = tmp_path / "corners-seed0.safetensors"
    save_weights(quick.network(), old)
    content = old.read_bytes()
    begun(quick, tmp_path, notes)
    assert old.read_bytes() == content
    said = f"the dense network {str(old)!r} is kept, but not used: it does not say what it was trained on"
    assert said in notes.lines


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path, other: path.write_bytes(other.read_bytes()), "it was trained with another schedule"),
        (lambda path, other: path.write_bytes(path.read_bytes()[:50]), "it is damaged"),
    ],
    ids=["copied", "damaged"],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_and_kept(
    quick: Task, tmp_path: Path, damage: Callable[[Path, Path], object], words: str
) -> None:
    begun(quick, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    begun(OTHERS["schedule"][0](quick), tmp_path / "other")
    damage(path, next((tmp_path / "other").glob("*.safetensors")))
    content = path.read_bytes()
    with pytest.raises(ValueError, match=rf"dense network '{path}' is not of this study: {words}.*move the file away"):
        begun(quick, tmp_path)
    assert path.read_bytes() == content


def test_a_second_command_waits_for_the_training_of_the_first(quick: Task, tmp_path: Path, notes) -> None:
    begun(quick, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    path.unlink()
    waiting = threading.Event()

    class Waits(type(notes)):  # type: ignore[misc]
        def say(self, text: str) -> None:
            super().say(text)
            if "waiting for it" in text:
                waiting.set()

    said, found = Waits(), []
    with alone(path, Monitor().say):
        thread = threading.Thread(target=lambda: found.append(begun(quick, tmp_path, said)))
        thread.start()
        assert waiting.wait(60)
        path.write_bytes(content)
    thread.join()
    assert len(found) == 1
    assert not any("training the dense network" in line for line in said.lines), "it takes what the first one trained"
    with open(next(tmp_path.glob(".*.lock"))) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Doubled(DataSet):
    factor = 2

    def normalized(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return super().normalized(images_NCHW) * self.factor


def test_views_and_data_sets_of_the_users_are_known_by_their_code(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Doubled(**vars_of(context.data))
    before = views_sha256(own)
    assert before != views_sha256(context.data)
    monkeypatch.setattr(Doubled, "factor", 3)
    assert views_sha256(own) != before


def vars_of(data: DataSet) -> dict[str, Any]:
    return {field.name: getattr(data, field.name) for field in fields(data)}


def test_a_space_is_of_the_calibration_images(context: StudyContext) -> None:
    fewer = replace(context, data=replace(context.data, calibration_images=7))
    assert {name for name, value in context.identity.items() if fewer.identity[name] != value} == {"calibration images"}
