"""Popular blocks: pruned, a network computes what one computes that ignores the channels, or its channels stay."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan
from sconv_search.channels.cutting import ignore_
from sconv_search.channels.groups import dependencies, takes
from sconv_search.channels.removal import without_
from sconv_search.studies.methods import METHODS, compress

METHOD = METHODS["channel_pruning"]
IMAGES = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A stem, a block, and layers that read it."""

    def __init__(self, block: nn.Module, channels: int = 16) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 16, 3, padding=1), block
        self.next, self.head = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.next(self.block(self.stem(x).relu())).relu())


class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.primary = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))
        self.cheap = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x).relu()
        return torch.cat([y, self.cheap(y)], 1)


class GhostSkip(Ghost):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class ECA(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x.mean((2, 3))[:, None])[:, 0].sigmoid()[:, :, None, None]


class SE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()


class CBAM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 4), nn.Linear(4, 16)
        self.space = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (x.mean((2, 3)), x.amax((2, 3)))
        x = x * sum(self.outer(self.inner(p).relu()) for p in pooled).sigmoid()[:, :, None, None]
        return x * self.space(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class Res2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.scales = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).relu().split(4, 1))
        for index, scale in enumerate(self.scales, start=1):
            parts[index] = scale(parts[index] + parts[index - 1]).relu()
        return x + self.last(torch.cat(parts, 1))


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        x = torch.cat([kept, self.branch(changed)], 1)
        N, C, H, W = x.shape
        return x.view(N, 2, C // 2, H, W).transpose(1, 2).reshape(N, C, H, W)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Conv2d(16, 24, 1), nn.Conv2d(12, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, 1)
        return self.out(value * gate.sigmoid())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(self.norm(x.flatten(2).transpose(1, 2)))))
        return x + y.transpose(1, 2).reshape(x.shape)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], int, set[str]]] = {
    "ghost": (Ghost, 16, {"stem", "next", "block.primary.0"}),
    "ghost with a skip": (GhostSkip, 16, {"block.primary.0", "next"}),
    "ECA": (ECA, 16, {"next"}),
    "SE": (SE, 16, {"stem", "block.down", "next"}),
    "CBAM": (CBAM, 16, {"block.inner", "next"}),
    "Res2Net": (Res2, 16, {"stem", "block.scales.2", "next"}),
    "ShuffleNet": (Shuffled, 16, {"block.branch.0", "next"}),
    "gated": (Gated, 16, {"stem", "block.out", "next"}),
    "tokens": (Tokens, 16, {"block.up", "next"}),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), 4, {"next"}),
    "pixel unshuffle": (lambda: nn.PixelUnshuffle(2), 64, {"stem", "next"}),
    "max pool": (lambda: nn.MaxPool2d(2), 16, {"stem", "next"}),
    "nearest": (lambda: nn.Upsample(scale_factor=2), 16, {"stem", "next"}),
    "instance norm": (lambda: nn.InstanceNorm2d(16, affine=True), 16, {"stem", "next"}),
    "group norm": (lambda: nn.GroupNorm(4, 16), 16, {"next"}),
    "local response": (lambda: nn.LocalResponseNorm(3), 16, {"next"}),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_what_is_offered_of_a_block_computes_as_if_its_channels_were_ignored(kind: str) -> None:
    make, channels, offered = BLOCKS[kind]
    torch.manual_seed(1)
    network = Block(make(), channels).double().eval()
    known = dependencies(network)
    assert set(known.groups) == offered
    assert all(known.left_out[name] for name in ("head", *({"stem"} - offered)))
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        pruned, ignoring, kept = copy.deepcopy(network), copy.deepcopy(network), []
        for group in known.groups.values():
            count = int(torch.randint(group.least, group.channels, (1,), generator=generator))
            kept.append((group, torch.randperm(group.channels, generator=generator)[:count].sort().values))
            for member in group.members:
                if member.side == "in":
                    gone = member.positions[~torch.isin(member.channels, kept[-1][1])]
                    ignore_(ignoring.get_submodule(member.layer), gone)
        without_(pruned, kept)
        torch.testing.assert_close(pruned(IMAGES), ignoring(IMAGES), rtol=1e-9, atol=1e-10)


def half(network: nn.Module, *sites: str) -> nn.Module:
    options = METHOD.options(network)
    chosen = {
        name: Choice(method="channel_pruning", structure=options[name][len(options[name]) // 2]) for name in sites
    }
    return compress(network, CompressionPlan(sites=chosen))


def test_dead_filters_before_a_pixel_shuffle_go_without_a_trace() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 16, 3), nn.PixelShuffle(2), nn.Conv2d(4, 1, 1)
    )
    with torch.no_grad():
        network[0].weight[::2] = 0
        network[0].bias[::2] = 0
    x = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(half(network, "0")(x), network(x), rtol=1e-5, atol=1e-6)
    assert dependencies(network).left_out["2"] == "'4' reads its channels along another axis, or some of them"


class TrainingHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.head, self.extra = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.dropout(self.a(x).relu(), 0.5, self.training)
        return (self.head(self.b(x)), self.extra(x)) if self.training else self.head(self.b(x))


def test_a_head_that_runs_in_training_alone_is_pruned_too() -> None:
    pruned = half(TrainingHead(), "a").train()
    assert pruned.extra.in_channels == pruned.b.in_channels == 8
    assert [part.shape[1] for part in pruned(torch.randn(2, 3, 9, 9))] == [4, 4]


class BySize(nn.Module):
    limit = 50

    def __init__(self) -> None:
        super().__init__()
        self.a, self.large, self.small, self.head = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        large = x.shape[-1] > self.limit
        x = self.a(x).relu()
        return self.head((self.large(x) if large else self.small(x)).relu())


@pytest.mark.parametrize("limit", [10, 50])
def test_both_branches_on_the_inputs_size_are_pruned_where_the_size_is_not_known(limit: int) -> None:
    network = BySize()
    network.limit = limit
    pruned = half(network, "a")
    assert pruned.large.in_channels == pruned.small.in_channels == 4
    assert [pruned(torch.randn(1, 3, size, size)).shape[1] for size in (limit - 5, limit + 5)] == [4, 4]


def test_the_branch_of_the_known_size_is_the_one_that_is_pruned() -> None:
    network = BySize()
    takes(network, (3, 80, 80))
    pruned = half(network, "a")
    assert (pruned.large.in_channels, pruned.small.in_channels) == (4, 8)
    assert pruned(torch.randn(1, 3, 80, 80)).shape[1] == 4
    assert dependencies(network).left_out["small"] == "the traced forward does not run it"


class FixedSize(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (4, 11, 13):
            raise ValueError(f"takes 4 x 11 x 13, not {tuple(x.shape[1:])}")
        return super().forward(x)


def test_the_shape_of_compress_or_of_calibration_inputs_is_the_one_traced() -> None:
    plan = CompressionPlan(sites={"0": Choice(method="channel_pruning", structure={"keep": 2})})

    def network(kernel: int) -> nn.Module:
        return FixedSize(nn.Conv2d(4, 8, kernel), nn.Conv2d(8, 4, kernel))

    with pytest.raises(ValueError, match="takes 4 x 11 x 13"):
        compress(network(3), plan)
    assert compress(network(3), plan, input_shape=(4, 11, 13))[0].out_channels == 2
    assert compress(network(2), plan, torch.randn(8, 4, 11, 13))[0].out_channels == 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.c.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(x).relu()).relu()).relu())


class ReadElsewhere(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 32), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.linear(self.a(x).relu(), self.a.weight.t()))


def test_layers_whose_weights_others_use_keep_their_channels_and_say_so() -> None:
    tied, read = dependencies(Tied()), dependencies(ReadElsewhere())
    assert not tied.groups
    assert tied.left_out["b"] == "its weights are those of 'c' too"
    assert not read.groups
    assert "its weights are read outside of it" in read.left_out["a"]


def test_a_weight_that_a_hook_computes_stays() -> None:
    network = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1))
    known = dependencies(network)
    assert list(known.groups) == ["1"]
    assert known.left_out["0"] == "its weight or bias is computed, or its forward replaced"


class Same(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


def test_a_stem_of_an_unknown_kind_does_not_stop_the_rest() -> None:
    network = nn.Sequential(Same(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert list(METHOD.options(network)) == ["1"]


def test_networks_without_values_or_shapes_offer_nothing_and_say_why() -> None:
    with torch.device("meta"):
        meta = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    with pytest.warns(UserWarning, match="'0.weight' has no values"):
        assert METHOD.options(meta) == {}
    with pytest.warns(UserWarning, match="'0.weight' has no shape yet; run the network once"):
        assert METHOD.options(nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyConv2d(8, 3))) == {}


class Broken(nn.Module):
    """Fails in a way of its own as soon as a channel is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.shape[1] != 8:
            raise KeyError("eight")
        return self.c(self.b(x))


def test_any_exception_in_the_test_of_a_group_leaves_that_group_out_with_its_words() -> None:
    known = dependencies(Broken())
    assert list(known.groups) == ["b"]
    assert known.left_out["a"] == "its channels cannot be followed through the network: 'eight'"


class Enclosing(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


def test_a_function_at_a_freed_address_is_not_taken_for_another() -> None:
    def made(shift: int) -> nn.Module:
        return Enclosing(lambda x: x.roll(shift, 1) if shift else x)

    for _ in range(5):
        assert list(METHOD.options(made(0))) == ["a"]
        gc.collect()
        assert METHOD.options(made(1)) == {}


class TwoReaders(nn.Module):
    """``wide`` is added to a concatenation of ``left`` and ``right``, which both must keep a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.left, self.right = (nn.Conv2d(3, count, 1) for count in (12, 8, 4))
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wide(x) + torch.cat([self.left(x), self.right(x)], 1))


def test_as_many_channels_stay_as_leave_one_to_every_layer_of_a_concatenation() -> None:
    network = TwoReaders()
    group = dependencies(network).groups["wide"]
    assert group.least == 9
    assert [option["keep"] for option in METHOD.options(network)["wide"]] == [9, 10]
    plan = CompressionPlan(sites={"wide": Choice(method="channel_pruning", structure={"keep": 8})})
    with pytest.raises(ValueError, match=r"site 'wide': keep must be in 9\.\.12, got 8"):
        compress(network, plan)


class Vision(nn.Module):
    """More weights in attention than are computed whole in one go: groups are tested module by module."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.mixing = nn.Parameter(torch.zeros(2048, 4100))
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(3))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.mixing[:1, :32]
        return self.blocks(x).mean(1)


def test_groups_of_a_heavy_network_are_tested_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from sconv_search.channels import parts

    tested: list[int] = []
    failing = parts._failing
    monkeypatch.setattr(parts, "_failing", lambda part, groups: tested.append(len(groups)) or failing(part, groups))
    network = Vision().eval()
    assert list(dependencies(network).groups) == [f"blocks.{index}.1" for index in range(3)]
    assert tested == [1, 0]  # equal blocks once, and nothing in the whole network
    half(network, *dependencies(network).groups)(torch.randn(1, 3, 32, 32)).sum().backward()
