"""Makes updates by us, by a bare loop and by peers, for bench_update.py. See _server.py.

What is ours is made on the device that the variable ALF_BENCH_DEVICE names, "cpu" or "cuda"; peers are on the CPU.
"""

import os
import time

import _server

NAMES = {"ppo": "ppo_cart_pole", "sac": "sac_halfcheetah", "dqn": "dqn_cart_pole"}
PPO_UPDATES, DQN_UPDATES = 20, 128  # of one call
MODES = {"alf": None, "alf compiled": "default", "alf cuda graph": "cuda-graph"}


def rate(function, num_updates: int, finish):
    """Return what measures microseconds of an update for about so many seconds.

    Args:
        function: makes updates.
        num_updates: of one call.
        finish: waits until they are made.
    """
    def measure(seconds: float) -> float:
        calls, began = 0, time.perf_counter()
        while True:
            function()
            calls += 1
            passed = time.perf_counter() - began
            if passed >= seconds:
                finish()
                return 1e6 * (time.perf_counter() - began) / (calls * num_updates)

    return measure


def of_this_checkout(candidate: str, case: str):
    """Return a function that makes updates, and how many.

    Args:
        candidate: one of MODES, ``"bare"`` or ``"bare compiled"``.
        case: one of NAMES.
    Raises:
        LookupError: if there is no such candidate in this case.
    """
    import torch

    import alf
    from alf.utils.common import keep_freed_memory
    from benchmarks import bench_dqn_update, bench_ppo_update, bench_sac_update

    device = os.environ.get("ALF_BENCH_DEVICE", "cpu")
    if candidate == "alf cuda graph" and device == "cpu":
        raise LookupError("for GPUs")
    alf.set_default_device(device)
    keep_freed_memory()  # as the train command does
    torch.set_num_threads(1)
    if candidate.startswith("bare"):
        if candidate == "bare compiled" and case != "ppo":
            raise LookupError("compiling makes the bare loop slower there")
        if case == "ppo":
            return bench_ppo_update.bare_loop(candidate == "bare compiled"), 1
        return (bench_sac_update.make_bare_update(torch) if case == "sac" else bench_dqn_update.bare_loop(64)), 1
    mode = MODES[candidate]
    if case == "ppo":
        return bench_ppo_update.our_algorithm(mode), PPO_UPDATES
    if case == "sac":
        return bench_sac_update.make_our_update(torch, dict(compile=mode)), 1
    return bench_dqn_update.our_algorithm(64, DQN_UPDATES, mode), DQN_UPDATES


def of_stable_baselines3(candidate: str, case: str):
    """Return a function that makes updates, and how many, by Stable-Baselines3 or sbx after a short training.

    Args:
        candidate: ``"sb3"`` or ``"sbx"``.
        case: one of NAMES.
    """
    import run_sb3

    if candidate == "sb3":
        import torch
        torch.set_num_threads(1)
    model = run_sb3.make_model(NAMES[case], 1, candidate == "sbx")
    model.learn({"ppo": 256, "sac": 150, "dqn": 1280}[case])
    if case == "ppo":
        return model.train, PPO_UPDATES
    number = 10 if case == "sac" else DQN_UPDATES
    batch_size = 256 if case == "sac" else 64
    return (lambda: model.train(gradient_steps=number, batch_size=batch_size)), number


def of_torchrl(case: str):
    """Return a function that makes updates, and how many, by TorchRL.

    Args:
        case: one of NAMES.
    """
    import run_torchrl
    import torch

    torch.set_num_threads(1)
    if case == "dqn":
        collector, _, buffer, update = run_torchrl.dqn_parts(1)
        for number, data in enumerate(collector):
            buffer.extend(data.reshape(-1))
            if number == 4:
                break
        return (lambda: update(buffer.sample())), 1
    if case == "sac":
        collector, buffer, update = run_torchrl.sac_parts(1)
        for number, data in enumerate(collector):
            buffer.extend(data.reshape(-1))
            if number == 150:
                break
        return (lambda: update(buffer.sample())), 1
    collector, prepare, update = run_torchrl.ppo_parts(1)
    batch = prepare(next(iter(collector)))
    return (lambda: update(batch)), 1


def open_case(candidate: str, case: str) -> _server.Opened:
    """Return how to measure microseconds of an update.

    Args:
        candidate: who makes it.
        case: one of NAMES.
    """
    finish = _nothing
    if candidate.startswith(("alf", "bare")):
        import torch
        function, number = of_this_checkout(candidate, case)
        if torch.get_default_device().type == "cuda":
            finish = torch.cuda.synchronize
    elif candidate == "torchrl":
        function, number = of_torchrl(case)
    else:
        function, number = of_stable_baselines3(candidate, case)
    for _ in range(2):  # compiles
        function()
    return rate(function, number, finish), _nothing, ""


def _nothing():
    pass


if __name__ == "__main__":
    _server.serve(open_case)
