"""What the pictures of docs/methods.md show, as plain numbers: a kernel, what each method keeps of it, and what it
applies.

Legend: a kernel's cells are (rows, columns, taps...): one row a filter, one column an input channel.

Everything comes from the project's own methods, run on one layer of a small network trained on the embedded digits; the
kernel that a compressed layer applies is measured as its response to unit impulses, whatever the layer is made of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, Structure
from sconv_search.data.splits import DataSet, embedded_digits
from sconv_search.networks.resnet import digits_network
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.kernels import box_basis
from sconv_search.studies.methods import METHODS, compress, penalty
from sconv_search.studies.trials.layer_costs import layer_costs
from sconv_search.training.loop import train_
from sconv_search.training.schedule import Schedule

SITE, MAKER = "6", "3"
"""The layer that is drawn, 32 filters of 16 channels, and the one that makes the channels it reads."""
CALIBRATION_IMAGES = 128
STRUCTURES: Mapping[str, tuple[str, Structure]] = {
    "structured_space": ("structured_natural", {"c": 16, "n": 2}),
    "structured_natural": ("structured_natural", {"c": 7, "n": 3}),
    "structured_permuted": ("structured_permuted", {"c": 7, "n": 3, "permuted": 1}),
    "structured_merged": ("structured_conv", {"c": 7, "n": 3, "merged": 1}),
    "structured_signed": ("structured_signed", {"c": 7, "n": 3, "signed_merged": 1}),
    "spatial_svd": ("spatial_svd", {"rank": 14}),
    "weight_svd": ("weight_svd", {"rank": 11}),
    "tucker": ("tucker", {"rank_in": 9, "rank_out": 16}),
    "cp": ("cp", {"rank": 37}),
}
"""Name of a picture -> method and structure: the most that 4/9 of the layer's MACs allow."""
MIXED: Mapping[str, tuple[str, Structure]] = {
    "3": ("structured_conv", {"c": 7, "n": 3, "merged": 1}),
    "6": ("spatial_svd", {"rank": 14}),
    "9": ("tucker", {"rank_in": 16, "rank_out": 16}),
    "12": ("channel_pruning", {"keep": 30}),
    "15": ("structured_conv", {"c": 48, "n": 2}),
}
"""A plan in which every site has a method of its own; what is chosen for 15 keeps its share of what pruning leaves."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One part of a picture.

    Args:
        cells: (rows, columns, height, width); not a number where there is nothing.
        scale: of the colors. ``kernel`` is common to a picture, ``own`` is the panel's, and ``signs`` are -1, 0 and 1
            alone: with which weight a sum takes a value.
        rows: so many of them are drawn.
        columns: so many of them are drawn.
    """

    title: str
    cells: Tensor
    note: str = ""
    scale: Literal["kernel", "own", "signs"] = "own"
    rows: int = 6
    columns: int = 16

    def __post_init__(self) -> None:
        if self.cells.dim() != 4:
            raise ValueError(
                f"panel {self.title!r} needs cells (rows, columns, height, width), got {tuple(self.cells.shape)}"
            )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Panels side by side, in one scale; the residual is of the whole kernel, not of the part that is drawn."""

    name: str
    panels: tuple[Panel, ...]
    residual: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network in evaluation mode, and normalized inputs like those it was trained on."""

    network: nn.Module
    inputs: Tensor
    data: DataSet | None = None

    @property
    def layer(self) -> nn.Conv2d:
        """The layer that is drawn."""
        own = self.network.get_submodule(SITE)
        assert isinstance(own, nn.Conv2d)
        return own

    @property
    def kernel(self) -> Tensor:
        """Its kernel (O, C, 3, 3)."""
        return self.layer.weight.detach().double()


def trained_subject(epochs: float = 4) -> Subject:
    """The demo's network after a short training on the digits, deterministic for one machine and number of threads."""
    torch.manual_seed(0)
    network, data = digits_network(), embedded_digits()
    train_(network, data, Schedule(epochs=epochs, batch_size=64, learning_rate=0.1), seed=0)
    images = data.train.take(torch.arange(CALIBRATION_IMAGES)).images
    return Subject(network=network, inputs=data.normalized(images), data=data)


def plan_of(method: str, structure: Structure, site: str = SITE) -> CompressionPlan:
    """A plan of one site."""
    return CompressionPlan(sites={site: Choice(method=method, structure=structure)})


def applied_kernel(layer: nn.Module, like: nn.Conv2d) -> Tensor:
    """The kernel (O, C, H, W) that a layer without a bias applies, from its responses to unit impulses at stride 1.

    Args:
        like: the dense layer, of stride 1 and with half of the taps as padding.
    """
    channels, (height, width) = like.in_channels, like.kernel_size
    impulses = torch.eye(channels * height * width, dtype=torch.float64).unflatten(1, (channels, height, width))
    with torch.no_grad():
        responses: Tensor = copy.deepcopy(layer).double()(impulses)[:, :, height // 2, width // 2]
    kernel: Tensor = responses.T.unflatten(1, (channels, height, width))
    return kernel


def relative(change: Tensor, whole: Tensor) -> float:
    """``|change| / |whole|``."""
    return float(change.norm() / whole.norm())


def output_error(layer: nn.Module, subject: Subject) -> float:
    """Relative error of the layer's outputs over the subject's inputs."""
    body = list(subject.network.children())[: int(SITE)]
    with torch.no_grad():
        read = nn.Sequential(*body)(subject.inputs)
        wanted = subject.layer(read)
        return relative(layer(read) - wanted, wanted)


def built(subject: Subject, name: str, calibration: Tensor | None = None) -> nn.Module:
    """The layer that stands at the drawn site after compression by the picture's method."""
    method, structure = STRUCTURES[name]
    return METHODS[method].compress(subject.network, plan_of(method, structure), calibration).get_submodule(SITE)


def matrix(values: Tensor) -> Tensor:
    """A matrix as cells of one value each."""
    return values[:, :, None, None]


def parts(layer: nn.Module, name: str) -> tuple[Panel, ...]:
    """What the compressed layer holds."""
    if name.startswith("structured"):
        return _sums(layer, name), Panel(title="small kernel", cells=_weight(layer), note="what is kept")
    weights = [_weight(part) for part in layer.children()]
    if name == "spatial_svd":
        return (
            Panel(title="vertical, 3x1", cells=weights[0], note="6 of 14 filters"),
            Panel(title="horizontal, 1x3", cells=weights[1], note="from those 14"),
        )
    if name == "weight_svd":
        return (
            Panel(title="fewer filters, 3x3", cells=weights[0], note="6 of 11"),
            Panel(title="their mixture, 1x1", cells=weights[1], note="from those 11"),
        )
    if name == "tucker":
        return (
            Panel(title="inputs, 1x1", cells=weights[0], note="16 to 9", rows=9),
            Panel(title="core, 3x3", cells=weights[1], note="9 to 16"),
            Panel(title="outputs, 1x1", cells=weights[2], note="from those 16"),
        )
    return (
        Panel(title="inputs, 1x1", cells=weights[0], note="6 of 37 terms"),
        Panel(title="3x1", cells=weights[1], note="each"),
        Panel(title="1x3", cells=weights[2], note="each"),
        Panel(title="outputs, 1x1", cells=weights[3], note="from 37, 16 drawn"),
    )


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().double()


def _sums(layer: nn.Module, name: str) -> Panel:
    """Which taps or channels are summed: the paper's boxes, or the sums that the layer makes."""
    if name == "structured_space":
        masks = torch.einsum("hi,wj->ijhw", box_basis(3, 2), box_basis(3, 2))
        return Panel(title="4 masks", cells=masks, scale="signs", note="one box, shifted")
    if name == "structured_natural":
        return Panel(
            title="7 masks", cells=matrix(box_basis(16, 7).T), scale="signs", note="a box of 10 channels", rows=7
        )
    assert isinstance(layer, StructuredConv2d)
    sums = layer.pooling.kernel(torch.eye(7, dtype=torch.float64))
    note = "6 differences, one box" if name == "structured_permuted" else "each channel in one"
    return Panel(title="7 sums of channels", cells=matrix(sums), scale="signs", note=note, rows=7)


def compared(kernel: Tensor, approximation: Tensor) -> tuple[Panel, Panel]:
    """What the layer applies, and its difference to the trained kernel."""
    note = f"{relative(kernel - approximation, kernel):.2f} of the norm"
    return (
        Panel(title="what the layer applies", cells=approximation, scale="kernel"),
        Panel(title="difference", cells=kernel - approximation, note=note, scale="kernel"),
    )


def original(kernel: Tensor) -> Panel:
    """The trained kernel."""
    return Panel(title="trained kernel", cells=kernel, note=f"6 of {len(kernel)} filters, 16 channels", scale="kernel")


def layer_picture(subject: Subject, name: str) -> Picture:
    """A kernel, the parts that a method keeps, what they apply together, and the difference."""
    layer, kernel = built(subject, name), subject.kernel
    approximation = applied_kernel(layer, subject.layer)
    panels = (original(kernel), *parts(layer, name), *compared(kernel, approximation))
    return Picture(name=name, panels=panels, residual=relative(kernel - approximation, kernel))


def calibrated_picture(subject: Subject) -> Picture:
    """The same groups of channels with the small kernel nearest to the kernel, and with the one nearest to its
    outputs.
    """
    kernel = subject.kernel
    layers = [built(subject, "structured_merged", inputs) for inputs in (None, subject.inputs)]
    approximations = [applied_kernel(layer, subject.layer) for layer in layers]
    notes = [
        f"off by {relative(kernel - approximation, kernel):.2f}, outputs by {output_error(layer, subject):.2f}"
        for layer, approximation in zip(layers, approximations, strict=True)
    ]
    panels = (
        original(kernel),
        Panel(title="nearest kernel", cells=approximations[0], note=notes[0], scale="kernel"),
        Panel(title="calibrated: nearest outputs", cells=approximations[1], note=notes[1], scale="kernel"),
    )
    return Picture(name="calibrated", panels=panels, residual=relative(kernel - approximations[1], kernel))


def regularized_picture(subject: Subject, strength: float = 3.0, epochs: float = 4) -> Picture:
    """Direct: the trained kernel is projected at once. Regularized: it is trained towards the structure first."""
    assert subject.data is not None
    plan, trained = plan_of(*STRUCTURES["structured_space"]), copy.deepcopy(subject.network)
    schedule = Schedule(epochs=epochs, batch_size=64, learning_rate=0.05)
    train_(trained, subject.data, schedule, seed=0, penalty=penalty(trained, plan), penalty_weight=strength)
    after = Subject(network=trained, inputs=subject.inputs)
    direct, late = layer_picture(subject, "structured_space"), layer_picture(after, "structured_space")
    direct_cells, late_cells = (picture.panels[-2].cells for picture in (direct, late))
    panels = (
        original(subject.kernel),
        Panel(
            title="direct: projected",
            cells=direct_cells,
            note=f"{direct.residual:.2f} of the norm lost",
            scale="kernel",
        ),
        Panel(title="regularized: trained", cells=after.kernel, note="towards the structure", scale="kernel"),
        Panel(title="then projected", cells=late_cells, note=f"{late.residual:.2f} of the norm lost", scale="kernel"),
    )
    return Picture(name="regularized", panels=panels, residual=late.residual)


def pruned_picture(subject: Subject, keep: int = 11) -> Picture:
    """Filters that leave the layer that makes channels, and the same channels in the layer that reads them, refit."""
    plan = plan_of("channel_pruning", {"keep": keep}, MAKER)
    pruned = METHODS["channel_pruning"].compress(subject.network, plan, subject.inputs)
    made, left = (_weight(model.get_submodule(MAKER)) for model in (subject.network, pruned))
    kept = (made[:, None] == left[None]).flatten(2).all(2).any(1)
    makes, reads = torch.full_like(made, torch.nan), torch.full_like(subject.kernel, torch.nan)
    makes[kept], reads[:, kept] = left, _weight(pruned.get_submodule(SITE))
    panels = (
        Panel(title="makes 16 channels", cells=made.transpose(0, 1), note="a column a filter", scale="kernel"),
        Panel(title=f"{keep} filters stay", cells=makes.transpose(0, 1), note="as they were", scale="kernel"),
        Panel(title="reads those channels", cells=subject.kernel, note="a row a filter", scale="kernel"),
        Panel(title=f"{keep} channels stay", cells=reads, note="refit to its outputs before", scale="kernel"),
    )
    lost = subject.kernel - reads.nan_to_num(0.0)
    return Picture(name="channel_pruning", panels=panels, residual=relative(lost, subject.kernel))


def mixed_costs(network: nn.Module) -> dict[str, tuple[str, int, int]]:
    """Layer -> its method, empty where it has none, and its MACs before and after; measured on the networks as
    built.
    """
    plan = CompressionPlan(sites={site: Choice(method=m, structure=s) for site, (m, s) in MIXED.items()})
    costs = layer_costs(network, compress(network, plan), (1, 28, 28))
    return {
        site: (MIXED[site][0] if site in MIXED else "", cost["before"][0], cost["after"][0])
        for site, cost in costs.items()
    }


def pictures(subject: Subject) -> list[Callable[[], Picture]]:
    """All pictures of kernels, each made when it is called."""

    others = (calibrated_picture, regularized_picture, pruned_picture)
    return [
        *(partial(layer_picture, subject, name) for name in STRUCTURES),
        *(partial(make, subject) for make in others),
    ]
