"""Jobs on a Ray cluster whose nodes are processes of this machine; one cluster serves all tests, as nodes take
seconds to start.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks.search.local_cluster import NODE, LocalCluster
from sconv_search.data.splits import DataSet
from sconv_search.search_space.space import Option
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster, RayExecutor
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search
from sconv_search.studies.search.space_jobs import measured_on_cluster
from sconv_search.studies.space.measuring import measured_space
from sconv_search.training.loop import train_
from sconv_search.training.schedule import Schedule
from tests.studies.conftest import SMALL, Typed

pytestmark = pytest.mark.xdist_group("ray")
REFUSED = r"no node of the cluster can be used: .*data is \w{20} there, and 0+ here"
PATIENCE_S = 60.0
"""A test waits so long for what must happen; it fails afterwards, and depends on no shorter time."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A job of the tests: what it does where it runs."""

    title: str
    does: str = ""


@dataclass(frozen=True, kw_only=True)
class Errands:
    """Runs errands, and leaves a file for each that begins.

    Args:
        folder: where the files are left, and where an errand that waits looks for ``go``.
    """

    context: StudyContext
    folder: Path

    def evaluate(self, job: Errand, monitor: Monitor) -> str:
        node = os.environ[NODE]
        (self.folder / f"{job.title} at {node}").touch()
        monitor.say(f"works at {node}")
        if job.does == "raise":
            raise ArithmeticError("of the errand")
        if job.does == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while job.does == "wait" and not (self.folder / "go").exists():
            time.sleep(0.05)
        return f"{job.title} done"

    def failure(self, job: Errand, reason: str) -> str:
        return f"{job.title} failed: {reason}"


@dataclass(frozen=True, kw_only=True)
class ReadThere(DataSet):
    """Data that every node reads from a folder of its own, named by an environment variable."""

    def checksum(self) -> str:
        if (there := os.environ.get("SCONV_SEARCH_TEST_DATA")) is None:
            return super().checksum()
        raise FileNotFoundError(2, "No such file or directory", f"{there}/train")


@contextmanager
def executing(
    cluster: LocalCluster, context: StudyContext, folder: Path, monitor: Monitor
) -> Iterator[RayExecutor[Errand, str]]:
    where = RayExecutor(Errands(context=context, folder=folder), Cluster(address=cluster.address), monitor)
    try:
        yield where
    finally:
        where.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def finished(where: RayExecutor[Errand, str]) -> str:
    """The next result; meanwhile there may be room for more."""
    while (found := where.result()) is None:
        pass
    return found[1]


@pytest.mark.slow
def test_with_one_slot_the_commands_give_what_they_give_here_bit_for_bit(
    cluster: LocalCluster, typed: Callable[..., Typed], tmp_path: Path
) -> None:
    cluster.alone()
    found = {}
    for name, flags in (("here", ()), ("there", ("--cluster", cluster.address))):
        out = tmp_path / name / "run"
        said = typed("search", "--task", "corners", "--out", out, *SMALL, "--trials", "4", *flags)
        assert said.status == 0, said
        assert ("cluster: room for 1 trial at a time on 1 node (" in said.out) == (name == "there")
        said = typed("confirm", out, "--device", "cpu", "--seeds", "1", "--plans", "1", *flags)
        assert said.status == 0, said
        columns = (
            "number",
            "stage",
            "variant",
            "plan",
            "regularization",
            "status",
            "val_loss",
            "residual",
            "test_score",
        )
        found[name] = [[getattr(r, column) for column in columns] for r in RunFolder(out).records()[0]]
    assert found["there"] == found["here"]
    weights = [path.read_bytes() for path in sorted(tmp_path.rglob("confirmed/*/weights.safetensors"))]
    assert len(weights) == 8
    assert weights[:4] == weights[4:]


@pytest.mark.slow
def test_a_job_that_loses_its_node_runs_once_more_and_nodes_that_join_are_used(
    cluster: LocalCluster, context: StudyContext, tmp_path: Path, notes
) -> None:
    first = cluster.alone()
    with executing(cluster, context, tmp_path, notes) as where:
        assert where.slots == 1
        where.submit(Errand(title="waiting", does="wait"))
        until(lambda: any(tmp_path.glob("waiting at *")))
        cluster.join("second")
        assert where.result() is None, "there is room for more"
        assert where.slots == 2
        cluster.kill(first)
        (tmp_path / "go").touch()
        assert finished(where) == "waiting done"
        assert "waiting: its node died; it runs once more" in notes.lines
        assert "waiting: works at second" in notes.lines
        for does, told in (("raise", "ArithmeticError: of the errand"), ("die", "its worker process died, 2 times")):
            where.submit(Errand(title=does, does=does))
            assert finished(where) == f"{does} failed: {told}"
        assert "die: its worker process died; it runs once more" in notes.lines


def dies_at_step_three(network: nn.Module, data: DataSet, schedule: Schedule, **options: Any) -> None:
    """Trains; the process of the first training ends at its third step."""
    progress, died = options.pop("progress"), Path(options["checkpoint"].path).parents[2] / "died"

    def step(done: int, total: int) -> None:
        progress(done, total)
        if done == 4 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    train_(network, data, schedule, progress=step, **options)


@pytest.mark.slow
def test_a_training_that_loses_its_process_goes_on_at_its_step(
    cluster: LocalCluster, context: StudyContext, spec: StudySpec, folder: RunFolder, tmp_path: Path, notes
) -> None:
    cluster.alone()
    spec = replace(spec, trials=2)
    wanted = search(context, spec, RunFolder(folder.path.parent / "here"))
    records = search(
        replace(context, train=dies_at_step_three),
        spec,
        folder,
        notes,
        placement=Placement(cluster=Cluster(address=cluster.address)),
        checkpoints=str(tmp_path / "shared"),
        checkpoint_s=0,
    )
    assert [(r.number, r.plan, r.val_loss) for r in records] == [(r.number, r.plan, r.val_loss) for r in wanted]
    assert "trial 0: its worker process died; it runs once more" in notes.lines
    assert any(line.startswith("trial 0: resumed at step ") for line in notes.lines)
    assert not list((tmp_path / "shared").rglob("*.safetensors"))


def test_nodes_that_lack_something_are_named_and_not_used(
    cluster: LocalCluster, context: StudyContext, tmp_path: Path, notes
) -> None:
    other = tmp_path / "packages" / "sconv_search-99.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: sconv-search\nVersion: 99\n")
    path = f"{other.parent}{os.pathsep}{os.environ['PYTHONPATH']}"
    cluster.alone()
    bad = [cluster.join("old", PYTHONPATH=path), cluster.join("bare", SCONV_SEARCH_TEST_DATA="/nowhere")]
    reading = replace(
        context, data=ReadThere(**{field.name: getattr(context.data, field.name) for field in fields(context.data)})
    )
    with executing(cluster, reading, tmp_path, notes) as where:
        assert where.slots == 1
        for number in range(3):
            where.submit(Errand(title=str(number)))
        assert sorted(finished(where) for _ in range(3)) == ["0 done", "1 done", "2 done"]
    assert len(list(tmp_path.glob("* at *"))) == 3
    assert not [*tmp_path.glob("* at old"), *tmp_path.glob("* at bare")]
    refused = [line for line in notes.lines if " is not used: " in line]
    assert sorted(line.partition(" is not used: ")[2] for line in refused) == [
        "data [Errno 2] No such file or directory: '/nowhere/train'",
        "sconv-search is 99 there, and 0.1.0 here",
    ]
    elsewhere = Errands(context=replace(context, data_sha256="0" * 64), folder=tmp_path)
    with pytest.raises(ValueError, match=REFUSED):
        RayExecutor(elsewhere, Cluster(address=cluster.address), notes)
    for node in bad:
        cluster.kill(node)


@pytest.mark.parametrize("address", ["", "ray:", "http://head:80", "head", "ray://head", "head:six"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"a cluster is ray, HOST:PORT or ray://HOST:PORT, .* got "):
        Cluster(address=address)


def test_the_layers_of_a_space_are_measured_on_nodes_as_here(
    cluster: LocalCluster, context: StudyContext, spec: StudySpec, notes
) -> None:
    cluster.alone()
    sites: dict[str, tuple[Option, ...]] = {}
    where = Placement(cluster=Cluster(address=cluster.address))
    measured_on_cluster(context, spec, where, notes, {}, sites.__setitem__)
    wanted: dict[str, tuple[Option, ...]] = {}
    measured_space(context, spec.methods, notes, keep=wanted.__setitem__)
    assert sites == wanted
    assert not [line for line in notes.lines if "measured here" in line]


@pytest.mark.parametrize("numbers", [{"cpus": 0.0}, {"cpus": float("nan")}, {"gpus": -1.0}, {"gpus": float("inf")}])
def test_what_no_trial_can_take_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"the [CG]PUs of a trial must "):
        Cluster(**numbers)


def test_room_is_counted_by_what_is_scarcest() -> None:
    node = {"CPU": 16.0, "GPU": 2.0}
    assert Cluster(cpus=4).room(node, 0) == 4
    assert Cluster(cpus=4).room(node, 1) == 2
    assert Cluster(cpus=4).room(node, 0.5) == 4
    assert Cluster(cpus=2).room(node, 1 / 3) == 6, "three thirds fit into each of two"
    assert Cluster(cpus=0.1).room({"CPU": 0.3}, 0) == 3, "0.3 / 0.1 is a little below 3"
    assert Cluster().room({"CPU": 8.0}, 1) == 0
    assert Cluster().room({}, 0) == 0


def test_a_cluster_and_workers_are_not_both_to_be_had() -> None:
    with pytest.raises(ValueError, match="give workers or a cluster"):
        Placement(workers=2, cluster=Cluster())


def test_an_address_without_a_cluster_is_named(context: StudyContext, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed; `pip install 'sconv-search[cluster]'`")
    with pytest.raises(ValueError, match=r"there is no Ray cluster at 127\.0\.0\.1:9: .*; start one with `ray start"):
        RayExecutor(Errands(context=context, folder=tmp_path), Cluster(address="127.0.0.1:9"), Monitor())
