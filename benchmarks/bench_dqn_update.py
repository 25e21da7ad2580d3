"""Microseconds of one DQN update, ours against a bare PyTorch loop: 2x256 network, CartPole-sized transitions.

One update samples, computes the one-step target and the Huber loss, clips the gradient by its global norm, and steps
Adam. The bare loop has NumPy arrays for a buffer, `nn.Sequential` networks and `torch.optim.Adam(fused=True)`. Both
take turns.

Usage: python -m benchmarks.bench_dqn_update [--batch_size 64] [--updates 200] [--repeats 10] [--threads 1]
"""

import argparse
import os

from benchmarks._turns import show_profile, take_turns

SIZE, HIDDEN, NUM_ACTIONS, GAMMA, LR, CLIP = 4, 256, 2, 0.99, 2.3e-3, 10.0
TARGET_PERIOD = 128  # updates between two copies to the target network


def make_bare_learner():
    """Return a network and a function that makes one update of it from a batch.

    The function takes observations ``[B, 4]``, actions ``[B, 1]``, rewards ``[B]``, discounts ``[B]`` and the
    observations that follow.
    """
    import torch
    import torch.nn.functional as F

    def network():
        return torch.nn.Sequential(
            torch.nn.Linear(SIZE, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, NUM_ACTIONS))

    q, target = network(), network()
    parameters = list(q.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
    num_updates = 0

    def update(s, a, r, d, s1):
        nonlocal num_updates
        if num_updates % TARGET_PERIOD == 0:
            target.load_state_dict(q.state_dict())
        num_updates += 1
        with torch.no_grad():
            y = r + d * target(s1).amax(1)
        loss = F.smooth_l1_loss(q(s).gather(1, a).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()

    return q, update


def bare_loop(batch_size: int):
    """Return a function that samples and makes one update, and nothing else."""
    import numpy as np
    import torch

    _, update = make_bare_learner()
    device = torch.get_default_device()
    rng = np.random.default_rng(0)
    n = 10_000
    now, later = (rng.standard_normal((n, SIZE), dtype=np.float32) for _ in range(2))
    action, reward = rng.integers(NUM_ACTIONS, size=(n, 1)), np.ones(n, np.float32)
    discount = np.full(n, GAMMA, np.float32)

    def sample_and_update():
        index = rng.integers(n, size=batch_size)
        update(*(torch.from_numpy(x[index]).to(device) for x in (now, action, reward, discount, later)))

    return sample_and_update


def our_algorithm(batch_size: int, num_updates: int, mode=None):
    """Return a function that makes ``num_updates`` updates from a filled replay buffer, as one iteration does.

    Args:
        batch_size: number of transitions of an update.
        num_updates: of a call.
        mode: ``TrainerConfig.compile``.
    """
    import torch

    import alf
    from alf.algorithms.config import TrainerConfig
    from alf.algorithms.dqn_algorithm import DqnAlgorithm
    from alf.algorithms.one_step_loss import OneStepTDLoss
    from alf.environments.suite_unittest import PolicyUnittestEnv
    from alf.networks import QNetwork
    from alf.optimizers import Adam
    from alf.utils import common
    from alf.utils.losses import element_wise_huber_loss

    alf.config("SacAlgorithm", target_update_tau=1.0, target_update_period=128)
    env = PolicyUnittestEnv(8, 200, obs_dim=SIZE)
    config = TrainerConfig(
        root_dir="", whole_replay_buffer_training=False, clear_replay_buffer=False, mini_batch_length=2,
        mini_batch_size=batch_size, replay_buffer_length=2000, unroll_length=1000,
        num_updates_per_train_iter=num_updates, compile=mode)
    algorithm = DqnAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config, num_critic_replicas=1,
        q_network_cls=lambda **kwargs: QNetwork(fc_layer_params=(HIDDEN, HIDDEN), **kwargs),
        q_optimizer=Adam(lr=LR, gradient_clipping=CLIP, clip_by_global_norm=True),
        critic_loss_ctor=lambda **kwargs: OneStepTDLoss(
            gamma=GAMMA, td_error_loss_fn=element_wise_huber_loss, **kwargs))
    with torch.no_grad():
        algorithm.unroll(1000)
    algorithm.train()

    def update():
        with common.replay_context():
            algorithm.train_from_replay_buffer()

    return update


def main() -> None:
    """Print the microseconds of each and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print where our time goes instead")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    torch.set_num_threads(args.threads)
    bare_update = bare_loop(args.batch_size)

    def bare_updates():
        for _ in range(args.updates):
            bare_update()

    updates = {"bare": bare_updates, "ours": our_algorithm(args.batch_size, args.updates)}
    if args.profile:
        show_profile(updates["ours"], 5)
        return
    take_turns(updates, args.updates, args.repeats)


if __name__ == "__main__":
    main()
