"""The layers of a search space measured on a cluster: a job for each layer that is not measured yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Option
from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.running import results
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import Kept, SiteMeasuring, asked, dense_cost, wanted_of
from sconv_search.studies.space.pruned_costs import pruned_costs
from sconv_search.studies.spec import StudySpec


@dataclass(frozen=True)
class SiteRequest:
    """A layer, and the choices that are measured there."""

    name: str
    choices: tuple[Choice, ...]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"layer {self.name}"


@dataclass(frozen=True, kw_only=True)
class SiteOptions:
    """What a job gave: the layer's options, or why there are none."""

    options: tuple[Option, ...] = ()
    lost: str | None = None


@dataclass(frozen=True, kw_only=True)
class SiteEvaluator:
    """Measures layers of one network, as ``measured_space`` does it here.

    Args:
        names: of all layers that are measured.
        given: plans whose choices are options, whatever they save.
        pruned: costs of choices that change other layers too, see ``pruned_costs``.
    """

    context: StudyContext
    names: tuple[str, ...]
    given: tuple[CompressionPlan, ...]
    pruned: Mapping[tuple[str, Choice], Cost]

    @cached_property
    def _measuring(self) -> SiteMeasuring:
        network, shape = self.context.network, self.context.task.input_shape
        shapes = input_shapes(network, shape, self.names)
        dense = dense_cost(network, shape, None)
        return SiteMeasuring(self.context, shapes, dense, None, wanted_of(self.given), self.pruned)

    def evaluate(self, job: SiteRequest, monitor: Monitor, /) -> SiteOptions:
        """The layer's options; an exception is told, and the layer is measured where it is awaited."""
        try:
            return SiteOptions(options=self._measuring.options(job.name, job.choices, lambda done: None))
        except Exception as error:  # of any kind: it is raised where the layer is measured once more
            return self.failure(job, f"{type(error).__name__}: {error}")

    def failure(self, job: SiteRequest, reason: str, /) -> SiteOptions:
        """Of a job that could not be run."""
        return SiteOptions(lost=reason)


def measured_on_cluster(
    context: StudyContext,
    spec: StudySpec,
    placement: Placement,
    monitor: Monitor,
    known: Mapping[str, tuple[Option, ...]],
    keep: Kept,
) -> dict[str, tuple[Option, ...]]:
    """The options of all layers that could be measured on the cluster, those known among them.

    Times are not measured so: they are of one machine.

    Args:
        keep: receives each layer that is finished.
    """
    _, choices = asked(context.network, spec.methods, spec.selection, spec.given)
    waiting = [SiteRequest(name, tuple(own)) for name, own in choices.items() if name not in known]
    sites = dict(known)
    if not waiting:
        return sites
    network, shape = context.network, context.task.input_shape
    pruned = pruned_costs(
        network, shape, {job.name: job.choices for job in waiting}, dense_cost(network, shape, None), monitor
    )
    evaluator = SiteEvaluator(context=context, names=tuple(choices), given=tuple(spec.given), pruned=pruned)
    with (
        placement.executor(evaluator, monitor) as executor,
        monitor.bar(f"measuring options of {len(waiting)} layers on the cluster") as step,
    ):
        for request, result in results(waiting, executor, step):
            if result.lost is not None:
                monitor.say(f"{request.title}: {result.lost}; it is measured here")
                continue
            sites[request.name] = result.options
            keep(request.name, result.options)
    return sites
