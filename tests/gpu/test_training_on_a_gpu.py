"""Training on a GPU, or on a pretended one where there is none: it gives what training on the CPU gives, what is on the
GPU stays there, and nothing waits for it that need not."""

import json
import pathlib

import pytest
import torch
from command_line import final_state

HERE = pathlib.Path(__file__).parent
CONFS = HERE.parent / "bin"
EXAMPLES = HERE.parents[1] / "alf" / "examples"
OFF_POLICY = "off_policy_conf.py"
RING_THERE = "ring_there=True"


def method(name):
    return f"_CONFIG._USER.method='{name}'"


def start(commands, root_dir, device, conf, *params, lines="", **environment):
    """Train a conf of the commands' tests, with lines added to it, on a device."""
    path = root_dir.parent / "gpu_conf.py"
    path.write_text(f"""
import os
import sys
sys.path.insert(0, {str(HERE)!r})
import pretend_gpu
pretend_gpu.plug_in()
import alf
device = os.environ["ALF_TEST_DEVICE"]
alf.set_default_device(device)
if alf.define_config("ring_there", False):
    alf.config("ReplayBuffer", device=device)
alf.import_config({str(CONFS / conf)!r})
{lines}""")
    arguments = [word for param in params for word in ("--conf_param", param)]
    return commands.run("train", "--conf", path, "--root_dir", root_dir, *arguments, ALF_TEST_DEVICE=device,
                        **environment)


def train(*args, **kwargs):
    """The same; it must succeed."""
    done = start(*args, **kwargs)
    assert done.code == 0, done.stderr
    return done


# Exploration is such that the same random numbers are drawn on both devices.
CASES = {
    "A2C, worker processes": ("a2c_conf.py", "create_environment.num_workers=1"),
    "PPO": ("tiny_conf.py",),
    "PPO, native batch": ("tiny_conf.py", "create_environment.num_workers=None"),
    "PPO, evaluation": ("tiny_conf.py", "TrainerConfig.evaluate=True", "TrainerConfig.async_eval=False",
                        "TrainerConfig.eval_interval=3", "TrainerConfig.num_eval_episodes=2"),
    "PPO, normalizers": ("normalizing_conf.py", "TrainerConfig.evaluate=False"),
    "PPO, recurrent": ("recurrent_conf.py",),
    "SAC": (OFF_POLICY, method("sac")),
    "SAC, ring there": (OFF_POLICY, method("sac"), RING_THERE),
    "DDPG": (OFF_POLICY, method("ddpg")),
    "TD3": (OFF_POLICY, method("td3"), RING_THERE),
    "DQN": (OFF_POLICY, method("dqn"), RING_THERE, "DqnAlgorithm.rollout_epsilon_greedy=0.0"),
    "Rainbow": (OFF_POLICY, method("rainbow")),
    "R2D2": (OFF_POLICY, method("r2d2"), RING_THERE, "R2d2Algorithm.rollout_epsilon_greedy=1.0"),
}


def assert_close(expected, found):
    """What two runs saved is the same, but for rounding."""
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            scale = float(value.double().abs().max()) if value.numel() else 0.0
            assert torch.allclose(found[name].double(), value.double(), rtol=1e-3, atol=1e-4 * scale), (
                name, value, found[name])
        else:
            assert value == found[name], name


@pytest.mark.parametrize("case", CASES)
def test_it_ends_where_training_on_the_cpu_ends(commands, tmp_path, case):
    for device in ("cpu", "cuda"):
        train(commands, tmp_path / device, device, *CASES[case])
    assert_close(final_state(tmp_path / "cpu"), final_state(tmp_path / "cuda"))


QUIET = ("TrainerConfig.summary_interval=5", "TrainerConfig.summarize_first_interval=False")
RECORDED = "TrainerConfig.compile='cuda-graph'"


@pytest.mark.parametrize("case, enable_amp", [
    *[(case, False) for case in CASES if case.startswith(("PPO", "SAC", "DDPG", "TD3", "DQN", "Rainbow"))],
    ("PPO", True), ("SAC", True)])
def test_updates_as_cuda_graphs_are_those_of_plain_pytorch(commands, tmp_path, case, enable_amp):
    settings = (*CASES[case], *QUIET, f"TrainerConfig.enable_amp={enable_amp}")
    train(commands, tmp_path / "plain", "cuda", *settings)
    done = train(commands, tmp_path / "recorded", "cuda", *settings, RECORDED)
    assert "(cuda-graph): " in done.stderr and "compiled the update of" in done.stderr
    assert_close(final_state(tmp_path / "plain"), final_state(tmp_path / "recorded"))


def test_a_run_with_cuda_graphs_goes_on_exactly(commands, tmp_path):
    conf, *params = CASES["SAC, ring there"]
    for root_dir, num_iterations in (("whole", 12), ("run", 6), ("run", 12)):
        train(commands, tmp_path / root_dir, "cuda", conf, *params, *QUIET, RECORDED,
              f"TrainerConfig.num_iterations={num_iterations}")
    whole, run = final_state(tmp_path / "whole"), final_state(tmp_path / "run")
    # Metrics are summed up whenever a run ends.
    assert all(torch.equal(value, run[name]) for name, value in whole.items()
               if isinstance(value, torch.Tensor) and not name.startswith("metrics"))


@pytest.mark.parametrize("conf", ["tiny_conf.py", OFF_POLICY])
def test_mixed_precision_scales_the_loss(commands, tmp_path, conf):
    train(commands, tmp_path / "run", "cuda", conf, "TrainerConfig.enable_amp=True")
    scalers = [state["_optimizers.loss_scaler"] for name, state in final_state(tmp_path / "run").items()
               if name.endswith(".json") and "_optimizers.loss_scaler" in state]
    assert scalers and all(scaler["scale"] == 2.0**16 for scaler in scalers)


@pytest.mark.parametrize("conf", ["tiny_conf.py", OFF_POLICY])
def test_processes_that_unroll_and_evaluate_use_it_too(commands, tmp_path, conf):
    done = train(commands, tmp_path / "run", "cuda", conf, "TrainerConfig.async_unroll=True",
                 "TrainerConfig.evaluate=True", "TrainerConfig.eval_interval=3", "TrainerConfig.num_eval_episodes=1")
    done.assert_nobody_left()
    assert (tmp_path / "run" / "eval" / "metrics.jsonl").read_text()


def test_a_run_goes_on_where_there_is_no_gpu_and_back(commands, tmp_path):
    conf, *params = CASES["SAC, ring there"]
    for device, num_iterations in (("cuda", 6), ("cpu", 12), ("cuda", 18)):
        done = train(commands, tmp_path / "run", device, conf, *params,
                     f"TrainerConfig.num_iterations={num_iterations}")
        assert ("resumed from iteration" in done.stderr) == (num_iterations > 6)
    train(commands, tmp_path / "whole", "cpu", conf, *params, "TrainerConfig.num_iterations=18")
    assert_close(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))


def test_stored_experience_trains_there_too(commands, tmp_path):
    train(commands, tmp_path / "made", "cuda", OFF_POLICY, method("sac"))
    stored = tmp_path / "made" / "train" / "algorithm" / "ckpt-6"
    for device in ("cpu", "cuda"):
        train(commands, tmp_path / device, device, OFF_POLICY, method("sac"), "TrainerConfig.unroll_length=0",
              f"TrainerConfig.offline_buffer_dir='{stored}'", "TrainerConfig.rl_train_after_update_steps=1000")
    assert_close(final_state(tmp_path / "cpu"), final_state(tmp_path / "cuda"))


FIFTH_LOSS_IS_NAN = """
from alf.algorithms.sac_algorithm import SacAlgorithm
calc_loss, calls = SacAlgorithm.calc_loss, []
def broken(self, info):
    calls.append(info)
    loss_info = calc_loss(self, info)
    return loss_info._replace(loss=loss_info.loss * float("nan")) if len(calls) == 5 else loss_info
SacAlgorithm.calc_loss = broken
"""


def test_a_loss_that_is_not_finite_changes_nothing_and_is_told_some_updates_later(commands, tmp_path):
    settings = (OFF_POLICY, method("sac"), "TrainerConfig.num_iterations=40", "TrainerConfig.num_checkpoints=2")
    done = start(commands, tmp_path / "raises", "cuda", *settings, lines=FIFTH_LOSS_IS_NAN)
    assert done.code == 1 and "loss or gradients are not finite. The update was not made" in done.stderr
    done = train(commands, tmp_path / "skips", "cuda", *settings, "TrainerConfig.non_finite='skip_update'",
                 lines=FIFTH_LOSS_IS_NAN)
    assert "skipped an update whose loss or gradients are not finite" in done.stderr
    assert all(bool(tensor.isfinite().all()) for tensor in final_state(tmp_path / "skips").values()
               if isinstance(tensor, torch.Tensor) and tensor.is_floating_point())


def test_memory_that_runs_out_in_an_update_keeps_what_was_learned(commands, tmp_path):
    settings = (OFF_POLICY, method("sac"), "TrainerConfig.num_iterations=20")
    done = start(commands, tmp_path / "run", "cuda", *settings, "TrainerConfig.mini_batch_size=20000",
                 ALF_TEST_GPU_BYTES="1000000")
    assert done.code == 1
    for words in ("CUDA out of memory", "Memory ran out on the GPU. An update takes 20000 sequences of 2 steps.",
                  "mini_batch_size=10000", "saved iteration"):
        assert words in done.stderr, done.stderr
    done = train(commands, tmp_path / "run", "cuda", *settings, ALF_TEST_GPU_BYTES="1000000")
    assert "resumed from iteration" in done.stderr


def counted(commands, tmp_path, *case):
    """Return what is counted in ten iterations without summaries: what waits for the GPU and how often, and what it is
    given to do in an update and elsewhere."""
    reports = []
    for num_iterations in (10, 20):
        report = tmp_path / f"{num_iterations}.json"
        train(commands, tmp_path / str(num_iterations), "cuda", *case, f"TrainerConfig.num_iterations={num_iterations}",
              "TrainerConfig.num_checkpoints=1", "TrainerConfig.summary_interval=1000",
              "TrainerConfig.summarize_first_interval=False", ALF_TEST_GPU_REPORT=str(report))
        reports.append(json.loads(report.read_text()))
    return [{what: number - reports[0][kind].get(what, 0) for what, number in reports[1][kind].items()
             if number > reports[0][kind].get(what, 0)} for kind in ("waits", "launches")]


IMAGES = {"Rainbow, images": (
    EXAMPLES / "benchmarks" / "atari" / "rainbow_pong_small_conf.py", "TrainerConfig.num_env_steps=0",
    "TrainerConfig.initial_collect_steps=40", "TrainerConfig.replay_buffer_length=100",
    "TrainerConfig.num_updates_per_train_iter=2", "TrainerConfig.random_seed=1")}
ACTIONS, COUNT, METRICS = "environments/", "algorithms/rl_algorithm.py:unroll", "nest/utils.py:_moved"
PRIORITIES, RESETS = "algorithms/_training/replay.py:_as_stored", "networks/_lstm_sequence.py:cut_at_resets"


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="only a pretended GPU counts")
@pytest.mark.parametrize("is_recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("case, expected, num_launches, num_if_recorded", [
    # of 8 steps, and 4 updates, in an iteration; metrics are measured for two or five iterations at once
    ("PPO", {ACTIONS: 80, COUNT: 10, METRICS: 5}, 168, 16),
    # of 3 steps, and 2 updates
    ("SAC, ring there", {ACTIONS: 30, COUNT: 10, METRICS: 2}, 144, 12),
    ("SAC", {ACTIONS: 30, COUNT: 10, METRICS: 2 + 10}, 144, 12),  # and what is stored, once an iteration
    ("Rainbow", {ACTIONS: 30, COUNT: 10, METRICS: 2 + 10, PRIORITIES: 20}, 334, 9),
    # of 1 step, and 2 updates with batches of images
    ("Rainbow, images", {ACTIONS: 10, COUNT: 10, METRICS: 1 + 10, PRIORITIES: 20}, 308, 14),
    # of 8 steps, and 2 updates that run over sequences three times; they cannot be recorded
    ("R2D2", {ACTIONS: 80, COUNT: 10, METRICS: 5, PRIORITIES: 30, RESETS: 60}, 479, None),
])
def test_what_an_update_waits_for_and_how_often_it_calls_the_gpu(commands, tmp_path, case, expected, num_launches,
                                                                   num_if_recorded, is_recorded):
    if is_recorded and num_if_recorded is None:
        pytest.skip("it cannot be recorded")
    waits, launches = counted(commands, tmp_path, *{**CASES, **IMAGES}[case], *[RECORDED] * is_recorded)
    found = dict.fromkeys(expected, 0)
    for place, number in waits.items():
        if "finite_guard.py:_read_flag" in place:  # reads what it found out some updates ago
            assert number <= 2
            continue
        known, = [name for name in expected if place.partition(" < ")[2].startswith(name)] or [place]
        found[known] = found.get(known, 0) + number
    assert found == expected
    assert round(launches["update"] / 20) == (num_if_recorded if is_recorded else num_launches)
