"""Budget filling where sites do not interact: under one budget, without couplings.

A site then takes its steps in an order of its own, whatever the others do, so all sites' steps are found first and then
merged by what they harm for what they save. The plans are those of step-by-step decoding.

Legend of shapes: P plans, S sites, O options (0 is dense), D steps down a site's path, N = S * D.
"""

from __future__ import annotations

import numpy as np

from sconv_search.budget_amounts import Amounts, rates
from sconv_search.space_arrays import Array, Positions


def first_fit(amounts: Amounts, damage_PSO: Array) -> tuple[Positions, Array]:
    """Positions (P, S) at the first step down from dense that meets the budget, and the excess (P, 1) that is left there.

    Where none meets it, the positions are those after the last step.
    """
    rate_PSD, saved_PSD, option_PSD = _paths(amounts, damage_PSO)
    plans, sites, depth = rate_PSD.shape
    # A step is taken once it is the cheapest that any site offers: as soon as the dearest so far of its own site is.
    order_PN = np.maximum.accumulate(rate_PSD, axis=2).reshape(plans, -1).argsort(axis=1, kind="stable")
    saved_PN = np.take_along_axis(saved_PSD.reshape(plans, -1), order_PN, axis=1)
    start_P1 = np.full((plans, 1), amounts.excess_B[0])
    left_PN = np.subtract.accumulate(np.concatenate([start_P1, saved_PN], axis=1), axis=1)
    met_PN = left_PN <= 0
    steps_P = np.where(met_PN.any(axis=1), met_PN.argmax(axis=1), sites * depth)
    rank_PN = np.empty_like(order_PN)
    np.put_along_axis(rank_PN, order_PN, np.arange(sites * depth)[None], axis=1)
    taken_PSD = (rank_PN < steps_P[:, None]).reshape(plans, sites, depth) & np.isfinite(rate_PSD)
    last_PS = taken_PSD.sum(axis=2)
    at_PSD = np.concatenate([np.zeros((plans, sites, 1), dtype=np.intp), option_PSD], axis=2)
    at_PS = np.take_along_axis(at_PSD, last_PS[:, :, None], axis=2)[:, :, 0]
    return at_PS, np.take_along_axis(left_PN, steps_P[:, None], axis=1)


def _paths(amounts: Amounts, damage_PSO: Array) -> tuple[Array, Array, Positions]:
    """Damage for saving, saving and option of each step of each site alone, (P, S, D); infinite after a path's end."""
    plans, sites, width = damage_PSO.shape
    damage_GO, weight = damage_PSO.reshape(-1, width), 1.0 / amounts.limit_B[0]
    saving_GO = np.broadcast_to(amounts.saving_SOB[:, :, 0], damage_PSO.shape).reshape(-1, width)
    going_G, at_G = np.arange(plans * sites), np.zeros(plans * sites, dtype=np.intp)
    rates_D: list[Array] = []
    saved_D: list[Array] = []
    options_D: list[Positions] = []
    while len(going_G) or not rates_D:
        every_G = np.arange(len(going_G))
        saved_GO = saving_GO - saving_GO[every_G, at_G][:, None]
        rate_GO = rates(damage_GO - damage_GO[every_G, at_G][:, None], saved_GO * weight)
        at_G = rate_GO.argmin(axis=1)
        goes_on_G = np.isfinite(rate_GO[every_G, at_G])
        going_G, at_G, damage_GO, saving_GO = (part[goes_on_G] for part in (going_G, at_G, damage_GO, saving_GO))
        for steps, values_GO, rest in ((rates_D, rate_GO, np.inf), (saved_D, saved_GO, 0.0)):
            steps.append(np.full(plans * sites, rest))
            steps[-1][going_G] = values_GO[goes_on_G][np.arange(len(going_G)), at_G]
        options_D.append(np.zeros(plans * sites, dtype=np.intp))
        options_D[-1][going_G] = at_G
    shape = (plans, sites, len(rates_D))
    option_PSD: Positions = np.stack(options_D, axis=1).reshape(shape)
    return np.stack(rates_D, axis=1).reshape(shape), np.stack(saved_D, axis=1).reshape(shape), option_PSD
