"""What a study is: the value that is written to ``spec.json`` and must be equal for a run to be continued."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

from sconv_search.budget import QUANTITIES, quantities_of
from sconv_search.plan import CompressionPlan
from sconv_search.records import Quantity
from sconv_search.strict_json import LARGEST, built, parsed, shown
from sconv_search.studies.granularity import Granularity, require_granularity
from sconv_search.training.schedule import Schedule

FORMAT = "sconv-search study 1"
MOST_SEED = 2**62
"""A training takes the next one, too, and tables hold whole numbers of 64 bits."""
SHOWN = 5
"""Near names in a message."""


SamplerName = Literal["surrogate", "tpe", "gp", "nsga2", "cmaes", "random"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Patterns of site names, as the shell writes them (``*``, ``?``, ``[...]``), and the rounding of sizes.

    Args:
        include: a site must match one of these; none given, all do.
        exclude: a site must match none of these.
        multiple: ranks and channel counts are offered in multiples of this.

    Raises:
        ValueError: the multiple is not a positive whole number, or a pattern is empty.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    multiple: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.multiple, bool) or not isinstance(self.multiple, int) or self.multiple < 1:
            raise ValueError(f"multiple must be a positive whole number, such as 8, got {self.multiple!r}")
        for kind in ("include", "exclude"):
            if not all(isinstance(pattern, str) and pattern for pattern in getattr(self, kind)):
                raise ValueError(
                    f"{kind} must hold patterns of site names, such as 'layer3.*', got {getattr(self, kind)!r}"
                )

    def refusal(self, name: str) -> str | None:
        """Why a site is not taken, in words; None if it is."""
        if pattern := next((p for p in self.exclude if fnmatchcase(name, p)), None):
            return f"excluded by {pattern!r}"
        if self.include and not any(fnmatchcase(name, pattern) for pattern in self.include):
            return f"not included by {' or '.join(map(repr, self.include))}"
        return None

    def require_matches(self, names: Iterable[str]) -> None:
        """Refuses patterns that match no name: they are misspelled.

        Raises:
            ValueError: the pattern, and the nearest names.
        """
        names = list(names)
        for kind in ("include", "exclude"):
            for pattern in getattr(self, kind):
                if not any(fnmatchcase(name, pattern) for name in names):
                    near = get_close_matches(pattern.replace("*", ""), names, n=SHOWN, cutoff=0.4) or names[:SHOWN]
                    raise ValueError(
                        f"{kind} pattern {pattern!r} matches no site; nearest: {', '.join(near) or 'there is none'}"
                    )


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One search.

    Args:
        task: name of the task, as ``sconv_search.studies.tasks.task_named`` reads it.
        methods: methods whose options the search mixes, site by site; one for a comparison of methods.
        budget: amounts or shares of dense, as ``Budgets.parse`` reads them; one may be a range, which makes a front
            study.
        quantity: what a budget limits that names no quantity itself.
        trials: number of trainings.
        sampler: key of ``SAMPLERS``.
        granularity: sites that share one preference: each ``layer`` has its own, or those of a ``block`` or a
            ``stage``.
        objectives: quantities to be minimized beside the accuracy; a front study without any minimizes the ranged one.
        plans: plans, as JSON text, that are tried before all others; their choices are added to what the methods offer.
        screening: one in so many plans is trained: the best of those compressed and scored untrained; 1 trains all.
        reconstruction: images that pass each block when compressed networks' blocks are trained to the dense network's
            outputs, before the schedule begins; 0 trains none.
        latency_batch: inputs of a forward whose time a latency budget limits.
        search_schedule: training of one trial, all phases together.
        confirm_schedule: training of one confirmation, all phases together.
        regularized_share: share of the epochs that a trial with a penalty trains before it compresses.
        regularized_share_range: range in which the search chooses that share itself, trial by trial; None keeps it.
        include: patterns of site names; none given, every site is searched.
        exclude: patterns of site names that stay dense.
        multiple: ranks and channel counts are offered in multiples of this.
        count_free: operators without a known cost that count nothing, as ``aten::fft_fft``.
        weights_sha256: checksum of the start weights.
        data_sha256: checksum of the data's three splits.
        made_of: checksums of the user's functions and of what else a loader's data shows, each after its name and a
            space, as ``"loss 5e1f..."``; empty where they are not known.
        dense_score: the dense network's, by the user's own function.

    Raises:
        ValueError: no method is named, the number of trials is not positive, or a number is out of range.
    """

    task: str
    methods: tuple[str, ...]
    budget: str
    trials: int
    search_schedule: Schedule
    confirm_schedule: Schedule
    quantity: Quantity = "flops"
    seed: int = 0
    regularized_share: float = 0.5
    regularized_share_range: tuple[float, float] | None = None
    regularization_range: tuple[float, float] = (0.05, 2.0)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    multiple: int = 1
    sampler: SamplerName = "surrogate"
    granularity: Granularity = "layer"
    objectives: tuple[Quantity, ...] = ()
    plans: tuple[str, ...] = ()
    screening: int = 1
    reconstruction: int = 0
    latency_batch: int = 16
    count_free: tuple[str, ...] = ()
    weights_sha256: str = ""
    data_sha256: str = ""
    made_of: tuple[str, ...] = ()
    dense_score: float | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("a study needs at least one method")
        if not 0 <= self.seed <= MOST_SEED:
            seed = self.seed if abs(self.seed) < 10**40 else shown(self.seed)
            raise ValueError(f"StudySpec.seed must be a whole number from 0 to {MOST_SEED}, got {seed}")
        for name in ("trials", "seed", "multiple", "screening", "latency_batch", "reconstruction"):
            if abs(getattr(self, name)) > LARGEST:
                raise ValueError(f"StudySpec.{name} must have at most 64 bits, got {shown(getattr(self, name))}")
        if self.trials < 1:
            raise ValueError(f"StudySpec.trials must be at least 1, got {self.trials}")
        if not 0 < self.regularized_share < 1:
            raise ValueError(f"StudySpec.regularized_share must be between 0 and 1, got {self.regularized_share}")
        if self.regularized_share_range is not None:
            first, last = self.regularized_share_range
            if not 0 < first < last < 1:
                raise ValueError(
                    f"StudySpec.regularized_share_range must rise between 0 and 1, got {self.regularized_share_range}"
                )
        _ = self.selection, self.given  # check themselves
        for name in ("screening", "latency_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"StudySpec.{name} must be at least 1, got {getattr(self, name)}")
        if self.reconstruction < 0:
            raise ValueError(f"StudySpec.reconstruction must be at least 0, got {self.reconstruction}")
        require_granularity(self.granularity)
        if unknown := [name for name in self.objectives if name not in QUANTITIES]:
            raise ValueError(f"there is no objective {unknown[0]!r}; objectives are {', '.join(QUANTITIES)}")
        if len(self.objectives) > 2:
            raise ValueError(f"accuracy is set against one or two costs, got {', '.join(self.objectives)}")
        if self.objectives and not self.is_front:
            raise ValueError(
                "objectives need a range of budgets, such as '30%..90%': under one budget every plan costs nearly the"
                " same"
            )
        require_sampler(self.sampler, self.costs)
        low, high = self.regularization_range
        if not 0 < low <= high:
            raise ValueError(f"StudySpec.regularization_range must rise above 0, got {self.regularization_range}")

    @property
    def given(self) -> tuple[CompressionPlan, ...]:
        """The plans that are tried first."""
        return tuple(map(CompressionPlan.from_json, self.plans))

    @property
    def is_front(self) -> bool:
        """Whether the budget is a range, so that the study looks for a front rather than for one best plan."""
        return ".." in self.budget

    @property
    def costs(self) -> tuple[Quantity, ...]:
        """Record columns that are minimized beside the accuracy."""
        ranged = [part for part in self.budget.split(",") if ".." in part]
        return self.objectives or tuple(quantities_of(",".join(ranged), self.quantity) if ranged else ())

    @property
    def times(self) -> bool:
        """Whether latency is limited or aimed at, and so has to be measured."""
        return "latency_ms" in (*quantities_of(self.budget, self.quantity), *self.objectives)

    @property
    def selection(self) -> Selection:
        """The sites and options that the search may choose."""
        return Selection(include=self.include, exclude=self.exclude, multiple=self.multiple)

    def to_json(self) -> str:
        """The spec as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> StudySpec:
        """The spec that ``to_json`` wrote.

        Raises:
            ValueError: the text is not such a spec.
        """
        try:
            entry = parsed(text)
            file_format = entry.pop("format", None) if isinstance(entry, dict) else entry
            if file_format != FORMAT:
                raise ValueError(f"its 'format' must be {FORMAT!r}, got {shown(file_format)}")
            return built(cls, entry)
        except ValueError as error:
            raise ValueError(f"not a study spec: {error}") from error

    def differences(self, other: StudySpec, *, begun: bool = True) -> list[str]:
        """Fields in which two specs differ, in words; the number of trials may grow and is left out.

        Args:
            begun: whether weights and data are known, so that their checksums are compared too.
        """
        out = {"trials", "made_of", "dense_score", *(() if begun else ("weights_sha256", "data_sha256"))}
        names = [f.name for f in fields(self) if f.name not in out]
        changed = [words for name in names for words in _difference(name, getattr(other, name), getattr(self, name))]
        return changed + (changed_parts(other.made_of, self.made_of) if begun else [])

    def has_same_space(self, other: StudySpec) -> bool:
        """Whether a search space measured for the other serves this one too."""
        choices = ("methods", "include", "exclude", "multiple", "plans", "count_free")
        names = ("task", *choices, "times", "latency_batch", "weights_sha256", "data_sha256")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def changed_parts(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The parts whose checksums differ, in words; those that only one names, as a loader's labels, are not compared."""
    before, after = (dict(part.rpartition(" ")[::2] for part in parts) for parts in (old, new))
    return [f"another {name} than before" for name in after if before.get(name, after[name]) != after[name]]


def _difference(name: str, old: object, new: object) -> list[str]:
    """What differs, in words; of two schedules, each of their fields that does."""
    if old == new:
        return []
    if isinstance(old, Schedule) and isinstance(new, Schedule):
        own = [f.name for f in fields(old)]
        return [
            words for part in own for words in _difference(f"{name}.{part}", getattr(old, part), getattr(new, part))
        ]
    return [f"{name} was {shown(old)}, is {shown(new)}"]


def require_sampler(kind: str, costs: Sequence[str], known: Iterable[str] = SAMPLERS) -> None:
    """Refuses a sampler that is unknown or cannot serve several objectives.

    Raises:
        ValueError: the name and those that would do.
    """
    if kind not in known:
        raise ValueError(f"there is no sampler {kind!r}; samplers are {', '.join(known)}")
    if kind == "cmaes" and costs:
        raise ValueError(
            "sampler 'cmaes' aims at one objective; a study of accuracy against costs takes surrogate, tpe, gp, nsga2"
            " or random"
        )
