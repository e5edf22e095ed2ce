"""Where structured layers stand against spatial SVD of equal MACs in a runtime: layer by layer, with and without their
sums.

Every kind of layer that is compressed is timed between two small pointwise ones, in each form of the network: dense,
spatial SVD, structured and merged channels in their fastest implementations; and these without sums, their small
convolution alone on an input of sums. Totals count each kind as often as the network has it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.speed.candidates import SUBJECTS, Candidate, Subject, candidates
from benchmarks.speed.layer_kinds import Kind, kinds
from benchmarks.speed.measuring import DTYPES, MODES
from benchmarks.timing import facts, interleaved, markdown_table, publish
from sconv_search.compressor import site
from sconv_search.cost.timing import Prepare, Run
from sconv_search.inference.implementations import DENSE, implementations
from sconv_search.inference.surroundings import surrounded_runs
from sconv_search.structured.kinds import STRUCTURED
from sconv_search.system.malloc import keep_freed_memory

FORMS = ("structured", "merged")
BASELINE = "spatial_svd"


def layer_runs(kind: Kind, forms: list[Candidate], prepare: Prepare) -> dict[str, Run]:
    """``form: way`` -> a forward of the layer computed so; ``form alone: way`` without its sums."""
    layers: dict[str, nn.Module] = {}
    alone: dict[str, tuple[nn.Module, Tensor]] = {}
    for form in forms:
        assert form.network is not None, form.reason
        own = site(form.network, kind.name).eval().requires_grad_(False)
        if type(own) not in STRUCTURED:
            layers[f"{form.name}: {DENSE if form.method == DENSE else 'factors'}"] = own
            continue
        for way, implementation in implementations(own, kind.x, sortable=True).items():
            if way != DENSE:
                layers[f"{form.name}: {way}"] = implementation.module
            if isinstance(implementation.module, nn.Sequential):
                alone[f"{form.name} alone: {way}"] = implementation.module[-1], _sums(implementation.module, kind.x)
    runs = surrounded_runs(layers, kind.x, prepare, axis=1)
    for name, (small, sums) in alone.items():
        runs |= surrounded_runs({name: small}, sums, prepare, axis=1)
    return runs


def _sums(layer: nn.Sequential, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer[:-1](x)  # type: ignore[no-any-return]


def fastest(milliseconds: Mapping[str, float], form: str) -> tuple[float, str]:
    """The least time of a form, and the way in which it took that."""
    return min((taken, name.partition(": ")[2]) for name, taken in milliseconds.items() if name.startswith(f"{form}: "))


def measure(subject: Subject, mode: str, dtype: torch.dtype, batch: int, rounds: int) -> Iterator[tuple[object, ...]]:
    """A row for each kind of layer and strength, then the totals."""
    given = candidates(subject, baselines=(BASELINE,))
    for network in given:
        assert network.network is not None, network.reason
        network.network.to(dtype).to(memory_format=torch.channels_last)
    dense, strengths = given[0].network, sorted({network.strength for network in given} - {""})
    assert dense is not None
    names = [name for name, layer in given[1].network.named_modules() if type(layer) in STRUCTURED]  # type: ignore[union-attr]
    x = torch.randn(batch, *subject.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    totals: dict[tuple[str, str], float] = {}
    for kind in kinds(dense, names, x):
        print(kind.name, file=sys.stderr, flush=True)
        seconds = interleaved(layer_runs(kind, given, MODES[mode]), rounds)
        times = {name: 1e3 * median(values) for name, values in seconds.items()}
        for strength in strengths:
            cells: list[str] = []
            for form in (
                DENSE,
                f"{BASELINE} {strength}",
                *(f"{f} {strength}{alone}" for f in FORMS for alone in ("", " alone")),
            ):
                taken, way = fastest(times, form)
                totals[strength, form] = totals.get((strength, form), 0.0) + kind.count * taken
                cells.append(
                    f"{taken:.2f}" + (f" ({way})" if "alone" not in form and way not in (DENSE, "factors") else "")
                )
            yield strength, _words(dense, kind), kind.count, *cells
    for strength in strengths:
        yield strength, "all", "", *(f"{taken:.1f}" for (own, _), taken in totals.items() if own == strength)


def _words(network: nn.Module, kind: Kind) -> str:
    layer, size = site(network, kind.name), "x".join(map(str, kind.x.shape[2:]))
    assert isinstance(layer, nn.Conv2d)
    return f"{layer.in_channels} to {layer.out_channels}, {layer.kernel_size[0]}x{layer.kernel_size[1]}, reads {size}"


COLUMNS = (
    "strength",
    "layers",
    "count",
    "dense, ms",
    "spatial SVD, ms",
    *(f"{form}{alone}, ms" for form in FORMS for alone in ("", " alone")),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SUBJECTS, default="resnet18")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["onnxruntime"])
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    subject, text = SUBJECTS[given.network], f"# Layer by layer\n\n{facts([given.dtype], given.rounds)}\n"
    for mode in given.mode:
        rows = list(measure(subject, mode, DTYPES[given.dtype], given.batch, given.rounds))
        text += f"\n## {given.network}, {mode}, batch {given.batch}\n\n{markdown_table(COLUMNS, rows)}\n"
    publish(text, given.out)


if __name__ == "__main__":
    main()
