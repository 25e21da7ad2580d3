"""DQN: targets by hand, training on sequences, value distributions, priorities, exploration, errors."""

import functools

import pytest
import torch

import alf
import alf.nest as nest
from alf.algorithms.categorical_td_loss import CategoricalTDLoss
from alf.algorithms.config import TrainerConfig
from alf.algorithms.dqn_algorithm import DqnAlgorithm, DqnInfo
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.data_structures import StepType, TimeStep
from alf.environments.suite_unittest import PolicyUnittestEnv
from alf.networks import DistributionalQNetwork, DuelingQNetwork, QNetwork, QRNNNetwork
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.losses import element_wise_huber_loss

_OBSERVATION = TensorSpec((3,))
_ACTION = BoundedTensorSpec((), torch.int64, 0, 3)
_MID, _LAST, _FIRST = int(StepType.MID), int(StepType.LAST), int(StepType.FIRST)
_SMALL = dict(fc_layer_params=(8,))
_Q = functools.partial(QNetwork, **_SMALL)
_DISTRIBUTION = functools.partial(DistributionalQNetwork, **_SMALL)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _make(**kwargs):
    kwargs = {**dict(observation_spec=_OBSERVATION, action_spec=_ACTION, q_network_cls=_Q), **kwargs}
    algorithm = DqnAlgorithm(**kwargs)
    for p in algorithm._target_critic_networks.parameters():  # targets that differ from what they follow
        p.data.add_(0.3 * torch.randn_like(p))
    return algorithm


def _sequence(num_steps=4, batch_size=5):
    """Return time steps and infos ``[T, B, ...]``, where row 1 holds ends of both kinds."""
    step_type = torch.full((num_steps, batch_size), _MID, dtype=torch.int32)
    discount = torch.ones(num_steps, batch_size)
    step_type[1, :2], discount[1, 0] = _LAST, 0.0  # one terminates, one meets a time limit
    step_type[2:3, :2] = _FIRST
    time_step = TimeStep(
        step_type=step_type, reward=torch.randn(num_steps, batch_size), discount=discount,
        observation=torch.randn(num_steps, batch_size, 3), prev_action=torch.zeros_like(step_type).long(),
        env_id=torch.zeros_like(step_type))
    return time_step, DqnInfo(action=torch.randint(0, 4, (num_steps, batch_size)))


def _loss_by_loop(algorithm, time_step, action, gamma, error):
    """Return the loss ``[T, B]`` of a scalar DQN, one transition after the other."""
    num_steps, batch_size = time_step.step_type.shape
    loss = torch.zeros(num_steps, batch_size)
    for t in range(num_steps - 1):
        for b in range(batch_size):
            if time_step.step_type[t, b] == _LAST:
                continue
            later = time_step.observation[t + 1, b].unsqueeze(0)
            with torch.no_grad():
                target_q = algorithm._target_critic_networks(later)[0][0]  # [n, K]
                selecting_q = algorithm._critic_networks(later)[0][0] if algorithm._double else target_q
            smallest = [min(float(q[a]) for q in selecting_q) for a in range(4)]
            best = smallest.index(max(smallest))
            value = min(float(q[best]) for q in target_q)
            target = float(time_step.reward[t + 1, b]) + gamma * float(time_step.discount[t + 1, b]) * value
            for q in algorithm._critic_networks(time_step.observation[t, b].unsqueeze(0))[0][0]:
                loss[t, b] = loss[t, b] + error(target, q[action[t, b]])
    return loss


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_loss_matches_a_loop_over_transitions(double, num_replicas):
    algorithm = _make(target_net_target_action=not double, num_critic_replicas=num_replicas,
                      critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.9))
    time_step, info = _sequence()
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, info)).loss
    expected = _loss_by_loop(algorithm, time_step, info.action, 0.9, lambda target, q: (target - q)**2)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_double_target_by_hand():
    algorithm = _make(target_net_target_action=False, num_critic_replicas=1,
                      critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.5))
    q = {"now": [0.0, 4.0, 0.0, 0.0], "later": [1.0, 2.0, 9.0, 3.0]}
    target_q = {"now": [0.0] * 4, "later": [7.0, 5.0, 6.0, 8.0]}

    def network(table):
        rows = torch.tensor([table["now"], table["later"]])
        return lambda observation, state=(): (rows[observation[:, 0].long()].unsqueeze(1), state)

    del algorithm._critic_networks, algorithm._target_critic_networks
    algorithm._critic_networks, algorithm._target_critic_networks = network(q), network(target_q)
    ones = torch.ones(2, 1)
    time_step = TimeStep(step_type=ones.int(), reward=10 * ones, discount=ones,
                         observation=torch.tensor([0.0, 1.0]).view(2, 1, 1))
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, DqnInfo(action=ones.long()))).loss
    # The network prefers action 2, which its target values at 6: (10 + 0.5 * 6 - 4) ** 2.
    assert loss.tolist() == [[81.0], [0.0]]


_DISTRIBUTIONS = [
    dict(),
    dict(num_critic_replicas=1, target_net_target_action=False),
    dict(value_distribution="c51", num_atoms=5, v_min=-2.0, v_max=2.0, q_network_cls=_DISTRIBUTION),
    dict(value_distribution="qr", num_atoms=5, q_network_cls=_DISTRIBUTION, target_net_target_action=False),
    dict(value_distribution="c51", num_atoms=5, num_critic_replicas=1,
         q_network_cls=functools.partial(DuelingQNetwork, **_SMALL)),
]


@pytest.mark.parametrize("kwargs", _DISTRIBUTIONS)
def test_training_on_sequences_is_training_on_steps(kwargs):
    algorithm = _make(**kwargs)
    time_step, rollout_info = _sequence()
    outer = time_step.step_type.shape
    folded_step, folded_info = nest.map_structure(lambda x: x.flatten(0, 1), (time_step, rollout_info))
    by_steps = algorithm.train_step(folded_step, algorithm.get_initial_train_state(1), folded_info).info
    by_steps = nest.map_structure(lambda x: x.unflatten(0, outer), by_steps)
    losses, gradients = [], []
    for info in (algorithm.train_sequence(time_step, rollout_info), by_steps):
        losses.append(algorithm.calc_loss(info).loss)
        gradients.append(torch.autograd.grad(losses[-1].sum(), list(algorithm._critic_networks.parameters())))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_targets_get_no_gradient():
    algorithm = _make()
    time_step, info = _sequence()
    algorithm.calc_loss(algorithm.train_sequence(time_step, info)).loss.sum().backward()
    assert all(p.grad is None for p in algorithm._target_critic_networks.parameters())
    assert all(p.grad is not None for p in algorithm._critic_networks.parameters())


# ---- value distributions ---------------------------------------------------------------------------------------------


def test_categorical_loss_matches_a_loop():
    loss_fn = CategoricalTDLoss(num_atoms=3, v_min=-1.0, v_max=1.0, gamma=0.5)
    time_step, info = _sequence(num_steps=3, batch_size=2)
    value, target_value = torch.randn(3, 2, 3), torch.randn(3, 2, 3)
    loss = loss_fn(info._replace(reward=time_step.reward, discount=time_step.discount, step_type=time_step.step_type),
                   value, target_value).loss
    assert torch.equal(loss[1:], torch.zeros(2, 2))  # row 1 is LAST, row 2 the last one
    for b in range(2):
        projected = [0.0, 0.0, 0.0]
        for z, p in zip((-1.0, 0.0, 1.0), target_value[1, b].softmax(-1).tolist(), strict=True):
            place = min(max(float(time_step.reward[1, b] + 0.5 * time_step.discount[1, b] * z), -1.0), 1.0) + 1.0
            for atom in range(3):
                projected[atom] += p * max(0.0, 1.0 - abs(place - atom))
        log_prob = value[0, b].log_softmax(-1)
        expected = sum(p * (torch.tensor(p).log() - log_prob[i]) for i, p in enumerate(projected) if p > 0)
        torch.testing.assert_close(loss[0, b], expected, rtol=1e-4, atol=1e-5)


def test_quantile_loss_matches_a_loop():
    algorithm = _make(value_distribution="qr", num_atoms=4, q_network_cls=_DISTRIBUTION, num_critic_replicas=1)
    time_step, info = _sequence(num_steps=2)
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, info)).loss
    quantiles = algorithm._critic_networks(time_step.observation[0])[0][:, 0].detach()
    target_quantiles = algorithm._target_critic_networks(time_step.observation[1])[0][:, 0]
    for b in range(5):
        best = target_quantiles[b].mean(-1).argmax()
        expected = 0.0
        for i in range(4):
            for j in range(4):
                z = time_step.reward[1, b] + 0.99 * time_step.discount[1, b] * target_quantiles[b, best, j]
                u = float(z - quantiles[b, info.action[0, b], i])
                huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                expected += abs((i + 0.5) / 4 - (u < 0)) * huber / 16
        assert loss[0, b].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kwargs, means", [
    (dict(value_distribution="c51", num_atoms=3, v_min=-4.0, v_max=4.0),
     lambda x: x.softmax(-1) @ torch.tensor([-4.0, 0.0, 4.0])),
    (dict(value_distribution="qr", num_atoms=3), lambda x: x.mean(-1)),
])
def test_actions_are_best_by_the_mean_of_their_distribution(kwargs, means):
    algorithm = _make(q_network_cls=_DISTRIBUTION, rollout_epsilon_greedy=0.0, **kwargs)
    time_step = TimeStep(observation=torch.randn(50, 3), step_type=torch.ones(50))
    action = algorithm.rollout_step(time_step, algorithm.get_initial_rollout_state(50)).output
    values = algorithm._critic_networks(time_step.observation)[0]  # [B, n, K, N]
    assert torch.equal(action, means(values).amin(1).argmax(-1))


def test_what_is_configured_for_the_loss_of_a_distribution_holds():
    alf.config("CategoricalTDLoss", num_atoms=3, v_min=-4.0, v_max=4.0)
    alf.config("OneStepTDQRLoss", num_quantiles=7)
    try:
        c51 = _make(value_distribution="c51", q_network_cls=_DISTRIBUTION)
        wider = _make(value_distribution="c51", q_network_cls=_DISTRIBUTION, v_max=6.0)
        qr = _make(value_distribution="qr", q_network_cls=_DISTRIBUTION)
    finally:
        alf.reset_configs()
    assert c51._critic_losses[0].support.tolist() == [-4.0, 0.0, 4.0]
    assert wider._critic_losses[0].support.tolist() == [-4.0, 1.0, 6.0]
    assert c51._critic_networks(torch.zeros(1, 3))[0].shape == (1, 2, 4, 3)
    assert qr._critic_networks(torch.zeros(1, 3))[0].shape == (1, 2, 4, 7)


def test_action_that_the_environment_reports_is_learned_in_the_form_of_the_info():
    algorithm = _make(action_spec=[_ACTION])
    info = algorithm.overwrite_action(DqnInfo(action=torch.zeros(2, 5).long()), [torch.ones(2, 5).long()])
    assert torch.equal(info.action, torch.ones(2, 5).long())


# ---- priorities ------------------------------------------------------------------------------------------------------


def test_priority_is_the_mean_td_error_of_the_steps_that_count():
    algorithm = _make(calculate_priority=True, critic_loss_ctor=functools.partial(
        OneStepTDLoss, gamma=0.9, td_error_loss_fn=element_wise_huber_loss))
    time_step, info = _sequence()
    info = algorithm.train_sequence(time_step, info)
    target = time_step.reward[1:] + 0.9 * time_step.discount[1:] * info.target_value[1:]
    error = (target.unsqueeze(-1) - info.value[:-1]).abs().mean(-1)
    expected = torch.stack([error[[0, 2], 0].mean(), error[[0, 2], 1].mean(), *error[:, 2:].mean(0)])
    priority = algorithm.calc_loss(info).priority
    torch.testing.assert_close(priority, expected.detach())
    assert not priority.requires_grad


def test_priority_of_a_distribution_is_its_divergence():
    algorithm = _make(calculate_priority=True, value_distribution="c51", q_network_cls=_DISTRIBUTION,
                      num_critic_replicas=1)
    time_step, info = _sequence(num_steps=2)
    loss_info = algorithm.calc_loss(algorithm.train_sequence(time_step, info))
    torch.testing.assert_close(loss_info.priority, loss_info.loss[0].detach())


def test_there_is_no_priority_unless_asked_for(tmp_path):
    time_step, info = _sequence()
    algorithm = _make()
    assert algorithm.calc_loss(algorithm.train_sequence(time_step, info)).priority == ()
    config = TrainerConfig(root_dir=str(tmp_path), whole_replay_buffer_training=False, priority_replay=True)
    algorithm = _make(config=config)
    assert algorithm.calc_loss(algorithm.train_sequence(time_step, info)).priority.shape == (5,)


# ---- acting ----------------------------------------------------------------------------------------------------------


def _actions(algorithm, num_envs, method="rollout_step"):
    time_step = TimeStep(observation=torch.ones(num_envs, 3), step_type=torch.ones(num_envs))
    kind = method.split("_")[0]
    return getattr(algorithm, method)(time_step, getattr(algorithm, f"get_initial_{kind}_state")(num_envs)).output


def test_epsilon_is_the_share_of_random_actions():
    algorithm = _make(rollout_epsilon_greedy=0.4)
    best = _actions(algorithm, 1, "predict_step").item()
    frequencies = _actions(algorithm, 100_000).bincount(minlength=4) / 100_000
    assert frequencies.tolist() == pytest.approx([0.7 if a == best else 0.1 for a in range(4)], abs=0.01)


def test_epsilon_may_be_a_schedule_and_differ_between_environments():
    epsilon = 0.0
    algorithm = _make(rollout_epsilon_greedy=lambda: epsilon, rollout_epsilon_alpha=7.0)
    best = _actions(algorithm, 1, "predict_step").item()
    assert (_actions(algorithm, 1000) == best).all()
    epsilon = 0.6
    steps = torch.stack([_actions(algorithm, 3) for _ in range(3000)])
    others = (steps != best).float().mean(0)
    assert others.tolist() == pytest.approx([0.75 * 0.6**e for e in (1.0, 4.5, 8.0)], abs=0.03)


def test_environments_explore_the_same_when_they_are_acted_for_by_halves(tmp_path):
    algorithm = _make(rollout_epsilon_greedy=0.6, rollout_epsilon_alpha=7.0,
                      config=TrainerConfig(root_dir=str(tmp_path), unroll_halves=True))
    best = _actions(algorithm, 1, "predict_step").item()
    time_step = TimeStep(step_type=torch.full((1500,), _MID, dtype=torch.int32), observation=torch.ones(1500, 3))
    others = []
    for env_id in (0, 2999):  # the first and the last of 3000
        ids = torch.full((1500,), env_id, dtype=torch.int32)
        state = algorithm.get_initial_rollout_state(1500)
        steps = [algorithm.rollout_step(time_step._replace(env_id=ids), state).output for _ in range(4)]
        others.append(float((torch.cat(steps) != best).float().mean()))
    assert others == pytest.approx([0.75 * 0.6, 0.75 * 0.6**8], abs=0.03)


def test_noisy_network_explores_in_unrolls_and_not_in_evaluation():
    algorithm = _make(rollout_epsilon_greedy=0.0, q_network_cls=functools.partial(DuelingQNetwork, noisy_std=2.0,
                                                                                  **_SMALL)).eval()
    with torch.no_grad(), common.rollout_context():
        assert len(set(_actions(algorithm, 100).tolist())) > 1
    with torch.no_grad(), common.eval_context():
        assert len(set(_actions(algorithm, 100, "predict_step").tolist())) == 1


# ---- training as a whole ---------------------------------------------------------------------------------------------


def _config(tmp_path, **kwargs):
    return TrainerConfig(**{**dict(
        root_dir=str(tmp_path), whole_replay_buffer_training=False, clear_replay_buffer=False, unroll_length=4,
        mini_batch_length=2, mini_batch_size=16, replay_buffer_length=100, num_updates_per_train_iter=4), **kwargs})


def test_hard_target_updates_copy_every_so_many_updates(tmp_path):
    alf.reset_configs()
    alf.config("SacAlgorithm", target_update_tau=1.0, target_update_period=3)
    try:
        env = PolicyUnittestEnv(4, 5)
        algorithm = DqnAlgorithm(env.observation_spec(), env.action_spec(), q_network_cls=_Q, env=env,
                                 q_optimizer=Adam(lr=1e-2), config=_config(tmp_path, num_updates_per_train_iter=1))
    finally:
        alf.reset_configs()
    equal = []
    for _ in range(6):
        algorithm.train_iter()
        pairs = zip(algorithm._critic_networks.parameters(), algorithm._target_critic_networks.parameters(),
                    strict=True)
        equal.append(all(torch.equal(p, target) for p, target in pairs))
    assert equal == [False, False, True, False, False, True]


@pytest.mark.parametrize("kwargs", [
    dict(),
    dict(q_network_cls=functools.partial(DuelingQNetwork, stream_fc_layer_params=(8,), noisy_std=0.5),
         rollout_epsilon_greedy=0.0, value_distribution="c51", v_min=-1.0, v_max=4.0,
         target_net_target_action=False),
    dict(q_network_cls=functools.partial(QRNNNetwork, lstm_hidden_size=8)),
], ids=["plain", "rainbow", "recurrent"])
def test_it_learns_which_action_is_rewarded(kwargs, tmp_path):
    env = PolicyUnittestEnv(8, 3)
    config = _config(tmp_path, mini_batch_length=3 if "QRNN" in str(kwargs) else 2,
                     priority_replay="value_distribution" in kwargs)
    algorithm = DqnAlgorithm(env.observation_spec(), env.action_spec(), env=env, config=config,
                             q_optimizer=Adam(lr=1e-2), **{**dict(q_network_cls=_Q), **kwargs})
    assert not algorithm.get_unoptimized_parameter_info() or all(
        "target" in name for name in algorithm.get_unoptimized_parameter_info())
    for _ in range(50):
        algorithm.train_iter()
    algorithm.eval()
    rewards, state = [], algorithm.get_initial_predict_state(8)
    time_step = env.reset()
    for _ in range(30):
        step = algorithm.predict_step(time_step, state)
        state = step.state
        time_step = env.step(step.output)
        rewards.append(time_step.reward[time_step.step_type != _FIRST])
    assert torch.cat(rewards).mean() > 0.9


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs, message", [
    (dict(action_spec=BoundedTensorSpec((2,), torch.float32, -1, 1)), "single discrete action.*use SacAlgorithm"),
    (dict(action_spec=[_ACTION, _ACTION]), "DqnAlgorithm.action_spec: expected a single discrete action"),
    (dict(reward_spec=TensorSpec((2,))), "DqnAlgorithm.reward_spec: expected a scalar reward"),
    (dict(value_distribution="c52"), r"expected one of \[None, 'c51', 'qr'\], got 'c52'"),
    (dict(value_distribution="c51"), "q_network_cls to DistributionalQNetwork or DuelingQNetwork"),
    (dict(rollout_epsilon_greedy=2.0), "rollout_epsilon_greedy: expected a number from 0 to 1"),
    (dict(value_distribution="c51", q_network_cls=_DISTRIBUTION, v_min=1.0, v_max=0.0), "v_min=1.0, v_max=0.0"),
])
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _make(**kwargs)


