"""Ready-made comparisons: functions that return values."""

from __future__ import annotations

from sconv_search.studies.spec import StudySpec
from sconv_search.studies.tasks import task_named

COMPARED = ("structured_conv", "spatial_svd")


def comparison(
    task: str, budget: str, trials: int, *, methods: tuple[str, ...] = COMPARED, seed: int = 0
) -> list[StudySpec]:
    """One study for each method, equal in everything else."""
    known = task_named(task)
    short, full = known.search_schedule, known.confirm_schedule
    return [
        StudySpec(
            task=task,
            methods=(method,),
            budget=budget,
            trials=trials,
            seed=seed,
            search_schedule=short,
            confirm_schedule=full,
        )
        for method in methods
    ]


def demo() -> list[StudySpec]:
    """The embedded digits at half and at a quarter of the dense network's FLOPs."""
    return [spec for budget in ("50%", "25%") for spec in comparison("demo", budget, 5)]
