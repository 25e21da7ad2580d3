"""A small environment that misbehaves on request, and helpers that the pool's tests share."""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest
import torch

import alf.progress as progress
from alf.data_structures import StepType, TimeStep
from alf.environments.alf_environment import AlfEnvironment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


class ToyEnv(AlfEnvironment):
    """Counts its steps; episodes last 2 to 6 steps, drawn from a generator of its own.

    The observation is ``{"count": [1], "noise": [2]}``, the reward 10 * env_id + the action's number.
    ``fault`` happens at step ``fault_step``, counted over all episodes.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        env_id=0,
        fault=None,
        fault_step=3,
        faulty=(1,),
        nested_action=False,
        obs_size=2,
        episode_end="truncation",
        marker=None,
    ):
        self._env_id = env_id
        self._fault = fault if env_id in faulty else None
        # With a marker file a fault happens once, whichever process the environment is made in.
        self._marker = marker
        self._fault_step = fault_step
        self._nested_action = nested_action
        self._obs_size = obs_size
        self._discount_at_end = 0.0 if episode_end == "termination" else 1.0
        self._generator = np.random.default_rng(env_id)
        self._steps = self._resets = 0
        self.is_closed = False
        self.kept_actions = []
        if self._fault == "disturbs when made":
            self._disturb()
        if self._fault == "construct" or (self._fault == "exit then construct" and os.path.exists(marker)):
            raise KeyError("no such level")

    def observation_spec(self):
        return {"count": TensorSpec((1,)), "noise": TensorSpec((self._obs_size,), torch.float64)}

    def action_spec(self):
        discrete = BoundedTensorSpec((), torch.int64, 0, 4)
        if self._nested_action:
            return {"go": BoundedTensorSpec((2,), torch.float32, -1, 1), "kind": discrete}
        return discrete

    def env_info_spec(self):
        return {"length": TensorSpec((), torch.int64)}

    def seed(self, seed):
        self._generator = np.random.default_rng(seed)

    def whoami(self, prefix="env"):
        return f"{prefix}{self._env_id}"

    def pid(self):
        return os.getpid()

    def device_of_new_tensors(self):
        return torch.empty(0).device.type

    def percent(self):
        return progress.get_progress("percent")

    def exit_code_of_child(self):
        child = multiprocessing.get_context("fork").Process(target=os._exit, args=(5,))
        child.start()
        child.join()
        return child.exitcode

    def fail(self):
        raise LookupError("called in vain")

    def close(self):
        self.is_closed = True
        if self._fault == "close raises":
            raise OSError("the window is gone")
        if self._fault == "close hangs":
            time.sleep(1000)

    def _disturb(self):
        os.chdir("/")
        signal.signal(signal.SIGUSR1, lambda *_: None)
        np.random.seed(0)
        torch.set_num_threads(1)

    def render(self, mode="rgb_array"):
        return np.full((2, 2, 3), self._env_id, np.uint8)

    def _time_step(self, step_type, reward, discount, action):
        return TimeStep(
            step_type=step_type,
            reward=np.float32(reward),
            discount=np.float32(discount),
            observation={
                "count": np.array([self._count], np.float32),
                "noise": self._generator.normal(size=self._obs_size),
            },
            prev_action=action,
            env_id=np.int32(self._env_id),
            env_info={"length": np.int64(self._length)},
        )

    def _zero_action(self):
        if self._nested_action:
            return {"go": np.zeros(2, np.float32), "kind": np.int64(0)}
        return np.int64(0)

    def _reset(self):
        self._count, self._length = 0, int(self._generator.integers(2, 7))
        self._resets += 1
        if self._fault == "kill in reset" and self._resets == 2 and self._first_time():
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "slow reset":
            time.sleep(0.2)
        return self._time_step(StepType.FIRST, 0.0, 1.0, self._zero_action())

    def _step(self, action):
        self._steps += 1
        self._count += 1
        number = float(action["go"].sum() + action["kind"]) if self._nested_action else float(action)
        if self._nested_action:
            self.kept_actions.append(action["go"])
        reward = 10 * self._env_id + number
        if self._fault == "slow":
            time.sleep(0.02)
        if self._fault == "prints":
            print("x" * 4_000_000, flush=True)
            print("a word on the standard error", file=sys.stderr, flush=True)
        if self._fault == "disturbs":
            self._disturb()
        if self._fault is not None and self._steps == self._fault_step and self._first_time():
            reward = self._misbehave(reward)
        is_last = self._count == self._length
        return self._time_step(
            StepType.LAST if is_last else StepType.MID,
            reward,
            self._discount_at_end if is_last else 1.0,
            action,
        )

    def _first_time(self):
        if self._marker is None:
            return True
        if os.path.exists(self._marker):
            return False
        open(self._marker, "w").close()
        return True

    def _misbehave(self, reward):
        if self._fault == "raise":
            raise ValueError("the wheel came off")
        if self._fault == "odd exception":

            class Odd(Exception):
                def __init__(self, a, b):
                    super().__init__(f"{a} and {b}")

            raise Odd("this", "that")
        if self._fault == "system exit":
            raise SystemExit(3)
        if self._fault in ("exit", "exit then construct"):
            os._exit(7)
        if self._fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault == "hang":
            time.sleep(1000)
        if self._fault == "scribbles":
            for fd in map(int, os.listdir("/proc/self/fd")):
                with contextlib.suppress(OSError):
                    if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                        os.write(fd, b"\x7f\xff\xff\xff" + 100 * b"x")
            raise ValueError("scribbled")
        if self._fault == "nan reward":
            return float("nan")
        if self._fault == "inf observation":
            self._count = float("inf")
        return reward


@pytest.fixture
def toys():
    """Return a function that makes ``num_envs`` constructors of ToyEnv with the given arguments."""
    return lambda num_envs, **kwargs: [functools.partial(ToyEnv, **kwargs)] * num_envs


@pytest.fixture
def record():
    """Return a function that resets ``env``, makes ``num_steps`` random actions and clones everything."""

    def run(env, num_steps=40, seed=5):
        env.seed(list(range(100, 100 + env.batch_size)))
        generator = torch.Generator().manual_seed(seed)
        trajectory = [clone(env.reset())]
        for _ in range(num_steps):
            trajectory.append(clone(env.step(random_action(env.action_spec(), env.batch_size, generator))))
        return trajectory

    return run


def random_action(spec, batch_size, generator):
    """Return actions within the bounds of a spec of ToyEnv."""
    kind = torch.randint(0, 5, (batch_size,), generator=generator)
    if isinstance(spec, dict):
        return {"go": 2 * torch.rand((batch_size, 2), generator=generator) - 1, "kind": kind}
    return kind


def clone(time_step):
    """Return the leaves of a time step by name, copied."""
    leaves = {}
    for field in ("step_type", "reward", "discount", "env_id"):
        leaves[field] = getattr(time_step, field).clone()
    for field in ("observation", "prev_action", "env_info"):
        value = getattr(time_step, field)
        for name, leaf in value.items() if isinstance(value, dict) else [("", value)]:
            leaves[f"{field}.{name}"] = leaf.clone()
    return leaves


@pytest.fixture
def serial():
    """Return a function that makes the trajectory of ``record`` by ``reset`` and ``step`` of each env."""

    def run(constructors, num_steps=40, seed=5):
        envs = [constructor(env_id=i) for i, constructor in enumerate(constructors)]
        for i, env in enumerate(envs):
            env.seed(100 + i)
        generator = torch.Generator().manual_seed(seed)
        trajectory = [_stack([env.reset() for env in envs])]
        for _ in range(num_steps):
            actions = random_action(envs[0].action_spec(), len(envs), generator)
            time_steps = []
            for i, env in enumerate(envs):
                action = (
                    {k: v[i].numpy() for k, v in actions.items()}
                    if isinstance(actions, dict)
                    else int(actions[i])
                )
                time_steps.append(env.step(action))
            trajectory.append(_stack(time_steps))
        return trajectory

    return run


def _stack(time_steps):
    rows = []
    for time_step in time_steps:
        tensors = time_step._replace(
            step_type=torch.as_tensor(time_step.step_type),
            reward=torch.as_tensor(time_step.reward),
            discount=torch.as_tensor(time_step.discount),
            env_id=torch.as_tensor(time_step.env_id),
            observation={k: torch.as_tensor(v) for k, v in time_step.observation.items()},
            prev_action=(
                {k: torch.as_tensor(v) for k, v in time_step.prev_action.items()}
                if isinstance(time_step.prev_action, dict)
                else torch.as_tensor(time_step.prev_action)
            ),
            env_info={k: torch.as_tensor(v) for k, v in time_step.env_info.items()},
        )
        rows.append(clone(tensors))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture
def assert_same():
    """Return a function that asserts that two trajectories are equal bit by bit."""

    def check(got, expected):
        assert len(got) == len(expected)
        for t, (a, b) in enumerate(zip(got, expected)):
            assert a.keys() == b.keys()
            for name in a:
                assert a[name].dtype == b[name].dtype, (t, name, a[name].dtype, b[name].dtype)
                assert torch.equal(a[name], b[name]), (t, name, a[name], b[name])

    return check
