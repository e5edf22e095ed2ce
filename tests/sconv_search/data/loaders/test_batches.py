"""Users' own loaders: what a network reads of a batch, and batches that are the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.loaders.replay import replayed, same_batch


class Noisy(Dataset[Tensor]):
    """Items that are augmented by all three kinds of random numbers."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, random.random(), np.random.rand(), float(torch.rand(()))])


class Counting:
    """Batches that differ each time, whatever the seed."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(3):
            self.read += 1
            yield torch.tensor([float(self.read)])


def loader_data(loader: Any, **changed: Any) -> LoaderData:
    return LoaderData(name="mine", loader=loader, **changed)


def test_a_shuffling_loader_gives_the_same_batches_for_one_seed_and_others_for_another() -> None:
    own = torch.Generator().manual_seed(3)
    for loader in (DataLoader(Noisy(), 4, shuffle=True), DataLoader(Noisy(), 4, shuffle=True, generator=own)):
        first, again, other = (list(replayed(loader, seed)) for seed in (1, 1, 2))
        assert same_batch(first, again)
        assert not same_batch(first, other)


def test_the_users_random_numbers_are_left_as_they_were() -> None:
    own = torch.Generator().manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), own.get_state()
    list(islice(replayed(DataLoader(Noisy(), 4, shuffle=True, generator=own), 1), 2))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), own.get_state()
    assert torch.equal(before[0], after[0])
    assert before[1:3] == after[1:3]
    assert torch.equal(before[3], after[3])


def test_batches_after_a_resumption_are_those_that_would_have_come() -> None:
    data = loader_data(DataLoader(Noisy(), 4, shuffle=True))
    begin = data.training_batches(8, 1, 1, 5, torch.Generator())
    whole, later = list(islice(begin(0), 8)), list(islice(begin(4), 4))
    assert same_batch(whole[4:], later)
    assert not same_batch(whole[:3], whole[3:6]), "each epoch is shuffled anew"


def test_a_loader_that_cannot_be_replayed_says_so_and_resumes_at_epochs() -> None:
    data = loader_data(Counting())
    assert not data.can_be_replayed
    assert "last whole epoch" in data.notes[0]
    assert [data.resumes_at(step) for step in (1, 2, 3, 6)] == [False, False, True, True]
    assert data.checksum() == loader_data(Counting()).checksum()
    sound = loader_data(DataLoader(Noisy(), 4, shuffle=True))
    assert sound.can_be_replayed
    assert sound.notes == ()
    assert sound.resumes_at(1)


def test_checksums_tell_data_apart_and_are_equal_for_equal_data() -> None:
    def of(fill: float, **facts: str) -> str:
        rows = TensorDataset(torch.full((6, 2), fill), torch.zeros(6))
        return loader_data(DataLoader(rows, 3, shuffle=True), facts=facts).checksum()

    assert of(1.0) == of(1.0)
    assert len({of(1.0), of(2.0), of(1.0, network="other")}) == 3


@pytest.mark.parametrize(
    ("batch", "options", "read", "wanted"),
    [
        (("x", "y"), {}, "x", "y"),
        (["x", "y", "z"], {}, "x", ["x", "y", "z"]),
        ("x", {}, "x", "x"),
        ({"a": 1}, {}, {"a": 1}, {"a": 1}),
        (("x", "y"), {"inputs": lambda batch: batch[1]}, "y", ("x", "y")),
        (("x", "y"), {"targets": lambda batch: batch[0]}, "x", "x"),
    ],
)
def test_what_of_a_batch_is_read_and_wanted(batch: Any, options: Any, read: Any, wanted: Any) -> None:
    data = loader_data([batch], **options)
    assert data.read(batch) == read
    assert data.wanted(batch) == wanted


def test_the_first_inputs_are_joined_up_to_the_samples() -> None:
    batches = [(torch.full((3, 2), float(place)), None) for place in range(4)]
    data = loader_data(batches, samples=7)
    assert data.calibration[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert data.calibration_inputs(2)[:, 0].tolist() == [0, 0]
    assert data.length == 4
    assert data.training_steps(0.5, 1) == 2


def test_a_loader_without_length_is_counted() -> None:
    class Unsized:
        def __iter__(self) -> Iterator[Tensor]:
            return iter([torch.zeros(1, 2)] * 5)

    assert loader_data(Unsized()).length == 5


def test_what_cannot_be_read_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="must be an iterable of batches, such as a DataLoader"):
        loader_data(3)
    with pytest.raises(TypeError, match="can be read only once"):
        loader_data(iter([torch.zeros(1)]))
    with pytest.raises(ValueError, match="holds no batch"):
        loader_data([]).calibration  # noqa: B018
    with pytest.raises(ValueError, match="holds no batch"):
        loader_data([]).length  # noqa: B018
    with pytest.raises(ValueError, match="inputs must have one shape"):
        loader_data([torch.zeros(1, 3, 4), torch.zeros(1, 3, 5)]).calibration  # noqa: B018
    with pytest.raises(ValueError, match="samples must be at least 1"):
        loader_data([torch.zeros(1)], samples=0)
    with pytest.raises(ValueError, match="cannot be divided"):
        loader_data([torch.zeros(1)]).training_batches(1, 1, 2, 0, torch.Generator())
