"""Microseconds of one PPO update, ours against a bare PyTorch loop: actor and critic 2x64, batches of 256, CartPole.

One update computes policy and value, the clipped surrogate with normalized advantages and the value loss, clips the
gradient by its global norm, and steps Adam. The bare loop has its parameters in one tensor, and its loss is compiled
unless `--eager` is given. All take turns.

Usage: python -m benchmarks.bench_ppo_update [--updates 200] [--repeats 10] [--threads 1] [--eager] [--compile default]
"""

import argparse
import os

from benchmarks._turns import show_profile, take_turns

SIZE, HIDDEN, NUM_ACTIONS, BATCH, LR, CLIP, EPOCHS = 4, 64, 2, 256, 1e-3, 0.5, 20


# Of a bare actor and a bare critic, weight and bias of each layer in turn.
SHAPES = [(HIDDEN, SIZE), (HIDDEN, ), (HIDDEN, HIDDEN), (HIDDEN, ), (NUM_ACTIONS, HIDDEN), (NUM_ACTIONS, ),
          (HIDDEN, SIZE), (HIDDEN, ), (HIDDEN, HIDDEN), (HIDDEN, ), (1, HIDDEN), (1, )]


def make_bare_learner(flat, compiled: bool):
    """Return ``update(observation, action, log_prob, advantage, returns)``, which makes one update, and nothing else.

    Args:
        flat: a parameter that holds the weights of SHAPES side by side.
        compiled: whether the loss is compiled.
    """
    import torch
    import torch.nn.functional as F

    sizes = [torch.Size(shape).numel() for shape in SHAPES]
    optimizer = torch.optim.Adam([flat], lr=LR, fused=True)

    def loss_of(flat, observation, action, log_prob, advantage, returns):
        p = [part.view(shape) for part, shape in zip(flat.split(sizes), SHAPES)]

        def network(x, w1, b1, w2, b2, w3, b3):
            return F.linear(torch.tanh(F.linear(torch.tanh(F.linear(x, w1, b1)), w2, b2)), w3, b3)

        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        new = network(observation, *p[:6]).log_softmax(-1).gather(1, action.unsqueeze(1)).squeeze(1)
        ratio = (new - log_prob).exp()
        surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return -surrogate.mean() + 0.5 * F.mse_loss(network(observation, *p[6:]).squeeze(1), returns)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def update(*batch):
        flat.grad = None
        loss_of(flat, *batch).backward()
        torch.nn.utils.clip_grad_norm_([flat], CLIP)
        optimizer.step()

    return update


def bare_loop(compiled: bool):
    """Return a function that makes one update on the same made-up batch each time.

    Args:
        compiled: whether the loss is compiled.
    """
    import torch

    flat = torch.nn.Parameter(torch.randn(sum(torch.Size(shape).numel() for shape in SHAPES)) * 0.1)
    batch = (torch.randn(BATCH, SIZE), torch.randint(NUM_ACTIONS, (BATCH, )), torch.rand(BATCH) - 1, torch.randn(BATCH),
             torch.randn(BATCH))
    update = make_bare_learner(flat, compiled)
    return lambda: update(*batch)


def our_algorithm(mode):
    """Return a function that makes ``EPOCHS`` updates on an unroll, as one iteration does.

    Args:
        mode: ``TrainerConfig.compile``.
    """
    import torch

    import alf
    from alf.algorithms.agent import Agent
    from alf.algorithms.config import TrainerConfig
    from alf.algorithms.ppo_algorithm import PPOAlgorithm
    from alf.environments.suite_unittest import PolicyUnittestEnv
    from alf.networks import ActorDistributionNetwork, ValueNetwork
    from alf.optimizers import Adam
    from alf.utils import common

    env = PolicyUnittestEnv(8, 200, obs_dim=SIZE)
    config = TrainerConfig(root_dir="", unroll_length=BATCH // 8, mini_batch_size=BATCH, mini_batch_length=1,
                           num_updates_per_train_iter=EPOCHS, compile=mode)
    networks = dict(fc_layer_params=(HIDDEN, HIDDEN), activation=torch.tanh)
    algorithm = Agent(
        env.observation_spec(), env.action_spec(), env=env, config=config,
        rl_algorithm_cls=lambda **kwargs: PPOAlgorithm(
            actor_network_ctor=lambda **specs: ActorDistributionNetwork(**networks, **specs),
            value_network_ctor=lambda **specs: ValueNetwork(**networks, **specs),
            **kwargs),
        optimizer=Adam(lr=LR, gradient_clipping=CLIP, clip_by_global_norm=True))
    alf.summary.disable_summary()
    with torch.no_grad():
        algorithm.unroll(BATCH // 8)
    algorithm.train()

    def update():
        with common.replay_context():
            algorithm.train_from_replay_buffer()

    return update


def main() -> None:
    """Print the microseconds of each and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="do not compile the bare loop")
    parser.add_argument("--compile", default="default", help="mode of ours; none: eager only")
    parser.add_argument("--profile", choices=["eager", "compiled"], help="print where our time goes instead")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    torch.set_num_threads(args.threads)
    bare_update = bare_loop(not args.eager and not args.profile)
    num_calls = args.updates // EPOCHS

    def times(update, number):
        return lambda: [update() for _ in range(number)]

    eager = our_algorithm(None)
    if args.profile:
        show_profile(our_algorithm(args.compile) if args.profile == "compiled" else eager, num_calls)
        return
    updates = {"bare": times(bare_update, num_calls * EPOCHS), "ours eager": times(eager, num_calls)}
    if args.compile != "none":
        updates["ours compiled"] = times(our_algorithm(args.compile), num_calls)
    take_turns(updates, num_calls * EPOCHS, args.repeats)


if __name__ == "__main__":
    main()
