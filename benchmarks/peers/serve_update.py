"""Makes updates by us, by a bare loop and by peers, for bench_update.py. See _server.py."""

import time

import _server

NAMES = {"ppo": "ppo_cart_pole", "sac": "sac_halfcheetah", "dqn": "dqn_cart_pole"}
PPO_UPDATES, DQN_UPDATES = 20, 128  # of one call


def rate(function, num_updates: int):
    """Return what measures microseconds of an update for about so many seconds.

    Args:
        function: makes updates.
        num_updates: of one call.
    """
    def measure(seconds: float) -> float:
        calls, began = 0, time.perf_counter()
        while True:
            function()
            calls += 1
            passed = time.perf_counter() - began
            if passed >= seconds:
                return 1e6 * passed / (calls * num_updates)

    return measure


def of_this_checkout(candidate: str, case: str):
    """Return a function that makes updates, and how many.

    Args:
        candidate: ``"alf"``, ``"alf compiled"``, ``"bare"`` or ``"bare compiled"``.
        case: one of NAMES.
    Raises:
        LookupError: if there is no such candidate in this case.
    """
    import torch

    from benchmarks import bench_dqn_update, bench_ppo_update, bench_sac_update

    torch.set_num_threads(1)
    if candidate.startswith("bare"):
        if candidate == "bare compiled" and case != "ppo":
            raise LookupError("compiling makes the bare loop slower there")
        if case == "ppo":
            return bench_ppo_update.bare_loop(candidate == "bare compiled"), 1
        return (bench_sac_update.make_bare_update(torch) if case == "sac" else bench_dqn_update.bare_loop(64)), 1
    if case == "ppo":
        mode = "default" if candidate == "alf compiled" else None
        return bench_ppo_update.our_algorithm(mode), PPO_UPDATES
    if candidate == "alf compiled":
        raise LookupError("measured for PPO only")
    if case == "sac":
        return bench_sac_update.make_our_update(torch), 1
    return bench_dqn_update.our_algorithm(64, DQN_UPDATES), DQN_UPDATES


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
    if candidate.startswith(("alf", "bare")):
        function, number = of_this_checkout(candidate, case)
    elif candidate == "torchrl":
        function, number = of_torchrl(case)
    else:
        function, number = of_stable_baselines3(candidate, case)
    for _ in range(2):  # compiles
        function()
    return rate(function, number), lambda: None, ""


if __name__ == "__main__":
    _server.serve(open_case)
