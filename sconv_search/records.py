"""The results schema: what a network costs, what it may cost, and what one training of it gave."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

from sconv_search.plan import require_plan
from sconv_search.strict_json import LARGEST, parsed, quickly_parsed, require_regular, shortened, shown

Direction = Literal["lower", "higher"]
Better = Literal["lower", "higher", "by metric", ""]
Quantity = Literal["flops", "macs", "params", "activations", "latency_ms"]
Stage = Literal["search", "confirm"]
Status = Literal["complete", "screened", "over_budget", "failed"]
SCHEMA = 2
"""The schema that is written; schema 1, whose scores were all called top-1, is read too."""


def code_of(task: str) -> list[tuple[str, str]]:
    """Flags with what a task's name says is to be imported: a folder that names it is not run without them.

    Args:
        task: a task's name, with a network's of its own after an ``@``.
    """
    base, _, own = task.partition("@")
    return [(flag, name) for flag, name in (("--task", base), ("--network", own)) if ":" in name]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one input costs a network, counted on the network as built.

    Args:
        macs: multiply-accumulates of convolutions and linear layers.
        adds: all other arithmetic that the code executes, one for each addition, subtraction or elementwise
            multiplication.
        params: trainable numbers.
        activations: numbers that the counted operations write, intermediate results of a compressed layer included.
        latency_ms: measured time of a forward on one device, with its batch and threads; 0 where it was not measured.
    """

    macs: int
    adds: int
    params: int
    activations: int = 0
    latency_ms: float = 0.0

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-accumulate, one for each other."""
        return 2 * self.macs + self.adds

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: Cost) -> Cost:
        return self + other.times(-1)

    def times(self, factor: int) -> Cost:
        """Every amount multiplied."""
        return Cost(**{f.name: factor * getattr(self, f.name) for f in fields(self)})

    def counted(self) -> Cost:
        """The cost without its latency: what does not depend on a device."""
        return replace(self, latency_ms=0.0)


@dataclass(frozen=True)
class Metric:
    """What a score is.

    Args:
        name: as reports write it, such as ``top-1``, ``mean IoU`` or ``val loss``.
        better: whether a ``higher`` or a ``lower`` score is better.
        unit: such as ``%``, ``nat`` or ``dB``; empty for a bare number.

    Raises:
        ValueError: the name is empty, or ``better`` is neither.
    """

    name: str
    better: Direction = field(default="higher", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"a metric needs a name, such as 'top-1', got {self.name!r}")
        if self.better not in get_args(Direction):
            raise ValueError(f"Metric.better must be 'higher' or 'lower', got {self.better!r}")

    def quality(self, score: float) -> float:
        """The score, negated where a lower one is better: of two networks the better one has more of it."""
        return score if self.better == "higher" else -score

    def text(self, score: float) -> str:
        """The score with its unit: two decimals in percent, else four significant digits."""
        number = f"{score:.2f}" if self.unit == "%" else f"{score:.4g}"
        return f"{number} {self.unit}".rstrip()


def column(label: str, unit: str = "", better: Better = "", *, default: Any = None) -> Any:
    """A field with what tables and figures need to know of it; None, the default, says that the value is missing."""
    return field(default=default, metadata={"label": label, "unit": unit, "better": better})


def score_column(label: str) -> Any:
    """A field with a score by the record's metric; ``{}`` in its label stands for the metric's name."""
    return field(default=None, metadata={"label": label, "unit": "", "better": "by metric"})


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One training, or one refusal to train: a line of ``trials.jsonl`` and a row of the table. Missing is None.

    ``variant`` says what a row is for: ``searched``, ``uniform``, or for the references ``dense`` and
    ``dense_finetuned``; ``origin`` says which rule made a searched plan, or that the sampler did. Scores on the
    validation split steer the search; the test set is read in ``confirm`` alone. What the score columns hold is said by
    the three columns of the metric. ``name`` is that of a confirmed network in its run: what ``sconv-search export
    --plan`` takes.
    """

    study: str = column("study", default=MISSING)
    task: str = column("task", default=MISSING)
    stage: Stage = column("stage", default=MISSING)
    variant: str = column("variant", default=MISSING)
    status: Status = column("status", default=MISSING)
    schema: int = column("schema", default=SCHEMA)
    metric: str = column("metric", default="top-1")
    metric_unit: str = column("unit of the metric", default="%")
    metric_better: Direction = column("better direction of the metric", default="higher")
    name: str | None = column("name in the run")
    number: int | None = column("trial")
    seed: int | None = column("seed")
    reason: str | None = column("reason")
    methods: str | None = column("methods")
    plan: str | None = column("plan")
    regularization: float | None = column("regularization weight λ")
    regularized_share: float | None = column("share of epochs before compression")
    budget: str | None = column("budget")
    origin: str | None = column("how the plan was made")
    predicted_damage: float | None = column("predicted damage", "nat", "lower")
    screen_score: float | None = score_column("validation {} compressed, not trained")
    screen_loss: float | None = column("validation loss compressed, not trained", "nat", "lower")
    macs: int | None = column("MACs", "MAC", "lower")
    adds: int | None = column("other additions", "addition", "lower")
    flops: int | None = column("FLOPs (2 MACs + additions)", "FLOP", "lower")
    params: int | None = column("parameters", "", "lower")
    activations: int | None = column("activations", "", "lower")
    dense_flops: int | None = column("FLOPs of the dense network", "FLOP")
    residual: float | None = column("mean relative residual at compression", "", "lower")
    val_score_before: float | None = score_column("validation {} just before compression")
    val_score_after: float | None = score_column("validation {} just after compression")
    val_score: float | None = score_column("validation {}")
    val_loss: float | None = column("validation loss", "nat", "lower")
    test_score: float | None = score_column("test {}")
    latency_ms: float | None = column("latency of 16 inputs", "ms", "lower")
    dense_latency_ms: float | None = column("latency of the dense network, measured in turn", "ms", "lower")
    speed_up_spread: float | None = column(
        "half the distance between the quartiles of the speed-up over its rounds", "times"
    )
    busy_share: float | None = column(
        "share of the processors that other work took during the latency measurement", "", "lower"
    )
    threads: int | None = column("threads of the latency measurement")
    dtype: str | None = column("number type of the latency measurement")
    latency_batch: int | None = column("inputs of one latency measurement")
    layers: str | None = column("cost of each layer before and after, as JSON")
    residual_course: str | None = column("relative residual of each layer over the regularized epochs, as JSON")
    notes: str | None = column("what methods warned of while compressing")
    epochs: float | None = column("epochs trained", "epoch")
    wall_s: float | None = column("wall time", "s", "lower")
    machine: str | None = column("machine")
    versions: str | None = column("versions")
    commit: str | None = column("commit")
    command: str | None = column("command")

    @property
    def score_metric(self) -> Metric:
        """What the record's scores are."""
        return Metric(self.metric, better=self.metric_better, unit=self.metric_unit)

    @property
    def quality(self) -> float | None:
        """The validation score, negated where a lower one is better; None where it is missing."""
        return None if self.val_score is None else self.score_metric.quality(self.val_score)

    @property
    def screen_quality(self) -> float | None:
        """As ``quality``, of the score without training."""
        return None if self.screen_score is None else self.score_metric.quality(self.screen_score)

    @property
    def plan_name(self) -> str:
        """The network's name in its run, in records of schema 1 too: the trial's number, or what the row is for."""
        return self.name or (self.variant if self.number is None else str(self.number))

    def to_json(self) -> str:
        """The record as one line of JSON. NaN is refused: a score that is missing is null."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> TrialRecord:
        """The record that ``to_json`` wrote, or a version that wrote schema 1.

        Raises:
            ValueError: the line is not a JSON object, is of another schema, or has missing, unknown or mistyped fields.
        """
        return cls(**cls.fields_of(line))

    @classmethod
    def fields_of(cls, line: str | bytes, *, largest: float = math.inf) -> dict[str, Any]:
        """The fields of a line, checked as ``from_json`` does, without making a record: for tables of very many.

        Args:
            largest: whole numbers of more than this, or less than its negative, are refused.

        Raises:
            ValueError: as ``from_json``.
        """
        entry = quickly_parsed(line)
        if entry is not None and _is_right(entry, largest):
            return entry
        return cls._checked(parsed(line), largest)  # which finds the words for what is wrong

    @staticmethod
    def _checked(entry: Any, largest: float) -> dict[str, Any]:
        if not isinstance(entry, dict):
            raise ValueError(f"not a record: {shown(entry)}")
        schema = entry.get("schema")
        if type(schema) is int and schema == 1:
            _to_schema_2_(entry)
        elif type(schema) is not int or schema != SCHEMA:
            raise ValueError(f"records of the schemas 1 and {SCHEMA} are read, got {shown(schema)}")
        if (wrong := _wrong(entry, map(type, entry.values()))) is not None:
            if wrong not in COLUMNS:
                raise ValueError(f"unknown field {shown(wrong)}")
            raise ValueError(
                f"field {wrong!r} has the wrong type: {shown(entry[wrong])}, it should be {_in_words(wrong)}"
            )
        for name, value in entry.items():
            if type(value) is float and not math.isfinite(value):
                raise ValueError(f"field {name!r} must be a finite number or null, got {shown(value)}")
            if type(value) is int and abs(value) > largest:
                raise ValueError(f"field {name!r} is too large: {shown(value)}, it should have at most 64 bits")
        for name, words in _WORDS.items():
            if name in entry and entry[name] not in words:
                raise ValueError(f"field {name!r} must be one of {', '.join(words)}, got {shown(entry[name])}")
        if missing := sorted(_REQUIRED - entry.keys()):
            raise ValueError(f"incomplete record: it lacks {', '.join(map(repr, missing))}")
        return entry


def read_lines(file: Path, *, largest: float = math.inf) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The one reader of ``trials.jsonl``: of each line that is not blank its number and its fields, or why it is
    dropped; a plan that is none drops it too.

    Lines end at ``\\n`` alone, as JSON may hold all other line separators; a whole last line without one is kept.

    Args:
        largest: as in ``TrialRecord.fields_of``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file.
    """
    require_regular(file)
    with open(file, "rb") as opened:
        for number, line in enumerate(opened, start=1):
            if line.isspace():
                continue
            try:
                fields = TrialRecord.fields_of(line, largest=largest)
                if (plan := fields.get("plan")) is not None:
                    require_plan(plan)
            except ValueError as error:
                yield number, shortened(str(error), 300)
            else:
                yield number, fields


_RENAMED = {
    "screen_top1": "screen_score",
    "val_top1_before": "val_score_before",
    "val_top1_after": "val_score_after",
    "val_top1": "val_score",
    "test_top1": "test_score",
}
"""Columns of schema 1 and what they are called since."""


def _to_schema_2_(entry: dict[str, Any]) -> None:
    """Schema 1 had no metric for top-1 accuracies; all its metrics were in %, more being better."""
    for old, new in _RENAMED.items():
        if old in entry:
            entry[new] = entry.pop(old)
    if entry.get("metric") is None:
        entry["metric"] = "top-1"
    entry |= {"schema": SCHEMA, "metric_unit": "%", "metric_better": "higher"}


COLUMNS = {f.name: f.metadata for f in fields(TrialRecord)}
"""Field name -> unit, direction (``lower`` or ``higher`` is better) and label: the one source for tables, plots and
fronts.

Scores are better ``by metric``, which stands in the record."""

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}
_TYPES = {
    f.name: tuple(kind for part in str(f.type).split(" | ") for kind in _KINDS.get(part, (str,)))
    for f in fields(TrialRecord)
}


def record_fields(line: bytes) -> dict[str, Any]:
    """The fields of one line of ``trials.jsonl``: what every reader of that file takes, the studies and the reports
    alike.

    Raises:
        ValueError: the line is not UTF-8, not JSON, or not a record; the field, its value and what would be right are
            named.
    """
    return TrialRecord.fields_of(line, largest=LARGEST)


def _is_right(entry: dict[str, Any], largest: float) -> bool:
    """Whether the entry, which a fast parser made, is surely a record of this schema: of long tables most are."""
    if (getters := _getters(tuple(entry), tuple(map(type, entry.values())))) is None:
        return False
    words, numbers = getters
    # of floats, too: larger ones may have been whole numbers, which that parser rounds
    return words(entry) in _KNOWN_WORDS and max(map(abs, numbers(entry))) < min(largest, LARGEST)


def _in_words(name: str) -> str:
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    kinds = dict.fromkeys(float if float in _TYPES[name] and kind is int else kind for kind in _TYPES[name])
    return " or ".join(words[kind] for kind in kinds)


_REQUIRED = {f.name for f in fields(TrialRecord) if f.default is MISSING}
_WORDS = {"stage": get_args(Stage), "status": get_args(Status), "metric_better": get_args(Direction)}


_KNOWN_WORDS = set(product([SCHEMA], *_WORDS.values()))


@lru_cache(maxsize=4096)
def _getters(names: tuple[str, ...], types: tuple[type, ...]) -> tuple[itemgetter[Any], itemgetter[Any]] | None:
    """What takes schema and words, and the numbers, of an entry with these fields; None where they are not a record's.

    Cached, as nearly all lines of a file have the same fields and types.
    """
    if _wrong(names, types) is not None or not {"schema", *_WORDS, *_REQUIRED} <= set(names):
        return None
    numbers = [name for name, kind in zip(names, types, strict=True) if kind in (int, float)]
    return itemgetter("schema", *_WORDS), itemgetter(*numbers, "schema")  # two or more, for a tuple


def _wrong(names: Iterable[str], types: Iterable[type]) -> str | None:
    """The first field that is unknown or of a wrong type."""
    pairs = zip(names, types, strict=True)
    return next((name for name, kind in pairs if name not in COLUMNS or kind not in _TYPES[name]), None)
