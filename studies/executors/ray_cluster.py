"""Jobs run as tasks on the nodes of a Ray cluster: Ray places them, and tells which nodes there are.

The only module that imports Ray. A task a job, never retried by Ray itself: what the job raises is its result, and what
takes its worker, node or memory is told apart and tried once more here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic

import torch

from sconv_search.strict_json import shortened
from sconv_search.studies.executors.gpu_memory import MeasuredGpus, peak_share
from sconv_search.studies.executors.nodes import FitNode, checked_here, installed_lookup, misfit, wanted_of
from sconv_search.studies.executors.processes import say_all
from sconv_search.studies.executors.protocol import MOST_ATTEMPTS, Evaluator, JobT, ResultT
from sconv_search.studies.executors.sending import MadeAgain, Notes, Sent, on_device, sendable
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.system.packages import require_package

LOOK_S = 1.0
"""Between two looks at the cluster's nodes while all trials run."""
CONNECT_S = 20.0
PREFIX = "ray"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster, and what a trial takes of it.

    Args:
        address: ``ray`` for the cluster that this machine belongs to (or that RAY_ADDRESS names), ``HOST:PORT`` for one
            that it belongs to by that address, ``ray://HOST:PORT`` for Ray's client server.
        cpus: CPUs of a trial, which are its threads.
        gpus: GPUs of a trial; a share of one divides its time, not its memory. None takes a whole one first, and then
            as small a part as the trials' peaks of memory allow.

    Raises:
        ValueError: the address is none, or a number is out of range.
    """

    address: str = PREFIX
    cpus: float = 1.0
    gpus: float | None = 0.0

    def __post_init__(self) -> None:
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        if self.address != PREFIX and not (host and "/" not in host and port.isdecimal()):
            raise ValueError(
                f"a cluster is ray, HOST:PORT or ray://HOST:PORT, such as ray://head:10001; got {self.address!r}"
            )
        if not 0 < self.cpus < float("inf"):
            raise ValueError(f"the CPUs of a trial must be above 0, got {self.cpus}")
        if self.gpus is not None and not 0 <= self.gpus < float("inf"):
            raise ValueError(f"the GPUs of a trial must not be below 0, got {self.gpus}")

    @property
    def threads(self) -> int:
        """Of a trial."""
        return max(1, int(self.cpus))

    def room(self, resources: dict[str, float], gpus: float) -> int:
        """Trials that a node with these resources runs at the same time, of so many GPUs each."""
        by_cpus = int(resources.get("CPU", 0) / self.cpus + 1e-6)
        return min(by_cpus, int(resources.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpus


class RayExecutor(Generic[JobT, ResultT]):
    """Runs each job as a task on a node that was checked first; nodes may join and leave while it works.

    Raises:
        ValueError: Ray is not installed, there is no cluster at the address, or none of its nodes can be used; each is
            named with the reason.
    """

    def __init__(self, evaluator: Evaluator[JobT, ResultT], cluster: Cluster, monitor: Monitor) -> None:
        self._ray: Any = require_package("ray", "cluster", "trials on a cluster need")
        self._evaluator, self._cluster, self._monitor = evaluator, cluster, monitor
        self._gpus = MeasuredGpus(cluster.gpus)
        self._placed: dict[Any, tuple[JobT, int]] = {}
        self._nodes: dict[str, FitNode] = {}
        self._asked: dict[Any, tuple[str, str]] = {}
        self._unfit: dict[str, str] = {}
        self._waits = False
        self._connected = _connect(self._ray, cluster.address)
        try:
            light = on_device(sendable(evaluator), torch.device("cpu"))
            again = MadeAgain.of(evaluator.context, torch.device("cpu"))
            self._sent = self._ray.put(Sent(evaluator=light, threads=cluster.threads, made_again=again))
            self._run = self._ray.remote(num_cpus=cluster.cpus, max_retries=0)(_run)
            self._check = self._ray.remote(num_cpus=0, max_retries=0)(_check)
            look_up = installed_lookup()
            self._look_up = self._ray.remote(num_cpus=0, max_retries=0)(look_up)
            self._wanted = {"installed": look_up(), "data": wanted_of(evaluator)}
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Trials for which the nodes of this moment have room; where there is none, one waits for a node."""
        self._look()
        room = sum(node.room for node in self._nodes.values())
        if not room and not self._waits:
            self._monitor.say("no node of the cluster has room for a trial; one waits until there is")
        self._waits = not room
        return max(1, room)

    def submit(self, job: JobT) -> None:
        """Gives a job to Ray, which places it."""
        self._submit(job, 1)

    def result(self) -> tuple[JobT, ResultT] | None:
        """Waits for the next finished job; None where nodes with room for more have joined."""
        while True:
            ready, _ = self._ray.wait(list(self._placed), num_returns=1, timeout=LOOK_S)
            if not ready:
                if self.slots > len(self._placed):
                    return None
                continue
            job, attempt = self._placed.pop(ready[0])
            lost = None
            try:
                lines, result, share = self._ray.get(ready[0])
            except self._lost as error:
                lost = _reason(error)
            except self._ray.exceptions.RayError as error:  # raised before the job could turn it into its result
                lines, result, share = (), self._evaluator.failure(job, _reason(error)), 0.0
            if lost is None:
                if (said := self._gpus.learn_(share)) is not None:
                    self._monitor.say(said)
                say_all(self._monitor, job.title, lines)
                return job, result
            if attempt == MOST_ATTEMPTS:
                return job, self._evaluator.failure(job, f"{lost}, {attempt} times")
            self._monitor.say(f"{job.title}: {lost}; it runs once more")
            self._submit(job, attempt + 1)

    def close(self) -> None:
        """Ends all tasks, and leaves the cluster."""
        for task in self._placed:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.cancel(task, force=True)
        self._placed.clear()
        if self._connected:
            self._ray.shutdown()

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        """What takes a job's process, through no exception of its own."""
        known = self._ray.exceptions
        return (
            known.WorkerCrashedError,
            known.NodeDiedError,
            known.OutOfMemoryError,
            known.LocalRayletDiedError,
            known.ObjectLostError,
        )

    def _submit(self, job: JobT, attempt: int) -> None:
        nodes = sorted(name for name, node in self._nodes.items() if node.room)
        options: dict[str, Any] = {"scheduling_strategy": "SPREAD", "name": job.title, "num_gpus": self._gpus.each}
        if self._unfit and nodes:  # else Ray may take any node, also one that joins meanwhile
            options["label_selector"] = {"ray.io/node-id": f"in({','.join(nodes)})"}
        self._placed[self._run.options(**options).remote([self._sent], job)] = job, attempt

    def _begin(self) -> None:
        """Checks all nodes that there are, and refuses a cluster of which none can be used."""
        self._look()
        with self._monitor.bar("checking the cluster's nodes") as step:
            total = len(self._asked)
            while self._asked:
                self._ray.wait(list(self._asked), num_returns=1, timeout=LOOK_S)
                self._look()
                step(total - len(self._asked), max(total, len(self._asked)))
        if not self._nodes and self._unfit:
            raise ValueError(f"no node of the cluster can be used: {'; '.join(self._unfit.values())}")
        room = sum(node.room for node in self._nodes.values())
        names = ", ".join(sorted(node.name for node in self._nodes.values()))
        trials, nodes = counted(room, "trial"), counted(len(self._nodes), "node")
        self._monitor.say(f"cluster: room for {trials} at a time on {nodes} ({names})")

    def _look(self) -> None:
        """Reads which nodes there are; new ones are checked, and used once they are found fit."""
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        self._nodes = {name: self._fit(node.name, alive[name]) for name, node in self._nodes.items() if name in alive}
        self._unfit = {name: reason for name, reason in self._unfit.items() if name in alive}
        known = {*self._nodes, *self._unfit, *(name for name, _ in self._asked.values())}
        for name in alive.keys() - known:
            if self._fit(name, alive[name]).room:
                self._asked[self._on(name, self._look_up).remote()] = name, "installed"
        if not self._asked:
            return
        ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for task in ready:
            name, question = self._asked.pop(task)
            if name in alive:
                self._answer(task, alive[name], question)

    def _answer(self, task: Any, node: dict[str, Any], question: str) -> None:
        """Takes in what a node's check gave: first what is installed there, then what it reads."""
        name, title = node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
        try:
            told = self._ray.get(task)
        except self._lost:
            return  # it is asked again, if it is still there
        except self._ray.exceptions.RayError as error:
            wrong: str | None = _reason(error)
        else:
            wrong = misfit(told, self._wanted[question])
        if wrong is not None:
            self._unfit[name] = f"{title}: {wrong}"
            self._monitor.say(f"node {title} is not used: {wrong}")
        elif question == "installed":
            self._asked[self._on(name, self._check).remote([self._sent])] = name, "data"
        else:
            self._nodes[name] = self._fit(title, node)

    def _fit(self, title: str, node: dict[str, Any]) -> FitNode:
        return FitNode(name=title, room=self._cluster.room(node["Resources"], self._gpus.each))

    def _on(self, node: str, task: Any) -> Any:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        return task.options(scheduling_strategy=affinity)


@lru_cache(maxsize=1)
def _began(reference: Any) -> Any:
    """What runs the jobs, kept as long as this process runs those of one study."""
    import ray

    with _handlers_kept():
        evaluator = ray.get(reference).begin()
    return on_device(evaluator, torch.device("cuda")) if ray.get_gpu_ids() else evaluator


def _run(sent: list[Any], job: Any) -> tuple[list[str], Any, float]:
    """A task: what the job said, its result, and the share of its GPU's memory that its process took at most.

    The list keeps Ray from fetching what was sent for every job.
    """
    evaluator, notes = _began(sent[0]), Notes()
    result = evaluator.evaluate(job, notes)
    return notes.lines, result, peak_share()


def _check(sent: list[Any]) -> dict[str, str]:
    """A task: what a node reads of the study."""
    return checked_here(_began(sent[0]))


def _reason(error: Exception) -> str:
    """An exception of Ray's, in a line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return shortened(f"{type(cause).__name__}: {cause}", 300)
    words = {
        "WorkerCrashedError": "its worker process died",
        "NodeDiedError": "its node died",
        "OutOfMemoryError": "its node ran out of memory and ended it",
        "LocalRayletDiedError": "its node died",
        "ObjectLostError": "its result was lost with its node",
    }
    known = next((words[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in words), None)
    return known or shortened(f"{type(error).__name__}: {' '.join(str(error).split())}", 300)


def _connect(ray: Any, address: str) -> bool:
    """Joins the cluster; False where this process has joined one already.

    Raises:
        ValueError: there is none at the address.
    """
    if ray.is_initialized():
        return False
    # Ray adds the working directory to the nodes' module path, before all that is installed; an empty one harms nobody.
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty), _handlers_kept():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            if address != PREFIX:  # else Ray would try for minutes
                host, _, port = address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
            ray.init(
                address="auto" if address == PREFIX else address,
                log_to_driver=False,
                logging_level="WARNING",
                namespace="sconv-search",
            )
        except (OSError, RuntimeError) as error:
            where = "here" if address == PREFIX else f"at {address}"
            reason = shortened(" ".join(str(error).split()), 200)
            raise ValueError(f"there is no Ray cluster {where}: {reason}; start one with `ray start --head`") from error
    ray._private.worker.print_to_stdstream = _note
    return True


def _note(data: dict[str, Any], ignore_prefix: bool) -> None:
    """In place of a function of Ray's that prints the last log lines of nodes that die, whatever Ray is told, on
    standard output, where a command's own result belongs.
    """
    logging.getLogger(__name__).info("%s: %s", data.get("pid"), data.get("lines"))


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM over when it starts; a command that is stopped has to end as ours do."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):  # not in the main thread, where there are none to keep
                signal.signal(number, handler)
