"""Studies from Python: a trained network, its data, and how it is trained and scored, in place of a named task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.copying import copied
from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet, Images
from sconv_search.plan import CompressionPlan
from sconv_search.records import Metric, Quantity, TrialRecord
from sconv_search.reports.page import write_report
from sconv_search.studies.confirmation import confirm
from sconv_search.studies.context import StudyContext, context_from_task, network_sha256
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.export import confirmed_network, require_network
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor, monitor_of
from sconv_search.studies.oneshot.arguments import (
    budget_text,
    require_counts,
    require_functions,
    require_instances,
    require_kinds,
    require_options,
    require_takes_network,
    shape_or_example,
)
from sconv_search.studies.oneshot.compress import Compressed
from sconv_search.studies.oneshot.saving import load
from sconv_search.studies.runs.folder import RunFolder, require_not_of_a_run
from sconv_search.studies.search.loop import StoppingCriterion
from sconv_search.studies.search.runner import search
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.training.evaluation import Score, evaluate
from sconv_search.training.loop import train_
from sconv_search.training.schedule import EVERY_S, Schedule
from sconv_search.training.user_functions import Fit, UserFit, UserScore

SHORT, FULL = Schedule(epochs=1, learning_rate=0.01), Schedule(epochs=10, learning_rate=0.02)
SHORT_FIT = Schedule(epochs=2)
"""A loop of the user's own trains whole epochs: one towards the structure, and one after compression."""
NO_TRAINING = Schedule(epochs=0)


@dataclass(frozen=True, kw_only=True)
class Best:
    """A confirmed network.

    Args:
        record: its scores and costs.
        network: in evaluation mode, with the attributes ``plan``, ``cost``, ``dense_cost`` and ``example``.
        folder: its plan and weights.
    """

    record: TrialRecord
    network: Compressed
    folder: Path

    @property
    def plan(self) -> CompressionPlan:
        """What stands at each of its layers."""
        return self.network.plan


class Study:
    """The search, confirmation and report of one trained network, on data, loss and score of any kind.

    Nothing that is given is modified. Interrupted, the same calls continue: with our training at the step where the
    loader gives the same batches again for the same seed, else at the last whole epoch; with a loop of your own at the
    trial.

    Args:
        network: a trained network, on the device on which it is to be trained.
        example: what it is called with, as in ``sconv_search.compress``.
        out: the run's folder.
        data: training batches, such as a ``DataLoader``; it is iterated anew for each epoch. Layers are fitted to the
            first ``samples`` inputs of it, without labels.
        score: of a network in evaluation mode, a number; it steers the search, so it must not be read from data that
            the network was trained on.
        metric: what that number is.
        test: as ``score``, read by ``confirm`` alone; without it the reported test scores are those of ``score``.
        loss: of (outputs, targets), such as ``torch.nn.functional.cross_entropy``: trains by our loop.
        fit: of (network, penalty, epochs): trains the network in place by your own loop, in which ``penalty()`` is
            added to the loss of each step.
        inputs: what of a batch the network is called with; by default the batch, or its first entry where it is a list
            or a tuple.
        targets: what of a batch the loss is given; by default the second entry of a pair, and the whole batch where it
            is no pair or ``inputs`` is given.
        budget: the most that a network may cost, as in ``sconv_search.compress``; also ranges such as ``"30%..70%"``.
        methods: keys of ``METHODS`` from which every layer takes one, or classes as ``"package.module:Class"``.
        name: in records and reports; the network's class where none is given.
        search_schedule: how each trial is trained; of our loop, ``batch_size`` is the loader's own.
        confirm_schedule: how each confirmation is trained.
        samples: inputs that the layers are fitted to.
        progress: whether lines and bars show what is being done; by default, in a terminal and in a notebook.
        spec: further arguments of ``StudySpec``, such as ``seed``, ``sampler``, ``screening``, ``include``.

    Raises:
        TypeError: the data cannot be read again, or a function is none.
        ValueError: neither loss nor fit is given, or an argument is out of range.
        KeyError: a method is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Inputs,
        *,
        out: str | Path,
        data: Iterable[Any],
        score: Callable[[nn.Module], float],
        metric: Metric | None = None,
        test: Callable[[nn.Module], float] | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        fit: Fit | None = None,
        inputs: Callable[[Any], Inputs] | None = None,
        targets: Callable[[Any], Any] | None = None,
        budget: str | Mapping[str, str] = "50%",
        quantity: Quantity = "flops",
        methods: str | Sequence[str] = ("structured_conv",),
        name: str | None = None,
        search_schedule: Schedule | None = None,
        confirm_schedule: Schedule = FULL,
        samples: int = 256,
        progress: bool | None = None,
        **spec: Any,
    ) -> None:
        require_kinds(network, example, inputs, samples)
        require_instances(Metric, metric=metric)
        require_instances(Schedule, search_schedule=search_schedule, confirm_schedule=confirm_schedule)
        short = search_schedule or (SHORT if fit is None else SHORT_FIT)
        require_functions({"score": score, "test": test, "loss": loss, "fit": fit, "targets": targets})
        require_takes_network({"score": score, "test": test})
        _require_trainable(loss, fit, (short, confirm_schedule))
        self.folder = RunFolder(out)
        self._network, self._progress = copied(network).eval(), progress
        metric, name = metric or Metric("score"), _name(name, network)
        digest = network_sha256(self._network)
        self._data = LoaderData(
            name=name,
            loader=data,
            loss=loss,
            inputs=inputs,
            targets=targets,
            samples=samples,
            facts={"network": digest, "metric": repr(metric)},
        )
        self.task = Task(
            name=name,
            metric=metric,
            network=lambda: copied(self._network),
            data=lambda folder, seen: self._data,
            input_shape=shape_or_example(self._network, example),
            dense_schedule=NO_TRAINING,
            search_schedule=short,
            confirm_schedule=confirm_schedule,
            trained_network=lambda: copied(self._network),
            train=None if fit is None else UserFit(fit=fit),
            score=UserScore(validation=score, test=test),
        )
        self._spec = _spec(self.task, 1, budget=budget_text(budget), quantity=quantity, methods=methods, **spec)

    def search(
        self,
        trials: int = 20,
        *,
        workers: int = 1,
        cluster: Cluster | None = None,
        stops: StoppingCriterion | None = None,
        checkpoint_s: float = EVERY_S,
        checkpoints: str | None = None,
        storage: str | None = None,
        overwrite: bool = False,
    ) -> list[TrialRecord]:
        """All records of the search, or of the one in the folder continued until it has so many trainings.

        Args:
            workers: processes that evaluate trials at the same time; network, data and functions are sent to them, so
                the functions must be defined at the top of a module.
            cluster: where trials run in place of this machine, as for ``Placement``.
            stops: ends the search earlier.
            checkpoint_s: seconds between checkpoints of a training.
            checkpoints: path or address of a folder for them that all nodes of a cluster see.
            storage: URL of a PostgreSQL database for the Optuna study; None keeps that in the folder.
            overwrite: whether another study in the folder is deleted.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError, OSError: as ``sconv_search.studies.search.runner.search``.
        """
        require_counts(trials=trials, workers=workers)
        return search(
            self.context,
            replace(self._spec, trials=trials),
            self.folder,
            self._monitor,
            placement=Placement(workers=workers, cluster=cluster),
            stops=stops,
            checkpoint_s=checkpoint_s,
            checkpoints=checkpoints,
            storage=storage,
            overwrite=overwrite,
        )

    def confirm(
        self,
        seeds: int = 3,
        *,
        plans: int = 3,
        cluster: Cluster | None = None,
        checkpoint_s: float = EVERY_S,
        checkpoints: str | None = None,
    ) -> list[TrialRecord]:
        """New records of the best plans trained on the full schedule with each seed, and scored by ``test``.

        Args:
            cluster: where trainings run in place of this machine, as for ``search``.
            checkpoint_s: seconds between checkpoints of a training.
            checkpoints: path or address of a folder for them that all nodes of a cluster see.

        Raises:
            ValueError, RuntimeError: as ``sconv_search.studies.confirmation.confirm``.
        """
        require_counts(seeds=seeds, plans=plans)
        return confirm(
            self.context,
            [self.folder],
            seeds=seeds,
            most=plans,
            monitor=self._monitor,
            checkpoint_s=checkpoint_s,
            placement=Placement(cluster=cluster),
            checkpoints=checkpoints,
        )

    def report(
        self, out: str | Path = "report", *, figures: Sequence[str] | None = None, overwrite: bool = False
    ) -> Path:
        """The page of the report that is written into the folder; ``sconv_search.report`` compares several studies.

        Args:
            figures: kinds of their files beside the page, of ``svg``, ``png`` and ``pdf``; SVG and PNG by default.

        Raises:
            FileExistsError, FileNotFoundError, ValueError: as ``sconv_search.reports.page.write_report``.
        """
        require_not_of_a_run(out)
        with self._monitor.bar("drawing the report") as step:
            write_report([self.folder.path], out, step, figures=figures, overwrite=overwrite)
        return Path(out) / "index.html"

    def best(self, plan: str = "best", *, seed: int | None = None) -> Best:
        """A confirmed network: the one that was best in the search, or that of a name in the report.

        Raises:
            ValueError: nothing of that name and seed is confirmed, or the study's network has other code than in its
                search.
        """
        confirmed = confirmed_network(self.folder, plan, seed)
        require_network(self.folder, self.task)
        network = load(confirmed.folder, self._network)
        network.example = self.task.input_shape
        with counting_free(self._spec.count_free):
            network.cost = measure_cost(network, self.task.input_shape)
            network.dense_cost = measure_cost(self._network, self.task.input_shape)
        return Best(record=confirmed.record, network=network, folder=confirmed.folder)

    @cached_property
    def context(self) -> StudyContext:
        """The start of the trials: network and data looked at, and their checksums."""
        device = next(self._network.parameters(), torch.zeros(())).device
        return context_from_task(
            self.task, data=None, weights=None, cache=self.folder.path, device=device, monitor=self._monitor
        )

    @property
    def _monitor(self) -> Monitor:
        return monitor_of(self._progress)


def _name(name: str | None, network: nn.Module) -> str:
    chosen = type(network).__name__ if name is None else name
    if not chosen.strip() or ":" in chosen or "@" in chosen:
        raise ValueError(f"a study's name must hold neither ':' nor '@', which name code, and not be empty: {chosen!r}")
    return chosen


def _require_trainable(loss: object, fit: object, schedules: Sequence[Schedule]) -> None:
    if loss is None and fit is None and any(schedule.epochs for schedule in schedules):
        raise ValueError(
            "a study trains: give loss= a function of (outputs, targets), or your own loop by fit= a function of"
            " (network, penalty, epochs)"
        )
    for schedule in schedules:
        if fit is not None and schedule.epochs != int(schedule.epochs):
            raise ValueError(f"fit= trains whole epochs, got a schedule of {schedule.epochs:g}")


def _spec(task: Task, trials: int, *, methods: str | Sequence[str], **given: Any) -> StudySpec:
    listed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    if "plans" in listed:
        listed["plans"] = tuple(
            plan.to_json() if isinstance(plan, CompressionPlan) else plan for plan in listed["plans"]
        )
    require_options(StudySpec, listed, Study.__init__)
    return StudySpec(
        task=task.name,
        methods=tuple(map(METHODS.add, [methods] if isinstance(methods, str) else methods)),
        trials=trials,
        search_schedule=task.search_schedule,
        confirm_schedule=task.confirm_schedule,
        **listed,
    )


def context_from_network(
    network: nn.Module,
    data: DataSet,
    *,
    name: str = "mine",
    train: Callable[..., None] = train_,
    score: Callable[[nn.Module, DataSet, Images], Score] = evaluate,
    search_schedule: Schedule | None = None,
    confirm_schedule: Schedule | None = None,
) -> StudyContext:
    """The start of studies of a trained classifier or segmenter on images in memory, for ``search`` and ``confirm``;
    the network is copied.

    Args:
        data: its validation split steers the search, so the network must not have been trained on it.
        name: the task's name in records and reports.
        train: trains a network in place, with the arguments of ``sconv_search.training.loop.train_``.
        score: scores a network on a split, with the arguments of ``sconv_search.training.evaluation.evaluate``; more is
            better.
        search_schedule: of trials. By default compressed networks learn the given one's logits; labels are learned with
            ``Schedule(distillation=0, ...)``, and what a ``train`` of one's own makes of its arguments.
        confirm_schedule: of confirmations, likewise.

    Raises:
        ValueError: the network's weights are not finite or not in float32, its forward fails on the images' shape, or
            gives no logits of the classes of all splits.
    """
    task = Task(
        name=name,
        network=lambda: copied(network),
        data=lambda folder, seen: data,
        input_shape=data.train.shape,
        dense_schedule=NO_TRAINING,
        search_schedule=search_schedule or (_learning_logits(SHORT) if train is train_ else SHORT),
        confirm_schedule=confirm_schedule or (_learning_logits(FULL) if train is train_ else FULL),
        trained_network=lambda: copied(network),
        train=train,
        score=score,
    )
    device = next(network.parameters(), torch.zeros(())).device
    return context_from_task(task, data=None, weights=None, cache=Path(), device=device, monitor=Monitor())


def _learning_logits(schedule: Schedule) -> Schedule:
    """The schedule of networks that learn a trained one's logits."""
    return replace(schedule, distillation=1.0, teacher_loss="logits")


def search_network(
    network: nn.Module,
    data: DataSet,
    out: str | Path,
    *,
    budget: str = "50%",
    quantity: Quantity = "flops",
    methods: Sequence[str] = ("structured_conv",),
    trials: int = 20,
    workers: int = 1,
    cluster: Cluster | None = None,
    storage: str | None = None,
    stops: StoppingCriterion | None = None,
    monitor: Monitor | None = None,
    start: dict[str, Any] | None = None,
    **study: Any,
) -> list[TrialRecord]:
    """All records of a search, as ``sconv-search search`` makes it; the same call continues an interrupted one.

    Args:
        out: the run's folder.
        workers: processes in which trials run, as for ``Placement``.
        cluster: where they run in place of this machine.
        storage: URL of a PostgreSQL database for the Optuna study; None keeps that in the folder.
        monitor: is told of progress; by default lines and bars in a terminal and in a notebook.
        start: further arguments of ``context_from_network``.
        study: further arguments of ``StudySpec``, such as ``sampler`` or ``screening``.

    Raises:
        KeyError: as ``search``.
        ValueError: as ``context_from_network``, ``StudySpec`` and ``search``.
        RuntimeError: as ``search``.
    """
    begun = context_from_network(network, data, **(start or {}))
    spec = _spec(begun.task, trials, methods=methods, budget=budget, quantity=quantity, **study)
    placement = Placement(workers=workers, cluster=cluster)
    monitor = monitor or monitor_of()
    return search(begun, spec, RunFolder(out), monitor, placement=placement, stops=stops, storage=storage)
