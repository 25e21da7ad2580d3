"""Makes policy steps by us, by bare PyTorch and by peers, for bench_policy.py. See _server.py."""

import time

import _server

OBSERVATION_SIZE, ACTION_SIZE, NUM_ACTIONS, HIDDEN = 17, 6, 4, 64


def bare_step(is_discrete: bool, batch_size: int):
    """Return a function that makes a step in plain PyTorch: two networks, an action, its log probability, a value.

    Args:
        is_discrete: whether the action is one of NUM_ACTIONS rather than ACTION_SIZE numbers.
        batch_size: environments.
    """
    import torch
    from torch import nn

    def network(num_outputs):
        return nn.Sequential(nn.Linear(OBSERVATION_SIZE, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(),
                             nn.Linear(HIDDEN, num_outputs))

    actor, critic = network(NUM_ACTIONS if is_discrete else ACTION_SIZE), network(1)
    log_std = nn.Parameter(torch.zeros(ACTION_SIZE))
    observation = torch.randn(batch_size, OBSERVATION_SIZE)

    def step():
        value, output = critic(observation).squeeze(-1), actor(observation)
        if is_discrete:
            log_probs = output.log_softmax(-1)
            action = log_probs.exp().multinomial(1)
            return action.squeeze(-1), value, log_probs.gather(-1, action).squeeze(-1)
        noise = torch.randn_like(output)
        action = output + log_std.exp() * noise
        return action, value, (-0.5 * noise * noise - log_std - 0.9189385332).sum(-1)

    return step


def our_step(is_discrete: bool, batch_size: int):
    """Return a function that makes the ``rollout_step`` of a PPOAlgorithm. Arguments as in :func:`bare_step`."""
    from functools import partial

    import torch

    from alf.algorithms.ppo_algorithm import PPOAlgorithm
    from alf.data_structures import TimeStep
    from alf.networks import ActorDistributionNetwork, NormalProjectionNetwork, ValueNetwork
    from alf.tensor_specs import BoundedTensorSpec, TensorSpec

    networks = dict(fc_layer_params=(HIDDEN, HIDDEN), activation=torch.tanh)
    action_spec = (BoundedTensorSpec((), torch.int64, 0, NUM_ACTIONS - 1) if is_discrete
                   else BoundedTensorSpec((ACTION_SIZE, ), torch.float32, -1, 1))
    projection = partial(NormalProjectionNetwork, state_dependent_std=False, scale_distribution=False)
    algorithm = PPOAlgorithm(
        TensorSpec((OBSERVATION_SIZE, )), action_spec,
        actor_network_ctor=partial(ActorDistributionNetwork, continuous_projection_net_ctor=projection, **networks),
        value_network_ctor=partial(ValueNetwork, **networks))
    algorithm.eval()
    time_step = TimeStep(
        step_type=torch.ones(batch_size, dtype=torch.int32), reward=torch.zeros(batch_size),
        discount=torch.ones(batch_size), observation=torch.randn(batch_size, OBSERVATION_SIZE))
    state = algorithm.get_initial_rollout_state(batch_size)

    def step():
        made = algorithm.rollout_step(time_step, state)
        return made.output, made.info.value, made.info.log_prob

    return step


def step_of_stable_baselines3(is_discrete: bool, batch_size: int):
    """Return a function that makes the step with which its PPO collects. Arguments as in :func:`bare_step`."""
    import gymnasium
    import numpy as np
    import torch
    from stable_baselines3.common.policies import ActorCriticPolicy

    box = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE, ), np.float32)
    actions = (gymnasium.spaces.Discrete(NUM_ACTIONS) if is_discrete
               else gymnasium.spaces.Box(-1, 1, (ACTION_SIZE, ), np.float32))
    policy = ActorCriticPolicy(box, actions, lambda _: 3e-4, net_arch=[HIDDEN, HIDDEN])
    policy.set_training_mode(False)
    observation = torch.randn(batch_size, OBSERVATION_SIZE)
    return lambda: policy(observation)


MAKERS = {"alf": our_step, "bare": bare_step, "sb3": step_of_stable_baselines3}


def open_case(candidate: str, case: str) -> _server.Opened:
    """Return how to measure microseconds of a policy step.

    Args:
        candidate: one of MAKERS.
        case: ``"discrete 8"``: kind of the action and number of environments.
    Raises:
        AssertionError: if a step is not what all of them are to make.
    """
    import torch

    torch.set_num_threads(1)
    kind, batch_size = case.split()
    step = MAKERS[candidate](kind == "discrete", int(batch_size))
    with torch.no_grad():
        action, value, log_prob = step()
    expected = (int(batch_size), ) if kind == "discrete" else (int(batch_size), ACTION_SIZE)
    assert tuple(action.shape) == expected, (candidate, action.shape)
    assert value.numel() == log_prob.numel() == int(batch_size), (candidate, value.shape, log_prob.shape)

    def measure(seconds: float) -> float:
        calls, began = 0, time.perf_counter()
        with torch.no_grad():
            while True:
                for _ in range(10):
                    step()
                calls += 10
                passed = time.perf_counter() - began
                if passed >= seconds:
                    return 1e6 * passed / calls

    return measure, lambda: None, ""


if __name__ == "__main__":
    _server.serve(open_case)
