from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sconv_search.studies.space.measuring
from sconv_search import CompressionPlan
from sconv_search.calibration import moments as calibration
from sconv_search.data.splits import DataSet
from sconv_search.studies import StudyContext, Task, compress, context_from_task
from sconv_search.studies.context import calibration_inputs
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import _log_probabilities, _on_batch_statistics_, measured_space
from sconv_search.system.cache import forget_all
from sconv_search.system.weights import load_weights_, save_weights, state_checksum
from tests.studies.conftest import Notes

CPU = torch.device("cpu")


def test_the_dense_network_is_trained_once_and_kept(task: Task, tmp_path: Path) -> None:
    first, second = (
        context_from_task(task, data=None, weights=None, cache=tmp_path, device=CPU, monitor=Monitor())
        for _ in range(2)
    )
    assert first.weights_sha256 == second.weights_sha256
    assert (
        len(list(tmp_path.glob("*"))) == len(list(tmp_path.glob("corners-seed0-*.safetensors"))) + 1 == 2
    )  # and a lock
    other = context_from_task(task, data=None, weights=None, cache=tmp_path, device=CPU, monitor=Monitor(), seed=1)
    assert other.weights_sha256 != first.weights_sha256


def test_start_weights_are_loaded_and_their_network_not_trained(
    task: Task, context: StudyContext, tmp_path: Path
) -> None:
    save_weights(context.network, tmp_path / "w.safetensors")
    given = context_from_task(
        task, data=None, weights=tmp_path / "w.safetensors", cache=tmp_path, device=CPU, monitor=Monitor()
    )
    fresh = task.network()
    load_weights_(fresh, tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in given.network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_network_that_comes_trained_is_not_trained_again(
    task: Task, context: StudyContext, tmp_path: Path, notes: Notes
) -> None:
    seen: list[bool] = []

    def data(folder: Path | None, train_was_seen: bool) -> DataSet:
        seen.append(train_was_seen)
        return task.data(folder, train_was_seen)

    def none_of_its_own() -> nn.Module:
        raise AssertionError("the untrained network is not needed")

    by_function = replace(task, network=lambda: copy.deepcopy(context.network), data=data)
    by_name = replace(task, network=none_of_its_own, trained_network=by_function.network, data=data)
    for one in (by_function, by_name):
        given = context_from_task(one, data=None, weights=None, cache=tmp_path, device=CPU, monitor=notes)
        wanted = context.network.state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in given.network.state_dict().items())
        assert given.weights_sha256 == state_checksum(context.network)
        assert "is trained already: it is not trained again" in notes.lines.pop()
    assert seen == [True, True]
    assert not list(tmp_path.iterdir())


def test_a_task_that_trains_nothing_wants_a_network_that_comes_trained(
    task: Task, context: StudyContext, tmp_path: Path
) -> None:
    untrained = replace(task, dense_schedule=replace(task.dense_schedule, epochs=0), trained_network=lambda: None)
    with pytest.raises(ValueError, match="trains no dense network; give trained weights with --weights FILE"):
        context_from_task(untrained, data=None, weights=None, cache=tmp_path, device=CPU, monitor=Monitor())
    trained = replace(untrained, trained_network=lambda: copy.deepcopy(context.network))
    context_from_task(trained, data=None, weights=None, cache=tmp_path, device=CPU, monitor=Monitor())


def test_a_network_that_fails_on_the_input_shape_is_refused(task: Task, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Sequential fails on an input of shape \(3, 12, 12\)"):
        context_from_task(
            replace(task, input_shape=(3, 12, 12)),
            data=None,
            weights=None,
            cache=tmp_path,
            device=CPU,
            monitor=Monitor(),
        )


def test_damage_is_no_less_than_zero_and_a_cruder_option_moves_the_outputs_more(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sconv_search.studies.space.measuring, "calibration_inputs", lambda context: None
    )  # fitted, the toy loses next to nothing
    space = measured_space(context, ["spatial_svd"], Monitor())
    for options in space.sites.values():
        damages = [option.damage for option in options]
        assert all(damage >= 0 for damage in damages)
        assert damages[0] > damages[-1]


def test_damage_is_measured_with_the_batchs_own_statistics(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What batch norms remember of the dense network says nothing of the compressed one."""
    monkeypatch.setattr(
        sconv_search.studies.space.measuring, "calibration_inputs", lambda context: None
    )  # what layers read does depend on it
    other = copy.deepcopy(context.network)
    other[1].running_mean.add_(3)
    other[4].running_var.mul_(9)
    expected = measured_space(context, ["spatial_svd"], Monitor())
    assert measured_space(replace(context, network=other), ["spatial_svd"], Monitor()) == expected


def test_what_layers_read_is_measured_in_one_pass(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_all()
    passes: list[list[str]] = []
    measured = calibration._measured
    monkeypatch.setattr(calibration, "_measured", lambda *given: (passes.append(given[1]), measured(*given))[1])
    space = measured_space(context, ["spatial_svd"], Monitor())
    assert [names for names in passes if names] == [list(space.sites)]


def test_damage_is_that_of_the_whole_network_on_its_first_images(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little of it runs again."""
    monkeypatch.setattr(sconv_search.studies.space.measuring, "DAMAGE_PIXELS", 50 * 12 * 12)
    space = measured_space(context, ["spatial_svd"], Monitor())
    inputs = context.data.calibration_inputs(50)
    dense = _log_probabilities(_on_batch_statistics_(copy.deepcopy(context.network)), inputs)
    for name, options in space.sites.items():
        for option in options:
            plan = CompressionPlan(sites={name: option.choice})
            built = compress(context.network, plan, calibration_inputs(context), in_sequence=False)
            moved = _log_probabilities(_on_batch_statistics_(built), inputs)
            expected = F.kl_div(moved, dense, reduction="batchmean", log_target=True)
            assert option.damage == max(0.0, float(expected))


def test_the_space_keeps_nothing_that_saves_nothing(context: StudyContext) -> None:
    space = measured_space(context, ["cp", "spatial_svd"], Monitor())
    assert all(option.cost.flops < 0 for options in space.sites.values() for option in options)
    assert set(space.sites) == {"0", "3"}


def test_methods_are_fitted_to_the_calibration_images(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(
        sconv_search.studies.space.measuring,
        "compress",
        lambda network, plan, inputs, **how: (given.append(inputs), compress(network, plan, inputs, **how))[1],
    )
    space = measured_space(context, ["spatial_svd"], Monitor())
    assert len(given) == sum(map(len, space.sites.values()))
    assert all(torch.equal(inputs, context.data.normalized(context.data.train.images[:256])) for inputs in given)


def test_input_shapes_are_seen_at_each_call_of_a_layer() -> None:
    layer = torch.nn.Conv2d(2, 2, 3, padding=1)
    network = torch.nn.Sequential(layer, torch.nn.MaxPool2d(2), layer)
    assert input_shapes(network, (2, 8, 8), ["0"]) == {"0": [(2, 8, 8), (2, 4, 4)]}
