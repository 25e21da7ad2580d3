"""Summaries of parameters, gradients, losses, actions, distributions and times."""

import numpy as np
import pytest
import torch
import torch.distributions as td
from torch import nn

import alf.summary as summary
from alf.data_structures import LossInfo, namedtuple
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils, summary_utils


class Recorder:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.scalars, self.histograms = {}, {}

    def add_scalar(self, tag, value, step, walltime):
        self.scalars[tag] = value

    def add_histogram(self, tag, values, step, bins, walltime, max_bins):
        self.histograms[tag] = np.asarray(values), bins


@pytest.fixture
def recorder():
    recorder = Recorder()
    with summary.push_summary_writer(recorder):
        yield recorder


def test_nothing_is_computed_while_nothing_is_recorded():
    assert not summary.should_record_summaries()
    tensor = torch.ones(2, requires_grad=True)
    assert summary_utils.summarize_tensor_gradients("t", tensor, clone=True) is tensor
    summary_utils.summarize_loss(None)
    summary_utils.summarize_action(None, None)
    summary_utils.summarize_variables(None)
    summary_utils.add_mean_hist_summary("a", None)


def test_record_time_is_the_mean_since_the_last_record(recorder, monkeypatch):
    clock = iter([10.0, 11.0, 20.0, 23.0, 30.0, 30.5])
    monkeypatch.setattr(summary_utils.time, "perf_counter", lambda: next(clock))
    with summary.scope("agent"):
        with summary.record_if(lambda: False), summary_utils.record_time("time/unroll"):
            pass
        assert recorder.scalars == {}
        with summary_utils.record_time("time/unroll"):
            pass
        assert recorder.scalars == {"time/unroll": 2.0}
        with summary_utils.record_time("unroll"):
            pass
    assert recorder.scalars == {"time/unroll": 0.5}


def test_discrete_histogram_has_a_bucket_for_each_integer(recorder):
    summary_utils.histogram_discrete("h", torch.tensor([0, 1, 1, 3, 9]), 0, 3)
    values, bins = recorder.histograms["h"]
    assert np.histogram(values, bins)[0].tolist() == [1, 2, 0, 2]


def test_continuous_histogram_has_equal_buckets(recorder):
    summary_utils.histogram_continuous("h", torch.tensor([-5.0, 0.1, 0.6, 5.0]), 0.0, 1.0, bucket_count=2)
    values, bins = recorder.histograms["h"]
    assert np.histogram(values, bins)[0].tolist() == [2, 2]
    summary_utils.histogram_continuous("constant", torch.ones(3))
    values, bins = recorder.histograms["constant"]
    assert np.histogram(values, bins)[0].sum() == 3


def test_variables_and_gradients_are_recorded_with_norms(recorder):
    weight, frozen = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(1))
    (weight.sum() * 2).backward()
    named = [("w", weight), ("frozen", frozen)]
    summary_utils.summarize_variables(named)
    summary_utils.summarize_gradients(named, with_histogram=False)
    assert recorder.scalars == pytest.approx(
        {
            "summarize_vars/w_value_norm": 5.0,
            "summarize_vars/frozen_value_norm": 1.0,
            "summarize_grads/w_gradient_norm": 8.0**0.5,
        }
    )
    assert set(recorder.histograms) == {"summarize_vars/w_value", "summarize_vars/frozen_value"}


def test_nested_summaries_have_paths(recorder):
    summary_utils.add_nested_summaries(
        "p", {"a": {"b": torch.tensor([1.0, 3.0])}, "c": [2, torch.tensor(4)], "d": ()}
    )
    assert recorder.scalars == {"p/a/b": 2.0, "p/c/0": 2, "p/c/1": 4}


def test_loss_and_its_parts_are_recorded(recorder):
    extra = namedtuple("Extra", ["actor", "critic"])(actor=torch.tensor([1.0, 2.0]), critic=torch.tensor(5.0))
    summary_utils.summarize_loss(LossInfo(loss=torch.tensor([2.0, 4.0]), extra=extra, priority=torch.ones(2)))
    assert recorder.scalars == {"loss": 3.0, "loss/actor": 1.5, "loss/critic": 5.0, "loss/priority/mean": 1.0}


def test_loss_without_parts(recorder):
    summary_utils.summarize_loss(LossInfo(scalar_loss=torch.tensor(2.0)))
    assert recorder.scalars == {"loss/scalar_loss": 2.0}


def test_loss_per_category(recorder):
    info = LossInfo(
        loss=torch.tensor([[1.0, 2.0], [3.0, 6.0]]),
        extra={"x": torch.tensor([[0.0, 1.0], [2.0, 3.0]])},
        batch_label=torch.tensor([[0, 1], [0, 1]]),
    )
    summary_utils.summarize_per_category_loss(info, summarize_count=True, label_names=["left", "right"])
    assert recorder.scalars == {
        "per_category_loss/left/loss": 2.0,
        "per_category_loss/right/loss": 4.0,
        "per_category_loss/left/extra/x": 1.0,
        "per_category_loss/right/extra/x": 2.0,
        "per_category_count/left": 2,
        "per_category_count/right": 2,
    }
    with pytest.raises(ValueError, match="label 1 has no name"):
        summary_utils.summarize_per_category_loss(info, label_names=["left"])


def test_masked_means(recorder):
    value = torch.tensor([1.0, 2.0, 30.0])
    summary_utils.safe_mean_hist_summary("a", value, torch.tensor([True, True, False]))
    summary_utils.safe_mean_summary("b", value, torch.tensor([False, False, False]))
    summary_utils.add_mean_summary("c", torch.tensor([True, False]))
    summary_utils.add_mean_summary("d", torch.tensor([1, 2]))
    summary_utils.safe_mean_summary("e", torch.zeros(0))
    assert recorder.scalars == {"a/mean": 1.5, "c/mean": 0.5, "d/mean": 1.5}
    assert recorder.histograms["a/value"][0].tolist() == [1.0, 2.0]


def test_actions_have_a_histogram_for_each_dimension(recorder):
    specs = {
        "c": BoundedTensorSpec((2,), minimum=[-1, -2], maximum=[1, 2]),
        "d": BoundedTensorSpec((), torch.int64, 0, 2),
        "u": TensorSpec(()),
    }
    actions = {"c": torch.tensor([[0.5, -2.0], [1.0, 2.0]]), "d": torch.tensor([0, 2]), "u": torch.zeros(2)}
    summary_utils.summarize_action(actions, specs)
    assert set(recorder.histograms) == {"action/c/0", "action/c/1", "action/d", "action/u"}
    values, bins = recorder.histograms["action/c/1"]
    assert (bins[0], bins[-1], values.tolist()) == (-2.0, 2.0, [-2.0, 2.0])
    assert recorder.histograms["action/d"][1].tolist() == [-0.5, 0.5, 1.5, 2.5]


def test_distributions_are_recorded_by_the_parameters_they_were_made_with(recorder):
    summary_utils.summarize_distribution(
        "pi",
        {
            "n": td.Independent(td.Normal(torch.tensor([[1.0]]), torch.tensor([[2.0]])), 1),
            "c": td.Categorical(logits=torch.zeros(1, 2)),
            "lean": dist_utils.Categorical(logits=torch.full((1, 2), 3.0)),
        },
    )
    assert recorder.scalars["pi/lean/logits/mean"] == 3.0
    assert recorder.scalars["pi/n/loc/mean"] == 1.0 and recorder.scalars["pi/n/scale/mean"] == 2.0
    assert set(tag.rsplit("/", 2)[1] for tag in recorder.scalars if tag.startswith("pi/c")) == {"logits"}


def test_gradients_of_tensors_are_recorded_under_the_scope_they_were_made_in(recorder):
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with summary.scope("agent"):
        y = summary_utils.summarize_tensor_gradients("y", {"part": x * 1.0})
    with summary.scope("elsewhere"):
        (y["part"] * torch.tensor([3.0, 4.0])).sum().backward()
    assert recorder.scalars == {"agent/y/part/gradient_norm/mean": 5.0}


def test_cloned_tensors_count_only_gradients_that_flow_through_them(recorder):
    x = torch.tensor([[1.0]], requires_grad=True)
    y = x * 1.0
    through = summary_utils.summarize_tensor_gradients("y", y, clone=True)
    (through * 2 + y * 10).sum().backward()
    assert recorder.scalars["y/gradient_norm/mean"] == 2.0 and float(x.grad) == 12.0


@pytest.mark.parametrize("clone", [False, True])
def test_gradients_of_distributions_are_recorded_by_parameter(recorder, clone):
    loc = torch.tensor([[1.0, 2.0]], requires_grad=True)
    dist = td.Independent(td.Normal(loc, torch.ones(1, 2)), 1)
    out = summary_utils.summarize_distribution_gradient("pi", dist, clone=clone)
    out.log_prob(torch.tensor([[4.0, 6.0]])).sum().backward()  # gradient of loc: value - loc = (3, 4)
    assert recorder.scalars["pi/loc/gradient_norm/mean"] == pytest.approx(5.0)
