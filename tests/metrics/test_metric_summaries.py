"""The tags and steps under which metrics are recorded."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import alf.metrics as metrics
import alf.summary as summary
from alf.data_structures import StepType, TimeStep

FIRST, LAST = int(StepType.FIRST), int(StepType.LAST)


@pytest.fixture
def writer(tmp_path):
    writer = summary.create_summary_writer(str(tmp_path))
    summary.set_default_writer(writer)
    summary.set_global_counter(5)
    yield writer
    summary.set_default_writer(None)
    summary.reset_global_counter()


def time_steps():
    return TimeStep(
        step_type=torch.tensor([[FIRST, FIRST], [LAST, LAST], [FIRST, FIRST]], dtype=torch.int32),
        reward=torch.tensor([[[0.0, 0.0]] * 2, [[1.0, 2.0]] * 2, [[0.0, 0.0]] * 2]),
        env_info={"score": {"left": torch.ones(3, 2)}},
    )


def test_results_are_recorded_against_every_kind_of_step(writer, tmp_path):
    steps = time_steps()
    example = TimeStep(
        step_type=steps.step_type[0], reward=steps.reward[0], env_info={"score": {"left": torch.ones(2)}}
    )
    some_metrics = [
        metrics.EnvironmentSteps(),
        metrics.NumberOfEpisodes(),
        metrics.AverageReturnMetric(example),
        metrics.AverageEnvInfoMetric(example),
    ]
    metrics.update_metrics(some_metrics, steps)
    for metric in some_metrics:
        metric.gen_summaries(train_step=5, step_metrics=some_metrics[:2], other_steps={"Frames": 8})
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    recorded = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    expected = {}
    values = {
        "AverageReturn/0": 1.0,
        "AverageReturn/1": 2.0,
        "AverageEnvInfoMetric/score/left": 1.0,
        "EnvironmentSteps": 2.0,
        "NumberOfEpisodes": 2.0,
    }
    for name, value in values.items():
        for prefix, step in {
            "Metrics": 5,
            "Metrics_vs_EnvironmentSteps": 2,
            "Metrics_vs_NumberOfEpisodes": 2,
            "Metrics_vs_Frames": 8,
        }.items():
            if not prefix.endswith(name):
                expected[f"{prefix}/{name}"] = [(step, value)]
    assert recorded == expected
    (line,) = [json.loads(line) for line in open(tmp_path / "metrics.jsonl")]
    assert line["step"] == 5 and line["Metrics/AverageReturn/1"] == 2.0
    assert not any("_vs_" in tag for tag in line)


def test_metric_without_a_finished_episode_is_not_recorded(writer, tmp_path):
    steps = time_steps()
    metric = metrics.AverageReturnMetric(TimeStep(step_type=steps.step_type[0], reward=steps.reward[0]))
    metrics.MetricsGroup([metric]).gen_summaries()
    writer.close()
    assert open(tmp_path / "metrics.jsonl").read() == ""
