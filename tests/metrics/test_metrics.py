"""Metrics against a naive episode-by-episode computation, fed by steps, by unrolls, and across resumes."""

import copy
import logging

import numpy as np
import pytest
import torch
from absl import logging as absl_logging

import alf.metrics as metrics
import alf.nest as nest
from alf.data_structures import StepType, TimeStep

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


def make_time_steps(step_types, rewards, env_info=()):
    """Return time-major time steps from [T, B] lists."""
    step_type = torch.tensor(step_types, dtype=torch.int32)
    return TimeStep(
        step_type=step_type,
        reward=torch.tensor(rewards, dtype=torch.float32),
        discount=torch.ones(step_type.shape),
        observation=torch.zeros(*step_type.shape, 2),
        env_info=env_info,
    )


def random_time_steps(num_steps, num_envs, seed, end_probability=0.2, reward_shape=()):
    """Return [T, B] time steps of environments that follow FIRST MID* LAST, with rewards and infos also at FIRST."""
    rng = np.random.default_rng(seed)
    step_types = np.zeros((num_steps, num_envs), np.int64)
    previous = np.full(num_envs, LAST)
    for t in range(num_steps):
        ends = rng.random(num_envs) < end_probability
        step_types[t] = previous = np.where(previous == LAST, FIRST, np.where(ends, LAST, MID))
    rewards = rng.normal(size=(num_steps, num_envs, *reward_shape))
    info = {
        "success": torch.from_numpy(rng.random((num_steps, num_envs)) < 0.5),
        "place": torch.from_numpy(rng.normal(size=(num_steps, num_envs, 2))),
    }
    return make_time_steps(step_types, rewards, info)


def rows(time_steps, begin, end):
    return nest.map_structure(lambda leaf: leaf[begin:end], time_steps)


def row(time_steps, t):
    return nest.map_structure(lambda leaf: leaf[t], time_steps)


def episodes(time_steps):
    """Return the finished episodes in the order of their ends, each a list of time indices and its environment."""
    found = []
    num_steps, num_envs = time_steps.step_type.shape
    under_way = [[] for _ in range(num_envs)]
    for t in range(num_steps):
        for b in range(num_envs):
            kind = int(time_steps.step_type[t, b])
            if kind == FIRST:
                under_way[b] = []
            else:
                under_way[b].append(t)
            if kind == LAST:
                found.append((b, under_way[b]))
    return found


def naive_results(time_steps, gamma, buffer_size):
    """Return what every metric should give, computed episode by episode from the definitions."""
    returns, lengths, discounted, starts, means, success, place = [], [], [], [], [], [], []
    for b, times in episodes(time_steps):
        rewards = time_steps.reward[times, b].double().numpy()
        returns.append(rewards.sum(axis=0))
        lengths.append(len(times))
        from_each_step = []
        for i in range(len(rewards)):
            from_each_step.append(sum(gamma**k * reward for k, reward in enumerate(rewards[i:])))
        discounted.append(np.mean(from_each_step, axis=0))
        starts.append(from_each_step[0])
        means.append(rewards.mean(axis=0))
        success.append(time_steps.env_info["success"][times, b].double().sum())
        place.append(time_steps.env_info["place"][times, b].numpy().sum(axis=0))
    latest = {
        name: np.asarray(values)[-buffer_size:]
        for name, values in {
            "AverageReturn": returns,
            "AverageEpisodeLength": lengths,
            "AverageDiscountedReturn": discounted,
            "EpisodicStartAverageDiscountedReturn": starts,
            "AverageReward": means,
            "success": success,
            "place": place,
        }.items()
    }
    latest["NumberOfEpisodes"] = len(returns)
    latest["EnvironmentSteps"] = int((time_steps.step_type != FIRST).sum())
    return latest


def make_metrics(example, buffer_size=7):
    return [
        metrics.NumberOfEpisodes(),
        metrics.EnvironmentSteps(),
        metrics.AverageReturnMetric(example, buffer_size=buffer_size),
        metrics.AverageEpisodeLengthMetric(example, buffer_size=buffer_size),
        metrics.AverageDiscountedReturnMetric(example, buffer_size=buffer_size),
        metrics.EpisodicStartAverageDiscountedReturnMetric(example, buffer_size=buffer_size),
        metrics.AverageRewardMetric(example, buffer_size=buffer_size),
        metrics.AverageEnvInfoMetric(example, buffer_size=buffer_size),
    ]


def check_against_naive(some_metrics, expected):
    for metric in some_metrics:
        if metric.name in ("NumberOfEpisodes", "EnvironmentSteps"):
            assert int(metric.result()) == expected[metric.name]
            continue
        result, std, latest = metric.result(), metric.std(), metric.latest()
        if metric.name != "AverageEnvInfoMetric":
            result, std, latest = {metric.name: result}, {metric.name: std}, {metric.name: latest}
        for name, value in result.items():
            values = expected[name]
            np.testing.assert_allclose(value, values.mean(axis=0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(std[name], values.std(axis=0, ddof=1), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(latest[name], values[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reward_shape", [(), (3,)])
@pytest.mark.parametrize(
    "feed", ["steps", "unrolls", "ragged unrolls", "one unroll", "group steps", "group mixed"]
)
def test_all_metrics_equal_the_naive_computation(feed, reward_shape):
    time_steps = random_time_steps(60, 3, seed=1, reward_shape=reward_shape)
    some_metrics = make_metrics(row(time_steps, 0))
    if feed == "steps":
        for t in range(60):
            for metric in some_metrics:
                metric(row(time_steps, t))
    elif feed.startswith("group"):
        group = metrics.MetricsGroup(some_metrics, num_stored_steps=7)
        store = row(time_steps, 0)  # the same tensors for every step, as environments do it
        t = 0
        while t < 60:
            if feed == "group mixed" and t % 10 == 5:
                group.call_unroll(rows(time_steps, t, t + 4))
                t += 4
                continue
            store = nest.map_structure(
                lambda out, leaf: out.copy_(leaf), nest.map_structure(torch.clone, store), row(time_steps, t)
            )
            group(store)
            nest.map_structure(lambda leaf: leaf.zero_(), store)
            t += 1
        some_metrics = group.metrics
    else:
        cuts = {
            "unrolls": range(0, 61, 12),
            "ragged unrolls": [0, 1, 2, 9, 10, 33, 60],
            "one unroll": [0, 60],
        }[feed]
        for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
            metrics.update_metrics(some_metrics, rows(time_steps, begin, end))
    check_against_naive(some_metrics, naive_results(time_steps, 0.99, 7))


def test_hand_computed_episode():
    # FIRST carries a reward of 100 that must not count; the episode's rewards are 1, 2, 3
    time_steps = make_time_steps([[FIRST], [MID], [MID], [LAST]], [[100.0], [1.0], [2.0], [3.0]])
    example = row(time_steps, 0)
    some_metrics = [
        metrics.AverageReturnMetric(example),
        metrics.AverageEpisodeLengthMetric(example),
        metrics.AverageDiscountedReturnMetric(example, discount=0.5),
        metrics.AverageDiscountedReturnMetric(example, discount=1.0),
        metrics.AverageRewardMetric(example),
        metrics.EnvironmentSteps(),
    ]
    metrics.update_metrics(some_metrics, time_steps)
    results = [float(metric.result()) for metric in some_metrics]
    # returns with discount 0.5: 1 + 1 + 0.75, 2 + 1.5, 3; with discount 1: 6, 5, 3
    np.testing.assert_allclose(results, [6.0, 3.0, (2.75 + 3.5 + 3.0) / 3, (6 + 5 + 3) / 3, 2.0, 3])


def test_reward_transformer_comes_before_the_discount():
    time_steps = make_time_steps([[FIRST], [MID], [LAST]], [[0.0], [10.0], [-10.0]])
    metric = metrics.AverageDiscountedReturnMetric(
        row(time_steps, 0), discount=0.5, reward_transformer=lambda reward: reward.clamp(-1, 1)
    )
    metric.call_unroll(time_steps)
    assert float(metric.result()) == ((1 - 0.5) + -1) / 2


def test_episode_of_length_one_at_every_end():
    time_steps = make_time_steps([[FIRST], [LAST], [FIRST], [LAST]], [[0.0], [1.0], [0.0], [5.0]])
    metric = metrics.AverageReturnMetric(row(time_steps, 0))
    metric.call_unroll(time_steps)
    assert float(metric.result()) == 3.0 and float(metric.latest()) == 5.0


def test_episode_cut_off_by_a_new_first_is_not_counted():
    time_steps = make_time_steps([[FIRST], [MID], [FIRST], [LAST]], [[0.0], [1.0], [0.0], [5.0]])
    metric = metrics.AverageReturnMetric(row(time_steps, 0))
    metric.call_unroll(time_steps)
    assert float(metric.result()) == 5.0


def test_before_the_first_episode_results_are_zero_and_not_summarized():
    time_steps = random_time_steps(2, 3, seed=0, reward_shape=(2,))
    metric = metrics.AverageReturnMetric(row(time_steps, 0))
    assert not metric.has_result()
    for value in (metric.result(), metric.std(), metric.latest()):
        torch.testing.assert_close(value, torch.zeros(2))


def test_counters_are_exact_int64():
    metric = metrics.EnvironmentSteps()
    metric.set_extra_state({"count": 2**53})
    metric(row(make_time_steps([[MID, FIRST]], [[0.0, 0.0]]), 0))
    assert metric.result().dtype == torch.int64 and int(metric.result()) == 2**53 + 1
    assert int(metric.std()) == 0


def test_sums_do_not_lose_small_rewards_after_large_ones():
    rewards = [[0.0], [1e8], [-1e8]] + [[1.0]] * 10
    time_steps = make_time_steps([[FIRST]] + [[MID]] * 11 + [[LAST]], rewards)
    metric = metrics.AverageReturnMetric(row(time_steps, 0))
    metric.call_unroll(time_steps)
    assert float(metric.result()) == 10.0


def test_env_info_fields_are_chosen_and_unknown_ones_told():
    time_steps = random_time_steps(30, 2, seed=2)
    metric = metrics.AverageEnvInfoMetric(row(time_steps, 0), fields=["success"])
    metric.call_unroll(time_steps)
    assert set(metric.result()) == {"success"}
    with pytest.raises(ValueError, match=r"no field 'sucess'. Nearest: \['success'\]"):
        metrics.AverageEnvInfoMetric(row(time_steps, 0), fields=["sucess"])


def test_empty_env_info_gives_an_empty_result():
    time_steps = make_time_steps([[FIRST], [LAST]], [[0.0], [1.0]])
    metric = metrics.AverageEnvInfoMetric(row(time_steps, 0))
    metric.call_unroll(time_steps)
    assert metric.result() == () and not metric.has_result()


def test_reset_forgets_finished_episodes_and_those_under_way():
    time_steps = make_time_steps(
        [[FIRST], [LAST], [FIRST], [MID], [LAST]], [[0.0], [1.0], [0.0], [10.0], [2.0]]
    )
    metric, counter = metrics.AverageReturnMetric(row(time_steps, 0)), metrics.NumberOfEpisodes()
    metrics.update_metrics([metric, counter], rows(time_steps, 0, 4))
    for m in (metric, counter):
        m.reset()
    assert not metric.has_result() and int(counter.result()) == 0
    metrics.update_metrics([metric, counter], rows(time_steps, 4, 5))
    assert float(metric.result()) == 2.0 and int(counter.result()) == 1


def test_step_type_without_time_dimension_is_refused():
    time_steps = random_time_steps(3, 2, seed=0)
    with pytest.raises(ValueError, match=r"step_type of shape \[T, B\], got shape \(2,\)"):
        metrics.update_metrics([metrics.EnvironmentSteps()], row(time_steps, 0))


def test_metric_with_call_only_is_fed_step_by_step():

    class LargestReward(metrics.StepMetric):
        def __init__(self):
            super().__init__(name="LargestReward", dtype=torch.float32)
            self.largest = []

        def call(self, time_step):
            self.largest.append(float(time_step.reward.max()))
            assert time_step.observation.shape == (2, 2)

    time_steps = random_time_steps(5, 2, seed=3)
    metric = LargestReward()
    metrics.MetricsGroup([metric, metrics.EnvironmentSteps()]).call_unroll(time_steps)
    assert metric.largest == time_steps.reward.amax(dim=1).tolist()


def test_metrics_can_be_copied():
    time_steps = random_time_steps(40, 2, seed=4)
    metric = metrics.AverageReturnMetric(row(time_steps, 0))
    metric.call_unroll(rows(time_steps, 0, 20))
    twin = copy.deepcopy(metric)
    before = metric.result().clone()
    twin.call_unroll(rows(time_steps, 20, 40))
    assert torch.equal(metric.result(), before) and not torch.equal(twin.result(), before)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("cut", [1, 17, 30])
def test_resume_in_the_middle_of_episodes_is_exact(cut):
    time_steps = random_time_steps(60, 3, seed=5)
    example = row(time_steps, 0)
    straight = torch.nn.ModuleList(make_metrics(example))
    metrics.update_metrics(straight, rows(time_steps, 0, cut))
    state = copy.deepcopy(straight.state_dict())
    resumed = torch.nn.ModuleList(make_metrics(example))
    resumed.load_state_dict(state)
    for some_metrics in (straight, resumed):
        metrics.update_metrics(some_metrics, rows(time_steps, cut, 60))
    for a, b in zip(straight, resumed, strict=True):
        nest.map_structure(torch.testing.assert_close, (a.result(), a.std()), (b.result(), b.std()))
    check_against_naive(resumed, naive_results(time_steps, 0.99, 7))


def test_group_takes_in_stored_steps_before_its_state_is_saved():
    time_steps = random_time_steps(10, 2, seed=6)
    group = metrics.MetricsGroup(make_metrics(row(time_steps, 0)), num_stored_steps=100)
    for t in range(10):
        group(row(time_steps, t))
    other = metrics.MetricsGroup(make_metrics(row(time_steps, 0)))
    other.load_state_dict(group.state_dict())
    assert int(other.metrics[1].result()) == int((time_steps.step_type != FIRST).sum()) > 0


@pytest.fixture
def warnings(caplog):
    absl_logging.get_absl_logger().propagate = True
    caplog.set_level(logging.WARNING, logger="absl")
    return caplog


def test_resume_with_other_number_of_environments_keeps_finished_episodes(warnings):
    three, two = random_time_steps(40, 3, seed=7), random_time_steps(40, 2, seed=8)
    old, new = metrics.AverageReturnMetric(row(three, 0)), metrics.AverageReturnMetric(row(two, 0))
    old.call_unroll(three)
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.result(), old.result())
    assert "3 environments in the checkpoint, 2 now" in warnings.text
    new.call_unroll(two)


def test_resume_with_smaller_buffer_keeps_the_latest_episodes():
    time_steps = random_time_steps(60, 3, seed=9)
    old = metrics.AverageReturnMetric(row(time_steps, 0), buffer_size=10)
    new = metrics.AverageReturnMetric(row(time_steps, 0), buffer_size=3)
    old.call_unroll(time_steps)
    new.load_state_dict(old.state_dict())
    np.testing.assert_allclose(
        new.result(), naive_results(time_steps, 0.99, 3)["AverageReturn"].mean(), rtol=1e-5
    )


def test_state_that_comes_before_the_structure_is_known_is_kept():
    time_steps = random_time_steps(60, 3, seed=10)

    class Return(metrics.AverageEpisodicAggregationMetric):
        def _extract_metric_values(self, time_step):
            return time_step.reward

    old, new, untouched = Return(), Return(), Return()
    old.call_unroll(rows(time_steps, 0, 30))
    new.load_state_dict(old.state_dict())
    untouched.load_state_dict(new.state_dict())
    untouched.call_unroll(rows(time_steps, 30, 60))
    np.testing.assert_allclose(
        untouched.result(), naive_results(time_steps, 0.99, 10)["AverageReturn"].mean(), rtol=1e-5
    )


def test_metric_buffer_keeps_the_latest_values():
    buffer = metrics.MetricBuffer(2, torch.float32)
    assert float(buffer.mean()) == float(buffer.latest()) == float(buffer.std()) == 0.0
    for value in (1, 2.0, torch.tensor(4.0)):
        buffer.append(value)
    assert (float(buffer.mean()), float(buffer.latest()), len(buffer)) == (3.0, 4.0, 2)
    assert float(buffer.std()) == pytest.approx(2**0.5)
    buffer.clear()
    assert len(buffer) == 0
    with pytest.raises(ValueError, match="max_len: expected a number >= 1, got 0"):
        metrics.MetricBuffer(0, torch.float32)
