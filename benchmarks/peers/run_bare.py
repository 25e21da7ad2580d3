"""Jobs written out without a framework: the floor of the training benchmark. Runs in our interpreter. See _job.py.

PPO: plain environments in a Python loop, inference in NumPy, parameters in one tensor, a compiled loss. SAC and DQN: an
eager loop with NumPy arrays for a buffer. None logs, saves, checks or can be configured.
"""

import _job

JOBS = ("ppo_cart_pole", "sac_halfcheetah", "dqn_cart_pole")
NUM_ENVS, NUM_STEPS, NUM_EPOCHS = 8, 32, 20
GAMMA, LAMBDA = 0.98, 0.8


def train_ppo(marks: _job.Marks, seed: int) -> None:
    """Train PPO on CartPole-v1 until the marks say that it is enough."""
    import gymnasium
    import numpy as np
    import torch

    from benchmarks.bench_ppo_update import SHAPES, make_bare_learner

    rng = np.random.default_rng(seed)
    parts = []
    for number, shape in enumerate(SHAPES):
        weight = torch.empty(shape)
        if len(shape) == 2:
            torch.nn.init.orthogonal_(weight, {4: 0.01, 10: 1.0}.get(number, 2**0.5))
        else:
            weight.zero_()
        parts.append(weight.flatten())
    flat = torch.nn.Parameter(torch.cat(parts))
    sizes = [part.numel() for part in parts]
    update = make_bare_learner(flat, compiled=True)
    # Views of the same memory, for inference.
    numbers = flat.detach().numpy()
    views = [part.reshape(shape) for part, shape in zip(np.split(numbers, np.cumsum(sizes)[:-1]), SHAPES)]

    def infer(x, first):
        w1, b1, w2, b2, w3, b3 = views[first:first + 6]
        return np.tanh(np.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3

    envs = [gymnasium.make("CartPole-v1") for _ in range(NUM_ENVS)]
    now = np.stack([env.reset(seed=seed + row)[0] for row, env in enumerate(envs)])
    shape = (NUM_STEPS, NUM_ENVS)
    observations, rewards = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
    actions, log_probs = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    values, next_values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    ended = np.zeros(shape, bool)
    env_steps = updates = 0
    while True:
        for t in range(NUM_STEPS):
            logits = infer(now, 0)
            logits -= np.log(np.exp(logits).sum(1, keepdims=True))
            chosen = (rng.random(NUM_ENVS) < np.exp(logits[:, 1])).astype(np.int64)
            observations[t], actions[t], values[t] = now, chosen, infer(now, 6)[:, 0]
            log_probs[t] = logits[np.arange(NUM_ENVS), chosen]
            after = np.empty_like(now)
            for row, env in enumerate(envs):
                after[row], rewards[t, row], terminated, truncated, _ = env.step(chosen[row])
                ended[t, row] = terminated or truncated
                next_values[t, row] = 0.0
                if truncated and not terminated:
                    next_values[t, row] = infer(after[row:row + 1], 6)[0, 0]
                if ended[t, row]:
                    after[row] = env.reset()[0]
            now = after
        env_steps += NUM_STEPS * NUM_ENVS
        if marks.step(env_steps, updates):
            return
        values_after = np.concatenate([values[1:], infer(now, 6)[None, :, 0]])
        delta = rewards + GAMMA * np.where(ended, next_values, values_after) - values
        advantages, advantage = np.zeros(shape, np.float32), np.zeros(NUM_ENVS, np.float32)
        for t in reversed(range(NUM_STEPS)):
            advantages[t] = advantage = delta[t] + GAMMA * LAMBDA * ~ended[t] * advantage
        batch = [torch.from_numpy(array.reshape(-1, *array.shape[2:]))
                 for array in (observations, actions, log_probs, advantages, advantages + values)]
        for _ in range(NUM_EPOCHS):
            update(*batch)
            updates += 1


def train_sac(marks: _job.Marks, seed: int) -> None:
    """Train SAC on HalfCheetah-v5 until the marks say that it is enough."""
    import gymnasium
    import numpy as np
    import torch

    from benchmarks.bench_sac_update import ACTION_SIZE, BATCH_SIZE, OBSERVATION_SIZE, make_bare_learner

    rng = np.random.default_rng(seed)
    sample, update = make_bare_learner(torch)
    capacity = 1_000_000
    sizes = [OBSERVATION_SIZE, ACTION_SIZE, 1, 1, OBSERVATION_SIZE]
    rows = np.zeros((capacity, sum(sizes)), np.float32)
    env = gymnasium.make("HalfCheetah-v5")
    now = env.reset(seed=seed)[0].astype(np.float32)
    for step in range(capacity):
        if marks.step(step, max(0, step - 100)):
            return
        if step < 100:
            action = rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32)
        else:
            with torch.no_grad():
                action = sample(torch.from_numpy(now)[None])[0][0].numpy()
        after, reward, terminated, truncated, _ = env.step(action)
        after = after.astype(np.float32)
        rows[step] = np.concatenate([now, action, [reward, 1.0 - terminated], after])
        now = env.reset()[0].astype(np.float32) if terminated or truncated else after
        if step >= 100:
            batch = torch.from_numpy(rows[rng.integers(step + 1, size=BATCH_SIZE)]).split(sizes, 1)
            update(batch[0], batch[1], batch[2][:, 0], batch[3][:, 0], batch[4])


def train_dqn(marks: _job.Marks, seed: int) -> None:
    """Train DQN on CartPole-v1, with the settings of RL Zoo, until the marks say that it is enough."""
    import gymnasium
    import numpy as np
    import torch

    from benchmarks.bench_dqn_update import GAMMA as discount
    from benchmarks.bench_dqn_update import make_bare_learner

    rng = np.random.default_rng(seed)
    q, update = make_bare_learner()
    capacity, sizes = 100_000, [4, 1, 1, 1, 4]
    rows = np.zeros((capacity, sum(sizes)), np.float32)
    env = gymnasium.make("CartPole-v1")
    now = env.reset(seed=seed)[0]
    step = updates = 0
    while True:
        for _ in range(256):
            if rng.random() < max(0.04, 1 - 0.96 * step / 8000):
                action = int(rng.integers(2))
            else:
                with torch.no_grad():
                    action = int(q(torch.from_numpy(now)[None]).argmax())
            after, reward, terminated, truncated, _ = env.step(action)
            rows[step % capacity] = np.concatenate([now, [action, reward, 0.0 if terminated else discount], after])
            now = env.reset()[0] if terminated or truncated else after
            step += 1
        if marks.step(step, updates):
            return
        if step < 1000:
            continue
        for _ in range(128):
            s, a, r, d, s1 = torch.from_numpy(rows[rng.integers(min(step, capacity), size=64)]).split(sizes, 1)
            update(s, a.long(), r[:, 0], d[:, 0], s1)
            updates += 1


def main() -> None:
    """Train and write the marks."""
    arguments = _job.parse_arguments(JOBS)
    import torch
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    marks = _job.Marks(arguments)
    train = {"ppo_cart_pole": train_ppo, "sac_halfcheetah": train_sac, "dqn_cart_pole": train_dqn}[arguments.job]
    train(marks, arguments.seed)
    marks.write()


if __name__ == "__main__":
    main()
