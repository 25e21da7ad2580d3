"""Modes, states, target updates, resets, the environment of the conf, and small things."""

import copy
import math
import os
import random
import socket
import types

import numpy as np
import pytest
import torch
from absl import logging
from torch import nn

from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.per_process_context import PerProcessContext

# ---- modes ---------------------------------------------------------------------------------------------------------


def test_modes_nest_and_end_even_by_an_exception():
    assert common.exe_mode_name() == "other"
    with common.rollout_context():
        assert common.is_rollout() and not common.is_replay()
        with pytest.raises(KeyError), common.eval_context():
            assert common.is_eval() and not common.is_rollout()
            raise KeyError
        assert common.exe_mode_name() == "rollout"
    assert common.exe_mode_name() == "other"


def test_a_mode_context_may_be_entered_again_inside_itself():
    context = common.replay_context()
    with context:
        with common.pretrain_context():
            assert common.is_pretrain()
        assert common.is_replay()
    assert common.exe_mode_name() == "other"


@pytest.mark.parametrize("name", ["eval", "replay", "rollout", "pretrain"])
def test_marked_functions_run_in_their_mode(name):

    @getattr(common, f"mark_{name}")
    def function(x, y=0):
        """Doc."""
        return x + y, common.exe_mode_name()

    assert function(1, y=2) == (3, name)
    assert function.__name__ == "function" and function.__doc__ == "Doc."


def test_training_is_replay_or_the_unroll_of_an_on_policy_algorithm():
    on, off = types.SimpleNamespace(on_policy=True), types.SimpleNamespace(on_policy=False)
    with common.rollout_context():
        assert common.is_training(on) and not common.is_training(off)
    with common.replay_context():
        assert common.is_training(on) and common.is_training(off)
    with common.eval_context():
        assert not common.is_training(on)


# ---- states and tensors --------------------------------------------------------------------------------------------


def test_states_are_reset_in_the_rows_under_the_mask_only():
    state = {"a": torch.ones(3), "b": torch.ones(3, 2, 2)}
    zero = {"a": torch.zeros(3), "b": torch.zeros(3, 2, 2)}
    result = common.reset_state_if_necessary(state, zero, torch.tensor([True, False, True]))
    assert result["a"].tolist() == [0, 1, 0]
    assert result["b"].sum(dim=(1, 2)).tolist() == [0, 4, 0]
    assert state["a"].tolist() == [1, 1, 1]
    assert common.reset_state_if_necessary((), (), torch.tensor([True])) == ()


def test_gradient_of_a_state_ends_where_it_is_reset():
    state = torch.ones(2, requires_grad=True)
    common.reset_state_if_necessary(state, torch.zeros(2), torch.tensor([True, False])).sum().backward()
    assert state.grad.tolist() == [0, 1]


def test_expand_dims_as_adds_ones_at_either_end():
    x, y = torch.zeros(2, 3), torch.zeros(2, 3, 4, 5)
    assert common.expand_dims_as(x, y).shape == (2, 3, 1, 1)
    assert common.expand_dims_as(x, y, end=False).shape == (1, 1, 2, 3)
    assert common.expand_dims_as(y, x) is y


def test_detach_keeps_what_is_no_tensor():
    x = torch.ones((), requires_grad=True)
    result = common.detach([2 * x, "text", ()])
    assert not result[0].requires_grad and result[1:] == ["text", ()]


def test_initial_policy_state_is_zero():
    assert common.get_initial_policy_state(3, [TensorSpec((2,))])[0].tolist() == [[0, 0]] * 3


def test_check_numerics_names_the_tensor():
    common.check_numerics({"a": torch.ones(2), "n": torch.tensor([1])})
    with pytest.raises(ValueError, match=r"check_numerics: 2 of 3 values of b.1 \(shape \(3,\)\) are NaN or infinite"):
        common.check_numerics({"a": torch.ones(2), "b": [torch.ones(1), torch.tensor([1.0, math.nan, math.inf])]})


def test_images_are_scaled_where_they_are():
    image = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert common.image_scale_transformer(image).tolist() == [[-1, 1]]
    result = common.image_scale_transformer({"a": {"b": image}, "c": image}, fields=["a.b"], min=0.0, max=2.0)
    assert result["a"]["b"].tolist() == [[0, 2]] and result["c"] is image
    with pytest.raises(ValueError, match="expected uint8 images, got torch.float32"):
        common.image_scale_transformer(torch.zeros(1))


def test_cast_transformer_casts_all():
    assert common.cast_transformer([torch.zeros(1, dtype=torch.uint8)])[0].dtype == torch.float32


# ---- modules that act now and then ---------------------------------------------------------------------------------


def linear(value):
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, 2 * value)
    return layer


def weights(layer):
    return [layer.weight.item(), layer.bias.item()]


def test_targets_begin_as_copies_and_move_by_tau():
    model, target = linear(1.0), linear(0.0)
    update = common.TargetUpdater(model, target, tau=0.25)
    assert weights(target) == [1, 2]
    model.weight.data.fill_(5.0)
    update()
    assert weights(target) == [2, 2]
    update()
    assert weights(target) == [2.75, 2]
    assert not target.weight.grad and target.weight.requires_grad


def test_targets_may_keep_their_own_beginning():
    target = linear(0.0)
    common.TargetUpdater(linear(1.0), target, init_copy=False)
    assert weights(target) == [0, 0]


def test_targets_move_every_period():
    model, target = linear(1.0), linear(0.0)
    update = common.TargetUpdater(model, target, period=3)
    model.weight.data.fill_(5.0)
    seen = []
    for _ in range(6):
        update()
        seen.append(target.weight.item())
        model.weight.data += 1
    assert seen == [1, 1, 7, 7, 7, 10]


def test_tau_and_period_may_be_scheduled():
    model, target = linear(1.0), linear(0.0)
    tau, period = [0.5], [1]
    update = common.TargetUpdater(model, target, tau=lambda: tau[0], period=lambda: period[0])
    model.weight.data.fill_(3.0)
    update()
    assert target.weight.item() == 2
    tau[0], period[0] = 1.0, 2
    update()
    assert target.weight.item() == 2
    update()
    assert target.weight.item() == 3


def test_delayed_targets_move_towards_the_parameters_of_the_last_update():
    model, target = linear(1.0), linear(0.0)
    update = common.TargetUpdater(model, target, delayed_update=True)
    model.weight.data.fill_(5.0)
    update()
    assert target.weight.item() == 1
    model.weight.data.fill_(9.0)
    update()
    assert target.weight.item() == 5


def test_delayed_targets_go_on_from_a_state_dict():
    model, target = linear(1.0), linear(0.0)
    update = common.TargetUpdater(model, target, delayed_update=True)
    model.weight.data.fill_(5.0)
    update()
    other_model, other_target = linear(7.0), linear(7.0)
    other = common.TargetUpdater(other_model, other_target, delayed_update=True)
    other.load_state_dict(update.state_dict())
    other()
    assert other_target.weight.item() == 5


def test_updater_does_not_own_the_modules_and_buffers_are_copied():
    model, target = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update = common.TargetUpdater([model], [target], tau=0.5)
    assert list(update.parameters()) == [] and list(update.state_dict()) == ["_counter"]
    model.double()  # makes new buffers
    target.double()
    model.running_mean.fill_(4.0)
    update()
    assert target.running_mean.item() == 4


def test_a_copied_algorithm_updates_its_own_targets():
    root = nn.Module()
    root.model, root.target = linear(1.0), linear(0.0)
    root.update = common.TargetUpdater(root.model, root.target)
    clone = copy.deepcopy(root)
    clone.model.weight.data.fill_(5.0)
    clone.update()
    assert clone.target.weight.item() == 5 and root.target.weight.item() == 1


@pytest.mark.parametrize("make", [
    lambda: common.TargetUpdater(linear(1.0), linear(0.0), period=3),
    lambda: common.PeriodicReset(linear(1.0), period=3),
    lambda: common.Periodically(lambda: None, period=3),
], ids=["TargetUpdater", "PeriodicReset", "Periodically"])
def test_the_number_of_calls_goes_on_from_a_state_dict(make):
    counts, restarted = make(), make()
    counts()
    counts()
    assert int(counts.state_dict()["_counter"]) == 2
    restarted.load_state_dict(copy.deepcopy(counts.state_dict()))
    restarted()
    assert int(restarted.state_dict()["_counter"]) == 0  # the third call has acted
    restarted()
    assert int(restarted.state_dict()["_counter"]) == 1


def test_never_may_become_a_period():
    layer, period = linear(1.0), [-1]
    reset = common.PeriodicReset(layer, period=lambda: period[0])
    for _ in range(5):
        reset()
    assert weights(layer) == [1, 2]
    period[0] = 3
    reset()
    assert weights(layer) != [1, 2]


def test_targets_must_match():
    with pytest.raises(ValueError, match=r"target_models with the parameters of models, got shapes \[\(2, 1\)"):
        common.TargetUpdater(nn.Linear(1, 1), nn.Linear(1, 2))


def test_periodically_calls_its_body_every_period():
    calls = []
    periodically = common.Periodically(lambda: calls.append(len(calls)), period=3)
    for _ in range(7):
        periodically()
    assert calls == [0, 1]
    assert int(periodically.state_dict()["_counter"]) == 1


def test_reset_gives_new_parameters_every_period():
    layer, done = linear(1.0), []
    reset = common.PeriodicReset(layer, period=2, post_processings=[lambda: done.append(True)])
    reset()
    assert weights(layer) == [1, 2] and not done
    reset()
    assert weights(layer) != [1, 2] and done == [True]


def test_negative_period_never_resets():
    layer = linear(1.0)
    reset = common.PeriodicReset([layer], period=-1)
    for _ in range(5):
        reset()
    assert weights(layer) == [1, 2]


@pytest.mark.parametrize("resets_buffers", [True, False])
def test_buffers_get_their_first_numbers_on_request_only(resets_buffers):
    module = nn.Module()
    module.register_buffer("saved", torch.ones(1))
    module.register_buffer("constant", torch.full((1,), 2.0), persistent=False)
    reset = common.PeriodicReset([nn.Linear(1, 1), module], reset_buffers=resets_buffers)
    module.saved.fill_(5.0)
    reset()
    assert module.saved.item() == (1 if resets_buffers else 5) and module.constant.item() == 2


class WithParameter(nn.Module):

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def test_what_cannot_be_reset_is_told_before_training():
    for period in (10, lambda: 10):
        with pytest.raises(ValueError, match=r"WithParameter has the parameters \['scale'\] and no method"):
            common.PeriodicReset(nn.Sequential(nn.Linear(1, 1), WithParameter()), period=period)
    common.PeriodicReset(WithParameter(), period=-1)()


# ---- the environment of the conf -----------------------------------------------------------------------------------


class FakeEnv:
    batch_size = 10

    def observation_spec(self):
        return {"a": TensorSpec((2,)), "b": {"c": TensorSpec((3,))}}

    def action_spec(self):
        return BoundedTensorSpec((), torch.int64, 0, 9)

    def reward_spec(self):
        return TensorSpec(())


@pytest.fixture
def env(monkeypatch):
    from alf.utils.common import _environment
    monkeypatch.setattr(_environment, "_env_factory", None)
    env = FakeEnv()
    common.set_global_env(env)
    yield env
    common.set_global_env(None)


def test_specs_are_those_of_the_environment(env):
    assert common.get_env() is env and common.has_env()
    assert common.get_raw_observation_spec("b.c") == common.get_observation_spec("b.c") == TensorSpec((3,))
    assert common.get_action_spec() == env.action_spec() and common.get_reward_spec() == env.reward_spec()


def test_observations_may_be_transformed_until_there_is_another_environment(env):
    common.set_transformed_observation_spec({"a": TensorSpec((8,))})
    assert common.get_observation_spec("a") == TensorSpec((8,))
    assert common.get_raw_observation_spec("a") == TensorSpec((2,))
    common.set_global_env(env)
    assert common.get_observation_spec("a") == TensorSpec((2,))


def test_environment_is_made_when_first_asked_for(env):
    common.set_global_env(None)
    with pytest.raises(RuntimeError, match="there is no environment yet"):
        common.get_env()
    common.set_env_factory(lambda: common.set_global_env(env))
    assert not common.has_env()
    assert common.get_observation_spec()["a"] == TensorSpec((2,))


def test_entropy_of_a_share_of_the_actions(env):
    assert common.active_action_target_entropy(0.5) == pytest.approx(math.log(5))
    assert common.active_action_target_entropy(0.1) == 0.3
    with pytest.raises(ValueError, match="active_action_portion: expected above 0 and at most 1, got 0"):
        common.active_action_target_entropy(0)


def test_interval_between_so_many_calls(env, monkeypatch):
    config = types.SimpleNamespace(num_iterations=1000, num_env_steps=0, unroll_length=8)
    assert common.compute_summary_or_eval_interval(config, 10) == 100
    assert common.compute_summary_or_eval_interval(config, 5000) == 1
    config = types.SimpleNamespace(num_iterations=0, num_env_steps=80_000, unroll_length=8)
    assert common.compute_summary_or_eval_interval(config, 10) == 100
    context = PerProcessContext()
    monkeypatch.setattr(type(context), "num_processes", 2)  # each with ten environments, and num_env_steps of both
    assert common.compute_summary_or_eval_interval(config, 10) == 50
    config = types.SimpleNamespace(num_iterations=0, num_env_steps=80_000, unroll_length=0)
    with pytest.raises(ValueError, match="num_evals and num_summaries: expected None with unroll_length=0"):
        common.compute_summary_or_eval_interval(config, 10)


def test_initial_time_step_may_number_its_environments():
    class Env:
        def current_time_step(self):
            from alf.data_structures import TimeStep
            return TimeStep(env_id=torch.arange(2))

    assert common.get_initial_time_step(Env(), first_env_id=5).env_id.tolist() == [5, 6]


# ---- small things --------------------------------------------------------------------------------------------------


def test_seed_makes_all_generators_repeat():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert common.set_random_seed(3) == 3
    first = draw()
    common.set_random_seed(3)
    assert draw() == first
    drawn = common.set_random_seed(None)
    again = draw()
    common.set_random_seed(drawn)
    assert draw() == again and 0 <= drawn < 2**31


@pytest.mark.parametrize("kind", ["info", "warning"])
def test_once_means_once_for_each_message(monkeypatch, kind):
    told = []
    monkeypatch.setattr(logging, kind, lambda message, *args: told.append(message % args))
    once = getattr(common, f"{kind}_once")
    for value in ([1], [2], [1]):
        once(f"{kind} of %s", value)
    assert told == [f"{kind} of [1]", f"{kind} of [2]"]


def test_metrics_are_logged_line_by_line(monkeypatch):
    told = []
    monkeypatch.setattr(logging, "info", lambda message, *args: told.append(message % args))
    metric = types.SimpleNamespace(name="Return", result=lambda: torch.tensor(2.5))
    common.log_metrics([metric], prefix="here")
    assert told == ["here\n\t\t Return = 2.5"]


def test_lists_and_pairs():
    assert common.as_list(3) == [3] and common.as_list((1, 2)) == [1, 2] and common.as_list({"a": 1}) == [1]
    assert common.tuplify2d(3) == (3, 3) and common.tuplify2d([1, 2]) == (1, 2)
    with pytest.raises(ValueError, match="tuplify2d: expected a number or two numbers"):
        common.tuplify2d([1, 2, 3])
    assert common.flattened_size(TensorSpec((2, 3))) == 6


def test_epsilon_greedy_of_a_config_or_none():
    assert common.get_epsilon_greedy(types.SimpleNamespace(epsilon_greedy=0.1)) == 0.1
    assert common.get_epsilon_greedy(None) == 0.0


def test_parameters_by_name():
    assert [name for name, _ in common.get_all_parameters(nn.Linear(1, 1))] == ["weight", "bias"]


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("ALF_TEST_FOLDER", "/tmp")
    assert common.abs_path("$ALF_TEST_FOLDER/../tmp/x") == os.path.realpath("/tmp/x")
    assert common.abs_path("~") == os.path.realpath(os.path.expanduser("~"))


def test_unused_ports_are_free():
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        found = common.get_unused_port(port)
        assert found > port
        assert len(set(common.get_unused_port(port, n=3))) == 3
        with pytest.raises(OSError, match="expected 1 free ports in .* found 0"):
            common.get_unused_port(port, port + 1)


def test_face_lists_what_is_public():
    for name in common.__all__:
        assert hasattr(common, name) and not name.startswith("_")
