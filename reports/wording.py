"""What a row, a column and a number are called on paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sconv_search.records import COLUMNS, Direction, Metric

MISSING = "–"
METHOD_NAMES = {
    "structured_conv": "structured convolution",
    "spatial_svd": "spatial SVD",
    "weight_svd": "weight SVD",
    "tucker": "Tucker-2",
    "cp": "CP",
    "channel_pruning": "channel pruning",
}
REFERENCE_NAMES = {"dense": "dense", "dense_finetuned": "dense, fine-tuned"}
UNTRAINED = "dense, batch norms re-estimated"
MOST_NAMED = 2
VALIDATION_MARK = " (validation only)"
_HEADINGS: dict[str, str] = {
    "label": "network",
    "run": "run",
    "family": "methods searched",
    "budget_group": "budget",
    "name": "plan",
    "additions": "additions (MACs + others)",
    "sampler": "sampler",
    "seeds": "seeds",
    "flops_share": "FLOPs kept (% of dense)",
    "speed_up": "speed-up over dense",
    "complete": "complete",
    "screened": "screened, not trained",
    "over_budget": "over budget",
    "failed": "failed",
    "trials": "trials",
    "wall_s": COLUMNS["wall_s"]["label"],  # shown in hours, minutes and seconds
}
_SCALES = ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k"))


@dataclass(frozen=True, kw_only=True)
class ScoreFormat:
    """How scores by a metric are written: in percent with two decimals, else with four significant digits."""

    metric: Metric

    @property
    def name(self) -> str:
        """The metric's name, on one line."""
        return one_line(self.metric.name)

    @property
    def unit(self) -> str:
        """The unit after a number, with a space in front; empty for a bare number."""
        return f" {one_line(self.metric.unit)}".rstrip()

    @property
    def difference_unit(self) -> str:
        """The unit of a difference of two scores: percentages differ by points."""
        return "points" if self.metric.unit == "%" else one_line(self.metric.unit)

    def number(self, score: Any) -> str:
        """A score without its unit."""
        return hundredths(score) if self.metric.unit == "%" else general(score)

    def text(self, score: Any) -> str:
        """A score with its unit."""
        return self.number(score) if pd.isna(score) else self.number(score) + self.unit

    def spread(self, mean: Any, deviation: Any) -> str:
        """Mean ± standard deviation; the mean alone where one seed gives no deviation."""
        if pd.isna(deviation):
            return self.number(mean)
        spread = hundredths(deviation) if self.metric.unit == "%" else _formatted(deviation, ".2g")
        return f"{self.number(mean)} ± {spread}"

    def signed(self, difference: Any) -> str:
        """A difference of scores with its sign, without unit."""
        return signed(difference) if self.metric.unit == "%" else _formatted(difference, "+.3g")

    def difference(self, value: float, deviation: float | None = None) -> str:
        """A size of a difference, and its deviation, with the unit: ``0.4 ± 0.1 points``."""
        if self.metric.unit == "%":
            # one decimal, or two where one would show 0
            digits = 1 if value >= 0.1 and (deviation is None or deviation >= 0.05) else 2
            words = [f"{part:.{digits}f}" for part in (value, deviation) if part is not None]
        else:
            words = [f"{value:.3g}", *([] if deviation is None else [f"{deviation:.2g}"])]
        return f"{' ± '.join(words)} {self.difference_unit}".rstrip()

    def heading(self, column: str) -> str:
        """The label of a column of scores or their differences, with the unit."""
        titles = {
            "difference": ("difference to dense", self.difference_unit),
            "lost": ("lost by compression", self.difference_unit),
            "best_val_score": (f"best validation {self.name} in search", self.unit.strip()),
        }
        label, unit = titles[column] if column in titles else (self.label(column), self.unit.strip())
        return f"{label} ({unit})" if unit else label

    def label(self, column: str) -> str:
        """The label of a column of scores, with the metric's name."""
        return str(COLUMNS[column]["label"]).replace("{}", self.name)


def score_format(rows: pd.DataFrame) -> ScoreFormat:
    """That of the metric by which the rows' networks were scored; the rows are of one task, which has one metric."""
    first = rows.iloc[0]
    better: Direction = "lower" if first["metric_better"] == "lower" else "higher"
    return ScoreFormat(
        metric=Metric(str(first["metric"]).strip() or "score", better=better, unit=str(first["metric_unit"]))
    )


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which no title, table cell or SVG can hold."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def method_name(methods: Any) -> str:
    """Plain words for the ``methods`` field; an unknown method keeps its own name."""
    if pd.isna(methods) or not methods:
        return "no method"
    names = [one_line(name) for name in methods.split(",")]
    if len(names) > MOST_NAMED:
        return f"mixed ({len(names)} methods)"
    return " + ".join(METHOD_NAMES.get(name) or one_line(name.replace("_", " ")) for name in names)


def network_label(variant: str, methods: Any, epochs: Any = None) -> str:
    """What a row is called: ``dense, fine-tuned``, ``spatial SVD, uniform``.

    Args:
        epochs: of its training; a dense network that went on for none had its batch norms re-estimated alone.
    """
    if variant == "dense_finetuned" and not pd.isna(epochs) and epochs == 0:
        return UNTRAINED
    return REFERENCE_NAMES.get(variant) or f"{method_name(methods)}, {one_line(variant)}"


def plan_text(row: Mapping[str, Any]) -> str:
    """A plan by its name and its run: what ``sconv-search export`` takes."""
    return f"plan {one_line(str(row['name']))} of {one_line(str(row['run']))}"


def heading(name: str) -> str:
    """A column's label, with its unit where the label does not hold it already."""
    if name in _HEADINGS:
        return _HEADINGS[name]
    label, unit = str(COLUMNS[name]["label"]), str(COLUMNS[name]["unit"])
    return label if unit.lower() in label.lower() else f"{label} ({unit})"


def hundredths(value: Any) -> str:
    """The number with two decimals."""
    return _formatted(value, ",.2f")


def thousandths(value: Any) -> str:
    """The number with three decimals."""
    return _formatted(value, ",.3f")


def tenths(value: Any) -> str:
    """The number with one decimal."""
    return _formatted(value, ",.1f")


def signed(value: Any) -> str:
    """The number with its sign and two decimals."""
    return _formatted(value, "+,.2f")


def general(value: Any) -> str:
    """The number with as many digits as it needs, at most four."""
    return _formatted(value, ".4g")


def _formatted(value: Any, form: str) -> str:
    if pd.isna(value):
        return MISSING
    return format(value, form).replace("-", "−")


def amount(value: Any) -> str:
    """A count such as 41200000 as ``41.2 M``."""
    if pd.isna(value):
        return MISSING
    scale, unit = next(((scale, unit) for scale, unit in _SCALES if value >= scale), (1, ""))
    return f"{value / scale:.1f}{unit}" if unit else f"{value:.0f}"


def duration(seconds: Any) -> str:
    """A time as ``1 h 05 min``, ``3 min 20 s`` or ``4.2 s``."""
    if pd.isna(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(math.floor(seconds + 0.5), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def text(value: Any) -> str:
    """A text or whole number as it stands."""
    return MISSING if pd.isna(value) else one_line(str(value))


def probability(value: float) -> str:
    """A test's p, with two significant digits: ``p = 0.12``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2f}" if value >= 0.1 else f"p = {value:.2g}"


def multiline(*lines: str) -> str:
    """Lines of a hover text; empty ones are left out."""
    return "\n".join(line for line in lines if line)


def joined(names: Iterable[str]) -> str:
    """Names as ``a``, ``a and b``, or ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
