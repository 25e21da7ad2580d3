"""Which summaries an iteration writes and under which step."""

import functools

import pytest
import torch

from alf import summary
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.optimizers import SGD, Adam
from alf.tensor_specs import BoundedTensorSpec

CONTINUOUS = BoundedTensorSpec((2,), torch.float32, -1, 1)


def make(env, config, networks, cls=PPOAlgorithm, in_agent=False, debug_summaries=False):
    kwargs = dict(env=env, config=config, optimizer=SGD(lr=0.25), debug_summaries=debug_summaries)
    if in_agent:
        inner = functools.partial(cls, **networks[False])
        return Agent(env.observation_spec(), env.action_spec(), rl_algorithm_cls=inner, **kwargs)
    return cls(env.observation_spec(), env.action_spec(), **networks[False], **kwargs)


BASIC = {"loss", "loss/pg_loss", "loss/td_loss", "lr/SGD", "Metrics/EnvironmentSteps", "Metrics/NumberOfEpisodes",
         "time/unroll", "time/train", "time/after_train_iter", "time/backward", "time/unroll_env_step"}


@pytest.mark.parametrize("cls", [PPOAlgorithm, ActorCriticAlgorithm])
def test_an_iteration_is_summarized_once_whatever_its_number_of_updates(scripted_env, make_config, networks, written,
                                                                      cls):
    config = make_config(unroll_length=4, mini_batch_length=1, mini_batch_size=2, num_updates_per_train_iter=3)
    algorithm = make(scripted_env(), config, networks, cls)
    algorithm.train_iter()
    algorithm.train_iter()
    assert BASIC <= set(written.tags[1]) and BASIC <= set(written.tags[2])
    assert set(written.tags) == {1, 2}
    for tag in BASIC - {"time/unroll_env_step"}:
        assert written.tags[2].count(tag) == 1, tag
    assert written.values[(1, "lr/SGD")] == 0.25
    if cls is PPOAlgorithm:
        assert {"time/replay", "time/preprocess_experience"} <= set(written.tags[1])


def test_the_mean_reward_of_an_unroll_that_is_trained_on_is_told_once(scripted_env, make_config, networks, written):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=4), networks)
    algorithm.train_iter()
    tag = f"replayer/{algorithm.name}_replay_buffer.original_reward_mean"
    expected = sum(float(env.time_step_at(t).reward.mean()) for t in range(5)) / 5
    assert written.tags[1].count(tag) == 1 and written.values[(1, tag)] == pytest.approx(expected)


def test_the_summarized_update_is_the_last_one(scripted_env, make_config, networks, written):
    config = make_config(unroll_length=4, mini_batch_length=1, mini_batch_size=2, num_updates_per_train_iter=3)
    algorithm = make(scripted_env(), config, networks)
    recorded = []
    after_update = algorithm.after_update
    algorithm.after_update = lambda *args: (recorded.append(summary.should_record_summaries()), after_update(*args))
    algorithm.train_iter()
    assert recorded == [False] * 11 + [True]


def test_mini_batches_may_be_counted_as_steps(scripted_env, make_config, networks, written):
    config = make_config(unroll_length=4, mini_batch_length=1, mini_batch_size=4, num_updates_per_train_iter=3,
                         update_counter_every_mini_batch=True)
    algorithm = make(scripted_env(), config, networks)
    algorithm.train_iter()
    assert summary.get_global_counter() == 6
    assert [step for step, tags in written.tags.items() if "loss" in tags] == [1, 2, 3, 4, 5, 6]


DEBUG = {"rollout_action", "training_action", "rollout_reward/original_reward/mean", "training_reward/mean"}


@pytest.mark.parametrize("in_agent", [False, True])
@pytest.mark.parametrize("cls", [PPOAlgorithm, ActorCriticAlgorithm])
def test_debug_summaries_tell_actions_and_rewards_once(scripted_env, make_config, networks, written, cls, in_agent):
    algorithm = make(scripted_env(), make_config(unroll_length=4), networks, cls, in_agent, debug_summaries=True)
    algorithm.train_iter()
    for tag in DEBUG:
        assert written.tags[1].count(tag) == 1, tag
    assert any(tag.endswith("/values") for tag in written.tags[1])


@pytest.mark.parametrize("in_agent", [False, True])
def test_no_debug_summaries_unless_asked(scripted_env, make_config, networks, written, in_agent):
    algorithm = make(scripted_env(), make_config(unroll_length=4), networks, in_agent=in_agent)
    algorithm.train_iter()
    assert not DEBUG & set(written.tags[1])
    assert not any(tag.startswith(("summarize_", "training_action_dist")) for tag in written.tags[1])


@pytest.mark.parametrize("in_agent", [False, True])
def test_gradients_variables_and_distributions_are_told_if_asked(scripted_env, make_config, networks, written,
                                                                in_agent):
    config = make_config(unroll_length=4, summarize_grads_and_vars=True, summarize_action_distributions=True)
    algorithm = make(scripted_env(action_spec=CONTINUOUS), config, networks, in_agent=in_agent)
    algorithm.train_iter()
    tags = written.tags[1]
    names = [name for name, _ in algorithm.named_parameters()]
    for name in names:
        assert tags.count(f"summarize_grads/{name}_gradient_norm") == 1
        assert tags.count(f"summarize_vars/{name}_value_norm") == 1
    assert tags.count("training_action_dist/loc/mean") == 1


def test_a2c_tells_the_distributions_of_its_unroll(scripted_env, make_config, networks, written):
    config = make_config(unroll_length=4, summarize_action_distributions=True)
    make(scripted_env(action_spec=CONTINUOUS), config, networks, ActorCriticAlgorithm).train_iter()
    assert "rollout_action_dist/loc/mean" in written.tags[1]


def test_optimizers_of_one_name_are_told_apart(scripted_env, make_config, networks, written):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=4), networks)
    algorithm.add_optimizer(SGD(lr=0.5), [algorithm._actor_network])
    algorithm.add_optimizer(Adam(lr=0.125, name="value"), [algorithm._value_network])
    algorithm._weight = type(next(algorithm.parameters()))(next(algorithm.parameters()).detach().clone())
    algorithm.train_iter()
    rates = {tag: value for (_, tag), value in written.values.items() if tag.startswith("lr/")}
    assert rates == {"lr/SGD": 0.5, "lr/value": 0.125, "lr/SGD_2": 0.25}


def test_nothing_is_written_without_a_writer_and_training_is_the_same(scripted_env, make_config, networks, written):
    results = []
    for recording in (False, True):
        torch.manual_seed(1)
        config = make_config(unroll_length=4, summarize_grads_and_vars=True)
        algorithm = make(scripted_env(), config, networks, debug_summaries=True)
        with summary.record_if(lambda recording=recording: recording):
            algorithm.train_iter()
            algorithm.train_iter()
        results.append(torch.cat([p.detach().flatten() for p in algorithm.parameters()]))
        if not recording:
            assert written.tags == {}
    assert torch.equal(*results)


def test_root_inputs_of_after_train_iter_may_be_left_out(scripted_env, make_config, networks):
    for keep in (True, False):
        algorithm = make(scripted_env(), make_config(unroll_length=4, use_root_inputs_for_after_train_iter=keep),
                         networks)
        given = []
        algorithm.after_train_iter = lambda inputs, info, given=given: given.append((inputs, info))
        algorithm.train_iter()
        (inputs, info), = given
        assert (inputs is not None) == keep
        assert info.value.shape == (5, 2)
