"""Updates whose loss or gradients are NaN or infinite: raised for or left out, and never in a checkpoint."""

import copy
import functools
import math

import pytest
import torch
from absl import logging
from torch import nn

from alf import progress
from alf.algorithms._training.finite_guard import FiniteGuard
from alf.algorithms._training.update import update_parameters
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.data_structures import LossInfo
from alf.optimizers import SGD, Adam, AdamTF, AdamW
from alf.optimizers._wrap import wrap_optimizer
from alf.trainers.policy_trainer import Trainer
from alf.utils.finite import NonFiniteError, check_parameters

NAN, INF = math.nan, math.inf
RMSprop = wrap_optimizer(torch.optim.RMSprop)
OPTIMIZERS = {
    "Adam": Adam,
    "Adam amsgrad": functools.partial(Adam, amsgrad=True),
    "Adam, clipped by norm of all": functools.partial(Adam, gradient_clipping=0.5, clip_by_global_norm=True),
    "Adam, clipped each": functools.partial(Adam, gradient_clipping=0.5),
    "Adam, not packed": functools.partial(Adam, flat=False),
    "AdamW": AdamW,
    "AdamTF": AdamTF,
    "SGD": functools.partial(SGD, momentum=0.9),
    "RMSprop of PyTorch": RMSprop,
}


class Nets(Algorithm):
    """Two networks, each with an optimizer, that learn from the numbers that they are given."""

    def __init__(self, make_optimizer=Adam, config=None):
        super().__init__(config=config, name="Nets")
        torch.manual_seed(0)
        self.actor = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.critic = nn.Linear(3, 1)
        self.add_optimizer(make_optimizer(lr=0.1), [self.actor])
        self.add_optimizer(make_optimizer(lr=0.1), [self.critic])

    def loss(self, x, weight=1.0, uses_critic=True):
        actor = self.actor(x).squeeze(-1)
        critic = self.critic(x).squeeze(-1)**2 * weight
        extra = {"actor": actor, "critic": {"td": critic}}
        return LossInfo(loss=actor + critic if uses_critic else actor, extra=extra)


def config(**settings):
    return TrainerConfig(root_dir="/nowhere", **settings)


def content(algorithm):
    """Return copies of all parameters, moments and step counts."""
    return copy.deepcopy(algorithm.state_dict())


def assert_equal(content1, content2):
    torch.testing.assert_close(content1, content2, rtol=0, atol=0)


def batch(seed):
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bad_update_raises_and_changes_nothing(name):
    algorithm = Nets(OPTIMIZERS[name])
    algorithm.update_with_gradient(algorithm.loss(batch(0)))
    before = content(algorithm)
    with pytest.raises(NonFiniteError):
        algorithm.update_with_gradient(algorithm.loss(batch(1), weight=NAN))
    assert_equal(content(algorithm), before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_a_skipped_update_had_never_been(name):
    algorithm = Nets(OPTIMIZERS[name], config(non_finite="skip_update"))
    other = Nets(OPTIMIZERS[name], config(non_finite="skip_update"))
    for i, weight in enumerate([1.0, INF, 1.0, NAN, NAN, 1.0]):
        # In the third update the critic has no gradient: from then on step counts differ.
        loss_of = functools.partial(Nets.loss, x=batch(i), weight=weight, uses_critic=i != 2)
        algorithm.update_with_gradient(loss_of(algorithm))
        if math.isfinite(weight):
            other.update_with_gradient(loss_of(other))
    assert_equal(content(algorithm), content(other))
    assert algorithm._learner.finite_guard.num_skipped == 3


def test_error_names_iteration_parts_of_the_loss_gradients_and_what_to_do():
    algorithm = Nets()
    progress.update_progress("iterations", 41)
    x = batch(0)
    x[2] = NAN
    try:
        with pytest.raises(NonFiniteError) as caught:
            algorithm.update_with_gradient(algorithm.loss(x, uses_critic=False))
    finally:
        progress.reset_progress()
    text = str(caught.value)
    for words in ("iteration 42", "loss (1 NaN and 0 infinite of 5)", "extra.actor (1 NaN and 0 infinite of 5)",
                  "extra.critic.td (1 NaN", "of 3 of 6 parameters: actor.0.weight, actor.0.bias, actor.2.weight",
                  "the first module is actor.0", "lower the optimizer's lr", 'non_finite="skip_update"'):
        assert words in text, text


def test_error_tells_parameters_that_were_not_finite_before():
    algorithm = Nets()
    algorithm.attach_optimizers()
    with torch.no_grad():
        algorithm.critic.bias.fill_(INF)
    with pytest.raises(NonFiniteError, match="parameters that were so before: critic.bias"):
        algorithm.update_with_gradient(algorithm.loss(batch(0)))


def test_loss_that_is_nan_by_a_constant_is_noticed_though_gradients_are_finite():
    algorithm = Nets()
    with pytest.raises(NonFiniteError, match=r"parts of the loss: scalar_loss \(nan\)"):
        algorithm.update_with_gradient(LossInfo(loss=algorithm.loss(batch(0)).loss, scalar_loss=torch.tensor(NAN)))


def test_gradients_beyond_the_range_of_float32_are_told_as_such():
    algorithm = Nets(functools.partial(Adam, gradient_clipping=1.0, clip_by_global_norm=True))
    with pytest.raises(NonFiniteError, match="their norm or sum exceeds the range of float32"):
        algorithm.update_with_gradient(LossInfo(loss=algorithm.actor(batch(0)).squeeze(-1) * 1e25))


def test_skipped_updates_warn_at_the_first_and_at_powers_of_ten(caplog, monkeypatch):
    algorithm = Nets(config=config(non_finite="skip_update"))
    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    with caplog.at_level("WARNING"):
        for _ in range(120):
            algorithm.update_with_gradient(algorithm.loss(batch(0), weight=NAN))
    told = [record.getMessage() for record in caplog.records if "skipped an update" in record.getMessage()]
    assert [text.split(", the ")[1].split("th of")[0] for text in told] == ["1", "10", "100"]
    assert "extra.critic.td (5 NaN" in told[0]


def test_after_update_follows_only_updates_that_were_made():
    algorithm = Nets(config=config(non_finite="skip_update"))
    calls = []
    algorithm.after_update = lambda root_inputs, info: calls.append(info)
    experience = type("Stored", (), {"step_type": torch.ones(1, 5, dtype=torch.int32), "time_step": None})
    for weight in (1.0, NAN, 1.0):
        loss_info = algorithm.loss(batch(0), weight=weight)
        algorithm._learner.update(experience, weight, last_row_counts=True, loss_info=loss_info._replace(
            loss=loss_info.loss.unsqueeze(0)))
    assert calls == [1.0, 1.0]


def run_by_flag(policy, weights, read_every, make_optimizer):
    """Return the algorithm, and what each update returned, with the flag that is meant for GPUs."""
    algorithm = Nets(make_optimizer)
    guard = FiniteGuard(policy, read_every=read_every, use_flag=True)
    optimizers = algorithm.attach_optimizers().optimizers
    passed = [update_parameters(algorithm.loss(batch(i), weight).loss.mean(), optimizers, None, guard)
              for i, weight in enumerate(weights)]
    return algorithm, guard, passed


def test_flag_keeps_parameters_of_the_first_bad_update_until_it_is_read():
    bad, _, passed = run_by_flag("raise", [1.0, NAN, 1.0, 1.0], 4, Adam)
    good, _, _ = run_by_flag("raise", [1.0], 4, Adam)
    assert passed == [True, True, True, False]
    for (name, p), q in zip(bad.named_parameters(), good.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_flag_skips_only_bad_updates_and_counts_them(name):
    # Without bias correction the step number, which goes on, makes no difference.
    make = OPTIMIZERS[name] if name == "SGD" else functools.partial(Adam, betas=(0.0, 0.0))
    weights = [1.0, NAN, 1.0, INF, 1.0]
    algorithm, guard, passed = run_by_flag("skip_update", weights, 3, make)
    other = Nets(make)
    for i, weight in enumerate(weights):
        if math.isfinite(weight):
            other.update_with_gradient(other.loss(batch(i)))
    assert passed == [True] * 5
    assert guard.num_skipped == 2
    for (name, p), q in zip(algorithm.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_what_was_gathered_is_forgotten_with_the_gradients():
    p, q, twin = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer, plain = Adam(lr=0.1), Adam(lr=0.1)
    optimizer.add_param_group({"params": [p, q]})
    plain.add_param_group({"params": [twin]})
    p.grad = torch.tensor([3.0, 4.0])
    assert optimizer.gather() == 7.0
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(p, torch.ones(2)) and not optimizer.state_dict()["state"]
    for optimizer_, parameter in ((optimizer, p), (plain, twin)):
        parameter.grad = torch.tensor([1.0, -2.0])
        optimizer_.step()
    assert torch.equal(p, twin)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_parameters_that_are_not_finite_are_named(value):
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    check_parameters(module, "nothing happens")
    with torch.no_grad():
        module["b"].weight[0, 1] = value
    with pytest.raises(NonFiniteError, match="nothing happens: 1 parameters are NaN or infinite: b.weight"):
        check_parameters(module, "nothing happens")


class OnlySaves(Trainer):
    """A trainer of an algorithm that is given."""

    def __init__(self, root_dir, algorithm):
        super().__init__(TrainerConfig(root_dir=str(root_dir)))
        self._algorithm = algorithm
        self._checkpointer = self._create_checkpointer()

    def _train_iter(self):
        self._progress.iterations += 1

    def progress(self):
        return 0.0

    def _shown_values(self):
        return {}

    def _create_evaluator(self):
        return None

    def _evaluate(self, give_up):
        pass

    def _checkpointed_modules(self):
        return {}


def test_no_checkpoint_holds_parameters_that_are_not_finite(tmp_path):
    algorithm = Nets()
    trainer = OnlySaves(tmp_path, algorithm)
    trainer._train_iter()
    trainer._save_checkpoint()
    good = content(algorithm)
    with torch.no_grad():
        algorithm.actor[2].bias.fill_(NAN)
    trainer._train_iter()
    with pytest.raises(NonFiniteError, match="at iteration 2, and those before are kept.*actor.2.bias"):
        trainer._save_checkpoint()
    assert [path.name for path in (tmp_path / "train" / "algorithm").glob("ckpt-*")] == ["ckpt-1"]
    trainer._checkpointer.load()
    assert_equal(content(algorithm), good)


def test_other_policies_are_refused():
    with pytest.raises(ValueError, match=r"TrainerConfig.non_finite: expected one of \['raise', 'skip_update'\]"):
        config(non_finite="ignore")
