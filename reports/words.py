"""The words of a report: what a row, a column and a number are called on paper."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sconv_search.records import COLUMNS

MISSING = "–"
METHOD_WORDS = {
    "structured_conv": "structured convolution",
    "spatial_svd": "spatial SVD",
    "weight_svd": "weight SVD",
    "tucker": "Tucker-2",
    "cp": "CP",
    "channel_pruning": "channel pruning",
}
REFERENCE_WORDS = {"dense": "dense", "dense_finetuned": "dense, fine-tuned"}
UNTRAINED = "dense, batch norms re-estimated"
MOST_NAMED = 2
VALIDATION_MARK = " (validation only)"
_DERIVED: dict[str, str] = {
    "label": "network",
    "run": "run",
    "family": "methods searched",
    "budget_group": "budget",
    "key": "plan",
    "additions": "additions (MACs + others)",
    "val_top1_gap": "lost by compression (points)",
    "latency_share": "latency, % of the dense network measured in turn",
    "sampler": "sampler",
    "seeds": "seeds",
    "flops_share": "FLOPs kept (% of dense)",
    "difference": "difference to dense (points)",
    "speed_up": "speed-up (times)",
    "best_val_top1": f"best {COLUMNS['val_top1']['label']} in search (%)",
    "complete": "complete",
    "screened": "screened, not trained",
    "over_budget": "over budget",
    "failed": "failed",
    "trials": "trials",
    "wall_s": COLUMNS["wall_s"]["label"],  # shown in hours, minutes and seconds
}
_SCALES = ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k"))


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which no title, table cell or SVG can hold."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def method_words(methods: Any) -> str:
    """Plain words for the ``methods`` field; an unknown method keeps its own name."""
    if pd.isna(methods) or not methods:
        return "no method"
    names = [one_line(name) for name in methods.split(",")]
    if len(names) > MOST_NAMED:
        return f"mixed ({len(names)} methods)"
    return " + ".join(METHOD_WORDS.get(name) or one_line(name.replace("_", " ")) for name in names)


def label(variant: str, methods: Any, epochs: Any = None) -> str:
    """What a row is called: ``dense, fine-tuned``, ``spatial SVD, uniform``.

    Args:
        epochs: of its training; a dense network that went on for none had its batch norms re-estimated alone.
    """
    if variant == "dense_finetuned" and not pd.isna(epochs) and epochs == 0:
        return UNTRAINED
    return REFERENCE_WORDS.get(variant) or f"{method_words(methods)}, {one_line(variant)}"


def heading(name: str) -> str:
    """A column's label, with its unit where the label does not hold it already."""
    if name in _DERIVED:
        return _DERIVED[name]
    words, unit = str(COLUMNS[name]["label"]), str(COLUMNS[name]["unit"])
    return words if unit.lower() in words.lower() else f"{words} ({unit})"


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


def spread(mean: Any, deviation: Any) -> str:
    """Mean ± standard deviation; the mean alone where one seed gives no deviation."""
    return hundredths(mean) if pd.isna(deviation) else f"{hundredths(mean)} ± {hundredths(deviation)}"


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


def spread_of_points(mean: float, deviation: float | None) -> str:
    """Mean ± deviation in points, both with one decimal, or two where one would show 0."""
    digits = 1 if mean >= 0.1 and (deviation is None or deviation >= 0.05) else 2
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def multiline(*lines: str) -> str:
    """Lines of a hover text; empty ones are left out."""
    return "\n".join(line for line in lines if line)
