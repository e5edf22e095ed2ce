"""How much harm the search expected of compressing each layer alone: its sensitivity table, as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from sconv_search.reports.drawing.chart import Drawing, Figure, HeatMap, Nothing
from sconv_search.reports.reading.runs import Key, OptionFacts, RunFacts, structure_words
from sconv_search.reports.wording import general, method_name, multiline

SHARES = (0.25, 0.5, 0.75, 1.0)
MOST_ROWS = 60
LEAST = 1e-6
_TITLE = "Predicted damage, layer by layer"
_CAPTION = (
    "Each layer compressed alone: the least Kullback-Leibler divergence (nat) of the network's outputs from the dense"
    " one's, over the options that take at least so much of what the layer could save at most. Measured once, without"
    " training; the search starts from it and learns where it is wrong."
)


def damage_figure(table: pd.DataFrame, runs: Sequence[RunFacts], task: str) -> Figure:
    """Layer against depth of compression; a drawing for each space that the task's runs searched."""
    names = set(table.loc[table["task"] == task, "run"])
    spaces: list[RunFacts] = []
    for run in runs:
        if run.name in names and run.options and all(run.options != other.options for other in spaces):
            spaces.append(run)
    families = [run.family for run in spaces]
    drawings: dict[str, Drawing] = {
        method_name(run.family) + (f" ({run.name})" if families.count(run.family) > 1 else ""): _map(run)
        for run in spaces
    }
    if not drawings:
        drawings = {"": Nothing(title=_TITLE, reason="No run has a search space, so no damage was predicted.")}
    return Figure(key="damage", title=_TITLE, drawings=drawings, caption=_CAPTION)


def _map(run: RunFacts) -> HeatMap:
    names = [site for site, options in run.options.items() if max((o.saving for o in options.values()), default=0) > 0]
    shown = names[:MOST_ROWS]
    cells = [[_mildest(run.options[site], share) for share in SHARES] for site in shown]
    values = [[math.log10(max(option.damage, LEAST) / LEAST) for _, option in row] for row in cells]
    return HeatMap(
        title=_TITLE,
        rows=shown,
        columns=[f"at least {share:.0%}" for share in SHARES],
        values=values,
        texts=[[general(option.damage) for _, option in row] for row in cells],
        hovers=[
            [multiline(site, f"{general(option.damage)} nat: {key[0]} {structure_words(key)}") for key, option in row]
            for site, row in zip(shown, cells, strict=True)
        ],
        label="decades of damage above a millionth of a nat",
        limits=(0.0, max((value for row in values for value in row), default=0.0) or 1.0),
        notes=[f"the first {MOST_ROWS} of {len(names)} layers are drawn"] if len(names) > MOST_ROWS else [],
    )


def _mildest(options: Mapping[Key, OptionFacts], share: float) -> tuple[Key, OptionFacts]:
    """The least damaging option that takes at least that share of the site's largest saving."""
    most = max(option.saving for option in options.values())
    return min(((key, o) for key, o in options.items() if o.saving >= share * most), key=lambda pair: pair[1].damage)
