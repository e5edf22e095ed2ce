"""The share of the epochs before compression: searched where a range is given, recorded, and kept by the
confirmation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sconv_search.studies import RunFolder, StudyContext, StudySpec, confirm
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.runner import search

RANGE = (0.2, 0.8)


def timed(context: StudyContext) -> tuple[StudyContext, list[float]]:
    """A start that notes the epochs of each training in place of training."""
    epochs: list[float] = []

    def train(*given: Any, **options: Any) -> None:
        epochs.append(options["epochs"])

    return replace(context, train=train), epochs


def test_regularized_trials_train_a_share_of_their_own_before_compression(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    noting, epochs = timed(context)
    records = search(noting, replace(spec, trials=16, regularized_share_range=RANGE), folder)
    whole = spec.search_schedule.epochs
    wanted: list[float] = []
    for r in records:
        assert (r.regularized_share is None) == (r.regularization is None)
        before = [] if r.regularized_share is None else [whole * r.regularized_share]
        wanted += [*before, whole - sum(before)]
    assert epochs == pytest.approx(wanted)
    shares = {r.regularized_share for r in records} - {None}
    assert len(shares) >= 3
    assert all(RANGE[0] <= share <= RANGE[1] for share in shares if share is not None)


def test_without_a_range_every_regularized_trial_has_the_studys_share(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    records = search(timed(context)[0], replace(spec, trials=6, regularized_share=0.25), folder)
    assert {r.regularized_share for r in records if r.regularization is not None} == {0.25}


def test_a_confirmation_keeps_the_share_of_the_trial(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(timed(context)[0], replace(spec, trials=8, regularized_share_range=RANGE), folder)
    regularized = [r for r in folder.records()[0] if r.regularized_share is not None]
    text = "\n".join(r.to_json() for r in regularized[-1:]) + "\n"
    folder.trials.write_text(text)
    noting, epochs = timed(context)
    found = {r.variant: r for r in confirm(noting, [folder], seeds=1, most=1)}
    share, whole = regularized[-1].regularized_share, spec.confirm_schedule.epochs
    assert share is not None
    assert (found["searched"].regularized_share, found["uniform"].regularized_share) == (share, share)
    assert epochs == pytest.approx([whole, *2 * [whole * share, whole * (1 - share)]])


def test_an_interrupted_search_draws_the_same_shares(folder: RunFolder) -> None:
    domain = Domain(random_keys=("a", "b"), regularization=(0.1, 1.0), regularized_share=RANGE)

    def shares(name: str, interrupted: bool) -> list[float | None]:
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        found = []
        sampler = Sampler(path, domain, "tpe", 0, startup=4)
        for _ in range(12):
            if interrupted:
                sampler = Sampler(path, domain, "tpe", 0, startup=4)
                sampler.reconcile({})
            asked = sampler.ask()
            sampler.drop(asked.number)
            found.append(asked.regularized_share)
        return found

    whole = shares("whole", interrupted=False)
    assert len(set(whole)) > 3
    assert shares("interrupted", interrupted=True) == whole


@pytest.mark.parametrize("given", [(0.8, 0.2), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_a_range_that_does_not_rise_between_0_and_1_is_refused(spec: StudySpec, given: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"regularized_share_range must rise between 0 and 1, got \(0\.\d, [01]\.\d\)"):
        replace(spec, regularized_share_range=given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "--regularized-share takes a share such as 0.5, or a range such as 0.2..0.8; got 'half'"),
        ("0.2..0.5..0.8", "or a range such as 0.2..0.8; got '0.2..0.5..0.8'"),
        ("1.5", "regularized_share must be between 0 and 1, got 1.5"),
        ("0.8..0.2", "must rise between 0 and 1, got (0.8, 0.2)"),
    ],
)
def test_a_wrong_share_is_one_line(typed: Callable[..., Any], text: str, message: str) -> None:
    said = typed("search", "--out", "runs/none", "--regularized-share", text)
    assert said.status == 2
    assert message in " ".join(said.err.split())


def test_a_spec_is_read_as_it_was_written(spec: StudySpec) -> None:
    given = replace(spec, regularized_share_range=RANGE)
    assert StudySpec.from_json(given.to_json()) == given
    old = json.loads(spec.to_json())
    del old["regularized_share_range"]
    assert StudySpec.from_json(json.dumps(old)) == spec
