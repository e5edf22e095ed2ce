"""Which cheaply judged plans are worth a training: one rung of asynchronous successive halving.

With one objective Optuna's pruner decides (Li et al., MLSys 2020, arXiv 1810.05934), with several our own rank by
dominance. Both decide on a study of their own in memory, made from the records: in the search's journal a trial that
was interrupted stays as a failed one beside its successor, the pruner would count its value twice, and the search would
promote other plans.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.pruners import SuccessiveHalvingPruner

# Which cheaply judged plans are worth a training, by several objectives: those in the best share of all judged so far.
#
# This is one rung of asynchronous successive halving (Li et al., MLSys 2020, arXiv 1810.05934) in which a plan's rank
# is the number of plans that beat it in everything. It depends on the judged plans alone, in their order, so an
# interrupted search promotes the same ones.


def promoted(judged: Sequence[Sequence[float]], reduction: int) -> bool:
    """Whether the last of the judged plans is in the best ``1 / reduction`` of all.

    Args:
        judged: objectives of each plan, every one to be maximized; the plan in question is the last.
        reduction: 1 promotes all; the first plan is always promoted.
    """
    own = judged[-1]
    better = sum(_dominates(other, own) for other in judged[:-1])
    return better * reduction < len(judged)


def _dominates(first: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(first, other, strict=True)) and tuple(first) != tuple(other)


class Halving:
    """Promotes about one in so many plans, each judged once, in the order in which they come.

    Args:
        reduction: 1 promotes all.
        objectives: how many values judge a plan, every one to be maximized.
    """

    def __init__(self, reduction: int, objectives: int) -> None:
        self._reduction, self._judged = reduction, list[tuple[float, ...]]()
        self._study: optuna.Study | None = None
        if reduction > 1 and objectives == 1:
            pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction, min_early_stopping_rate=0)
            self._study = optuna.create_study(direction="maximize", pruner=pruner)

    def promotes(self, values: Sequence[float]) -> bool:
        """Whether a plan of these values, better if larger, is in the best share of all so far, itself included."""
        if self._study is None:
            self._judged.append(tuple(values))
            return promoted(self._judged, self._reduction)
        trial = self._study.ask()
        trial.report(values[0], step=1)
        worth = not trial.should_prune()
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return worth
