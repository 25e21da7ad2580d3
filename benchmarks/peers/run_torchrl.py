"""Jobs for TorchRL: loops as its own examples are built, of collector, loss module and replay buffer. See _job.py."""

import _job

NUM_RANDOM_STEPS = {"sac": 100, "dqn": 1024}
DQN_STEPS, DQN_UPDATES = 256, 128  # of an iteration


def sac_parts(seed: int):
    """Return collector, replay buffer and ``update(batch)`` of SAC on HalfCheetah-v5.

    Args:
        seed: of the environment.
    """
    import torch
    from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule
    from torchrl.collectors import Collector
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.envs import DoubleToFloat, GymEnv, InitTracker, TransformedEnv
    from torchrl.envs.transforms import Compose
    from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import SACLoss, SoftUpdate

    env = TransformedEnv(GymEnv("HalfCheetah-v5"), Compose(InitTracker(), DoubleToFloat()))
    env.set_seed(seed)
    spec = env.action_spec_unbatched
    hidden = {"num_cells": [256, 256], "activation_class": torch.nn.ReLU}
    network = torch.nn.Sequential(MLP(out_features=2 * spec.shape[-1], **hidden), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"],
        spec=spec, distribution_class=TanhNormal, default_interaction_type=InteractionType.RANDOM,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high, "tanh_loc": False})
    critic = ValueOperator(MLP(out_features=1, **hidden), in_keys=["observation", "action"])
    example = env.fake_tensordict()
    with torch.no_grad():
        critic(actor(example))
    loss_module = SACLoss(actor, critic, num_qvalue_nets=2, loss_function="l2", delay_qvalue=True)
    loss_module.make_value_estimator(gamma=0.99)
    update_target = SoftUpdate(loss_module, tau=0.005)
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=3e-4, fused=True)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(1_000_000), batch_size=256)
    collector = Collector(env, actor, init_random_frames=NUM_RANDOM_STEPS["sac"], frames_per_batch=1, total_frames=-1)

    def update(batch) -> None:
        losses = loss_module(batch)
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        update_target.step()

    return collector, buffer, update


def train_sac(marks: _job.Marks, seed: int) -> None:
    """Train SAC on HalfCheetah-v5 until the marks say that it is enough."""
    collector, buffer, update = sac_parts(seed)
    _train(marks, collector, buffer, update, NUM_RANDOM_STEPS["sac"] + 1, 1)


def _train(marks: _job.Marks, collector, buffer, update, first_env_steps: int, num_updates: int,
           after_collection=lambda num_steps: None) -> None:
    """Collect, and update from the buffer, until the marks say that it is enough.

    Args:
        marks: of the run.
        collector: gives batches of steps.
        buffer: that they are put into.
        update: makes an update from a batch.
        first_env_steps: environment steps from which on there are updates.
        num_updates: after each batch of steps.
        after_collection: called with the number of steps of each batch.
    """
    env_steps = updates = 0
    for data in collector:
        env_steps += data.numel()
        if marks.step(env_steps, updates):
            break
        buffer.extend(data.reshape(-1))
        after_collection(data.numel())
        if env_steps >= first_env_steps:
            for _ in range(num_updates):
                update(buffer.sample())
                updates += 1
    collector.shutdown()


def dqn_parts(seed: int):
    """Return collector, exploration, replay buffer and ``update(batch)`` of DQN on CartPole-v1.

    Args:
        seed: of the environment.
    """
    import torch
    from tensordict.nn import TensorDictSequential
    from torchrl.collectors import Collector
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.envs import GymEnv, InitTracker, TransformedEnv
    from torchrl.modules import MLP, EGreedyModule, QValueActor
    from torchrl.objectives import DQNLoss, HardUpdate

    env = TransformedEnv(GymEnv("CartPole-v1", categorical_action_encoding=True), InitTracker())
    env.set_seed(seed)
    spec = env.action_spec_unbatched
    actor = QValueActor(
        MLP(in_features=4, out_features=2, num_cells=[256, 256], activation_class=torch.nn.ReLU),
        in_keys=["observation"], spec=spec)
    exploration = EGreedyModule(spec, eps_init=1.0, eps_end=0.04, annealing_num_steps=8000)
    loss_module = DQNLoss(actor, loss_function="smooth_l1", delay_value=True)
    loss_module.make_value_estimator(gamma=0.99)
    update_target = HardUpdate(loss_module, value_network_update_interval=DQN_UPDATES)
    parameters = list(loss_module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=2.3e-3, fused=True)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100_000), batch_size=64)
    collector = Collector(env, TensorDictSequential(actor, exploration), init_random_frames=NUM_RANDOM_STEPS["dqn"],
                          frames_per_batch=DQN_STEPS, total_frames=-1)

    def update(batch) -> None:
        loss_module(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        optimizer.zero_grad()
        update_target.step()

    return collector, exploration, buffer, update


def train_dqn(marks: _job.Marks, seed: int) -> None:
    """Train DQN on CartPole-v1 until the marks say that it is enough."""
    collector, exploration, buffer, update = dqn_parts(seed)
    _train(marks, collector, buffer, update, NUM_RANDOM_STEPS["dqn"], DQN_UPDATES, exploration.step)


def ppo_parts(seed: int):
    """Return collector, ``prepare(data)`` and ``update(batch)`` of PPO on CartPole; ``prepare`` adds advantages.

    Args:
        seed: of the environments.
    """
    import torch
    from tensordict.nn import TensorDictModule
    from torchrl.collectors import Collector
    from torchrl.envs import DoubleToFloat, GymEnv, InitTracker, SerialEnv, TransformedEnv
    from torchrl.envs.transforms import Compose
    from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    env = TransformedEnv(
        SerialEnv(8, lambda: GymEnv("CartPole-v1", categorical_action_encoding=True)),
        Compose(InitTracker(), DoubleToFloat()))
    env.set_seed(seed)
    hidden = {"in_features": 4, "num_cells": [64, 64], "activation_class": torch.nn.Tanh}
    actor = ProbabilisticActor(
        TensorDictModule(MLP(out_features=2, **hidden), in_keys=["observation"], out_keys=["logits"]),
        in_keys=["logits"], spec=env.action_spec_unbatched, distribution_class=torch.distributions.Categorical,
        return_log_prob=True)
    critic = ValueOperator(MLP(out_features=1, **hidden), in_keys=["observation"])
    advantages = GAE(gamma=0.98, lmbda=0.8, value_network=critic)
    loss_module = ClipPPOLoss(
        actor, critic, clip_epsilon=0.2, entropy_bonus=False, critic_coeff=0.5, loss_critic_type="l2",
        normalize_advantage=True)
    parameters = list(loss_module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def prepare(data):
        with torch.no_grad():
            return advantages(data).reshape(-1)

    def update(batch) -> None:
        losses = loss_module(batch)
        (losses["loss_objective"] + losses["loss_critic"]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()

    return Collector(env, actor, frames_per_batch=256, total_frames=-1), prepare, update


def train_ppo(marks: _job.Marks, seed: int) -> None:
    """Train PPO on CartPole-v1 until the marks say that it is enough."""
    collector, prepare, update = ppo_parts(seed)
    env_steps = updates = 0
    for data in collector:
        env_steps += data.numel()
        if marks.step(env_steps, updates):
            break
        batch = prepare(data)
        for _ in range(20):  # epochs of one batch, so there is nothing to shuffle
            update(batch)
            updates += 1


JOBS = {"sac_halfcheetah": train_sac, "dqn_cart_pole": train_dqn, "ppo_cart_pole": train_ppo}


def main() -> None:
    """Train and write the marks."""
    arguments = _job.parse_arguments(JOBS)
    import torch
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    marks = _job.Marks(arguments)
    JOBS[arguments.job](marks, arguments.seed)
    marks.write()


if __name__ == "__main__":
    main()
