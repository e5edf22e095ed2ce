"""The profile by layers: alike ones once, every form in its fastest way, and that way without its sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.candidates import Candidate, Subject
from benchmarks.speed.layer_profile import fastest, kinds, layer_runs, measure
from sconv_search import StructuredConv2d
from sconv_search.cost.timing import Run, eager


def network() -> nn.Module:
    """A stem, two layers alike, and one of another size."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
    )


def test_layers_alike_are_one_kind_with_what_they_read() -> None:
    first, other = kinds(network(), ["2", "4", "6"], torch.randn(2, 3, 6, 6))
    assert (first.name, first.count, first.x.shape) == ("2", 2, (2, 8, 6, 6))
    assert (other.name, other.count, float(other.x.min())) == ("6", 1, 0)


def test_the_small_convolution_alone_reads_the_sums() -> None:
    given = network()
    (kind,) = kinds(given, ["6"], torch.randn(2, 3, 6, 6))
    small = network()
    small[6] = StructuredConv2d.from_conv(small[6], c=4, n=2)
    forms = [
        Candidate(method="dense", strength="", network=given),
        Candidate(method="structured", strength="4x", network=small),
    ]
    seen: dict[str, list[tuple[int, ...]]] = {}

    def prepare(module: nn.Module, x: Tensor) -> Run:
        layer = module.layer
        shapes = seen.setdefault(repr(layer), [])
        layer.register_forward_pre_hook(lambda own, inputs: shapes.append(tuple(inputs[0].shape)))
        return eager(module, x)

    runs = layer_runs(kind, forms, prepare)
    assert "dense: dense" in runs
    assert {name.partition(": ")[0] for name in runs} == {"dense", "structured 4x", "structured 4x alone"}
    for run in runs.values():
        run()
    whole = [shapes for layer, shapes in seen.items() if layer.startswith("Sequential")]
    alone = [shapes for layer, shapes in seen.items() if layer.startswith("Conv2d(4, 16, kernel_size=(2, 2)")]
    assert {shape[1] for shapes in whole for shape in shapes} == {8}
    assert {shape[1] for shapes in alone for shape in shapes} == {4}


def test_the_fastest_way_is_of_that_form() -> None:
    times = {"dense: dense": 1.0, "merged 2x: 1x1": 3.0, "merged 2x: blocks": 2.0, "merged 2x alone: 1x1": 0.5}
    assert fastest(times, "merged 2x") == (2.0, "blocks")
    assert fastest(times, "merged 2x alone") == (0.5, "1x1")


def test_totals_count_layers_as_often_as_they_are_there() -> None:
    subject = Subject(make=network, shape=(3, 6, 6), pointwise=False, multiple=1)
    rows = list(measure(subject, "eager", torch.float32, batch=2, rounds=1))
    for strength in ("2x", "4x"):
        own = [row for row in rows if row[0] == strength]
        assert [row[1] for row in own] == ["8 to 8, 3x3, reads 6x6", "8 to 16, 3x3, reads 6x6", "all"]
        dense = [float(str(row[3])) for row in own]
        assert dense[2] == pytest.approx(2 * dense[0] + dense[1], abs=0.1)
