"""The job for tianshou: DQN by its own trainer. Gradients are not clipped: it has no such setting. See _job.py."""

import _job

JOBS = ("dqn_cart_pole", )
NUM_RANDOM_STEPS = 1024


def train_dqn(marks: _job.Marks, seed: int) -> None:
    """Train DQN on CartPole-v1 until the marks say that it is enough."""
    import _watch
    import gymnasium
    from tianshou.algorithm import DQN
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, CollectStats, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OffPolicyTrainerParams
    from tianshou.utils.net.common import Net

    watch = _watch.Watch(marks)

    class Watched(gymnasium.Wrapper):
        """Counts its steps."""

        def step(self, action):
            made = super().step(action)
            watch.count_steps(1)
            return made

    envs = DummyVectorEnv([lambda: Watched(gymnasium.make("CartPole-v1"))])
    envs.seed(seed)
    policy = DiscreteQLearningPolicy(model=Net(state_shape=(4, ), action_shape=2, hidden_sizes=(256, 256)),
                                     action_space=envs.action_space[0])
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=2.3e-3), gamma=0.99, target_update_freq=128,
                    is_double=False, huber_loss_delta=1.0)
    collector = Collector[CollectStats](algorithm, envs, VectorReplayBuffer(100_000, 1), exploration_noise=True)
    collector.reset()
    try:
        collector.collect(n_step=NUM_RANDOM_STEPS, random=True)
        algorithm.run_training(OffPolicyTrainerParams(
            training_collector=collector, max_epochs=1, epoch_num_steps=50_000, collection_step_num_env_steps=256,
            update_step_num_gradient_steps_per_sample=0.5, batch_size=64, verbose=False, show_progress=False,
            training_fn=lambda epoch, env_steps: policy.set_eps_training(max(0.04, 1 - 0.96 * env_steps / 8000))))
    except _watch.Over:
        pass


def main() -> None:
    """Train and write the marks."""
    arguments = _job.parse_arguments(JOBS)
    import numpy as np
    import torch
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)
    marks = _job.Marks(arguments)
    train_dqn(marks, arguments.seed)
    marks.write()


if __name__ == "__main__":
    main()
