"""A space whose layers are measured as jobs is the one measured here; what a job loses is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sconv_search.plan import Choice
from sconv_search.search_space.space import Option
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.search import runner
from sconv_search.studies.search.space_jobs import measured_on_cluster
from sconv_search.studies.space.measuring import Kept, SiteMeasuring, measured_space

Sites = dict[str, tuple[Option, ...]]


def kept() -> tuple[Sites, Kept]:
    sites: Sites = {}
    return sites, sites.__setitem__


@pytest.mark.parametrize("methods", [("structured_conv", "spatial_svd"), ("channel_pruning", "weight_svd")])
def test_jobs_measure_what_is_measured_here(context: StudyContext, spec: StudySpec, notes, methods) -> None:
    spec = replace(spec, methods=methods)
    wanted, keep_here = kept()
    space = measured_space(context, methods, notes, keep=keep_here)
    sites, keep = kept()
    assert measured_on_cluster(context, spec, Placement(), notes, {}, keep) == sites == wanted
    assert measured_space(context, methods, notes, known=sites) == space
    first = next(iter(wanted))
    again, keep = kept()
    assert measured_on_cluster(context, spec, Placement(), notes, {first: wanted[first]}, keep) == wanted
    assert again.keys() == wanted.keys() - {first}, "what is known is not measured again"


def test_a_layer_that_a_job_loses_is_told_and_left_to_this_process(
    context: StudyContext, spec: StudySpec, notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, lost = SiteMeasuring.options, list[str]()

    def failing(self: SiteMeasuring, name: str, alternatives: Sequence[Choice], step) -> tuple[Option, ...]:
        if not lost:
            lost.append(name)
            raise ArithmeticError("of the node")
        return measured(self, name, alternatives, step)

    monkeypatch.setattr(SiteMeasuring, "options", failing)
    sites, keep = kept()
    measured_on_cluster(context, spec, Placement(), notes, {}, keep)
    assert f"layer {lost[0]}: ArithmeticError: of the node; it is measured here" in notes.lines
    assert lost[0] not in sites
    assert sites


@pytest.mark.parametrize(("budget", "asked"), [("50%", True), ("latency_ms=70%", False)])
def test_a_search_on_a_cluster_measures_there_but_for_times(
    context: StudyContext,
    spec: StudySpec,
    folder: RunFolder,
    notes,
    monkeypatch: pytest.MonkeyPatch,
    budget: str,
    asked: bool,
) -> None:
    seen = []

    def noted(own: StudyContext, wanted: StudySpec, placement: Placement, *others: object) -> Sites:
        seen.append(placement)
        raise InterruptedError

    monkeypatch.setattr(runner, "measured_on_cluster", noted)
    monkeypatch.setattr(runner, "measured_space", lambda *given, **named: noted(context, spec, None))
    placement = Placement(cluster=Cluster())
    monkeypatch.setattr(Placement, "require", lambda self, context: None)
    with pytest.raises(InterruptedError):
        runner.search(context, replace(spec, budget=budget), folder, notes, placement=placement)
    assert seen == [placement if asked else None]
