"""One verb for plans that mix methods."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sconv_search.calibration.replaceable import require_no_failures
from sconv_search.calibration.sequential_fit import as_it_is, compress_layers, fit_in_sequence
from sconv_search.compressor import Build, Compressor, Penalty, require_sites, site
from sconv_search.copying import copied, with_zeros, without_values
from sconv_search.cost.input_shape import learn_from, takes
from sconv_search.cost.network_inputs import Inputs
from sconv_search.cost.packing import PREFIX, PackedNetwork
from sconv_search.plan import Choice, CompressionPlan, Structure
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.studies.method_registry import METHODS


def method_named(name: str) -> Compressor:
    """The method of that key.

    Raises:
        KeyError: there is none; the nearest and all keys are given.
    """
    return METHODS.named(name)


def compress(
    network: nn.Module,
    plan: CompressionPlan,
    calibration: Inputs | None = None,
    reference: nn.Module | None = None,
    *,
    in_sequence: bool = True,
    input_shape: Inputs | None = None,
) -> nn.Module:
    """A new network in which every site of the plan is compressed by its own method; the argument is not modified.

    Methods that change other layers too go first. A choice for a layer that they made narrower keeps its share of the
    layer: ``c`` of 48 out of 64 channels becomes 24 where 32 are left.

    Args:
        network: the trained network, or its untrained architecture where weights are loaded afterward.
        calibration: inputs for methods that fit to data: a tensor (N, ...), or a tuple or dict of them, as the network
            is called with.
        reference: the network before it was trained towards the plan, see ``Compressor.compress``.
        in_sequence: layers are fitted in the order in which they run, to what the compressed network so far reads; else
            each to what it reads in the network as given.
        input_shape: of one input, without the batch, or an example, on which the network is run to see which layers can
            be replaced, and to follow channels through it; else what was named before of networks of its architecture,
            what the calibration inputs tell, or the first common shape that runs.

    Raises:
        KeyError: the plan names an unknown method, or a site that the network lacks.
        TypeError: a method cannot replace a site's kind of layer, or no other layer can stand in its place, as where
            the network reads its weight (``calibration.replaceable.left_alone``).
        ValueError: a structure is out of range for its site, a site's weights are not finite, or the network fails on
            the input.
    """
    require_sites(network, plan.sites)
    if input_shape is not None:
        takes(network, input_shape)
    if replaced := [name for name, choice in plan.sites.items() if not method_named(choice.method).reshapes_neighbors]:
        if calibration is not None:
            learn_from(network, calibration)
        require_no_failures(network, replaced)
    return _compressed(network, plan, calibration, reference, in_sequence=in_sequence)


def compress_again(architecture: nn.Module, plan: CompressionPlan, input_shape: Inputs | None = None) -> nn.Module:
    """What ``compress`` makes of a plan that it has carried out on such a network before, for other weights to be
    loaded: nothing is decomposed, and what stands in a layer's place holds zeros. Nor are the sites put to the proof
    again, which would take runs of the network. Raises as ``compress``.
    """
    require_sites(architecture, plan.sites)
    if input_shape is not None:
        takes(architecture, input_shape)
    try:
        made = _compressed(architecture, plan, to_be_loaded=True)
    except Exception:  # of any kind: a method that reads values, for which those of the architecture will do
        return _compressed(architecture, plan)
    if any(map(_holds_unsaved_values, made.modules())):
        return _compressed(architecture, plan)
    return with_zeros(made)


def _holds_unsaved_values(module: nn.Module) -> bool:
    """Whether the module lacks values that no file holds; channel sums derive theirs from those that are loaded."""
    buffers = (module._buffers[name] for name in module._non_persistent_buffers_set)
    return not isinstance(module, NaturalChains) and any(buffer is not None and buffer.is_meta for buffer in buffers)


def _compressed(
    network: nn.Module,
    plan: CompressionPlan,
    calibration: Inputs | None = None,
    reference: nn.Module | None = None,
    *,
    in_sequence: bool = True,
    to_be_loaded: bool = False,
) -> nn.Module:
    if calibration is not None and not isinstance(calibration, Tensor):
        return _packed(network, plan, calibration, reference, in_sequence=in_sequence)
    methods = sorted(map(method_named, plan.methods), key=lambda method: not method.reshapes_neighbors)
    left, builds, kept = network, dict[str, Build](), dict[str, Tensor]()
    for method in methods:
        part = plan.only(method.name)
        if not method.reshapes_neighbors:
            part = _narrowed(method, part, network, left)
            left = _shaped(left, part.sites) if to_be_loaded else left
        prepared = method.prepared(left, part, calibration, reference)
        left, builds, kept = prepared.network, builds | dict(prepared.builds), kept | dict(prepared.kept)
        if method.reshapes_neighbors:
            reference = None  # it keeps other channels
    if calibration is not None and in_sequence:
        return fit_in_sequence(left, builds, calibration, target=network, kept=kept)
    if left is not network and all(build is as_it_is for build in builds.values()):
        return left  # a copy by then, of which no layer is left to be fitted
    return compress_layers(left, builds, calibration, in_sequence=False, once=left is not network)


def _shaped(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of the network in which these layers have shapes and no values."""
    return copied(network, {layer: without_values(layer) for layer in map(network.get_submodule, names)})


def _packed(
    network: nn.Module, plan: CompressionPlan, calibration: Inputs, reference: nn.Module | None, *, in_sequence: bool
) -> nn.Module:
    """The same for a network of any inputs, which for that time is one of a single tensor."""
    packed = PackedNetwork(network, calibration)
    made = _compressed(
        packed,
        CompressionPlan(sites={PREFIX + name: choice for name, choice in plan.sites.items()}),
        packed.packed(calibration),
        None if reference is None else PackedNetwork(reference, calibration),
        in_sequence=in_sequence,
    )
    return made.get_submodule(PREFIX.rstrip("."))


def _narrowed(method: Compressor, part: CompressionPlan, network: nn.Module, left: nn.Module) -> CompressionPlan:
    """The method's part of a plan for the layers that are left, each entry the share of its limit that was chosen."""
    sites = {
        name: narrowed(choice, method.limits(site(network, name)), method.limits(site(left, name)))
        for name, choice in part.sites.items()
    }
    return CompressionPlan(sites=sites)


def narrowed(choice: Choice, before: Structure, after: Structure) -> Choice:
    """The choice for a layer whose limits changed, each entry the share of its limit that was chosen, and at least
    1.
    """
    if before == after:
        return choice
    shares = {
        entry: max(1, round(value * after.get(entry, 1) / before.get(entry, 1)))
        for entry, value in choice.structure.items()
    }
    return Choice(method=choice.method, structure=shares)


def penalty(network: nn.Module, plan: CompressionPlan) -> Penalty:
    """The sum of the penalties of the plan's methods; it reads the network's weights anew at each call."""
    parts = [method_named(name).penalty(network, plan.only(name)) for name in plan.methods]
    return lambda: torch.stack([part() for part in parts]).sum() if parts else torch.zeros(())


__all__ = ["METHODS", "compress", "compress_again", "method_named", "narrowed", "penalty"]
