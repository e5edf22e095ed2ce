"""What a network costs: operations counted on the network as built, and times by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.cost.counting import (
        cost_of_calls,
        counting_free,
        measure_cost,
        measure_modules,
        on_shapes,
        require_forward,
        required_operators,
    )
    from sconv_search.cost.input_shape import guessed_inputs, guesses, takes, told_inputs, told_shape
    from sconv_search.cost.network_inputs import Inputs, arguments, is_shape, output_tensors
    from sconv_search.cost.timing import (
        TOLERATED,
        Prepare,
        Run,
        Timer,
        compiled,
        compiled_call,
        eager,
        other_work,
        screened_in_turn,
        seconds_of,
        stolen_seconds,
        timed_in_turn,
        warm_up,
    )

_HOMES = {
    "cost_of_calls": "counting",
    "counting_free": "counting",
    "measure_cost": "counting",
    "measure_modules": "counting",
    "on_shapes": "counting",
    "require_forward": "counting",
    "required_operators": "counting",
    "guessed_inputs": "input_shape",
    "guesses": "input_shape",
    "takes": "input_shape",
    "told_inputs": "input_shape",
    "told_shape": "input_shape",
    "Inputs": "network_inputs",
    "arguments": "network_inputs",
    "is_shape": "network_inputs",
    "output_tensors": "network_inputs",
    "Prepare": "timing",
    "Run": "timing",
    "TOLERATED": "timing",
    "Timer": "timing",
    "compiled": "timing",
    "compiled_call": "timing",
    "eager": "timing",
    "other_work": "timing",
    "screened_in_turn": "timing",
    "seconds_of": "timing",
    "stolen_seconds": "timing",
    "timed_in_turn": "timing",
    "warm_up": "timing",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Inputs",
    "Prepare",
    "Run",
    "TOLERATED",
    "Timer",
    "arguments",
    "compiled",
    "compiled_call",
    "cost_of_calls",
    "counting_free",
    "eager",
    "guessed_inputs",
    "guesses",
    "is_shape",
    "measure_cost",
    "measure_modules",
    "on_shapes",
    "other_work",
    "output_tensors",
    "require_forward",
    "required_operators",
    "screened_in_turn",
    "seconds_of",
    "stolen_seconds",
    "takes",
    "timed_in_turn",
    "told_inputs",
    "told_shape",
    "warm_up",
]
