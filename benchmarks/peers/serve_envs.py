"""Steps environments in batches by peers, for bench_envs.py and bench_native_envs.py. See _server.py."""

import functools

import _envs
import _server


def open_case(candidate: str, case: str) -> _server.Opened:
    """Return how to measure a case such as ``"CartPole-v1 x 8"``.

    Args:
        candidate: ``"sb3"`` (SubprocVecEnv), ``"torchrl"`` (ParallelEnv of two workers), ``"pufferlib"``
            (Multiprocessing with one worker), ``"envpool"``, or ``"alf-envpool"`` (EnvPool through our adapter).
        case: environment and number.
    """
    name, num_envs = _envs.parse(case)
    if candidate in ("envpool", "alf-envpool"):
        return _envpool(candidate, name, num_envs)
    make = functools.partial(_envs.make_gym, name)
    actions = _envs.batches_of_actions(make().action_space, num_envs)
    if candidate == "sb3":
        from stable_baselines3.common.vec_env import SubprocVecEnv

        env = SubprocVecEnv([make] * num_envs, start_method="fork")
        env.reset()
        return _envs.rate(lambda i: env.step(actions[i & 63]), num_envs), env.close, ""
    if candidate == "pufferlib":
        return _pufferlib(make, actions, num_envs)
    return _torchrl(make, actions, num_envs)


def _envpool(candidate: str, name: str, num_envs: int) -> _server.Opened:
    import envpool

    name = "Pong-v5" if name == "Pong" else name
    if candidate == "envpool":
        env = envpool.make(name, env_type="gymnasium", num_envs=num_envs, seed=0)
        actions = _envs.batches_of_actions(env.action_space, num_envs)
        env.reset()
        return _envs.rate(lambda i: env.step(actions[i & 63]), num_envs), env.close, ""
    import torch

    from alf.environments import suite_envpool

    torch.set_num_threads(1)
    space = envpool.make_spec(name).gymnasium_action_space
    tensors = [torch.as_tensor(batch) for batch in _envs.batches_of_actions(space, num_envs)]
    alf_env = suite_envpool.load(name, batch_size=num_envs)
    alf_env.seed(0)
    alf_env.reset()
    return _envs.rate(lambda i: alf_env.step(tensors[i & 63]), num_envs), alf_env.close, ""


def _pufferlib(make, actions, num_envs: int) -> _server.Opened:
    """Return how to measure PufferLib, whose workers spin while nobody asks them: they live for one measurement."""
    from pufferlib import emulation, vector

    def measure(seconds: float) -> float:
        env = vector.make(lambda *_, **__: emulation.GymnasiumPufferEnv(env_creator=make),
                          backend=vector.Multiprocessing, num_envs=num_envs, num_workers=1, batch_size=num_envs,
                          overwork=True)
        env.reset(seed=0)
        try:
            return _envs.rate(lambda i: env.step(actions[i & 63]), num_envs)(seconds)
        finally:
            env.close()

    return measure, lambda: None, ""


def _torchrl(make, actions, num_envs: int) -> _server.Opened:
    import torch
    from torchrl.envs import GymWrapper, ParallelEnv, SerialEnv

    torch.set_num_threads(1)
    options = {"categorical_action_encoding": True} if actions[0].ndim == 1 else {}
    half = functools.partial(SerialEnv, num_envs // 2, lambda: GymWrapper(make(), **options))
    env = ParallelEnv(2, half, mp_start_method="fork")
    tensors = [torch.as_tensor(batch).reshape(*env.batch_size, *batch.shape[1:]) for batch in actions]
    state = [env.reset()]

    def step(i: int) -> None:
        with torch.no_grad():
            state[0].set("action", tensors[i & 63])
            state[0] = env.step_and_maybe_reset(state[0])[1]

    return _envs.rate(step, num_envs), env.close, ""


if __name__ == "__main__":
    _server.serve(open_case)
