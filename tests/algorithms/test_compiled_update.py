"""Compiled updates: equal to eager ones, in all that changes from update to update, or refused with the reason.

Most tests take the mode "trace", which runs the graph that would be compiled and gives the same bits.
"""

import copy
import functools
import logging

import numpy as np
import pretend_gpu
import pytest
import torch

import alf.summary as summary
from alf import progress
from alf.algorithms._training.compiled_update import CompileError
from alf.algorithms._training.compiled_update import _Plan as Plan
from alf.algorithms._training.cuda_graph import CudaGraph
from alf.algorithms._training.tracing import Trace
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import COMPILE_MODES
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm
from alf.algorithms.entropy_target_algorithm import EntropyTargetAlgorithm
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.algorithms.ppo_loss import PPOLoss
from alf.algorithms.td3_algorithm import Td3Algorithm
from alf.algorithms.td_loss import TDLoss
from alf.networks import ActorNetwork, CriticNetwork
from alf.optimizers import SGD, Adam
from alf.tensor_specs import BoundedTensorSpec
from alf.utils.finite import NonFiniteError
from alf.utils.schedulers import LinearScheduler

CONTINUOUS = BoundedTensorSpec((2, ), torch.float32, -1, 1)


@pytest.fixture(autouse=True)
def _no_progress_left():
    yield
    progress.reset_progress()


@pytest.fixture
def make(scripted_env, make_config, networks):
    """Return a function that makes PPO, always the same, in a fresh environment."""

    def make_ppo(mode="trace", cls=PPOAlgorithm, config=None, **kwargs):
        torch.manual_seed(0)
        env = scripted_env(action_spec=CONTINUOUS)
        settings = dict(unroll_length=6, mini_batch_length=1, mini_batch_size=8, num_updates_per_train_iter=2,
                        compile=mode) | (config or {})
        arguments = dict(optimizer=Adam(lr=1e-2)) | kwargs
        return cls(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env,
                   config=make_config(**settings), **networks[False], **arguments)

    return make_ppo


@pytest.fixture
def make_with_replay(scripted_env, make_config):
    """Return a function that makes DDPG or a kind of it, always the same, in a fresh environment."""

    def make_ddpg(cls, mode, optimizer, mini_batch_length, **kwargs):
        torch.manual_seed(0)
        env = scripted_env(action_spec=CONTINUOUS)
        return cls(
            env.observation_spec(), env.action_spec(), env=env,
            actor_network_ctor=functools.partial(ActorNetwork, fc_layer_params=(8, )),
            critic_network_ctor=functools.partial(CriticNetwork, joint_fc_layer_params=(8, )),
            actor_optimizer=optimizer(lr=1e-2), critic_optimizer=optimizer(lr=1e-2),
            config=make_config(unroll_length=6, mini_batch_length=mini_batch_length, mini_batch_size=8,
                               num_updates_per_train_iter=2, replay_buffer_length=30,
                               whole_replay_buffer_training=False, clear_replay_buffer=False, compile=mode),
            **kwargs)

    return make_ddpg


def train(algorithm, num_iterations=3):
    """Train with progress going on, and return copies of all tensors of the algorithm."""
    for i in range(num_iterations):
        progress.update_progress("iterations", i)
        algorithm.train_iter()
    return [tensor.detach().clone() for tensor in algorithm.state_dict().values() if isinstance(tensor, torch.Tensor)]


def assert_equal(some, others):
    assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_traced_updates_follow_schedulers_that_losses_read(make):
    def trained(mode, clipping):
        return train(make(mode, loss=PPOLoss(importance_ratio_clipping=clipping), optimizer=SGD(lr=1.0),
                          config=dict(num_updates_per_train_iter=6)))

    scheduled = LinearScheduler("iterations", [(0, 0.1), (3, 0.001)])
    eager = trained(None, scheduled)
    assert_equal(trained("trace", scheduled), eager)
    assert not all(torch.equal(a, b) for a, b in zip(trained("trace", 0.1), eager, strict=True))


def test_batches_of_each_size_have_their_own_graph(make):
    expected = train(make(None, config=dict(mini_batch_size=5)))
    algorithm = make(config=dict(mini_batch_size=5))
    assert_equal(train(algorithm), expected)
    assert len(algorithm._learner.compiled_update._plans) == 1  # 12 steps are 4 + 4 + 4
    algorithm = make(config=dict(mini_batch_size=7, unroll_length=5.5))
    assert_equal(train(algorithm), train(make(None, config=dict(mini_batch_size=7, unroll_length=5.5))))
    assert len(algorithm._learner.compiled_update._plans) == 2  # 10 are 5 + 5, and 12 are 6 + 6


def test_buffers_that_losses_change_are_changed(make):
    def agent(*args, actor_network_ctor, value_network_ctor, **kwargs):
        rl_algorithm_cls = functools.partial(PPOAlgorithm, actor_network_ctor=actor_network_ctor,
                                             value_network_ctor=value_network_ctor)
        return Agent(*args, rl_algorithm_cls=rl_algorithm_cls, entropy_target_cls=EntropyTargetAlgorithm, **kwargs)

    name = "_entropy_target_algorithm._log_alpha"
    expected = train(make(None, cls=agent))
    algorithm = make(cls=agent)
    before = algorithm.state_dict()[name].clone()
    assert_equal(train(algorithm), expected)
    assert algorithm.state_dict()[name] != before


def test_updates_of_td3_that_train_the_actor_and_others_have_their_own_graphs(make_with_replay):
    results = []
    for mode in (None, "trace"):
        algorithm = make_with_replay(Td3Algorithm, mode, Adam, mini_batch_length=2, policy_update_period=3)
        results.append(train(algorithm, num_iterations=4))
    assert_equal(*results)
    assert len(algorithm._learner.compiled_update._plans) == 2


@pytest.mark.parametrize("td_lambda", [0.0, 0.9, 1.0])
def test_targets_over_sequences_are_those_of_each_batch(make_with_replay, td_lambda):
    results = []
    for mode in (None, "trace"):
        algorithm = make_with_replay(DdpgAlgorithm, mode, SGD, mini_batch_length=4,
                                     critic_loss_ctor=functools.partial(TDLoss, td_lambda=td_lambda))
        results.append(train(algorithm, num_iterations=4))
    # Without a trace NumPy adds the returns up, which rounds otherwise.
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
    assert td_lambda or all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same(make):
    whole = make()
    train(whole, 2)
    checkpoint = copy.deepcopy([whole.state_dict(), whole.rollout_state_dict(), whole._env])
    random_numbers = torch.random.get_rng_state()
    end = train(whole, 2)
    resumed = make()
    resumed.load_state_dict(checkpoint[0])
    resumed.load_rollout_state_dict(checkpoint[1])
    resumed._env = checkpoint[2]
    torch.random.set_rng_state(random_numbers)
    assert_equal(train(resumed, 2), end)


def test_an_update_that_is_summarized_runs_eagerly(make, written, monkeypatch):
    calls = []
    monkeypatch.setattr(Plan, "run", lambda self, leaves: calls.append("compiled"))
    monkeypatch.setattr(Plan, "first_run", Plan.run)
    algorithm = make(config=dict(num_updates_per_train_iter=1, mini_batch_size=12))
    algorithm.train_iter()
    assert calls == [] and "loss" in " ".join(written.tags[1])
    with summary.record_if(lambda: False), pytest.raises(TypeError):  # what stands in for a plan returns no loss
        algorithm.train_iter()
    assert calls == ["compiled"]


def test_generated_code_trains_like_plain_pytorch(make, caplog):
    caplog.set_level(logging.INFO)
    results = [train(make(mode, config=dict(mini_batch_size=12)), num_iterations=2) for mode in (None, "default")]
    for eager, compiled in zip(*results, strict=True):
        # Sums are made in another order, and Adam's first steps magnify that where a gradient is nearly 0.
        assert torch.allclose(eager, compiled, rtol=1e-3, atol=1e-4)
    assert "compiled the update of" in caplog.text and "TORCHINDUCTOR_CACHE_DIR" in caplog.text


def test_a_loss_that_is_not_finite_changes_nothing(make):
    algorithm = make(loss=PPOLoss(td_loss_weight=1e38, td_error_loss_fn=lambda target, value: (target - value) * 1e38))
    before = [p.detach().clone() for p in algorithm.parameters()]
    with pytest.raises(NonFiniteError, match="parts of the loss"):
        algorithm.train_iter()
    assert_equal(before, [p.detach() for p in algorithm.parameters()])


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_learning_from_the_graph_of_an_unroll_is_refused(make):
    with pytest.raises(CompileError, match="learns from the graph of its unroll.*compile=None"):
        make(cls=ActorCriticAlgorithm).train_iter()


class Inheriting(PPOAlgorithm):
    pass


class Counting(PPOAlgorithm):

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._num_losses = 0

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        self._num_losses += 1
        return super().calc_loss(info)


class Looking(PPOAlgorithm):

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(loss=loss_info.loss * (2 if loss_info.loss.sum() > 0 else 1))


class AskingNumpy(PPOAlgorithm):

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(loss=loss_info.loss * self._number_of(loss_info.loss.detach()))

    @staticmethod
    def _number_of(loss):
        return torch.from_numpy(loss.numpy() + 1)


class AskingNumpyForAnArray(AskingNumpy):
    update_kind = AskingNumpy.update_kind
    _number_of = staticmethod(lambda loss: float(np.asarray(loss).sum()))


class AskingForAList(AskingNumpy):
    update_kind = AskingNumpy.update_kind
    _number_of = staticmethod(lambda loss: torch.tensor(loss.tolist()))


class SelectingByMask(PPOAlgorithm):

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(scalar_loss=loss_info.loss[loss_info.loss > 0].mean())


class SelectingByIndices(PPOAlgorithm):
    kept = torch.tensor([0, 0, 2])

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(scalar_loss=loss_info.loss[:, self.kept].mean())


class ReadingProgress(PPOAlgorithm):

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(loss=loss_info.loss * progress.get_progress("iterations"))


@pytest.mark.parametrize("cls, told", [
    (Inheriting, "does not say that its updates can be.*update_kind"),
    (Counting, "each update changes the attribute _num_losses of the root"),
    (Looking, "its Python depends on numbers in tensors"),
    (AskingNumpy, r"it calls numpy\(\) of a tensor"),
    (AskingNumpyForAnArray, r"it calls __array__\(\) of a tensor"),
    (SelectingByMask, r"how many numbers aten.index.Tensor returns depends on numbers.*torch.where"),
    (AskingForAList, r"it calls tolist\(\) of a tensor"),
    (ReadingProgress, "it reads the progress of training as a number.*read_scheduler"),
])
def test_updates_whose_python_matters_are_refused(make, cls, told):
    with pytest.raises(CompileError, match=rf"the updates of .*{cls.__name__}.* cannot be compiled: .*{told}"):
        make(cls=cls).train_iter()


def test_selecting_by_indices_is_traced(make):
    assert_equal(train(make(cls=SelectingByIndices)), train(make(None, cls=SelectingByIndices)))


def test_numeric_checks_of_ppo_are_refused(make):
    with pytest.raises(CompileError, match="PPOLoss.check_numerics=True looks at the numbers"):
        make(loss=PPOLoss(check_numerics=True)).train_iter()


def test_code_that_gives_other_gradients_is_refused(make, monkeypatch):
    def compile_wrongly(self, graph, leaves):
        return lambda *inputs: [2 * x for x in graph(*inputs)]

    monkeypatch.setattr(Plan, "_compile", compile_wrongly)
    with pytest.raises(CompileError, match="not that of plain PyTorch: its gradients differ by"):
        make().train_iter()


def test_a_missing_compiler_is_told_before_training(make):
    from torch._inductor import config
    with config.patch({"cpp.cxx": ("no-such-compiler", )}), pytest.raises(
            CompileError, match="needs a C\\+\\+ compiler.*no-such-compiler.*apt-get install g\\+\\+"):
        make("default").attach_optimizers()


def test_a_wrong_mode_is_told(make_config):
    with pytest.raises(ValueError, match="TrainerConfig.compile: expected one of .*max-autotune.*got 'fast'"):
        make_config(compile="fast")
    assert [make_config(compile=mode).compile for mode in COMPILE_MODES] == list(COMPILE_MODES)


def test_stored_buffers_are_refused(make_config):
    with pytest.raises(ValueError, match="compile: expected None with offline_buffer_dir"):
        make_config(compile="default", offline_buffer_dir="somewhere", whole_replay_buffer_training=False,
                    mini_batch_size=2, mini_batch_length=2)


def test_an_algorithm_says_nothing_about_its_updates_by_default():
    with pytest.raises(NotImplementedError):
        Algorithm().update_kind()


# ---- CUDA graphs, on a GPU or on the pretended one ---------------------------------------------------------------


@pytest.fixture
def on_gpu():
    with pretend_gpu.default_device():
        yield


@pytest.mark.parametrize("mode, is_recorded", [
    ("default", False), ("max-autotune-no-cudagraphs", False), ("reduce-overhead", True), ("max-autotune", True),
    ("cuda-graph", True)])
def test_modes_that_record_cuda_graphs(on_gpu, make, monkeypatch, mode, is_recorded):
    chosen, recordings, record = [], [], CudaGraph._record

    def compile_nothing(graph, inputs, options):
        assert all(x.is_cuda for x in inputs)
        chosen.append(options)
        return graph

    import torch._inductor
    monkeypatch.setattr(torch._inductor, "compile", compile_nothing)
    monkeypatch.setattr(CudaGraph, "_record", lambda *args: (recordings.append(1), record(*args)))
    expected = train(make(None, config=dict(mini_batch_size=12)))
    found = train(make(mode, config=dict(mini_batch_size=12)))
    assert all(torch.allclose(a, b) for a, b in zip(expected, found, strict=True))
    assert len(recordings) == is_recorded
    assert [options["triton.cudagraphs"] for options in chosen] == [False] * (mode != "cuda-graph")


class CountingOnTheCpu(PPOAlgorithm):

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("_num_losses", torch.ones((), device="cpu"))

    def update_kind(self):
        return ()

    def calc_loss(self, info):
        loss_info = super().calc_loss(info)
        return loss_info._replace(loss=loss_info.loss * self._num_losses)


def test_a_buffer_on_the_cpu_is_no_part_of_a_cuda_graph(on_gpu, make):
    with pytest.raises(CompileError, match=r"CUDA graphs are of one device, cuda:0, and _num_losses, of shape \(\), is "
                       r"on cpu\. Set"):
        make("cuda-graph", CountingOnTheCpu).train_iter()


def test_what_cannot_be_recorded_is_told(on_gpu, make, monkeypatch):
    monkeypatch.setattr(Trace, "_check_shapes", lambda self: None)
    with pytest.raises(CompileError, match=r"was traced, and could not be compiled or recorded: .*not permitted when "
                       r"stream is capturing.*\n.*compile=None"):
        make("cuda-graph", SelectingByMask).train_iter()


def test_memory_that_runs_out_is_told_as_such(on_gpu, make, monkeypatch):
    def run_out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CudaGraph, "_record", run_out)
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory"):
        make("cuda-graph").train_iter()


def test_cuda_graphs_need_a_gpu(make):
    with pytest.raises(CompileError, match='"cuda-graph" needs a GPU, and the parameters are on the CPU.*compile=None'):
        make("cuda-graph").attach_optimizers()
