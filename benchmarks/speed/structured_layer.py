"""How much faster a structured layer is than its dense form, layer by layer, beside naive pooling and spatial SVD.

For each layer shape of ResNet-20 (CIFAR), ResNet-18 and MobileNetV2: the dense layer; the structured layer as this
project runs it (chain basis, slices); the same layer with pooling as the paper draws it (box basis, ``avg_pool``); and
spatial SVD of as nearly equal MACs as a whole rank allows. All are measured in turn, in one run.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import (
    Quartiles,
    facts,
    geometric_mean,
    has_bf16_instructions,
    interleaved,
    markdown_table,
    publish,
    quartiles,
)
from sconv_search import Cost, StructuredConv2d, measure_cost
from sconv_search.baselines.spatial_svd import separate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ("eager", "compiled")
COLUMNS = ("layer", "candidate", "ms (quartiles)", "MAC ratio", "FLOP ratio", "speed-up", "speed-up / MAC ratio")
SUMMARY_COLUMNS = (
    "dtype",
    "mode",
    "method",
    "speed-up",
    "lowest",
    "highest",
    "speed-up / MAC ratio",
    "faster than dense",
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution of stride 1 and its input: ``inputs`` channels of ``size`` x ``size`` positions."""

    network: str
    inputs: int
    outputs: int
    size: int
    kernel: int = 3
    groups: int = 1

    @property
    def name(self) -> str:
        """Network, kind, channels and size: ``resnet18 3x3 64->64 @56``."""
        kind = f"{self.kernel}x{self.kernel}" if self.groups == 1 else f"depthwise {self.kernel}x{self.kernel}"
        return f"{self.network} {kind} {self.inputs}->{self.outputs} @{self.size}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input."""
        return (self.inputs, self.size, self.size)

    def dense(self) -> nn.Conv2d:
        """The ordinary convolution, with random weights."""
        padding = self.kernel // 2
        return nn.Conv2d(self.inputs, self.outputs, self.kernel, padding=padding, groups=self.groups, bias=False)

    def structures(self) -> list[tuple[int, int]]:
        """The (c, n) that are measured."""
        if self.groups > 1:
            return [(1, 2)]
        if self.kernel == 1:
            return [(self.inputs // 2, 1)]
        return [(self.inputs, 2), (self.inputs // 2, 3), (self.inputs // 2, 2)]


def _pointwise(inputs: int, outputs: int, size: int) -> Layer:
    return Layer(network="mobilenetv2", inputs=inputs, outputs=outputs, size=size, kernel=1)


def _depthwise(channels: int, size: int) -> Layer:
    return Layer(network="mobilenetv2", inputs=channels, outputs=channels, size=size, groups=channels)


LAYERS = (
    *(Layer(network="resnet20", inputs=wide, outputs=wide, size=size) for wide, size in ((16, 32), (32, 16), (64, 8))),
    *(
        Layer(network="resnet18", inputs=wide, outputs=wide, size=size)
        for wide, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    ),
    *(_pointwise(*sizes) for sizes in ((96, 24, 56), (144, 24, 56), (32, 192, 28), (192, 64, 14), (384, 64, 14))),
    *(_pointwise(*sizes) for sizes in ((64, 384, 14), (576, 160, 7), (960, 320, 7))),
    *(_depthwise(*sizes) for sizes in ((144, 56), (384, 14))),
)


class NaivelyPooled(nn.Module):
    """A structured layer as the paper draws it: every box summed on its own, then a small convolution in the box basis.

    Written as fast as that form allows: it stays channels-last, and ``avg_pool2d`` serves where channels are not
    pooled. bf16 is pooled in fp32, as in ``StructuredConv2d``; ``avg_pool3d`` has no bf16 kernel on the CPU.
    """

    def __init__(self, layer: StructuredConv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.alpha.detach().clone())
        self.groups, self.padding = layer.groups, int(layer.padding[0])
        self.box = layer.kernel_size[0] - self.weight.shape[2] + 1
        self.channel_box = layer.in_channels // layer.groups - self.weight.shape[1] + 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """As the dense convolution: (N, C, H, W) -> (N, O, H, W)."""
        dtype = x_NCHW.dtype
        x_NCHW = F.pad(x_NCHW.float(), (self.padding,) * 4)
        if self.channel_box == 1:
            pooled_NCHW = F.avg_pool2d(x_NCHW, self.box, 1, divisor_override=1)
        else:
            boxes = (self.box, self.box, self.channel_box)
            pooled_NHWC = F.avg_pool3d(x_NCHW.permute(0, 2, 3, 1), boxes, 1, divisor_override=1)
            pooled_NCHW = pooled_NHWC.permute(0, 3, 1, 2)
        return F.conv2d(pooled_NCHW.to(dtype), self.weight, groups=self.groups)


def low_rank(layer: Layer, dense: nn.Conv2d, macs: int) -> tuple[str, nn.Sequential]:
    """The layer's SVD of as nearly ``macs`` MACs an input as a whole rank allows, and its name.

    Spatial SVD; for a pointwise layer, which has no taps to separate, the pair of pointwise layers (weight SVD, of
    random weights: they do not change the time). A depthwise layer has at least rank 1 in each channel.
    """
    a_rank = layer.size**2 * layer.kernel * (layer.inputs + layer.outputs)
    rank = max(1, round(macs / a_rank))
    if layer.kernel > 1:
        return f"spatial SVD rank={rank}", separate(dense, rank)
    halves = nn.Conv2d(layer.inputs, rank, 1, bias=False), nn.Conv2d(rank, layer.outputs, 1, bias=False)
    return f"weight SVD rank={rank}", nn.Sequential(*halves)


def candidates(layer: Layer) -> dict[str, nn.Module]:
    """The layer's forms by name, the dense one first."""
    dense = layer.dense()
    layers: dict[str, nn.Module] = {"dense": dense}
    for c, n in layer.structures():
        chain = StructuredConv2d.from_conv(dense, c=c, n=n)
        naive = NaivelyPooled(chain)
        _require_same(chain, naive, layer)
        svd, pair = low_rank(layer, dense, measure_cost(chain, layer.shape).macs)
        layers |= {f"structured c={c} n={n}": chain, f"c={c} n={n}, naive pooling": naive, svd: pair}
    return layers


def _require_same(chain: StructuredConv2d, naive: nn.Module, layer: Layer) -> None:
    """Refuses to time forms of the structured layer that do not compute the same."""
    x_NCHW = torch.randn(1, *layer.shape)
    wanted = chain.to_dense()(x_NCHW)
    for form in (chain, naive):
        error = float((form(x_NCHW) - wanted).abs().max() / wanted.abs().max())
        if error > 1e-3:
            raise ValueError(f"{layer.name}: {type(form).__name__} is off by {error:.1e} of the largest output")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One candidate's time and cost for one input, in one data type and mode."""

    layer: str
    candidate: str
    dtype: str
    mode: str
    seconds: Quartiles
    cost: Cost


def _runnable(module: nn.Module, mode: str, x_NCHW: Tensor) -> Callable[[], object]:
    module = copy.deepcopy(module).to(x_NCHW.dtype).to(memory_format=torch.channels_last).eval()
    return partial(torch.compile(module) if mode == "compiled" else module, x_NCHW)


def measure(layer: Layer, dtype: str, modes: Sequence[str], batch: int, rounds: int) -> list[Measured]:
    """All candidates of a layer in all modes, measured in turn."""
    torch.compiler.reset()  # else a form's forward meets the limit on recompilations after a few layers
    forms = candidates(layer)
    costs = {name: measure_cost(module, layer.shape) for name, module in forms.items()}
    x_NCHW = torch.randn(batch, *layer.shape).to(DTYPES[dtype]).to(memory_format=torch.channels_last)
    keys = {f"{mode} {name}": (mode, name) for mode in modes for name in forms}
    seconds = interleaved({key: _runnable(forms[name], mode, x_NCHW) for key, (mode, name) in keys.items()}, rounds)
    return [
        Measured(
            layer=layer.name, candidate=name, dtype=dtype, mode=mode, seconds=quartiles(seconds[key]), cost=costs[name]
        )
        for key, (mode, name) in keys.items()
    ]


def _ratios(measurements: Sequence[Measured]) -> Iterator[tuple[Measured, float, float, float]]:
    """Each measurement with its MAC ratio, FLOP ratio and speed-up over the dense layer in the same type and mode."""
    dense = {(m.layer, m.dtype, m.mode): m for m in measurements if m.candidate == "dense"}
    for m in measurements:
        base = dense[m.layer, m.dtype, m.mode]
        yield m, base.cost.macs / m.cost.macs, base.cost.flops / m.cost.flops, base.seconds.median / m.seconds.median


def table(measurements: Sequence[Measured]) -> str:
    """The measurements of one data type and mode as a Markdown table."""
    rows = []
    for m, macs, flops, faster in _ratios(measurements):
        ratios = (f"{macs:.2f}", f"{flops:.2f}", f"{faster:.2f}", f"{faster / macs:.2f}")
        rows.append((m.layer, m.candidate, m.seconds.milliseconds(), *ratios))
    return markdown_table(COLUMNS, rows)


def _family(candidate: str) -> str:
    families = {"spatial SVD": "spatial SVD", "weight SVD": "weight SVD", "structured": "structured, chain basis"}
    return next(
        (family for start, family in families.items() if candidate.startswith(start)), "structured, naive pooling"
    )


def summary(measurements: Sequence[Measured]) -> str:
    """Per data type, mode and method: geometric means over the layers, and how often the dense layer is beaten."""
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for m, macs, _, faster in _ratios(measurements):
        if m.candidate != "dense":
            groups.setdefault((m.dtype, m.mode, _family(m.candidate)), []).append((faster, faster / macs))
    rows = []
    for key, values in groups.items():
        speedups, efficiencies = [v[0] for v in values], [v[1] for v in values]
        numbers = (geometric_mean(speedups), min(speedups), max(speedups), geometric_mean(efficiencies))
        beaten = f"{sum(s > 1 for s in speedups)} of {len(speedups)}"
        rows.append((*key, *(f"{number:.2f}" for number in numbers), beaten))
    return markdown_table(SUMMARY_COLUMNS, rows)


def bf16_note(measurements: Sequence[Measured]) -> str:
    """What bf16 costs here beside fp32, from this run's dense layers; empty unless both were measured."""
    if all(m.dtype != "bf16" for m in measurements):
        return ""
    dense = {(m.layer, m.mode, m.dtype): m.seconds.median for m in measurements if m.candidate == "dense"}
    pairs = [
        (dense[layer, mode, "bf16"], dense.get((layer, mode, "fp32")))
        for layer, mode, dtype in dense
        if dtype == "bf16"
    ]
    slower = [bf16 / fp32 for bf16, fp32 in pairs if fp32 is not None]
    cause = "This CPU has bf16 instructions."
    if not has_bf16_instructions():
        cause = (
            "**This CPU has no bf16 instructions**: PyTorch runs bf16 on slow generic kernels; ratios hold for those."
        )
    if not slower:
        return cause
    times = f"{geometric_mean(slower):.1f} times as long in bf16 as in fp32 ({min(slower):.1f} to {max(slower):.1f})"
    return f"{cause} A dense layer takes {times}."


def report(
    measurements: Sequence[Measured], dtypes: Sequence[str], modes: Sequence[str], batch: int, rounds: int
) -> str:
    """The whole Markdown document."""
    parts = [
        "# Structured layers against dense ones",
        facts(dtypes, rounds) + f"\n- batch: {batch}, channels-last, inference",
    ]
    parts.append(
        "MAC and FLOP ratios are dense / candidate, from `measure_cost` (FLOPs = 2 MACs + additions). Speed-up is the"
        " dense median / the candidate's, in the same data type and mode. Speed-up / MAC ratio is 1 where time falls as"
        " MACs do. SVD (spatial; for pointwise layers of the weight) has the whole rank whose MACs are nearest to the"
        " structured layer's above it; a depthwise layer's rank 1 is the least there is."
    )
    parts += [note] if (note := bf16_note(measurements)) else []
    parts += ["## Summary", "Geometric means over layers and structures.", summary(measurements)]
    for dtype in dtypes:
        for mode in modes:
            parts += [f"## {dtype}, {mode}", table([m for m in measurements if (m.dtype, m.mode) == (dtype, mode)])]
    return "\n\n".join(parts)


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names out of the known ones."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)!r} is not among {', '.join(known)}")
        return names

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="inputs a call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: all CPUs")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each candidate (default: %(default)s)")
    parser.add_argument("--dtypes", type=_listed(list(DTYPES)), default=list(DTYPES), help="fp32,bf16")
    parser.add_argument("--modes", type=_listed(MODES), default=list(MODES), help="eager,compiled")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="layers whose name contains this, such as resnet18 or @7"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the results")
    return parser.parse_args()


def main() -> None:
    """Measures the chosen layers and publishes the tables."""
    arguments = _arguments()
    chosen = [layer for layer in LAYERS if arguments.only in layer.name]
    if not chosen:
        sys.exit(f"--only {arguments.only!r} matches no layer; layers: {'; '.join(layer.name for layer in LAYERS)}")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    measurements: list[Measured] = []
    with torch.no_grad():
        for layer in chosen:
            for dtype in arguments.dtypes:
                print(f"{layer.name}, {dtype}", file=sys.stderr, flush=True)
                measurements += measure(layer, dtype, arguments.modes, arguments.batch, arguments.rounds)
    publish(report(measurements, arguments.dtypes, arguments.modes, arguments.batch, arguments.rounds), arguments.out)


if __name__ == "__main__":
    main()
