"""A training that is interrupted, however it is, comes to the weights of one that is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search.training import checkpoint as module
from sconv_search.training.checkpoint import Checkpoint, CheckpointManager
from sconv_search.training.loop import train_
from sconv_search.training.process_group import SINGLE_PROCESS
from sconv_search.training.schedule import Schedule
from tests.sconv_search.training.two_processes import CASES, Case, images, normless, trained

ROOT = Path(__file__).parents[3]
STEPS = 12
EVERYTHING = Case(penalty_weight=0.5, schedule=replace(CASES["average"].schedule, accumulation=2), taught=True)
WITH_DROPOUT = Case(network=lambda: nn.Sequential(*normless().children(), nn.Dropout(0.5)))


class Interrupted(BaseException):
    pass


@dataclass
class Seen:
    """Follows a training, and interrupts it after a step."""

    stop: int | None = None
    steps: list[int] = field(default_factory=list)

    def __call__(self, done: int, total: int) -> None:
        assert total == STEPS
        self.steps.append(done)
        if done == self.stop:
            raise Interrupted

    def state(self) -> list[int]:
        return self.steps

    def resume_(self, state: list[int]) -> None:
        self.steps[:] = state


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, said: list[str]) -> Checkpoint:
    return Checkpoint(path=tmp_path / "of" / "a.safetensors", identity={"plan": "a"}, every_s=0, say=said.append)


def interrupted(case: Case, kept: Checkpoint, stop: int) -> None:
    with pytest.raises(Interrupted):
        trained(case, checkpoint=kept, progress=Seen(stop))


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "case", [EVERYTHING, WITH_DROPOUT, CASES["pixels of unlike weight"]], ids=["all", "dropout", "pixels"]
)
def test_a_training_stopped_at_a_random_step_goes_on_bit_for_bit(case: Case, kept: Checkpoint, said: list[str]) -> None:
    stop = random.randint(2, STEPS - 1)
    interrupted(case, kept, stop)
    torch.rand(stop)  # the default generator of the process that goes on is in another state
    watched = Seen()
    assert equal(trained(case, checkpoint=replace(kept, watched=watched), progress=watched), trained(case)), stop
    assert watched.steps[-1] == STEPS
    assert said == [f"resumed at step {stop - 1} from {str(kept.path)!r}"]


def test_it_may_be_stopped_again_and_again_and_what_watches_it_goes_on(kept: Checkpoint, said: list[str]) -> None:
    watched = Seen(stop=3)
    for stop in (3, 5, 9, None):
        watched = Seen(stop)
        watching = replace(kept, watched=watched)
        if stop is None:
            assert equal(trained(EVERYTHING, checkpoint=watching, progress=watched), trained(EVERYTHING))
        else:
            with pytest.raises(Interrupted):
                trained(EVERYTHING, checkpoint=watching, progress=watched)
    assert watched.steps == list(range(1, STEPS + 1))
    assert [line.split()[3] for line in said] == ["2", "4", "8"]


def test_a_training_that_had_ended_is_not_done_again(kept: Checkpoint) -> None:
    first, watched = trained(EVERYTHING, checkpoint=kept), Seen()
    assert equal(trained(EVERYTHING, checkpoint=kept, progress=watched), first)
    assert watched.steps == []


def test_checkpoints_change_nothing(kept: Checkpoint) -> None:
    assert equal(trained(WITH_DROPOUT, checkpoint=kept), trained(WITH_DROPOUT))


def test_dropout_follows_from_the_seed_and_leaves_the_default_generator_alone() -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.Dropout(0.5))
        torch.rand(len(found))
        state = torch.get_rng_state()
        train_(
            network, replace(images(False), crop_padding=0, flip=False), Schedule(epochs=1, batch_size=96), seed=seed
        )
        assert torch.equal(torch.get_rng_state(), state)
        found.append(network[1].weight)
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=0, atol=1e-3), "one batch of all images: dropout alone differs"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda kept, case: (replace(kept, identity={"plan": "b"}), case), "plan"),
        (lambda kept, case: (kept, replace(case, penalty_weight=0.25)), "penalty_weight"),
        (lambda kept, case: (kept, replace(case, schedule=replace(case.schedule, learning_rate=0.01))), "schedule"),
        (
            lambda kept, case: (kept, replace(case, schedule=replace(case.schedule, epochs=1))),
            "epochs, schedule, steps",
        ),
    ],
)
def test_a_checkpoint_of_another_training_is_not_resumed(
    change: Callable[..., Any], named: str, kept: Checkpoint, said: list[str]
) -> None:
    interrupted(EVERYTHING, kept, 4)
    other, case = change(kept, EVERYTHING)
    assert equal(trained(case, checkpoint=other), trained(case))
    where = f"checkpoint {str(kept.path)!r}"
    says = f"{where} is of another training, which differs in {named}; the training starts afresh"
    assert said == [f"{says}; it is kept as '{kept.path.name}.refused1'"]


def test_a_checkpoint_of_another_network_is_not_resumed(kept: Checkpoint, said: list[str]) -> None:
    interrupted(CASES["no batch norm"], kept, 4)
    assert equal(trained(CASES["crops and flips"], checkpoint=kept), trained(CASES["crops and flips"]))
    assert "is of another network, with network.0.bias of shape (8,); the training starts afresh" in said[0]


@pytest.mark.parametrize("damage", ["cut", "flipped", "nothing", "foreign"])
def test_a_damaged_checkpoint_is_said_and_the_training_starts_afresh(
    damage: str, kept: Checkpoint, said: list[str]
) -> None:
    interrupted(EVERYTHING, kept, 4)
    content = bytearray(kept.path.read_bytes())
    content[-5] ^= 4
    changed = {"cut": content[:-9], "flipped": content, "nothing": b"", "foreign": b"PK\x03\x04" * 100}
    kept.path.write_bytes(changed[damage])
    assert equal(trained(EVERYTHING, checkpoint=kept), trained(EVERYTHING))
    assert len(said) == 1
    assert said[0].startswith(f"checkpoint {str(kept.path)!r} is damaged (")
    assert "; the training starts afresh; it is kept as " in said[0]
    assert ("its checksum is wrong" in said[0]) == (damage == "flipped")


def test_a_checkpoint_appears_whole_or_not_at_all(kept: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(EVERYTHING, kept, 4)
    before = kept.path.read_bytes()

    def killed(*paths: object) -> None:
        raise Interrupted

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Interrupted):
        trained(EVERYTHING, checkpoint=kept)
    assert kept.path.read_bytes() == before
    kept.remove()
    assert list(kept.path.parent.iterdir()) == []


def test_a_disk_that_is_full_ends_no_training(kept: Checkpoint, said: list[str]) -> None:
    kept.path.parent.write_text("a file in the folder's place")
    assert equal(trained(EVERYTHING, checkpoint=kept), trained(EVERYTHING))
    assert said[0] == f"checkpoint {str(kept.path)!r} cannot be written: File exists; the training goes on without"


def test_the_time_of_all_processes_is_counted(kept: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    first = replace(kept, stopwatch=module.Stopwatch())
    now[0] = 130.0
    interrupted(EVERYTHING, first, 4)
    now[0] = 1000.0
    again = replace(kept, stopwatch=module.Stopwatch())
    now[0] = 1005.0
    trained(EVERYTHING, checkpoint=again)
    now[0] = 1007.0
    assert again.stopwatch.seconds == 32


class State:
    def tensors(self) -> dict[str, Tensor]:
        return {}


def test_checkpoints_are_written_when_enough_time_has_passed_for_their_cost(tmp_path: Path) -> None:
    now, written = [0.0], []

    class Counted(Checkpoint):
        def write(self, tensors: object, steps: int, identity: object) -> None:
            written.append(steps)
            now[0] += cost

    cost = 1.0
    keeper = CheckpointManager(
        Counted(path=tmp_path / "a", every_s=60), {}, State(), SINGLE_PROCESS, clock=lambda: now[0]
    )  # type: ignore[arg-type]
    for step in range(1, 30):
        now[0] += 10
        keeper.after(step, 30)
    assert written == [6, 12, 18, 24]
    cost = 3.0  # of which 2 % of the time allow one in 150 s
    written.clear()
    for step in range(30, 80):
        now[0] += 10
        keeper.after(step, 80)
    assert written == [30, 45, 60, 75]


def test_a_short_training_writes_no_checkpoint(kept: Checkpoint) -> None:
    trained(EVERYTHING, checkpoint=replace(kept, every_s=60))
    assert not kept.path.parent.exists()


KILLED = """
import sys, time
from pathlib import Path
import torch
from sconv_search.training.checkpoint import Checkpoint
from tests.sconv_search.training.two_processes import CASES, trained
kept = Checkpoint(path=Path(sys.argv[1]), every_s=0)
slowly = lambda done, total: time.sleep(0.05 if done < total else 600)  # killed before it ends, however late
found = trained(CASES["penalty, in parts"], checkpoint=kept, progress=slowly)
"""


def test_a_training_whose_process_is_killed_goes_on_bit_for_bit(tmp_path: Path, said: list[str]) -> None:
    path, case = tmp_path / "a.safetensors", CASES["penalty, in parts"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=environment, cwd=ROOT)
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert equal(trained(case, checkpoint=Checkpoint(path=path, every_s=0, say=said.append)), trained(case))
    assert said
    assert said[0].startswith("resumed at step")
