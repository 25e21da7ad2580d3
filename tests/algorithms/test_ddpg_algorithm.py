"""DDPG: losses against direct computations, what noise does, and that it finds a known policy."""

import functools

import pytest
import torch

import alf.nest as nest
from alf.algorithms.agent import Agent
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm, DdpgInfo, DdpgState
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.data_structures import TimeStep
from alf.environments.suite_unittest import ActionType, PolicyUnittestEnv
from alf.networks import ActorNetwork, ActorRNNNetwork, CriticNetwork, CriticRNNNetwork
from alf.optimizers import SGD, Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.schedulers import StepScheduler, update_progress

OBSERVATION = TensorSpec((3,))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)
WIDE = BoundedTensorSpec((2,), torch.float32, [-2, 0], [2, 10])
FIRST, MID, LAST = 0, 1, 2
GAMMA = 0.9


def make(action_spec=ACTION, recurrent=False, cls=DdpgAlgorithm, gamma=GAMMA, **kwargs):
    actor = functools.partial(ActorNetwork, fc_layer_params=(5,))
    critic = functools.partial(CriticNetwork, joint_fc_layer_params=(6,))
    if recurrent:
        actor = functools.partial(ActorRNNNetwork, lstm_hidden_size=4)
        critic = functools.partial(CriticRNNNetwork, lstm_hidden_size=4)
    kwargs.setdefault("critic_loss_ctor", functools.partial(OneStepTDLoss, gamma=gamma))
    algorithm = cls(**{**dict(observation_spec=OBSERVATION, action_spec=action_spec, actor_network_ctor=actor,
                              critic_network_ctor=critic), **kwargs})
    # Away from the initial values near 0, and targets away from their networks.
    for p in algorithm.parameters():
        p.data.normal_(std=0.5)
    return algorithm


def sequences(T, B, action_spec=ACTION, reward_dim=0, step_type=None, discount=None):
    """Return time steps ``[T, B, ...]`` and the info of their unroll."""
    size = (T, B, reward_dim) if reward_dim else (T, B)
    inputs = TimeStep(
        step_type=torch.full((T, B), MID, dtype=torch.int32) if step_type is None else step_type,
        reward=torch.randn(size),
        discount=torch.ones(T, B) if discount is None else discount,
        observation=torch.randn(T, B, 3),
        prev_action=nest.map_structure(lambda spec: spec.zeros((T, B)), action_spec),
        env_id=torch.zeros(T, B, dtype=torch.int32))
    return inputs, DdpgInfo(action=nest.map_structure(lambda spec: spec.sample((T, B)), action_spec))


def row(inputs, info, t):
    return nest.map_structure(lambda leaf: leaf[t], (inputs, info))


def total(algorithm, info):
    """Return the sum of the losses that count: a trainer masks rows at which an episode has ended."""
    return (algorithm.calc_loss(info).loss * (info.step_type != LAST)).sum()


def gradients(algorithm, info):
    algorithm.zero_grad()
    total(algorithm, info).backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in algorithm.named_parameters()}


def default_train_sequence(algorithm, inputs, info):
    """What an algorithm without its own ``train_sequence`` does."""
    return super(DdpgAlgorithm, algorithm).train_sequence(inputs, info)


# ---- losses ------------------------------------------------------------------------------------------------------


def test_critic_loss_is_the_squared_error_of_the_one_step_target():
    # Environment 0 terminates at row 1, environment 1 meets a time limit there; after LAST comes FIRST.
    step_type = torch.tensor([[MID, MID], [LAST, LAST], [FIRST, FIRST], [MID, MID]], dtype=torch.int32)
    discount = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    algorithm = make()
    inputs, rollout_info = sequences(4, 2, step_type=step_type, discount=discount)
    loss = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info)).extra.critic
    assert loss.shape == (4, 2)
    for b in range(2):
        for t in (0, 2):
            observation, action = inputs.observation[t, b][None], rollout_info.action[t, b][None]
            following = inputs.observation[t + 1, b][None]
            q = algorithm._critic_networks((observation, action))[0].item()
            target_action = algorithm._target_actor_network(following)[0]
            target_q = algorithm._target_critic_networks((following, target_action))[0].item()
            bootstrapped = 0.0 if (t, b) == (0, 0) else GAMMA * target_q
            expected = (inputs.reward[t + 1, b].item() + bootstrapped - q)**2
            assert loss[t, b].item() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(loss[-1], torch.zeros(2))


def test_actor_loss_is_minus_the_value_of_its_action():
    algorithm = make(action_l2=0.1)
    inputs, rollout_info = sequences(2, 7)
    loss = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info)).extra.actor
    algorithm.zero_grad()
    loss.sum().backward()
    # The gradient of the actor loss stops at the action: critics have none of it.
    assert all(p.grad is None for p in algorithm._critic_networks.parameters())
    found = [p.grad.clone() for p in algorithm._actor_network.parameters()]

    action = algorithm._actor_network(inputs.observation[0])[0]
    direct = -algorithm._critic_networks((inputs.observation[0], action))[0].squeeze(1) + 0.1 * (action**2).sum(-1)
    torch.testing.assert_close(loss[0], direct)
    assert torch.equal(loss[1], torch.zeros(7))
    expected = torch.autograd.grad(direct.sum(), list(algorithm._actor_network.parameters()))
    torch.testing.assert_close(found, list(expected))


def test_gradient_of_the_value_is_clipped_elementwise():
    algorithm = make(dqda_clipping=0.01)
    inputs, rollout_info = sequences(2, 7)
    observation = inputs.observation[0]
    loss, _ = algorithm._actor_step(observation, DdpgState())
    found = torch.autograd.grad(loss.sum(), list(algorithm._actor_network.parameters()))

    action = algorithm._actor_network(observation)[0]
    value = algorithm._critic_networks((observation, action))[0].sum()
    dqda = torch.autograd.grad(value, action, retain_graph=True)[0]
    assert (dqda.abs() > 0.01).any()
    expected = torch.autograd.grad(action, list(algorithm._actor_network.parameters()), -dqda.clamp(-0.01, 0.01))
    torch.testing.assert_close(found, expected)


def test_lowest_target_counts_and_each_critic_has_its_loss():
    algorithm = make(num_critic_replicas=3)
    inputs, rollout_info = sequences(2, 5)
    loss_info = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info))
    q = algorithm._critic_networks((inputs.observation[0], rollout_info.action[0]))[0]
    target_action = algorithm._target_actor_network(inputs.observation[1])[0]
    target_q = algorithm._target_critic_networks((inputs.observation[1], target_action))[0]
    assert q.shape == target_q.shape == (5, 3)
    target = inputs.reward[1] + GAMMA * target_q.min(dim=1).values
    torch.testing.assert_close(loss_info.extra.critic[0], ((q - target[:, None])**2).sum(-1))
    actor_q = algorithm._critic_networks((inputs.observation[0], algorithm._actor_network(inputs.observation[0])[0]))[0]
    torch.testing.assert_close(loss_info.extra.actor[0], -actor_q.min(dim=1).values)


def test_vector_rewards_have_values_of_their_own_and_the_actor_their_weighted_sum():
    weights = torch.tensor([1.0, -2.0])
    algorithm = make(reward_spec=TensorSpec((2,)), reward_weights=weights.tolist(), num_critic_replicas=2)
    inputs, rollout_info = sequences(2, 5, reward_dim=2)
    loss_info = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info))

    def lowest(networks, observation, action):
        """For a component that counts negatively the largest value is the worst."""
        q = networks((observation, action))[0]
        return torch.stack([q[..., 0].amin(1), q[..., 1].amax(1)], -1)

    following = inputs.observation[1]
    target = inputs.reward[1] + GAMMA * lowest(algorithm._target_critic_networks, following,
                                               algorithm._target_actor_network(following)[0])
    q = algorithm._critic_networks((inputs.observation[0], rollout_info.action[0]))[0]
    torch.testing.assert_close(loss_info.extra.critic[0], ((q - target[:, None])**2).mean(-1).sum(-1))
    value = lowest(algorithm._critic_networks, inputs.observation[0],
                   algorithm._actor_network(inputs.observation[0])[0])
    torch.testing.assert_close(loss_info.extra.actor[0], -(value * weights).sum(-1))


@pytest.mark.parametrize("length", [2, 4])
@pytest.mark.parametrize("kwargs", [
    dict(),
    dict(num_critic_replicas=2, action_l2=0.1),
    dict(num_critic_replicas=2, reward_spec=TensorSpec((2,)), reward_weights=[1.0, 0.5]),
    dict(action_spec=dict(a=ACTION, b=BoundedTensorSpec((), torch.float32, 0, 1)), nested=True),
])
def test_own_train_sequence_gives_the_gradients_of_the_default(length, kwargs):
    kwargs = dict(kwargs)
    if kwargs.pop("nested", False):
        kwargs["critic_network_ctor"] = functools.partial(
            CriticNetwork, joint_fc_layer_params=(6,),
            action_preprocessing_combiner=nest.utils.NestConcat(),
            action_input_processors=dict(a=None, b=torch.nn.Unflatten(0, (-1, 1))))
    algorithm = make(**kwargs)
    reward_dim = 2 if "reward_spec" in kwargs else 0
    step_type = torch.randint(0, 3, (length, 6), dtype=torch.int32)
    inputs, rollout_info = sequences(length, 6, kwargs.get("action_spec", ACTION), reward_dim, step_type)
    lean = gradients(algorithm, algorithm.train_sequence(inputs, rollout_info))
    default = gradients(algorithm, default_train_sequence(algorithm, inputs, rollout_info))
    trained = {name for name, gradient in default.items() if gradient is not None}
    assert trained == {name for name in default if "target" not in name}
    for name in trained:
        torch.testing.assert_close(lean[name], default[name], msg=name)
    assert all(lean[name] is None for name in default.keys() - trained)


def test_sequences_of_one_step_are_refused():
    algorithm = make()
    inputs, rollout_info = sequences(1, 3)
    for train_sequence in (algorithm.train_sequence, functools.partial(default_train_sequence, algorithm)):
        with pytest.raises(ValueError, match="mini_batch_length: DdpgAlgorithm expected sequences of at least 2 steps"):
            algorithm.calc_loss(train_sequence(inputs, rollout_info))


def test_priority_is_the_root_of_the_mean_loss_over_transitions():
    step_type = torch.tensor([[MID, MID, LAST], [MID, LAST, FIRST], [MID, FIRST, LAST]], dtype=torch.int32)
    algorithm = make(calculate_priority=True, num_critic_replicas=2)
    inputs, rollout_info = sequences(3, 3, step_type=step_type)
    loss_info = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info))
    each = loss_info.extra.critic / 2
    expected = torch.stack([(each[0, 0] + each[1, 0]) / 2, each[0, 1], each[1, 2]]).sqrt()
    torch.testing.assert_close(loss_info.priority, expected)
    assert not loss_info.priority.requires_grad
    assert make().calc_loss(make().train_sequence(inputs, rollout_info)).priority == ()


# ---- targets and optimizers --------------------------------------------------------------------------------------


def test_targets_start_as_copies_and_follow_by_tau():
    kwargs = dict(actor_network_ctor=functools.partial(ActorNetwork, fc_layer_params=(5,)))
    algorithm = DdpgAlgorithm(OBSERVATION, ACTION, target_update_tau=0.25, target_update_period=2, **kwargs)
    pairs = [(algorithm._actor_network, algorithm._target_actor_network),
             (algorithm._critic_networks, algorithm._target_critic_networks)]
    pairs = [(p, t) for source, target in pairs for p, t in zip(source.parameters(), target.parameters(), strict=True)]
    assert all(torch.equal(p, t) for p, t in pairs)
    for p, _ in pairs:
        p.data.add_(1.0)
    for expected in (1.0, 0.75, 0.75, 0.75**2):
        algorithm.after_update(None, None)
        for p, t in pairs:
            torch.testing.assert_close(p - t, torch.full_like(p, expected))


def test_each_network_has_its_optimizer_and_targets_have_none():
    algorithm = make(actor_optimizer=Adam(lr=1e-3, name="actor"), critic_optimizer=Adam(lr=1e-3, name="critic"))
    actor, critic = algorithm.get_optimizer_info()
    assert all(name.startswith("_actor_network.") for name in actor["parameters"])
    assert all(name.startswith("_critic_networks.") for name in critic["parameters"])
    left = algorithm.get_unoptimized_parameter_info()
    assert left and all(name.startswith(("_target_actor_network.", "_target_critic_networks.")) for name in left)


# ---- acting ------------------------------------------------------------------------------------------------------


def acting_inputs(B):
    return nest.map_structure(lambda leaf: leaf[0], sequences(1, B)[0])


def rest(algorithm):
    """Make the actor choose the middle of the bounds."""
    for p in algorithm._actor_network.parameters():
        p.data.zero_()


def test_noise_has_its_stationary_deviation_in_units_of_half_the_bounds():
    # Small enough for the bounds not to matter.
    algorithm = make(action_spec=WIDE, ou_stddev=0.05, ou_damping=0.2)
    rest(algorithm)
    inputs, state = acting_inputs(5000), algorithm.get_initial_rollout_state(5000)
    with torch.no_grad():
        first = algorithm.rollout_step(inputs, state)
        step = first
        for _ in range(40):
            step = algorithm.rollout_step(inputs, step.state)
    half_range, middle = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0])
    torch.testing.assert_close(first.output.std(0), 0.05 * half_range, rtol=0.05, atol=0)
    # x' = a x + s N: stationary variance s^2 / (1 - a^2)
    torch.testing.assert_close(step.output.std(0), 0.05 / (1 - 0.8**2)**0.5 * half_range, rtol=0.05, atol=0)
    torch.testing.assert_close(step.output.mean(0), middle, rtol=0, atol=0.05)


def test_noise_starts_from_zero_in_each_episode():
    algorithm = make(ou_stddev=0.05, ou_damping=0.0)
    rest(algorithm)
    num_envs = 4000
    is_first = torch.arange(num_envs) % 2 == 0
    inputs, zero = acting_inputs(num_envs), algorithm.get_initial_rollout_state(num_envs)
    state = zero
    with torch.no_grad():
        for _ in range(9):
            state = algorithm.rollout_step(inputs, state).state
        # As the unroll does.
        state = common.reset_state_if_necessary(state, zero, is_first)
        action = algorithm.rollout_step(inputs, state).output
    assert action[is_first].std().item() == pytest.approx(0.05, rel=0.05)
    assert action[~is_first].std().item() == pytest.approx(0.05 * 10**0.5, rel=0.05)


def test_actions_stay_within_their_bounds():
    algorithm = make(action_spec=WIDE, ou_stddev=3.0, rollout_random_action=0.3)
    action = algorithm.rollout_step(acting_inputs(1000), algorithm.get_initial_rollout_state(1000)).output
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 10.0])
    assert (action >= low).all() and (action <= high).all()
    assert (action == low).any() and (action == high).any()


def test_a_share_of_rollout_actions_is_uniform():
    algorithm = make(action_spec=WIDE, ou_stddev=0, rollout_random_action=0.3)
    rest(algorithm)
    action = algorithm.rollout_step(acting_inputs(20000), algorithm.get_initial_rollout_state(20000)).output
    is_random = (action != torch.tensor([0.0, 5.0])).any(-1)
    assert is_random.float().mean().item() == pytest.approx(0.3, abs=0.02)
    # Deviation of a uniform variable: range / sqrt(12).
    torch.testing.assert_close(action[is_random].std(0), torch.tensor([4.0, 10.0]) / 12**0.5, rtol=0.03, atol=0)


def test_random_actions_may_follow_a_schedule():
    algorithm = make(ou_stddev=0, rollout_random_action=StepScheduler("env_steps", [(100, 1.0), (101, 0.0)]))
    inputs, state = acting_inputs(10), algorithm.get_initial_rollout_state(10)
    greedy = algorithm.predict_step(inputs, DdpgState()).output
    try:
        update_progress("env_steps", 99)
        assert not torch.equal(algorithm.rollout_step(inputs, state).output, greedy)
        update_progress("env_steps", 101)
        assert torch.equal(algorithm.rollout_step(inputs, state).output, greedy)
    finally:
        update_progress("env_steps", 0)


def test_prediction_is_the_actor_itself_and_epsilon_greedy_is_not():
    inputs = acting_inputs(1000)
    algorithm = make(ou_stddev=1.0, rollout_random_action=1.0)
    action = algorithm.predict_step(inputs, DdpgState()).output
    assert torch.equal(action, algorithm._actor_network(inputs.observation)[0])
    greedy = make(epsilon_greedy=0.25)
    changed = (greedy.predict_step(inputs, DdpgState()).output != greedy._actor_network(inputs.observation)[0]).any(-1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("spec", [BoundedTensorSpec((), torch.int64, 0, 3), TensorSpec((2,)),
                                  [ACTION, BoundedTensorSpec((), torch.int64, 0, 3)]])
def test_other_actions_are_refused(spec):
    with pytest.raises(ValueError, match="DdpgAlgorithm.action_spec: expected continuous actions with bounds, got"):
        DdpgAlgorithm(OBSERVATION, spec)


# ---- recurrent networks ------------------------------------------------------------------------------------------


def test_training_reaches_the_states_of_the_unroll():
    algorithm = make(recurrent=True, num_critic_replicas=2)
    algorithm.use_rollout_state = True
    assert algorithm.need_full_rollout_state()
    inputs, _ = sequences(4, 3)
    rollout_state, train_state = algorithm.get_initial_rollout_state(3), algorithm.get_initial_train_state(3)
    nest.assert_same_structure(rollout_state, train_state)
    for t in range(4):
        time_step = nest.map_structure(lambda leaf, t=t: leaf[t], inputs)
        step = algorithm.rollout_step(time_step, rollout_state)
        train_state = algorithm.train_step(time_step, train_state, step.info).state
        rollout_state = step.state
    for ours, theirs in zip(nest.flatten(rollout_state._replace(noise=())),
                            nest.flatten(train_state._replace(noise=()))):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0


def test_feed_forward_training_has_no_state():
    algorithm = make()
    algorithm.use_rollout_state = True
    assert nest.flatten(algorithm.train_state_spec) == [] and not algorithm.need_full_rollout_state()
    assert len(nest.flatten(algorithm.rollout_state_spec)) == 1  # the noise


def test_recurrent_actor_loss_is_minus_the_value_after_what_was_done():
    algorithm = make(recurrent=True)
    inputs, rollout_info = sequences(2, 5)
    state = algorithm.get_initial_train_state(5)
    state = algorithm.train_step(*_at(inputs, rollout_info, state, 0)).state
    loss = algorithm.train_step(*_at(inputs, rollout_info, state, 1)).info.actor_loss

    networks, observation = (algorithm._actor_network, algorithm._critic_networks), inputs.observation
    zero = algorithm.get_initial_train_state(5)
    _, actor_state = networks[0](observation[0], zero.actor)
    _, critics_state = networks[1]((observation[0], rollout_info.action[0]), zero.critics)
    action, _ = networks[0](observation[1], actor_state)
    value, _ = networks[1]((observation[1], action), critics_state)
    torch.testing.assert_close(loss, -value.squeeze(1))


def _at(inputs, rollout_info, state, t):
    inputs, rollout_info = row(inputs, rollout_info, t)
    return inputs, state, rollout_info


# ---- in training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("use_rollout_state", [False, True])
def test_an_iteration_in_an_agent_trains_actor_and_critics(scripted_env, make_config, recurrent, use_rollout_state):
    env = scripted_env(action_spec=ACTION)
    config = make_config(unroll_length=6, mini_batch_length=3, mini_batch_size=4, num_updates_per_train_iter=2,
                         whole_replay_buffer_training=False, clear_replay_buffer=False,
                         use_rollout_state=use_rollout_state)
    rl = functools.partial(make, recurrent=recurrent, actor_optimizer=SGD(lr=1e-2), critic_optimizer=SGD(lr=1e-2))
    agent = Agent(env.observation_spec(), ACTION, rl_algorithm_cls=lambda **kwargs: rl(**kwargs), env=env,
                  config=config)
    before = {name: p.detach().clone() for name, p in agent.named_parameters()}
    agent.train_iter()
    changed = {name for name, p in agent.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(before)


def test_stored_noise_stays_out_of_training_step_by_step(scripted_env, make_config):
    # The state of the unroll has the noise, that of training has nothing, but both are asked for.
    env = scripted_env(action_spec=ACTION)
    config = make_config(unroll_length=6, mini_batch_length=3, mini_batch_size=4, whole_replay_buffer_training=False,
                         clear_replay_buffer=False, use_rollout_state=True, temporally_independent_train_step=False)
    rl = functools.partial(make, actor_optimizer=SGD(lr=1e-2), critic_optimizer=SGD(lr=1e-2))
    agent = Agent(env.observation_spec(), ACTION, rl_algorithm_cls=lambda **kwargs: rl(**kwargs), env=env,
                  config=config)
    assert nest.flatten(agent.rollout_state_spec) and not nest.flatten(agent.train_state_spec)
    before = {name: p.detach().clone() for name, p in agent.named_parameters()}
    agent.train_iter()
    assert {name for name, p in agent.named_parameters() if not torch.equal(p, before[name])} == set(before)


def test_it_finds_a_policy(make_config):
    env = PolicyUnittestEnv(20, 6, action_type=ActionType.Continuous)
    config = make_config(unroll_length=1, mini_batch_length=2, mini_batch_size=64, num_updates_per_train_iter=1,
                         whole_replay_buffer_training=False, clear_replay_buffer=False, replay_buffer_length=200,
                         initial_collect_steps=100)
    algorithm = DdpgAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config, num_critic_replicas=2,
        rollout_random_action=0.2, actor_network_ctor=functools.partial(ActorNetwork, fc_layer_params=(16,)),
        critic_network_ctor=functools.partial(CriticNetwork, joint_fc_layer_params=(32, 32)),
        critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.5), actor_optimizer=Adam(lr=1e-2),
        critic_optimizer=Adam(lr=1e-2))
    for _ in range(400):
        algorithm.train_iter()
    bits = torch.tensor([[0.0], [1.0]])
    action = algorithm.predict_step(TimeStep(observation=bits), DdpgState()).output
    torch.testing.assert_close(action, bits, rtol=0, atol=0.15)
