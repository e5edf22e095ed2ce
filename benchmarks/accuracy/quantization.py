"""int8 after training: does a structured network lose more accuracy than the dense one, and does the chain basis help?

ResNet-20 with pretrained weights, compressed by fixed plans without training: fitted to calibration images, batch norms
re-estimated. Each form is exported to ONNX, quantized by onnxruntime (static, ranges of activations by calibration
images), and scored on the 10,000 test images in float and in int8.

The box basis is the paper's: every sum over channels is one of neighbors. Chain and box basis compute the same
function; where they are compared, both make their channel sums by a 1x1 convolution of 0, 1 and -1, which int8 holds
exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.accuracy.post_training import Case, case_of
from benchmarks.timing import facts, markdown_table, publish
from sconv_search.compressor import swapped
from sconv_search.cost.counting import example_input, measure_cost
from sconv_search.data.splits import Images, Split
from sconv_search.inference.batch_norm_folding import fold_batch_norms_
from sconv_search.inference.export import export_onnx
from sconv_search.inference.implementations import implementations
from sconv_search.inference.quantization import quantize_onnx
from sconv_search.inference.runtimes import onnx_forward
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.structured import kernels
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.studies.methods import compress
from sconv_search.training.batch_norm import reestimate_batch_norm_

NETWORK = "resnet20"
CALIBRATION = 512
SCORE_BATCH = 250
Bits = Literal[7, 8]
SCALES = {"a layer": False, "a filter": True}
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A network to be quantized.

    Args:
        kept: share of the channels that each 3x3 layer but the stem keeps; None leaves the network dense.
        taps: that it keeps along each spatial axis.
        realized: how its layers are computed.
    """

    name: str
    kept: float | None = None
    taps: int = 3
    method: str = "structured_conv"
    realized: Callable[[nn.Module], nn.Module] = lambda network: network


def plan_of(network: nn.Module, form: Form) -> CompressionPlan:
    """The form's structure at every 3x3 layer but the stem."""
    sites = {}
    for name, layer in network.named_modules():
        if type(layer) is nn.Conv2d and layer.kernel_size == (3, 3) and layer.in_channels > 3 and form.kept is not None:
            c = round(form.kept * layer.in_channels)
            merged = {"merged": 1} if form.method == "structured_conv" and c < layer.in_channels else {}
            sites[name] = Choice(method=form.method, structure={"c": c, "n": form.taps, **merged})
    return CompressionPlan(sites=sites)


def by_products(network: nn.Module) -> nn.Module:
    """A copy whose layers make their channel sums by 1x1 convolutions, in the basis of the layer."""
    return swapped(network, {name: _products(layer) for name, layer in _summing(network).items()})


def in_boxes(network: nn.Module) -> nn.Module:
    """The same in the box basis; sums are of the channels in their natural order."""
    return swapped(network, {name: _box_products(layer) for name, layer in _summing(network).items()})


def _summing(network: nn.Module) -> dict[str, StructuredConv2d]:
    layers = {name: module for name, module in network.named_modules() if isinstance(module, StructuredConv2d)}
    return {name: layer for name, layer in layers.items() if layer.pooling.count < layer.pooling.channels}


def _products(layer: StructuredConv2d) -> nn.Sequential:
    product = implementations(layer, torch.zeros(1, layer.in_channels, 8, 8))["1x1"].module
    assert isinstance(product, nn.Sequential)
    return product


def _box_products(layer: StructuredConv2d) -> nn.Sequential:
    pooling, made = layer.pooling, _products(layer)
    assert type(pooling) is NaturalChains
    boxes_cC = kernels.kronecker_basis((pooling.channels,), (pooling.count,)).T
    sums: Any = made[0]
    small: Any = made[-1]
    with torch.no_grad():
        sums.weight.copy_(boxes_cC[:, :, None, None])
        small.weight.copy_(layer.alpha)
    return made


FORMS = (
    Form(name="dense"),
    Form(name="(C, 2)", kept=1, taps=2),
    Form(name="(3C/4, 3), merged", kept=0.75),
    Form(name="(3C/4, 3), merged, 1x1", kept=0.75, realized=by_products),
    Form(name="(3C/4, 3), natural, chain basis", kept=0.75, method="structured_natural"),
    Form(name="(3C/4, 3), natural, chain basis, 1x1", kept=0.75, method="structured_natural", realized=by_products),
    Form(name="(3C/4, 3), natural, box basis, 1x1", kept=0.75, method="structured_natural", realized=in_boxes),
    Form(name="(C/2, 3), merged", kept=0.5),
    Form(name="(C/2, 3), natural, chain basis, 1x1", kept=0.5, method="structured_natural", realized=by_products),
    Form(name="(C/2, 3), natural, box basis, 1x1", kept=0.5, method="structured_natural", realized=in_boxes),
)


def made(case: Case, form: Form) -> nn.Module:
    """The form, ready to be exported."""
    small = compress(case.context.network, plan_of(case.context.network, form), case.inputs("alone"), in_sequence=False)
    if form.kept is not None:
        reestimate_batch_norm_(small, case.context.data, seed=0)
    plain = swapped(small, {}).eval().to(memory_format=torch.contiguous_format)
    fold_batch_norms_(plain, example_input(plain, case.context.task.input_shape, 2))
    return form.realized(plain)


@torch.no_grad()
def top1(forward: Callable[[Tensor], Tensor], case: Case, test: Split) -> float:
    """Per cent of the test images."""
    hits = 0
    for images, labels in zip(test.images.split(SCORE_BATCH), test.labels.split(SCORE_BATCH), strict=True):
        hits += int((forward(case.context.data.normalized(images)).argmax(1) == labels).sum())
    return 100 * hits / len(test)


def row_of(case: Case, form: Form, calibration: Tensor, test: Split, bits: Sequence[Bits]) -> Row:
    """The form's scores: in float, and in int8 by the weights' bits and scales."""
    network, shape = made(case, form), case.context.task.input_shape
    flops = measure_cost(network, shape).flops / measure_cost(case.context.network, shape).flops
    with TemporaryDirectory() as folder:
        path, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        export_onnx(network, example_input(network, shape, 2), path, {})
        row: Row = {"form": form.name, "flops": flops, "float": top1(onnx_forward(path), case, test), "int8": {}}
        for scales, per_channel in SCALES.items():
            for weight_bits in bits:
                quantize_onnx(path, calibration, target, per_channel=per_channel, weight_bits=weight_bits)
                row["int8"][f"{weight_bits} bits, {scales}"] = top1(onnx_forward(target), case, test)
    return row


def _all(images: Images) -> Split:
    return images.take(torch.arange(len(images)))


def report(rows: Sequence[Row]) -> str:
    """The table: scores, and what int8 loses."""
    kinds = list(rows[0]["int8"])
    columns = ("form", "FLOPs", "float", *(f"int8, {kind}" for kind in kinds))
    lines = [(row["form"], f"{row['flops']:.0%}", f"{row['float']:.2f}", *_losses(row, kinds)) for row in rows]
    return markdown_table(columns, lines)


def _losses(row: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    return [f"{row['int8'][kind]:.2f} ({row['int8'][kind] - row['float']:+.2f})" for kind in kinds]


def measure(data: Path, forms: Sequence[Form], bits: Sequence[Bits], rows_file: Path | None) -> list[Row]:
    """All forms, one after the other; those that the file holds are not measured again."""
    known = (
        [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file and rows_file.exists() else []
    )
    case = case_of(NETWORK, data)
    calibration = case.context.data.normalized(_all(case.context.data.train).images[-CALIBRATION:])
    test, rows = _all(case.context.data.test), [row for row in known if row["form"] in {form.name for form in forms}]
    for form in forms[len(rows) :]:
        rows.append(row_of(case, form, calibration, test, bits))
        print(rows[-1], file=sys.stderr, flush=True)
        if rows_file is not None:
            rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights/ and cifar10/")
    parser.add_argument("--weight-bits", type=int, nargs="+", choices=(7, 8), default=[7])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="JSON lines, kept as they come")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = measure(given.data, FORMS, given.weight_bits, given.rows)
    words = (
        "ResNet-20, CIFAR-10, 10,000 test images: top-1 in percent, in brackets the change from float. No training:"
        " plans fitted to 512 images, batch norms re-estimated, activations' ranges (8 bits, one scale a tensor) by"
        f" {CALIBRATION} training images. Weights have a scale a layer or a filter."
    )
    publish(f"# int8 after training\n\n{facts(['fp32', 'int8'], 1)}\n\n{words}\n\n{report(rows)}\n", given.out)


if __name__ == "__main__":
    main()
