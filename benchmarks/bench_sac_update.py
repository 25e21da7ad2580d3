"""Milliseconds of one SAC update at batch 256 with 2x256 ReLU networks: ours against a bare loop in eager PyTorch.

Ours: ``train_sequence``, ``calc_loss``, ``update_with_gradient``, ``after_update`` on a given batch of two steps. The
bare loop has two separate critics, direct formulas, fused Adam, and an in-place target update. Neither samples a replay
buffer. All are interleaved in one process, which keeps freed memory as training does; ratios are of neighbouring runs.
Time is that of the processor, so that other programs count less.

Usage: python benchmarks/bench_sac_update.py [--repeats 15] [--calls 20] [--threads 1] [--profile] [--compile default]
"""

import argparse
import os
import statistics
import time

BATCH_SIZE, OBSERVATION_SIZE, ACTION_SIZE, HIDDEN = 256, 17, 6, 256


def make_bare_update(torch):
    """Return a function that makes one update on random numbers, written as one would without any framework."""
    _, update = make_bare_learner(torch)
    observation, next_observation = torch.randn(2, BATCH_SIZE, OBSERVATION_SIZE)
    action = torch.rand(BATCH_SIZE, ACTION_SIZE) * 2 - 1
    reward, discount = torch.randn(BATCH_SIZE), torch.ones(BATCH_SIZE)
    return lambda: update(observation, action, reward, discount, next_observation)


def make_bare_learner(torch):
    """Return ``sample(observation)``, of actions and their log probabilities, and ``update(*batch)`` of bare SAC.

    A batch is observation, action, reward, discount and next observation, each ``[B, ...]``.

    Args:
        torch: the module.
    """
    import torch.nn.functional as F
    from torch import nn

    def mlp(num_inputs, num_outputs):
        first, second, last = nn.Linear(num_inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, num_outputs)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    class Critics(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = mlp(OBSERVATION_SIZE + ACTION_SIZE, 1)
            self.second = mlp(OBSERVATION_SIZE + ACTION_SIZE, 1)

        def forward(self, observation, action):
            inputs = torch.cat([observation, action], -1)
            return torch.stack([self.first(inputs)[:, 0], self.second(inputs)[:, 0]])

    actor, critics, targets = mlp(OBSERVATION_SIZE, 2 * ACTION_SIZE), Critics(), Critics()
    targets.load_state_dict(critics.state_dict())
    log_alpha = torch.zeros((), requires_grad=True)
    critic_parameters, target_parameters = list(critics.parameters()), list(targets.parameters())
    actor_optimizer, critic_optimizer, alpha_optimizer = (
        torch.optim.Adam(parameters, lr=3e-4, fused=True)
        for parameters in (actor.parameters(), critic_parameters, [log_alpha]))

    def sample(at):
        mean, log_std = actor(at).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        log_prob = (-0.5 * noise * noise - log_std - 0.9189385332).sum(-1)
        return u.tanh(), log_prob - (2 * (0.6931471806 - u - F.softplus(-2 * u))).sum(-1)

    def update(observation, action, reward, discount, next_observation):
        with torch.no_grad():
            next_action, next_log_prob = sample(next_observation)
            next_value = targets(next_observation, next_action).amin(0) - log_alpha.exp() * next_log_prob
            target = reward + 0.99 * discount * next_value
        critic_loss = ((critics(observation, action) - target)**2).sum(0).mean()
        critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        critic_optimizer.step()
        for parameter in critic_parameters:
            parameter.requires_grad_(False)
        new_action, log_prob = sample(observation)
        actor_loss = (log_alpha.exp().detach() * log_prob - critics(observation, new_action).amin(0)).mean()
        actor_optimizer.zero_grad(set_to_none=True)
        actor_loss.backward()
        actor_optimizer.step()
        for parameter in critic_parameters:
            parameter.requires_grad_(True)
        alpha_optimizer.zero_grad(set_to_none=True)
        (-log_alpha * (log_prob.detach() - ACTION_SIZE)).mean().backward()
        alpha_optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(target_parameters, critic_parameters, 0.005)

    return sample, update


def make_our_update(torch, config=None, **kwargs):
    """Return a function that makes one update of a SacAlgorithm.

    Args:
        torch: the module.
        config: settings of ``TrainerConfig`` such as ``compile``; None: the algorithm has none.
        kwargs: arguments of the algorithm.
    """
    from functools import partial

    from alf import summary
    from alf.algorithms.config import TrainerConfig
    from alf.algorithms.sac_algorithm import SacAlgorithm, SacInfo
    from alf.data_structures import Experience, TimeStep
    from alf.networks import ActorDistributionNetwork, CriticNetwork, NormalProjectionNetwork
    from alf.optimizers import Adam
    from alf.tensor_specs import BoundedTensorSpec, TensorSpec
    from alf.utils.dist_utils import extract_spec
    from alf.utils.math_ops import clipped_exp

    projection = partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True,
                         std_transform=clipped_exp)
    algorithm = SacAlgorithm(
        TensorSpec((OBSERVATION_SIZE, )),
        BoundedTensorSpec((ACTION_SIZE, ), torch.float32, -1, 1),
        actor_network_cls=partial(
            ActorDistributionNetwork, fc_layer_params=(HIDDEN, HIDDEN), continuous_projection_net_ctor=projection),
        critic_network_cls=partial(CriticNetwork, joint_fc_layer_params=(HIDDEN, HIDDEN)),
        target_update_tau=0.005,
        actor_optimizer=Adam(lr=3e-4),
        critic_optimizer=Adam(lr=3e-4),
        alpha_optimizer=Adam(lr=3e-4),
        config=None if config is None else TrainerConfig(root_dir="", **config),
        **kwargs)
    time_steps = TimeStep(
        step_type=torch.ones(2, BATCH_SIZE, dtype=torch.int32),
        reward=torch.randn(2, BATCH_SIZE),
        discount=torch.ones(2, BATCH_SIZE),
        observation=torch.randn(2, BATCH_SIZE, OBSERVATION_SIZE))
    rollout_info = SacInfo(action=torch.rand(2, BATCH_SIZE, ACTION_SIZE) * 2 - 1)
    algorithm.train()

    def update():
        info = algorithm.train_sequence(time_steps, rollout_info)
        loss = algorithm.calc_loss(info)
        masks = algorithm._learner.valid_masks(time_steps.step_type, last_row_counts=True)
        algorithm.update_with_gradient(loss, masks)
        algorithm.after_update(time_steps, info)

    def learn():
        with algorithm._learner.in_mixed_precision():
            algorithm._learner.learn(batch, info_spec, last_row_counts=True)

    if config is None:
        return update
    summary.disable_summary()
    algorithm.attach_optimizers()
    batch = Experience(time_step=time_steps, action=rollout_info.action, rollout_info=rollout_info)
    info_spec = extract_spec(rollout_info, from_dim=2)
    return learn


def main() -> None:
    """Print median milliseconds of each, and the median ratio to the bare loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", help="also compiled updates, with this mode of TrainerConfig.compile")
    parser.add_argument("--profile", action="store_true", help="print where the time of ours goes instead")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    from alf.utils.common import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    updates = {
        "bare": make_bare_update(torch),
        "ours": make_our_update(torch),
        "ours, reproduce_locomotion": make_our_update(torch, reproduce_locomotion=True),
        "ours, mixed precision": make_our_update(torch, dict(enable_amp=True)),
    }
    if args.compile:
        updates["ours, compiled"] = make_our_update(torch, dict(compile=args.compile))
        updates["ours, compiled, mixed precision"] = make_our_update(torch, dict(compile=args.compile, enable_amp=True))
    if args.profile:
        for name in ("bare", "ours"):
            for _ in range(10):
                updates[name]()
            with torch.profiler.profile() as profile:
                for _ in range(args.calls):
                    updates[name]()
            print(name)
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))
        return
    seconds = {name: [] for name in updates}
    for update in updates.values():
        for _ in range(5):
            update()
    for _ in range(args.repeats):
        for name, update in updates.items():
            start = time.process_time()
            for _ in range(args.calls):
                update()
            seconds[name].append((time.process_time() - start) / args.calls)
    for name, values in seconds.items():
        ratios = [ours / bare for ours, bare in zip(values, seconds["bare"], strict=True)]
        print(f"{name}: {statistics.median(values) * 1e3:.2f} ms (lowest {min(values) * 1e3:.2f}), "
              f"{statistics.median(ratios):.3f} of bare ({min(values) / min(seconds['bare']):.3f} of the lowest)")


if __name__ == "__main__":
    main()
