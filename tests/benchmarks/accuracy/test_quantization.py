"""The quantization benchmark: forms that compute the same in both bases, plans of all 3x3 layers, a table of losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.accuracy import quantization as quantization
from benchmarks.accuracy.quantization import FORMS, Form, by_products, in_boxes, plan_of, report
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.studies import compress


def test_plans_take_every_3x3_layer_but_the_stem() -> None:
    network = cifar_resnet(8)
    sites = plan_of(network, Form(name="", kept=0.5)).sites
    assert len(sites) == 6
    assert dict(sites["layer3.0.conv1"].structure) == {"c": 16, "n": 3, "merged": 1}
    assert plan_of(network, FORMS[0]).sites == {}
    assert dict(plan_of(network, FORMS[1]).sites["layer1.0.conv2"].structure) == {"c": 16, "n": 2}


@pytest.mark.parametrize("realized", [by_products, in_boxes])
def test_both_bases_compute_the_same_by_products(realized: object) -> None:
    torch.manual_seed(0)
    form = Form(name="", kept=0.75, method="structured_natural")
    network = cifar_resnet(8).eval()
    small = compress(network, plan_of(network, form))
    found, x = realized(small), torch.randn(2, 3, 16, 16)  # type: ignore[operator]
    torch.testing.assert_close(found(x), small(x), rtol=0, atol=1e-4)
    sums = found.layer1[0].conv1[0].weight  # type: ignore[union-attr,index]
    assert isinstance(found.layer1[0].conv1, nn.Sequential)  # type: ignore[union-attr,index]
    assert sums.min() == (-1 if realized is by_products else 0)


def test_the_table_shows_what_int8_loses() -> None:
    rows = [{"form": "dense", "flops": 1.0, "float": 91.73, "int8": {"7 bits, a filter": 91.5}}]
    assert report(rows).splitlines()[-1] == "| dense | 100% | 91.73 | 91.50 (-0.23) |"
    assert [form.name for form in FORMS if form.realized is quantization.in_boxes] == [
        "(3C/4, 3), natural, box basis, 1x1",
        "(C/2, 3), natural, box basis, 1x1",
    ]
