"""What networks put out, in summaries."""

import json
import types

import pytest
import torch

from alf import summary
from alf.algorithms.algorithm import Algorithm
from alf.networks import ActorDistributionNetwork, ValueNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.trainers import policy_trainer
from alf.trainers._output_summaries import summarize_outputs

OBSERVATION = TensorSpec((3, ))


@pytest.fixture
def algorithm():
    algorithm = Algorithm()
    algorithm._value_network = ValueNetwork(OBSERVATION, fc_layer_params=(4, ))
    algorithm._actor_network = ActorDistributionNetwork(OBSERVATION, BoundedTensorSpec((2, ), minimum=-1, maximum=1))
    return algorithm


@pytest.fixture
def recorded(tmp_path):
    """Return a function that does something at step 5 while summaries are recorded, and returns what they were."""

    def record(function):
        writer = summary.create_summary_writer(str(tmp_path))
        summary.enable_summary()
        summary.set_global_counter(5)
        with summary.push_summary_writer(writer), summary.record_if(lambda: True):
            function()
        writer.close()
        path = tmp_path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {tag: value for line in lines for tag, value in json.loads(line).items()
                if tag.startswith("network_output")}

    yield record
    summary.should_summarize_output(False)
    summary.reset_global_counter()


def test_first_outputs_in_training_at_a_step_are_recorded(algorithm, recorded):
    summarize_outputs(algorithm)
    first, later = torch.ones(4, 3), torch.zeros(4, 3)
    value = algorithm._value_network(first)[0].mean().item()

    def call():
        algorithm.eval()
        algorithm._value_network(later)  # acting of an off-policy algorithm
        algorithm.train()
        for inputs in (first, later):
            algorithm._value_network(inputs)
            algorithm._actor_network(inputs)

    found = recorded(call)
    assert found["network_output/_value_network/mean"] == pytest.approx(value)
    assert any(tag.startswith("network_output/_actor_network/") for tag in found)


def test_nothing_is_recorded_unless_outputs_are_to_be_summarized(algorithm, recorded):
    assert recorded(lambda: algorithm._value_network(torch.ones(4, 3))) == {}
    summarize_outputs(algorithm)
    summary.should_summarize_output(False)
    assert recorded(lambda: algorithm._value_network(torch.ones(4, 3))) == {}


@pytest.mark.parametrize("asked", [True, False])
def test_memory_of_cuda_devices_is_freed_after_an_iteration_where_that_is_asked_for(monkeypatch, asked):
    events = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.append("empty"))
    trainer = types.SimpleNamespace(
        _algorithm=types.SimpleNamespace(train_iter=lambda: events.append("train"), env_steps=1),
        _progress=types.SimpleNamespace(),
        _config=types.SimpleNamespace(sync_progress_to_envs=False, empty_cache=asked))
    policy_trainer.RLTrainer._train_iter(trainer)
    assert events == ["train"] + ["empty"] * asked


def test_settings_of_supervised_learning_are_refused():
    config = types.SimpleNamespace(algorithm_ctor=Algorithm, async_unroll=False, ml_type="rl", eval_uncertainty=True,
                                   summarize_gradient_noise_scale=False, visualize_alf_tree=False)
    with pytest.raises(ValueError, match="TrainerConfig.eval_uncertainty=True: not in this version"):
        policy_trainer._check_supported(config, -1)
