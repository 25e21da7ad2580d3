"""Agent: what each part is given, how rewards and losses are put together."""

import functools

import pytest
import torch
from torch import nn

from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent, AgentInfo, AgentState
from alf.algorithms.agent_helpers import AgentHelper
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.data_structures import AlgStep, LossInfo
from alf.optimizers import SGD
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

BOTH = pytest.mark.parametrize("rl", [ActorCriticAlgorithm, PPOAlgorithm])


class Curiosity(Algorithm):
    """Rewards ``t + 10 b``; its state counts steps, its loss is that of one weight."""

    def __init__(self, name="Curiosity"):
        super().__init__(train_state_spec=TensorSpec(()), name=name)
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.calls = []

    def _step(self, inputs, state):
        reward = inputs.observation[..., 0] + 10 * inputs.observation[..., 1]
        return AlgStep(output=reward, state=state + 1, info=LossInfo(loss=self.weight * torch.ones_like(reward)))

    def rollout_step(self, inputs, state):
        return self._step(inputs, state) if self.on_policy else self._step(inputs, state)._replace(info=())

    def train_step(self, inputs, state, rollout_info):
        return self._step(inputs, state)

    def after_update(self, root_inputs, info):
        self.calls.append("after_update")

    def after_train_iter(self, root_inputs, rollout_info):
        self.calls.append("after_train_iter")


class Doubled(Algorithm):
    """Represents an observation by twice the observation, times a weight."""

    def __init__(self, observation_spec, action_spec, reward_spec, config, debug_summaries):
        super().__init__(config=config, name="Doubled")
        self.output_spec = TensorSpec((4,))
        self.weight = nn.Parameter(torch.tensor(1.0))

    def predict_step(self, inputs, state):
        observation = self.weight * inputs.observation
        return AlgStep(output=torch.cat([observation, observation], -1), state=state)

    rollout_step = predict_step

    def train_step(self, inputs, state, rollout_info):
        step = self.predict_step(inputs, state)
        return step._replace(info=LossInfo(loss=self.weight * torch.ones(inputs.step_type.shape)))

    def calc_loss(self, info):
        return LossInfo() if info == () else info


class RewardWeights(Algorithm):
    """Weighs the first component of the reward by the number of iterations."""

    def __init__(self, reward_spec, debug_summaries):
        super().__init__(name="RewardWeights")
        self.reward_weights = torch.ones(reward_spec.shape)

    def rollout_step(self, inputs, state):
        return AlgStep(info=inputs.reward)

    def after_train_iter(self, root_inputs, rollout_info):
        assert rollout_info.shape[-1] == 2
        self.reward_weights = self.reward_weights + torch.tensor([1.0, 0.0])


class Goal(Algorithm):
    """The goal is the number of the environment."""

    action_spec = TensorSpec((1,))

    def predict_step(self, inputs, state):
        return AlgStep(output=inputs.observation[..., 1:])

    rollout_step = predict_step

    def train_step(self, inputs, state, rollout_info):
        return AlgStep(output=inputs.observation[..., 1:], info=LossInfo(loss=torch.zeros(inputs.step_type.shape)))

    def calc_loss(self, info):
        return LossInfo() if info == () else info


def make(env, config, rl, networks=None, **kwargs):
    inner = functools.partial(rl, **(networks or {}))
    return Agent(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env, config=config,
                 rl_algorithm_cls=inner, optimizer=SGD(lr=0.1), **kwargs)


@BOTH
def test_rl_learns_from_the_weighted_sum_of_rewards(scripted_env, make_config, networks, rl):
    env = scripted_env()
    agent = make(env, make_config(unroll_length=4), rl, networks[False], intrinsic_reward_module=Curiosity(),
                 intrinsic_reward_coef=0.5, extrinsic_reward_coef=2.0)
    experience = agent.unroll(4)
    t, b = experience.observation[..., 0], experience.observation[..., 1]
    extrinsic = torch.stack([env.time_step_at(i).reward for i in range(5)])
    torch.testing.assert_close(experience.rollout_info.rl.reward, 2.0 * extrinsic + 0.5 * (t + 10 * b))
    torch.testing.assert_close(experience.rollout_info.rewards["extrinsic"], extrinsic)
    torch.testing.assert_close(experience.reward, extrinsic)


def test_experience_is_preprocessed_where_a_part_needs_it(scripted_env, make_config, networks):
    def preprocesses(rl=ActorCriticAlgorithm, **kwargs):
        return make(scripted_env(), make_config(), rl, networks[False], **kwargs).preprocesses_experience

    assert not preprocesses()
    assert preprocesses(PPOAlgorithm)
    assert preprocesses(intrinsic_reward_module=Curiosity())
    assert preprocesses(extrinsic_reward_coef=3.0)


@BOTH
def test_extrinsic_coefficient_holds_without_intrinsic_reward(scripted_env, make_config, networks, rl):
    env = scripted_env()
    agent = make(env, make_config(unroll_length=4), rl, networks[False], extrinsic_reward_coef=3.0)
    rewards = agent.unroll(4).rollout_info.rl.reward
    torch.testing.assert_close(rewards, 3.0 * torch.stack([env.time_step_at(i).reward for i in range(5)]))


def test_train_step_is_given_the_mixed_reward(scripted_env, make_config, networks):
    env = scripted_env()
    agent = make(env, make_config(unroll_length=4), PPOAlgorithm, networks[False], intrinsic_reward_module=Curiosity(),
                 intrinsic_reward_coef=0.5)
    given = []
    train_step = agent._rl_algorithm.train_step
    agent._rl_algorithm.train_step = lambda inputs, *args: (given.append(inputs), train_step(inputs, *args))[1]
    agent.train_iter()
    inputs = given[0]
    extrinsic = torch.stack([env.time_step_at(int(t)).reward[int(b)] for t, b in inputs.observation])
    torch.testing.assert_close(inputs.reward,
                               extrinsic + 0.5 * (inputs.observation[:, 0] + 10 * inputs.observation[:, 1]))


@BOTH
def test_losses_are_added_and_every_part_is_told(scripted_env, make_config, networks, rl, written):
    curiosity = Curiosity()
    agent = make(scripted_env(), make_config(unroll_length=4, num_updates_per_train_iter=2, mini_batch_size=2), rl,
                 networks[False], intrinsic_reward_module=curiosity, debug_summaries=True)
    agent.train_iter()
    updates = 1 if rl is ActorCriticAlgorithm else 2
    assert curiosity.calls == ["after_update"] * updates + ["after_train_iter"]
    assert curiosity.weight.item() == pytest.approx(1.0 - 0.1 * updates)
    tags = written.tags[1]
    assert {"loss/rl/pg_loss", "loss/rl/td_loss"} <= set(tags)
    for name in ("extrinsic", "intrinsic", "overall"):
        assert tags.count(f"rollout_reward/{name}/mean") == 1


def test_state_of_the_intrinsic_module_is_carried_and_reset(scripted_env, make_config, networks):
    agent = make(scripted_env(), make_config(unroll_length=4, use_rollout_state=True), PPOAlgorithm, networks[True],
                 intrinsic_reward_module=Curiosity())
    agent.unroll(4)
    state = agent._replay.gather_all()[0].state
    assert state.irm[0].tolist() == [0, 1, 2, 3, 0]  # an episode of 4 steps, then a new one
    agent.train_iter()
    assert agent.need_full_rollout_state()


@BOTH
@pytest.mark.parametrize("recurrent", [False, True])
def test_representation_is_the_observation_of_the_rl_algorithm_and_learns_from_its_loss(scripted_env, make_config,
                                                                                     networks, rl, recurrent):
    agent = make(scripted_env(), make_config(unroll_length=4), rl, networks[recurrent],
                 representation_learner_cls=Doubled)
    assert agent._rl_algorithm.observation_spec == TensorSpec((4,))
    before = agent._representation_learner.weight.item()
    agent.train_iter()
    assert agent._representation_learner.weight.item() != before
    time_step = agent._env.current_time_step()
    step = agent.predict_step(time_step, agent.get_initial_predict_state(2))
    assert step.output.shape == (2,)


@BOTH
def test_goal_is_paired_with_the_observation(scripted_env, make_config, rl):
    from alf.nest.utils import NestConcat
    from alf.networks import ActorDistributionNetwork, ValueNetwork
    nets = dict(
        actor_network_ctor=functools.partial(ActorDistributionNetwork, preprocessing_combiner=NestConcat(),
                                             fc_layer_params=(4,)),
        value_network_ctor=functools.partial(ValueNetwork, preprocessing_combiner=NestConcat(), fc_layer_params=(4,)))
    agent = make(scripted_env(), make_config(unroll_length=4), rl, nets, goal_generator=Goal())
    assert agent._rl_algorithm.observation_spec == [TensorSpec((2,)), TensorSpec((1,))]
    agent.train_iter()


@BOTH
def test_new_reward_weights_are_taken_over_after_each_iteration(scripted_env, make_config, networks, rl):
    agent = make(scripted_env(reward_dim=2), make_config(unroll_length=4), rl, networks[False],
                 reward_weight_algorithm_cls=RewardWeights)
    for expected in (2.0, 3.0):
        agent.train_iter()
        assert agent.reward_weights.tolist() == agent._rl_algorithm.reward_weights.tolist() == [expected, 1.0]
    assert agent.unroll(2).rollout_info.rl.reward_weights[0, 0].tolist() == [3.0, 1.0]


def test_reward_weights_need_a_vector_reward(scripted_env, make_config, networks):
    agent = make(scripted_env(), make_config(), PPOAlgorithm, networks[False])
    with pytest.raises(ValueError, match="set_reward_weights: expected a vector reward"):
        agent.set_reward_weights(torch.ones(2))
    with pytest.raises(ValueError, match="reward_weights: expected one weight for each component"):
        PPOAlgorithm(TensorSpec((2,)), BoundedTensorSpec((), torch.int64, 0, 2), reward_weights=[1.0, 2.0],
                     **networks[False])


@BOTH
def test_entropy_target_adds_its_loss(scripted_env, make_config, networks, rl, written):
    agent = make(scripted_env(), make_config(unroll_length=4), rl, networks[False], enforce_entropy_target=True,
                 debug_summaries=True)
    agent.train_iter()
    tags = written.tags[1]
    assert {"loss/entropy_target/neg_entropy", "EntropyTargetAlgorithm/alpha"} <= set(tags)
    # A policy that is nearly uniform is free: alpha decays.
    assert float(agent._entropy_target_algorithm._log_alpha.exp()) < 0.1


def test_paths_name_the_place_in_the_tree(scripted_env, make_config, networks):
    curiosity = Curiosity()
    agent = make(scripted_env(), make_config(), PPOAlgorithm, networks[False], intrinsic_reward_module=curiosity)
    agent.set_path("")
    assert (agent.path, curiosity.path, agent._rl_algorithm.path) == ("", "irm", "rl")
    agent.set_path("outer")
    assert curiosity.path == "outer.irm"


def test_children_are_told_whether_the_agent_learns_on_policy(scripted_env, make_config, networks):
    for rl, on_policy in ((ActorCriticAlgorithm, True), (PPOAlgorithm, False)):
        curiosity = Curiosity()
        agent = make(scripted_env(), make_config(), rl, networks[False], intrinsic_reward_module=curiosity)
        assert agent.on_policy == curiosity.on_policy == on_policy


# ---- AgentHelper ---------------------------------------------------------------------------------------------------


def test_helper_sums_losses_that_are_there():
    a, b, c = Algorithm(name="a"), Algorithm(name="b"), Algorithm(name="c")
    helper = AgentHelper(AgentState)
    for alg, field in ((a, "rl"), (b, "irm"), (c, "repr")):
        helper.register_algorithm(alg, field)
    info = AgentInfo(rl=LossInfo(loss=torch.ones(2, 3), extra=1), irm=LossInfo(loss=2 * torch.ones(2, 3), extra=2),
                     repr=LossInfo(scalar_loss=torch.tensor(5.0), extra=3))
    total = helper.accumulate_loss_info([a, b, None, c], info)
    assert (total.loss == 3).all() and total.scalar_loss == 5.0
    assert total.extra == {"rl": 1, "irm": 2, "repr": 3}
    assert total.priority == () and total.gns == () and total.batch_label == ()


def test_helper_passes_on_what_one_algorithm_gives():
    helper = AgentHelper(AgentState)
    a, b = Algorithm(name="a"), Algorithm(name="b")
    helper.register_algorithm(a, "rl")
    helper.register_algorithm(b, "irm")
    given = LossInfo(loss=torch.ones(2, 3), priority=torch.arange(3.0), gns=torch.tensor(7.0),
                     batch_label=torch.arange(6).reshape(2, 3))
    info = AgentInfo(rl=LossInfo(loss=torch.ones(2, 3)), irm=given)
    total = helper.accumulate_loss_info([a, b], info)
    assert total.priority is given.priority and total.gns is given.gns and total.batch_label is given.batch_label
    with pytest.raises(AssertionError, match="only one algorithm of an Agent may give LossInfo"):
        helper.accumulate_loss_info([a, b], AgentInfo(rl=given, irm=given))


def test_helper_sums_and_tells_rewards():
    told = {}
    total = AgentHelper(AgentState).accumulate_algorithm_rewards(
        [torch.ones(2), None, 3 * torch.ones(2)], [2.0, 9.0, 0.5], ["x", "y", "z"], "reward", told.__setitem__)
    assert total.tolist() == [3.5, 3.5]
    assert {name: value.tolist() for name, value in told.items()} == {
        "reward/x": [1.0, 1.0], "reward/z": [3.0, 3.0], "reward/overall": [3.5, 3.5]}


def test_a_reward_without_components_counts_for_each_component():
    vector, number = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[10.0, 20.0]])
    for rewards in ([vector, number], [number, vector]):
        total = AgentHelper(AgentState).accumulate_algorithm_rewards(rewards, [1.0, 1.0], ["x", "y"], "reward",
                                                                     lambda name, value: None)
        assert total.tolist() == [[[11.0, 12.0], [23.0, 24.0]]]


class Remembering(Doubled):
    """Keeps the states that it is given, by step method."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.given = {}

    def predict_step(self, inputs, state):
        self.given["predict"] = state
        return super().predict_step(inputs, state)

    def rollout_step(self, inputs, state):
        self.given["rollout"] = state
        return super().predict_step(inputs, state)

    def train_step(self, inputs, state, rollout_info):
        self.given["train"] = state
        return super().predict_step(inputs, state)

    def train_step_offline(self, inputs, state, rollout_info, pre_train=False):
        self.given["offline"] = state
        return super().predict_step(inputs, state)


class OfflinePPO(PPOAlgorithm):

    def train_step_offline(self, inputs, state, rollout_info, pre_train=False):
        return AlgStep(output=(), state=state)

    def offline_rollout_info(self, action):
        return ()


@pytest.mark.parametrize("use_rl_state", [False, True])
def test_representation_is_given_the_state_of_the_rl_algorithm_in_each_step(scripted_env, make_config, networks,
                                                                           use_rl_state):
    agent = make(scripted_env(), make_config(unroll_length=4), OfflinePPO, networks[True],
                 representation_learner_cls=Remembering, representation_use_rl_state=use_rl_state)
    time_step = agent._env.current_time_step()
    rollout = agent.rollout_step(time_step, agent.get_initial_rollout_state(2))
    agent.predict_step(time_step, agent.get_initial_predict_state(2))
    state = agent.get_initial_train_state(2)
    agent.train_step(time_step, state, rollout.info)
    agent.train_step_offline(time_step, state, agent.offline_rollout_info(torch.zeros(2, dtype=torch.int64)))
    given = agent._representation_learner.given
    assert set(given) == {"predict", "rollout", "train", "offline"}
    for step, found in given.items():
        assert len(found) == 2 * use_rl_state, step
        if use_rl_state:
            assert found[0] == () and found[1] is not None and found[1] != ()
