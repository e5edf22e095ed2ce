"""Which forwards tell of a network's channels: an input on which it runs, and each path that it takes.

Paths differ in what is called: heads that run in training alone, branches on the input's size. Where the shape of the
input is known, its path is followed at that very shape; then a smaller input of the same path is looked for, on which
groups are put to the test.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice

from torch import nn

from sconv_search.channels.label_tracing import Form, Trace, is_followed, traced
from sconv_search.channels.stand_in import UntraceableError
from sconv_search.cost.input_shape import guesses

SMALLER = (16, 32, 64, 96, 128, 160, 192)
"""Lengths tried in the place of a given greater one."""
MORE_SIZES = 4
"""Further sizes that are traced in the hope of layers that have not run."""
LARGE_INPUT = 2**15
"""Numbers in an input of which one is traced at a time; of a smaller one two are, as a batch."""


def traces_of(double: nn.Module, shape: tuple[int, ...] | None, whole: Collection[str]) -> list[Trace]:
    """A trace of each path that a stand-in is seen to take, evaluation first.

    Args:
        shape: of one input; None where it is not known.
        whole: as in ``traced``.

    Raises:
        UntraceableError: it fails on that shape, or on every shape tried.
    """
    tries = guesses(double) if shape is None else iter([shape])
    forms = map(_form, tries) if shape is None else iter([_form(shape), Form(shape=(1, *shape))])
    traces = [_first_that_runs(double, forms, whole)]
    _add_training_(traces, double, whole)
    if shape is None:
        _add_sizes_(traces, double, [*_scaled(traces[0]), *islice(tries, MORE_SIZES)], whole)
    return traces


def small_traces(double: nn.Module, traces: Collection[Trace], whole: Collection[str]) -> list[Trace]:
    """For each trace one of the same path on an input as small as was found, for tests that take many forwards."""
    return [_smaller_(trace, double, whole) for trace in traces]


def _first_that_runs(double: nn.Module, forms: Iterator[Form], whole: Collection[str]) -> Trace:
    cause: Exception | None = None
    for form in forms:
        try:
            return traced(double, form, whole)
        except Exception as error:  # of any kind: the forward is the user's own
            shape = form.shape[1:]
            cause = UntraceableError(f"{type(double).__name__} fails on an input of shape {shape}: {_words(error)}")
            cause.__cause__ = error
    if cause is None:
        raise UntraceableError("it has no convolution and no linear layer")
    raise UntraceableError(f"no input shape that was tried runs; the last: {cause}") from cause


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RuntimeError) and str(error) else f"{type(error).__name__}: {error}"


def _form(shape: tuple[int, ...]) -> Form:
    return Form(shape=(1 if math.prod(shape) > LARGE_INPUT else 2, *shape))


def _attempt(double: nn.Module, form: Form, whole: Collection[str]) -> Trace | None:
    try:
        return traced(double, form, whole)
    except Exception:  # of any kind: the forward is the user's own, and it runs on another input
        return None


def _add_training_(traces: list[Trace], double: nn.Module, whole: Collection[str]) -> None:
    """Adds the path of training, where there is one of its own; whether there is shows on a small input."""
    small = _smaller_(traces[0], double, whole)
    training = _attempt(double, replace(small.form, training=True), whole)
    if training is not None and training.sequence == small.sequence:
        return
    if small is not traces[0]:
        training = _attempt(double, replace(traces[0].form, training=True), whole)
    if training is not None and training.sequence != traces[0].sequence:
        traces.append(training)


def _scaled(trace: Trace) -> Iterator[tuple[int, ...]]:
    """Shapes of inputs of half, twice, a quarter of the size: a network may branch on it."""
    _, channels, *space = trace.form.shape
    for factor in (0.5, 2, 0.25) if space else ():
        yield (channels, *(max(1, int(length * factor)) for length in space))


def _add_sizes_(traces: list[Trace], double: nn.Module, tries: list[tuple[int, ...]], whole: Collection[str]) -> None:
    """Adds paths of other sizes, as long as there are layers that have not run."""
    watched = {name for name, layer in double.named_modules() if is_followed(layer) and name not in whole}
    like = traces[0].form.shape
    ran = set().union(*(trace.ran for trace in traces))
    for shape in [shape for shape in tries if len(shape) == len(like) - 1 and shape[0] == like[1]]:
        if watched <= ran:
            return
        for training in (False, True):
            trace = _attempt(double, replace(_form(shape), training=training), whole)
            if trace is not None and not trace.ran <= ran:
                traces.append(trace)
                ran |= trace.ran


def _smaller_(trace: Trace, double: nn.Module, whole: Collection[str]) -> Trace:
    """A trace of the same path on a smaller input, which is then kept with the trace."""
    if trace.small is None:
        attempts = (_attempt(double, form, whole) for form in _smaller_forms(trace.form))
        alike = (small for small in attempts if small is not None and small.sequence == trace.sequence)
        trace.small = next(alike, trace)
    return trace.small


def _smaller_forms(form: Form) -> Iterator[Form]:
    _, channels, *space = form.shape
    for size in SMALLER if space else ():
        shape = (channels, *(min(size, length) for length in space))
        if math.prod(shape) < math.prod(form.shape[1:]):
            yield replace(_form(shape), training=form.training)
