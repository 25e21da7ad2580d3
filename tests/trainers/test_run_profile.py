"""Which iterations of a run are profiled, what is written, and what is advised."""

import json

import pretend_gpu
import pytest

import alf
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.networks import ActorDistributionNetwork, CriticNetwork, ValueNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.trainers import _run_profile
from alf.trainers._profile_report import ProfileResult, advice, told_bottleneck, told_profile
from alf.trainers._run_profile import RunProfile
from alf.utils import profiling
from alf.utils.profiling import PHASES, Phase, scope


@pytest.fixture(autouse=True)
def nobody_profiles_afterwards():
    yield
    profiling.activate(None)


def make(**kwargs):
    told = []
    return RunProfile(TrainerConfig(root_dir=""), Algorithm(), 4, tell=told.append, **kwargs), told


def run(profile, iterations, updates=True):
    """Do iterations, given as numbers, of 10 environment steps each."""
    for i in iterations:
        with scope("policy"):
            pass
        with scope("update"):
            if updates:
                profiling.count_update()
        profile.count_iteration(i, 10 * i)


def test_measures_what_is_asked_for_after_three_iterations_that_update(tmp_path):
    profile, told = make(num_iterations=4, directory=str(tmp_path / "profile"))
    profile.begin()
    run(profile, range(1, 6), updates=False)  # stored experience is still too little
    run(profile, range(6, 9))
    assert profiling.active() is not None and not profile.is_over
    run(profile, range(9, 13))
    assert profile.is_over and profiling.active() is None
    result = profile.result
    assert (result.first_iteration, result.num_iterations, result.env_steps) == (9, 4, 40)
    assert result.phases["update"].calls == result.phases["policy"].calls == result.num_updates == 4
    run(profile, range(13, 20))  # training goes on, unseen
    profile.close()
    assert len(told) == 1 and profile.result is result

    numbers = json.loads((tmp_path / "profile" / "profile.json").read_text())
    assert sum(phase["seconds"] for phase in numbers["phases"].values()) == pytest.approx(numbers["seconds"])
    assert sum(phase["share"] for phase in numbers["phases"].values()) == pytest.approx(1)
    assert numbers["bottleneck"] == next(iter(numbers["phases"]))
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    assert [e["name"] for e in trace["traceEvents"] if e["ph"] == "X"] == ["policy", "update"] * 4
    assert (tmp_path / "profile" / "profile.txt").read_text() == told[0] + "\n"


@pytest.mark.parametrize("seconds_per_iteration, expected", [(0.1, 100), (1.0, 20), (10.0, 6)])
def test_default_length_follows_how_long_iterations_are(monkeypatch, seconds_per_iteration, expected):
    now = 0.0
    monkeypatch.setattr(_run_profile.time, "monotonic", lambda: now)
    profile, _ = make()
    profile.begin()
    for i in range(1, 1000):
        run(profile, [i])
        now += seconds_per_iteration
    assert profile.result.num_iterations == pytest.approx(expected, abs=1)


def test_a_run_that_ends_early_is_told_with_what_there_is():
    profile, told = make(num_iterations=100)
    profile.begin()
    run(profile, range(1, 6))
    profile.close()
    assert profile.result.num_iterations == 2
    assert "profile of iterations 4 to 5: 20 environment steps" in told[0]


def test_a_run_that_ends_in_the_warm_up_says_that_nothing_was_measured():
    profile, told = make()
    profile.begin()
    run(profile, range(1, 4))
    profile.close()
    assert profile.result is None and profiling.active() is None
    assert told == ["profile: nothing was measured: the run ended after 3 iterations, and the first 3 that update are "
                    "a warm-up."]


def test_what_other_processes_do_is_said_not_to_be_seen():
    told = []
    config = TrainerConfig(root_dir="", async_unroll=True, max_unroll_length=4, evaluate=True, async_eval=True)
    profile = RunProfile(config, Algorithm(), 4, num_iterations=1, tell=told.append)
    profile.begin()
    run(profile, range(1, 5))
    assert "not seen: what the process that unrolls does" in told[0]
    assert "not seen: the process that evaluates" in told[0]


RESULT = ProfileResult(
    first_iteration=4, num_iterations=10, env_steps=5000, num_updates=10, seconds=2.0, beside={},
    phases={"update": Phase(1_500_000_000, 10), "policy": Phase(400_000_000, 1200), "other": Phase(100_000_000, 10)})


def test_table_has_a_line_for_each_phase_and_their_sum():
    assert told_profile(RESULT).splitlines() == [
        "profile of iterations 4 to 13: 5,000 environment steps, 2,500 steps/s",
        "phase   seconds    share  ms/iteration  calls",
        "update    1.500   75.0 %       150.000     10",
        "policy    0.400   20.0 %        40.000  1,200",
        "other     0.100    5.0 %        10.000     10",
        "all       2.000  100.0 %       200.000",
    ]


OBSERVATION, ACTION = TensorSpec((3, )), BoundedTensorSpec((2, ), minimum=-1.0, maximum=1.0)


@pytest.fixture
def a2c():
    return ActorCriticAlgorithm(OBSERVATION, ACTION, actor_network_ctor=ActorDistributionNetwork,
                                value_network_ctor=ValueNetwork)


@pytest.fixture
def sac():
    return SacAlgorithm(OBSERVATION, ACTION, actor_network_cls=ActorDistributionNetwork,
                        critic_network_cls=CriticNetwork, actor_optimizer=alf.optimizers.Adam(),
                        critic_optimizer=alf.optimizers.Adam(), alpha_optimizer=alf.optimizers.Adam())


def test_bottleneck_is_named_with_the_values_of_the_run(sac):
    told = told_bottleneck(RESULT, TrainerConfig(root_dir="", num_updates_per_train_iter=20), sac, 4)
    assert told.startswith('bottleneck: update, 75 %. Compile updates (TrainerConfig.compile="default").')
    assert "num_updates_per_train_iter=20" in told
    compiled = told_bottleneck(RESULT, TrainerConfig(root_dir="", compile="default"), sac, 4)
    assert "Compile" not in compiled


def test_on_a_gpu_cuda_graphs_are_advised(sac):
    with pretend_gpu.default_device():
        told = advice("update", TrainerConfig(root_dir=""), sac, num_environments=4)
    assert 'TrainerConfig.compile="cuda-graph"' in told


@pytest.mark.parametrize("phase", [*PHASES, "mine"])
def test_there_is_advice_about_every_phase(phase, a2c, sac):
    told = advice(phase, TrainerConfig(root_dir=""), sac, num_environments=30)
    assert told.endswith(".") and "{" not in told
    assert ("scope of your own" in told) == (phase == "mine")
    if phase == "environment":
        assert "num_parallel_environments=30" in told
    on_policy = advice(phase, TrainerConfig(root_dir=""), a2c, num_environments=30)
    assert on_policy.endswith(".") and "{" not in on_policy


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_advised_that_an_on_policy_algorithm_cannot_do(phase, a2c):
    told = advice(phase, TrainerConfig(root_dir=""), a2c, num_environments=30)
    for setting in ("compile", "num_updates_per_train_iter", "mini_batch_size", "async_unroll", "ReplayBuffer"):
        assert setting not in told
    assert ("unroll_length=8" in told) == (phase in ("update", "other"))


def test_compiling_is_not_advised_where_a_class_does_not_say_that_it_can_be_compiled(sac):
    class Other(SacAlgorithm):
        pass

    sac.__class__ = Other
    assert "compile" not in advice("update", TrainerConfig(root_dir=""), sac, num_environments=4)


def test_advice_names_the_replay_ratio_where_it_decides_about_updates(sac):
    config = TrainerConfig(root_dir="", whole_replay_buffer_training=False, replay_ratio=2.0)
    for phase in ("update", "sampling", "waiting", "other"):
        told = advice(phase, config, sac, num_environments=4)
        assert "replay_ratio=2.0" in told and "num_updates_per_train_iter" not in told


def test_a_profile_without_updates_says_so():
    profile, told = make(num_iterations=2)
    profile.begin()
    run(profile, range(1, 4))
    run(profile, range(4, 6), updates=False)
    assert profile.result.num_updates == 0 and "no update was made in these iterations" in told[0]


def test_a_profile_that_is_closed_twice_is_told_once():
    profile, told = make()
    profile.begin()
    run(profile, range(1, 4))
    profile.close()
    profile.close()
    assert len(told) == 1
