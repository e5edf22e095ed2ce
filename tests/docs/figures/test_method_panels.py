"""The numbers behind the pictures of docs/methods.md."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from docs.figures.method_panels import (
    MAKER,
    MIXED,
    SITE,
    STRUCTURES,
    Panel,
    Picture,
    Subject,
    applied_kernel,
    built,
    calibrated_picture,
    layer_picture,
    mixed_costs,
    output_error,
    pictures,
    pruned_picture,
    regularized_picture,
)
from docs.figures.methods import drawn, limit, sheet
from sconv_search.data.splits import DataSet, Split
from sconv_search.networks.resnet import digits_network

CLOSE = {"rtol": 0, "atol": 1e-6}  # the layers are fp32


@pytest.fixture(scope="module")
def subject() -> Subject:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (64, 1, 28, 28), generator=generator, dtype=torch.uint8)
    split = Split(images=images, labels=torch.randint(0, 10, (64,), generator=generator))
    data = DataSet(name="noise", train=split, validation=split, test=split, mean=(0.5,), std=(0.3,))
    torch.manual_seed(0)
    return Subject(network=digits_network().eval(), inputs=data.normalized(images[:16]), data=data)


def test_the_impulse_response_of_a_convolution_is_its_kernel() -> None:
    conv = nn.Conv2d(3, 4, (3, 5), padding=(1, 2), bias=False)
    torch.testing.assert_close(applied_kernel(conv, conv), conv.weight.detach().double(), rtol=0, atol=1e-12)


def recombined(picture: Picture) -> Tensor:
    """The kernel that the parts of a picture make, by the formula of its section."""
    first, *rest = (panel.cells.double() for panel in picture.panels[1:-2])
    if picture.name == "structured_space":  # masks (2, 2, 3, 3), small kernel (O, C, 2, 2)
        return torch.einsum("ijhw,ocij->ochw", first, rest[0])
    if picture.name == "structured_natural":  # the kept kernel is in the basis of the layer's sums, not of the boxes
        boxes, small = first[:, :, 0, 0], rest[0]
        sums = torch.cat([boxes[1:] - boxes[:-1], boxes[:1]])
        return torch.einsum("sc,oshw->ochw", sums, small)
    if picture.name.startswith("structured"):
        return torch.einsum("sc,oshw->ochw", first[:, :, 0, 0], rest[0])
    if picture.name == "spatial_svd":
        return torch.einsum("rch,orw->ochw", first[..., 0], rest[0][:, :, 0])
    if picture.name == "weight_svd":
        return torch.einsum("rchw,or->ochw", first, rest[0][:, :, 0, 0])
    if picture.name == "tucker":
        return torch.einsum("ic,jihw,oj->ochw", first[:, :, 0, 0], rest[0], rest[1][:, :, 0, 0])
    rows, columns, outputs = rest
    return torch.einsum("rc,rh,rw,or->ochw", first[:, :, 0, 0], rows[:, 0, :, 0], columns[:, 0, 0], outputs[:, :, 0, 0])


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_the_parts_make_what_is_applied_and_the_difference_is_the_rest(subject: Subject, name: str) -> None:
    picture = layer_picture(subject, name)
    kernel, applied, difference = picture.panels[0].cells, picture.panels[-2].cells, picture.panels[-1].cells
    torch.testing.assert_close(kernel, subject.network.get_submodule(SITE).weight.detach().double(), rtol=0, atol=0)
    torch.testing.assert_close(recombined(picture), applied, **CLOSE)
    torch.testing.assert_close(applied + difference, kernel, **CLOSE)
    assert picture.residual == pytest.approx(float(difference.square().sum() / kernel.square().sum()) ** 0.5)
    assert f"{picture.residual:.2f}" in picture.panels[-1].note


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_all_pictures_keep_the_same_share_of_the_macs(subject: Subject, name: str) -> None:
    kept = sum(weight.numel() for weight in built(subject, name).parameters())  # stride 1: a MAC a weight and position
    assert 0.41 < kept / subject.kernel.numel() <= 4 / 9


def test_calibration_trades_the_kernels_error_for_the_outputs(subject: Subject) -> None:
    picture = calibrated_picture(subject)
    kernel, plain, fitted = (panel.cells for panel in picture.panels)
    assert (kernel - fitted).norm() > (kernel - plain).norm()
    layers = [built(subject, "structured_merged", inputs) for inputs in (None, subject.inputs)]
    errors = [output_error(layer, subject) for layer in layers]
    assert errors[1] < 0.9 * errors[0]
    assert [panel.note.rpartition(" ")[2] for panel in picture.panels[1:]] == [f"{error:.2f}" for error in errors]


def test_training_towards_the_structure_leaves_less_to_lose(subject: Subject) -> None:
    before = subject.kernel.clone()
    picture, unregularized = (regularized_picture(subject, strength=strength, epochs=6) for strength in (10.0, 1e-9))
    assert picture.residual < 0.95 * unregularized.residual
    trained, projected = picture.panels[2].cells, picture.panels[3].cells
    assert float((trained - projected).norm() / trained.norm()) == pytest.approx(picture.residual)
    assert torch.equal(subject.kernel, before)


def test_the_channels_that_a_pruned_layer_no_longer_makes_are_those_that_are_no_longer_read(subject: Subject) -> None:
    made, makes, read, reads = (panel.cells for panel in pruned_picture(subject, keep=11).panels)
    gone_made, gone_read = makes.isnan().all(0).flatten(1).all(1), reads.isnan().all(0).flatten(1).all(1)
    assert int(gone_made.sum()) == 5
    assert torch.equal(gone_made, gone_read)
    assert torch.equal(makes[:, ~gone_made], made[:, ~gone_made])
    assert not torch.equal(reads[:, ~gone_read], read[:, ~gone_read])  # refit
    assert torch.equal(made, subject.network.get_submodule(MAKER).weight.detach().double().transpose(0, 1))


def test_a_mixed_plan_makes_its_layers_cheaper_and_leaves_the_others(subject: Subject) -> None:
    costs = mixed_costs(subject.network)
    assert {site: method for site, (method, *_) in costs.items() if method} == {
        s: method for s, (method, _) in MIXED.items()
    }
    for method, before, after in costs.values():
        assert after < before if method else after == before
    assert costs["6"][1:] == (32 * 16 * 9 * 14 * 14, 14 * 3 * (16 + 32) * 14 * 14)
    assert costs["15"][2] == 48 * 30 * 4 * 7 * 7  # c = 48 of 48 has become 30 of the 30 that pruning left


def test_there_is_a_picture_for_each_structure_and_three_more(subject: Subject) -> None:
    assert len(pictures(subject)) == len(STRUCTURES) + 3


def test_a_sheet_holds_every_cell_in_its_place() -> None:
    cells = torch.arange(2 * 3 * 2 * 2, dtype=torch.float64).view(2, 3, 2, 2)
    image = sheet(cells)
    assert image.shape == (5, 8)
    assert torch.equal(image[3:5, 6:8], cells[1, 2])
    assert image[2].isnan().all()
    assert image[:, [2, 5]].isnan().all()
    assert int(image.isnan().sum()) == 5 * 8 - cells.numel()


def test_a_panel_draws_no_more_than_it_says_and_knows_its_scale() -> None:
    cells = torch.tensor([[3.0, -4.0], [torch.nan, 1.0], [9.0, 9.0]])[:, :, None, None]
    panel = Panel(title="matrix", cells=cells, rows=2, columns=1)
    assert torch.equal(drawn(panel)[0, 0], torch.full((2, 2), 3.0, dtype=torch.float64))
    assert drawn(panel).shape == (2, 1, 2, 2)
    assert [limit(Panel(title="", cells=cells, scale=scale), 7.0) for scale in ("kernel", "own", "signs")] == [
        7.0,
        9.0,
        1.0,
    ]


def test_a_panel_refuses_what_is_no_sheet_of_cells() -> None:
    with pytest.raises(ValueError, match=r"panel 'flat' needs cells .* got \(2, 3\)"):
        Panel(title="flat", cells=torch.zeros(2, 3))
