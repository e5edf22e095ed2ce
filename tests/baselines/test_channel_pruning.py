from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch_pruning
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.baselines.channel_importance import Importance, channel_importance, kept_channels
from sconv_search.baselines.channel_pruning import ChannelPruning
from sconv_search.baselines.reader_refit import refit_readers_
from sconv_search.channels.cutting import ignore_
from sconv_search.channels.groups import dependencies
from sconv_search.networks.resnet import cifar_resnet

METHOD = ChannelPruning()


class Dense(nn.Module):
    """Two concatenations: every layer reads all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.grow1 = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1)
        self.norm2, self.grow2 = nn.BatchNorm2d(12), nn.Conv2d(12, 6, 3, padding=1)
        self.head = nn.Linear(18, 5)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = self.stem(x_NCHW)
        x_NCHW = torch.cat([x_NCHW, self.grow1(F.relu(self.norm1(x_NCHW)))], 1)
        x_NCHW = torch.cat([x_NCHW, self.grow2(F.relu(self.norm2(x_NCHW)))], 1)
        return self.head(x_NCHW.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.outer = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.stem(x_NCHW))
        return self.head((x_NCHW + self.outer(F.relu(self.inner(x_NCHW)))).mean((2, 3)))


def separable() -> nn.Sequential:
    """Expansion, depthwise convolution with batch norm and PReLU, projection; the last map is flattened."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 1),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.PReLU(16),
        nn.Conv2d(16, 6, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


def grouped() -> nn.Sequential:
    """Groups of 2 that read 12 channels and make 20, which groups of 4 read."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.ReLU(),
        nn.Conv2d(12, 20, 3, groups=2),
        nn.Tanh(),
        nn.Conv2d(20, 8, 1, groups=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def chain() -> nn.Sequential:
    """Two convolutions with batch norm and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dense": Dense,
    "residual": Residual,
    "separable": separable,
    "grouped": grouped,
    "resnet20": lambda: cifar_resnet(20),
}
IMAGES = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def plan_of(keeps: dict[str, int]) -> CompressionPlan:
    return CompressionPlan(
        sites={name: Choice(method=METHOD.name, structure={"keep": keep}) for name, keep in keeps.items()}
    )


def a_half_each(network: nn.Module) -> dict[str, int]:
    return {name: options[len(options) // 2]["keep"] for name, options in METHOD.options(network).items()}


def with_lively_norms(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.double().eval()


def ignoring(network: nn.Module, keeps: dict[str, int], importance: Importance = "magnitude") -> nn.Module:
    """A copy of the same shape, in which nothing reads the channels that pruning takes out."""
    result = copy.deepcopy(network)
    for name, keep in keeps.items():
        group = dependencies(network).groups[name]
        kept = kept_channels(network, group, keep, importance)
        for member in group.members:
            if member.side == "in":
                lost = ~torch.isin(member.channels, kept)
                ignore_(result.get_submodule(member.layer), member.positions[lost])
    return result


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_pruned_network_computes_what_the_dense_one_does_when_nothing_reads_the_pruned_channels(kind: str) -> None:
    network = with_lively_norms(NETWORKS[kind]())
    keeps = a_half_each(network)
    pruned = METHOD.compress(network, plan_of(keeps))
    assert sum(weight.numel() for weight in pruned.parameters()) < sum(
        weight.numel() for weight in network.parameters()
    )
    torch.testing.assert_close(pruned(IMAGES), ignoring(network, keeps)(IMAGES), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "residual", "separable"])
@pytest.mark.parametrize("order", [1, -1])
def test_groups_pruned_one_after_another_have_the_shapes_of_those_pruned_at_once(kind: str, order: int) -> None:
    network = with_lively_norms(NETWORKS[kind]())
    keeps = a_half_each(network)
    stepwise = network
    for name in list(keeps)[::order]:
        stepwise = METHOD.compress(stepwise, plan_of({name: keeps[name]}))
    at_once = METHOD.compress(network, plan_of(keeps)).state_dict()
    assert {n: t.shape for n, t in stepwise.state_dict().items()} == {n: t.shape for n, t in at_once.items()}


@pytest.mark.parametrize(
    ("kind", "site"), [("dense", "stem"), ("residual", "stem"), ("separable", "0"), ("separable", "6")]
)
def test_shapes_and_weights_equal_torch_prunings_own_cut_of_the_same_channels(kind: str, site: str) -> None:
    network = NETWORKS[kind]().eval()
    group = dependencies(network).groups[site]
    pruned = METHOD.compress(network, plan_of({site: group.channels - 3}))
    lost = sorted(
        set(range(group.channels)) - set(kept_channels(network, group, group.channels - 3, "magnitude").tolist())
    )
    theirs = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=(IMAGES.float(),))
    graph.get_pruning_group(theirs.get_submodule(site), torch_pruning.prune_conv_out_channels, lost).prune()
    for name, expected in theirs.state_dict().items():
        torch.testing.assert_close(pruned.state_dict()[name], expected, rtol=0, atol=0, msg=name)


def test_the_magnitude_is_torch_prunings_group_magnitude() -> None:
    network = with_lively_norms(Dense())
    graph = torch_pruning.DependencyGraph().build_dependency(copy.deepcopy(network), example_inputs=(IMAGES,))
    group = graph.get_pruning_group(graph.model.stem, torch_pruning.prune_conv_out_channels, list(range(8)))
    theirs = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer=None)(group)
    ours = channel_importance(network, dependencies(network).groups["stem"])
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-6, atol=0)


def test_the_channels_of_largest_magnitude_are_kept_in_their_order() -> None:
    network = chain().eval()
    with torch.no_grad():
        network[0].weight[[11, 2, 7]] *= 100
    pruned = METHOD.compress(network, plan_of({"0": 3}))
    torch.testing.assert_close(pruned[0].weight, network[0].weight[[2, 7, 11]], rtol=0, atol=0)
    torch.testing.assert_close(pruned[3].weight, network[3].weight[:, [2, 7, 11]], rtol=0, atol=0)
    assert (pruned[0].out_channels, pruned[1].num_features, pruned[3].in_channels) == (3, 3, 3)


def test_batch_norm_scales_can_rank_instead() -> None:
    network = chain().eval()
    with torch.no_grad():
        network[1].weight[[3, 9]] = torch.tensor([-2.0, 4.0])
        network[0].weight[5] *= 100
    pruned = ChannelPruning(importance="batch_norm").compress(network, plan_of({"0": 2}))
    torch.testing.assert_close(pruned[0].weight, network[0].weight[[3, 9]], rtol=0, atol=0)


def test_without_batch_norm_their_ranking_is_the_magnitude() -> None:
    network = Residual()
    group = dependencies(network).groups["inner"]
    expected = channel_importance(network, group)
    torch.testing.assert_close(channel_importance(network, group, "batch_norm"), expected, rtol=0, atol=0)


def test_a_residual_sum_couples_all_that_is_added() -> None:
    pruned = METHOD.compress(Residual(), plan_of({"stem": 5}))
    assert (pruned.stem.out_channels, pruned.outer.out_channels, pruned.inner.in_channels, pruned.head.in_features) == (
        5,
    ) * 4
    assert list(METHOD.options(Residual())) == ["stem", "inner"]


def test_a_depthwise_convolution_goes_with_its_input() -> None:
    pruned = METHOD.compress(separable(), plan_of({"0": 5, "6": 4}))
    assert (pruned[3].groups, pruned[3].in_channels, pruned[3].out_channels, pruned[5].num_parameters) == (5,) * 4
    assert pruned[9].in_features == 4 * 4  # a 2 x 2 map a channel


def test_groups_of_a_convolution_keep_equally_many_channels() -> None:
    network = grouped()
    assert {name: [option["keep"] for option in options] for name, options in METHOD.options(network).items()} == {
        "0": [2, 4, 6, 8, 10],  # 6 channels a group, in groups of 2
        "2": [4, 8, 12, 16],  # 5 channels a group, in groups of 4
        "4": [4],  # 2 channels a group, in groups of 4
    }
    pruned = METHOD.compress(network, plan_of({"0": 6, "2": 8}))
    assert (pruned[2].weight.shape, pruned[4].weight.shape) == ((8, 3, 3, 3), (8, 2, 1, 1))


def test_a_resnet_with_padded_shortcuts_offers_inner_convolutions_and_says_why_not_its_stages() -> None:
    network = cifar_resnet(20)
    inner = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)]
    assert list(METHOD.options(network)) == inner
    assert {"conv1", "linear"} <= set(dependencies(network).left_out)
    with pytest.raises(ValueError, match=r"site 'conv1': its channels cannot be followed through the network"):
        METHOD.compress(network, plan_of({"conv1": 8}))


class Uncoupled(nn.Module):
    """``mixed`` depends on how many channels there are, which no graph tells."""

    def __init__(self, mixed: nn.Module) -> None:
        super().__init__()
        self.first, self.mixed, self.second = nn.Conv2d(3, 8, 1), mixed, nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.head(self.second(self.mixed(self.first(x_NCHW))).mean((2, 3)))


@pytest.mark.parametrize(
    "mixed", [nn.ChannelShuffle(2), nn.Softmax(1), nn.GroupNorm(2, 8), nn.LayerNorm([8, 32, 32])], ids=str
)
def test_channels_that_cannot_be_followed_are_not_offered(mixed: nn.Module) -> None:
    network = Uncoupled(mixed)
    assert list(METHOD.options(network)) == ["second"]
    assert dependencies(network).left_out["first"]


def test_channels_that_meet_a_constant_of_their_number_are_not_offered() -> None:
    class Hidden(Residual):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            made = self.inner(F.relu(self.stem(x_NCHW)))
            made = made * torch.arange(12.0, dtype=made.dtype)[:, None, None]  # a constant for each channel
            return self.head(self.outer(made).mean((2, 3)))

    assert list(METHOD.options(Hidden())) == ["stem", "outer"]


def test_pruning_a_chain_costs_what_the_formula_says() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 5, 1)
    )
    cost = measure_cost(METHOD.compress(network, plan_of({"0": 5, "2": 7})), (3, 10, 10))
    assert cost.macs == 100 * (9 * 3 * 5 + 9 * 5 * 7 + 7 * 5)
    assert cost.params == (9 * 3 * 5 + 5) + (9 * 5 * 7 + 7) + (7 * 5 + 5)
    assert cost.adds == 0


def test_convolutions_along_one_and_three_axes_and_linear_layers_are_pruned_too() -> None:
    sound = nn.Sequential(
        nn.Conv1d(2, 8, 5), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    video = nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU(), nn.Conv3d(8, 4, 3))
    perceptron = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    shapes = ((1, 2, 40), (1, 2, 8, 8, 8), (1, 10))
    for network, shape in zip((sound, video, perceptron), shapes, strict=True):
        pruned = METHOD.compress(network, plan_of({"0": 3}))
        assert pruned[0].weight.shape[0] == pruned[2].weight.shape[1] == 3
        assert pruned(torch.ones(shape)).shape == network(torch.ones(shape)).shape


def test_frozen_weights_stay_frozen_and_training_mode_is_kept() -> None:
    network = chain()
    network[0].weight.requires_grad_(False)
    pruned = METHOD.compress(network, plan_of({"0": 4}))
    assert not pruned[0].weight.requires_grad
    assert pruned[3].weight.requires_grad
    assert all(module.training for module in pruned.modules())


@pytest.mark.parametrize("keep", [0, 33, -1])
def test_a_number_of_channels_out_of_range_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=rf"site '3': keep must be in 1\.\.32, got {keep}"):
        METHOD.compress(chain(), plan_of({"3": keep}))


@pytest.mark.parametrize(
    ("network", "plan", "message"),
    [
        (grouped(), plan_of({"2": 6}), r"site '2': keep must be in 1\.\.20 in multiples of 4, got 6"),
        (Residual(), plan_of({"outer": 4}), r"site 'outer': its channels are pruned at site 'stem'"),
        (Residual(), plan_of({"head": 4}), r"site 'head': .* network's output"),
        (
            Residual(),
            CompressionPlan(sites={"stem": Choice(method=METHOD.name, structure={"rank": 4})}),
            r"site 'stem': channel pruning takes \['keep'\], got \['rank'\]",
        ),
    ],
)
def test_a_site_or_structure_that_does_not_fit_is_refused_by_name(
    network: nn.Module, plan: CompressionPlan, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        METHOD.compress(network, plan)


class Unrunnable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.conv(first + second)


def test_a_network_that_cannot_be_traced_has_no_options_and_the_warning_says_why() -> None:
    with pytest.warns(UserWarning, match=r"nothing for Unrunnable: .*second.*; other methods still work"):
        assert METHOD.options(Unrunnable()) == {}
    with pytest.raises(ValueError, match="second"):
        METHOD.compress(Unrunnable(), plan_of({"conv": 4}))


def test_a_network_is_told_from_one_with_the_same_layers_and_another_forward() -> None:
    class Switched(Residual):
        residual = True

        def forward(self, x_NCHW: Tensor) -> Tensor:
            return (
                super().forward(x_NCHW)
                if self.residual
                else self.head(self.outer(self.inner(self.stem(x_NCHW))).mean((2, 3)))
            )

    network = Switched()
    assert list(METHOD.options(network)) == ["stem", "inner"]
    network.residual = False
    assert list(METHOD.options(network)) == ["stem", "inner", "outer"]


TORCHVISION = {"resnet18": 12, "mobilenet_v2": 25, "densenet121": 120}  # groups: all but the one that is the output


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "groups"), TORCHVISION.items())
def test_networks_of_torchvision_are_pruned_everywhere(kind: str, groups: int) -> None:
    with warnings.catch_warnings(action="error"):
        network = with_lively_norms(torchvision.models.get_model(kind, num_classes=10))
        keeps = a_half_each(network)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert len(keeps) == groups
    pruned, dense = METHOD.compress(network, plan_of(keeps)), ignoring(network, keeps)
    torch.testing.assert_close(pruned(images), dense(images), rtol=1e-6, atol=1e-9)
    assert measure_cost(pruned, (3, 64, 64)).macs < 0.4 * measure_cost(network, (3, 64, 64)).macs


IMPORTANCES = ("magnitude", "batch_norm", "taylor", "activation", "reconstruction")
CALIBRATION = torch.randn(24, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", ["dense", "residual", "separable", "grouped"])
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_a_refit_errs_less_on_what_its_readers_put_out(kind: str, importance: Importance) -> None:
    network = with_lively_norms(NETWORKS[kind]())
    name = next(iter(METHOD.options(network)))
    group = dependencies(network).groups[name]
    keep = group.channels // 2 // group.blocks * group.blocks
    kept = kept_channels(network, group, keep, importance, CALIBRATION)
    reader = next(member.layer for member in group.members if member.side == "in")
    refit = copy.deepcopy(network)
    refit_readers_(refit, network, [(group, kept)], CALIBRATION)
    errors = []
    for changed in (network, refit):
        ignored = copy.deepcopy(changed).get_submodule(reader)
        member = next(member for member in group.members if member.layer == reader and member.side == "in")
        ignore_(ignored, member.positions[~torch.isin(member.channels, kept)])
        seen = []
        handle = network.get_submodule(reader).register_forward_hook(
            lambda _, x, y, i=ignored, s=seen: s.append(y - i(x[0]))
        )
        network(CALIBRATION)
        handle.remove()
        errors.append(float(seen[0].detach().norm()))
    assert errors[1] < 0.999 * errors[0]


def test_the_refit_is_what_the_compressed_network_has_and_duplicated_channels_cost_nothing() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1)
    ).double()
    network[0].weight.data[4:] = 2 * network[0].weight.data[:4]
    plan = plan_of({"0": 4})
    plain, refit = (METHOD.compress(network, plan, given) for given in (None, CALIBRATION))
    torch.testing.assert_close(refit(IMAGES), network(IMAGES), rtol=1e-3, atol=1e-4)
    assert (plain(IMAGES) - network(IMAGES)).norm() > 0.1 * network(IMAGES).norm()


def test_taylor_is_the_square_of_weight_times_gradient_summed_over_the_group() -> None:
    network = with_lively_norms(chain())
    images = CALIBRATION[:8]
    scores = network(images)
    F.cross_entropy(scores, scores.argmax(1)).backward()
    terms = [
        (weight * weight.grad).detach().square() for weight in (network[0].weight, network[1].weight, network[3].weight)
    ]
    expected = terms[0].sum((1, 2, 3)) + terms[1] + terms[2].sum((0, 2, 3))
    found = channel_importance(network, dependencies(network).groups["0"], "taylor", images)
    torch.testing.assert_close(found, expected)


def test_activation_is_the_energy_that_a_channel_adds_to_its_readers_outputs() -> None:
    network = with_lively_norms(chain())
    group = dependencies(network).groups["0"]
    read = network[:3](CALIBRATION)
    whole = network[3](read).square().sum()
    expected = [network[3](read * (torch.arange(16) == c).view(-1, 1, 1)).square().sum() / whole for c in range(16)]
    torch.testing.assert_close(
        channel_importance(network, group, "activation", CALIBRATION), torch.stack(expected).detach()
    )


def test_reconstruction_gives_up_first_what_the_rest_can_make_up_for() -> None:
    network = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3)).double()
    network[0].weight.data[1] = network[0].weight.data[0] * 3  # large, but one of both is superfluous
    network[1].weight.data[:, 1] *= 3
    x = torch.randn(200, 6, dtype=torch.float64)
    rounds = channel_importance(network, dependencies(network).groups["0"], "reconstruction", x)
    assert sorted(rounds.tolist()) == [0, 1, 2, 3, 4]
    assert int(rounds.argmin()) in (0, 1)
    losses = []
    for gone in range(2, 5):  # and last of all the one whose loss alone would cost the most, of those not doubled
        kept = [channel for channel in range(5) if channel != gone]
        read = network[0](x).detach()
        fit = torch.linalg.lstsq(read[:, kept], read @ network[1].weight.detach().T).solution
        losses.append(float((read[:, kept] @ fit - read @ network[1].weight.detach().T).norm()))
    assert rounds[2 + losses.index(min(losses))] == rounds[2:].min()


class SideBySide(nn.Module):
    """Its last layer reads the channels of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 3)
        self.head = nn.Linear(7, 2)

    def read(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x).relu(), self.right(x).relu()], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(x))


def test_reconstruction_counts_on_the_channels_of_other_groups_too() -> None:
    network, x = SideBySide().double(), torch.randn(400, 6, dtype=torch.float64)
    with torch.no_grad():  # large, but the other group has the same
        network.left.weight[2], network.left.bias[2] = 3 * network.right.weight[0], 3 * network.right.bias[0]
    read = network.read(x).detach()
    wanted = read @ network.head.weight.detach().T
    for site, own in (("left", [0, 1, 2, 3]), ("right", [4, 5, 6])):
        left, order = list(range(7)), list[int]()
        while len(order) < len(own):
            losses = {}
            for gone in set(own) - set(order):
                kept = [channel for channel in left if channel != gone]
                solution = torch.linalg.lstsq(read[:, kept], wanted).solution
                losses[gone] = float((read[:, kept] @ solution - wanted).norm())
            order.append(min(losses, key=lambda channel: losses[channel]))
            left.remove(order[-1])
        rounds = channel_importance(network, dependencies(network).groups[site], "reconstruction", x)
        assert [own[index] for index in rounds.argsort().tolist()] == order


@pytest.mark.parametrize("importance", ["taylor", "activation", "reconstruction"])
def test_an_importance_that_needs_calibration_is_refused_without(importance: Importance) -> None:
    with pytest.raises(ValueError, match=f"importance '{importance}' needs calibration inputs"):
        ChannelPruning(importance=importance).compress(chain(), plan_of({"0": 4}))


def test_taylor_needs_class_scores_and_an_unknown_importance_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    with pytest.raises(ValueError, match="class scores"):
        ChannelPruning(importance="taylor").compress(network, plan_of({"0": 2}), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"importance must be one of magnitude, .*, got 'size'"):
        ChannelPruning(importance="size")


class UNet(nn.Module):
    """A skip around a transposed convolution, concatenated with it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.up, self.norm = nn.ConvTranspose2d(12, 6, 4, stride=2, padding=1), nn.BatchNorm2d(6)
        self.merge, self.head = nn.Conv2d(14, 9, 3, padding=1), nn.Conv2d(9, 2, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        skip = F.relu(self.down(x_NCHW))
        up = F.relu(self.norm(self.up(F.relu(self.inner(skip)))))
        return self.head(F.relu(self.merge(torch.cat([skip, up], 1))))


def test_transposed_convolutions_are_pruned_on_both_sides() -> None:
    network = with_lively_norms(UNet())
    keeps = a_half_each(network)
    assert list(keeps) == ["down", "inner", "up", "merge"]
    pruned = METHOD.compress(network, plan_of(keeps))
    assert (
        pruned.up.weight.shape[:2] == (pruned.up.in_channels, pruned.up.out_channels) == (keeps["inner"], keeps["up"])
    )
    torch.testing.assert_close(pruned(IMAGES), ignoring(network, keeps)(IMAGES), rtol=1e-9, atol=1e-9)
    assert METHOD.compress(network, plan_of(keeps), CALIBRATION)(IMAGES).shape == network(IMAGES).shape


@pytest.mark.parametrize(("kind", "site"), [("residual", "inner"), ("separable", "0")])
def test_parameters_after_pruning_are_as_many_as_torch_prunings_own(kind: str, site: str) -> None:
    network = NETWORKS[kind]().eval()
    group = dependencies(network).groups[site]
    theirs = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=(IMAGES.float(),))
    graph.get_pruning_group(theirs.get_submodule(site), torch_pruning.prune_conv_out_channels, [0, 1, 2]).prune()
    for calibration in (None, CALIBRATION.float()):
        pruned = METHOD.compress(network, plan_of({site: group.channels - 3}), calibration)
        assert sum(w.numel() for w in pruned.parameters()) == sum(w.numel() for w in theirs.parameters())


def test_channels_are_offered_in_multiples_that_fit_the_groups() -> None:
    options = ChannelPruning(multiple=4).options(grouped())
    assert {name: [option["keep"] for option in found] for name, found in options.items()} == {
        "0": [4, 8],
        "2": [4, 8, 12, 16],
        "4": [4],
    }
    assert ChannelPruning(multiple=16).options(grouped()) == {"2": [{"keep": 16}]}
    assert dict(METHOD.limits(nn.Conv2d(3, 12, 3))) == {"keep": 12}
    assert METHOD.limits(nn.BatchNorm2d(3)) == {}
