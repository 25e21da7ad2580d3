"""Mixed precision: 16 bits inside networks, float32 around them; scaled losses with float16, tried here on the CPU."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import alf.nest as nest
from alf.algorithms._training import mixed_precision
from alf.algorithms._training.finite_guard import FiniteGuard
from alf.algorithms._training.mixed_precision import MixedPrecision
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.dqn_algorithm import DqnAlgorithm
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.algorithms.ppo_loss import PPOLoss
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.algorithms.td3_algorithm import Td3Algorithm
from alf.layers import FC
from alf.networks import (
    ActorDistributionNetwork,
    ActorNetwork,
    AMPWrapper,
    CriticNetwork,
    EncodingNetwork,
    NormalProjectionNetwork,
    QNetwork,
)
from alf.networks.network import Network
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.finite import NonFiniteError
from alf.utils.math_ops import clipped_exp

needs_bfloat16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="oneDNN has no bfloat16 here")
pytestmark = needs_bfloat16
CONTINUOUS = BoundedTensorSpec((2, ), torch.float32, -1, 1)
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 2)
SAMPLED = dict(mini_batch_length=2, replay_buffer_length=30, whole_replay_buffer_training=False,
               clear_replay_buffer=False)
wide = dict(fc_layer_params=(64, 64))
squashed = functools.partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True,
                             std_transform=clipped_exp)
# constructor and action of an algorithm, and its settings
CASES = {
    "PPO": (lambda: functools.partial(
        PPOAlgorithm, actor_network_ctor=functools.partial(ActorDistributionNetwork, **wide), optimizer=Adam(lr=1e-2)),
        CONTINUOUS, dict(mini_batch_length=1)),
    "SAC": (lambda: functools.partial(
        SacAlgorithm, actor_network_cls=functools.partial(
            ActorDistributionNetwork, **wide, continuous_projection_net_ctor=squashed),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(64, 64)),
        actor_optimizer=Adam(lr=1e-2), critic_optimizer=Adam(lr=1e-2), alpha_optimizer=Adam(lr=1e-2)),
        CONTINUOUS, SAMPLED),
    "DQN": (lambda: functools.partial(
        DqnAlgorithm, q_network_cls=functools.partial(QNetwork, **wide), q_optimizer=Adam(lr=1e-2)),
        DISCRETE, SAMPLED),
    "TD3": (lambda: functools.partial(
        Td3Algorithm, actor_network_ctor=functools.partial(ActorNetwork, **wide),
        critic_network_ctor=functools.partial(CriticNetwork, joint_fc_layer_params=(64, 64)), policy_update_period=1,
        actor_optimizer=Adam(lr=1e-2), critic_optimizer=Adam(lr=1e-2)), CONTINUOUS, SAMPLED),
}


@pytest.fixture
def make(scripted_env, make_config):
    """Return a function that makes an algorithm, always the same, with a fresh environment."""

    def make_algorithm(name="PPO", enable_amp=True, **more):
        torch.manual_seed(0)
        ctor, action_spec, settings = CASES[name]
        env = scripted_env(action_spec=action_spec)
        config = make_config(**dict(unroll_length=6, mini_batch_size=8, num_updates_per_train_iter=2,
                                    enable_amp=enable_amp) | settings | more)
        return ctor()(observation_spec=env.observation_spec(), action_spec=env.action_spec(),
                      reward_spec=env.reward_spec(), env=env, config=config)

    return make_algorithm


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Take float16, and with it a loss scaler, as is done on CUDA."""
    monkeypatch.setattr(mixed_precision, "_supported_dtype", lambda device_type: torch.float16)


@pytest.fixture
def seen(monkeypatch):
    """Losses and gradients ``[(loss, {name: gradient})]`` of updates as optimizers see them."""
    updates = []
    passes = FiniteGuard.passes

    def look(self, loss, optimizers):
        updates.append((loss.item(), [p.grad.clone() for optimizer in optimizers for group in optimizer.param_groups
                                      for p in group["params"]]))
        return passes(self, loss, optimizers)

    monkeypatch.setattr(FiniteGuard, "passes", look)
    return updates


def train(algorithm, num_iterations=3):
    """Train, and return copies of all tensors of the algorithm."""
    for _ in range(num_iterations):
        algorithm.train_iter()
    return tensors_of(algorithm)


def tensors_of(algorithm):
    return [leaf.detach().clone() for leaf in nest.flatten(algorithm.state_dict()) if isinstance(leaf, torch.Tensor)]


def parameters_of(algorithm):
    """Return copies of the parameters that are trained."""
    return [p.detach().clone() for _, p in algorithm._learner.trained_parameters()]


def set_scale(algorithm, scale):
    algorithm.attach_optimizers()
    algorithm._learner.loss_scaler.load_state_dict(algorithm._learner.loss_scaler.state_dict() | {"scale": scale})


def assert_equal(some, others):
    assert len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


# ---- inside and outside of networks ------------------------------------------------------------------------------


class Holder(nn.Module):
    """Stands in for an algorithm."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


def in_precision(net, *inputs, dtype=torch.bfloat16):
    holder = Holder(net=net)
    precision = MixedPrecision(holder, list(net.parameters()), dtype)
    with precision.active():
        return net(*inputs)


def test_hidden_layers_compute_with_16_bits_and_the_last_with_32():
    net = EncodingNetwork(TensorSpec((5, )), fc_layer_params=(16, 16))
    head = FC(16, 3)
    x = torch.randn(7, 5)

    class Net(Network):
        def __init__(self):
            super().__init__(TensorSpec((5, )))
            self.encoder, self.head = net, head

        def forward(self, inputs, state=()):
            return self.head(self.encoder(inputs)[0]), state

    low = x.bfloat16()
    for layer in [module for module in net.modules() if isinstance(module, FC)]:
        low = torch.relu(F.linear(low, layer.weight.bfloat16(), layer.bias.bfloat16()))
    expected = F.linear(low.float(), head.weight, head.bias)
    whole = Net()
    full = whole(x)[0]
    output, _ = in_precision(whole, x)
    assert output.dtype == torch.float32 and torch.equal(output, expected) and not torch.equal(output, full)
    assert torch.equal(whole(x)[0], full), "outside of training nothing has changed"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distributions_and_actions_are_float32_and_not_rounded_to_16_bits(dtype):
    x = torch.randn(64, 5)
    spec = BoundedTensorSpec((2, ), torch.float32, -3, 3)
    distribution, _ = in_precision(ActorDistributionNetwork(
        TensorSpec((5, )), spec, **wide, continuous_projection_net_ctor=squashed), x, dtype=dtype)
    logits = in_precision(QNetwork(TensorSpec((5, )), DISCRETE, **wide), x, dtype=dtype)[0]
    action, _ = in_precision(ActorNetwork(TensorSpec((5, )), spec, **wide), x, dtype=dtype)
    action_of_policy = distribution.sample()
    for numbers in (action_of_policy, distribution.log_prob(action_of_policy), logits, action):
        assert numbers.dtype == torch.float32 and (numbers != numbers.to(dtype).float()).float().mean() > 0.9


def test_what_a_wrapper_keeps_out_stays_out():
    net = EncodingNetwork(TensorSpec((5, )), fc_layer_params=(16, ))
    wrapped = AMPWrapper(False, net)
    x = torch.randn(7, 5)
    assert torch.equal(in_precision(wrapped, x)[0], net(x)[0])


def test_losses_see_autocast_switched_off(make, monkeypatch):
    algorithm = make()
    found = []
    calc_loss = algorithm.calc_loss
    monkeypatch.setattr(algorithm, "calc_loss",
                        lambda info: (found.append(torch.is_autocast_enabled("cpu")), calc_loss(info))[1])
    algorithm.train_iter()
    assert found and not any(found) and not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_float32_up_to_rounding(make, seen, name):
    for enable_amp in (False, True):
        make(name, enable_amp, num_updates_per_train_iter=1, mini_batch_size=12).train_iter()
    (loss, gradients), (loss_low, gradients_low) = seen[0], seen[len(seen) // 2]
    assert loss_low != loss and loss_low == pytest.approx(loss, rel=0.02, abs=0.02)
    for one, low in zip(gradients, gradients_low, strict=True):
        assert low.dtype == torch.float32
        assert (one - low).norm() <= 0.03 * one.norm() + 1e-4


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_kept_is_float32(make, name):
    algorithm = make(name)
    experience = algorithm.unroll(6)
    train(algorithm)
    for leaf in [*tensors_of(algorithm), *nest.flatten(algorithm.rollout_state_dict()), *nest.flatten(
            experience._replace(rollout_info=()))]:
        assert not (isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bfloat16, torch.float16))


def test_actor_critic_unrolls_as_it_learns(make, scripted_env, make_config, networks, monkeypatch):
    env = scripted_env()
    algorithm = ActorCriticAlgorithm(env.observation_spec(), env.action_spec(), env=env, optimizer=Adam(lr=1e-2),
                                     config=make_config(unroll_length=6, enable_amp=True), **networks[False])
    used = []
    monkeypatch.setattr(F, "linear", lambda *args, linear=F.linear: (
        used.append(torch.is_autocast_enabled("cpu")), linear(*args))[1])
    algorithm.train_iter()
    assert any(used)
    assert all(leaf.dtype == torch.float32 for leaf in tensors_of(algorithm) if leaf.is_floating_point())


# ---- compiled, resumed, switched off -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_traced_updates_are_those_of_plain_pytorch(make, monkeypatch, name, dtype):
    monkeypatch.setattr(mixed_precision, "_supported_dtype", lambda device_type: dtype)
    assert_equal(train(make(name, compile="trace")), train(make(name)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same(make, monkeypatch, dtype):
    monkeypatch.setattr(mixed_precision, "_supported_dtype", lambda device_type: dtype)
    whole = make()
    train(whole, 2)
    if dtype == torch.float16:
        scaler = whole._learner.loss_scaler
        scaler.load_state_dict(scaler.state_dict() | {"scale": 4.0, "_growth_tracker": 1997})
    checkpoint = copy.deepcopy([whole.state_dict(), whole.rollout_state_dict(), whole._env])
    random_numbers = torch.random.get_rng_state()
    end = train(whole, 2)
    resumed = make()
    resumed.load_state_dict(checkpoint[0])
    resumed.load_rollout_state_dict(checkpoint[1])
    resumed._env = checkpoint[2]
    torch.random.set_rng_state(random_numbers)
    assert_equal(train(resumed, 2), end)
    if dtype == torch.float16:
        assert resumed._learner.loss_scaler.state_dict() == whole._learner.loss_scaler.state_dict()
        assert resumed._learner.loss_scaler.get_scale() == 8


def test_checkpoints_with_and_without_it_fit(make, as_on_cuda):
    with_it, without = make(), make(enable_amp=False)
    train(with_it, 1)
    without.load_state_dict(with_it.state_dict())
    make().load_state_dict(without.state_dict())


def test_it_is_off_by_default(make, make_config):
    assert make_config().enable_amp is False
    algorithm = make(enable_amp=False)
    train(algorithm, 1)
    assert algorithm._learner.mixed_precision is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in algorithm.modules())


# ---- scaled losses -----------------------------------------------------------------------------------------------


def test_gradients_are_unscaled_before_anyone_sees_them(make, as_on_cuda, seen):
    for scale in (1.0, 1024.0):
        algorithm = make(num_updates_per_train_iter=1, mini_batch_size=12)
        set_scale(algorithm, scale)
        algorithm.train_iter()
    (loss, gradients), (same_loss, same_gradients) = seen
    assert loss == same_loss
    for one, other in zip(gradients, same_gradients, strict=True):
        # Without a factor the smallest ones lose bits.
        assert (one - other).norm() <= 1e-2 * one.norm()


@pytest.mark.parametrize("mode", [None, "trace"])
@pytest.mark.parametrize("use_flag", [False, True])
def test_an_update_that_overflows_is_left_out_and_the_factor_halved(make, as_on_cuda, monkeypatch, use_flag, mode):
    algorithm = make("TD3", compile=mode, num_updates_per_train_iter=1)
    algorithm._learner.finite_guard._use_flag = use_flag
    set_scale(algorithm, 2.0**100)
    before = parameters_of(algorithm)
    train(algorithm, 1)
    assert algorithm._learner.loss_scaler.get_scale() == 2.0**99
    assert_equal(before, parameters_of(algorithm))
    set_scale(algorithm, 2.0**10)
    train(algorithm, 1)
    assert not any(torch.equal(p, old) for p, old in zip(parameters_of(algorithm), before, strict=True))
    assert algorithm._learner.finite_guard.num_skipped == 0


def test_a_flag_on_the_device_gives_the_same_updates(make, as_on_cuda):
    results = []
    for use_flag in (False, True):
        algorithm = make("SAC")
        algorithm._learner.finite_guard._use_flag = use_flag
        set_scale(algorithm, 256.0)
        results.append(train(algorithm))
    assert_equal(*results)


@pytest.mark.parametrize("use_flag", [False, True])
def test_gradients_that_no_factor_makes_finite_are_an_error(make, as_on_cuda, monkeypatch, use_flag):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * float("inf")

    algorithm = make(num_updates_per_train_iter=1, mini_batch_size=12)
    calc_loss = algorithm.calc_loss
    monkeypatch.setattr(algorithm, "calc_loss", lambda info: (
        lambda loss_info: loss_info._replace(loss=Broken.apply(loss_info.loss)))(calc_loss(info)))
    algorithm._learner.finite_guard._use_flag = use_flag
    algorithm._learner.finite_guard._read_every = 1
    before = parameters_of(algorithm)
    for _ in range(17):  # from 2 ** 16 to 1 / 2
        algorithm.train_iter()
    assert algorithm._learner.loss_scaler.get_scale() == 0.5
    with pytest.raises(NonFiniteError, match="not finite"):
        algorithm.train_iter()
    assert_equal(before, parameters_of(algorithm))


@pytest.mark.parametrize("use_flag", [False, True])
def test_a_loss_that_is_not_finite_is_an_error_at_once(scripted_env, make_config, networks, as_on_cuda, use_flag):
    env = scripted_env(action_spec=CONTINUOUS)
    algorithm = PPOAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, optimizer=Adam(lr=1e-2),
        config=make_config(unroll_length=6, mini_batch_length=1, mini_batch_size=12, enable_amp=True),
        loss=PPOLoss(td_loss_weight=1e38, td_error_loss_fn=lambda target, value: (target - value) * 1e38),
        **networks[False])
    algorithm._learner.finite_guard._use_flag = use_flag
    algorithm._learner.finite_guard._read_every = 1
    with pytest.raises(NonFiniteError):
        algorithm.train_iter()


def test_the_factor_grows_after_updates_without_overflow(make, as_on_cuda):
    algorithm = make()
    algorithm.attach_optimizers()
    scaler = algorithm._learner.loss_scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 4.0, "growth_interval": 3})
    train(algorithm, 2)  # four mini batches an iteration
    assert scaler.get_scale() == 16


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_devices_without_a_type_are_refused():
    with pytest.raises(ValueError, match=r"enable_amp: expected parameters on the CPU or on CUDA devices.*\['meta'\]"):
        MixedPrecision(nn.Module(), [nn.Parameter(torch.zeros(1, device="meta"))])


def test_a_cpu_that_must_emulate_bfloat16_is_told(monkeypatch):
    warnings = []
    monkeypatch.setattr(mixed_precision.logging, "warning", lambda message, *args: warnings.append(message % args))
    parameters = [nn.Parameter(torch.zeros(1))]
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has_it: {"avx512_f": True, "avx512_bf16": has})
        MixedPrecision(nn.Module(), parameters)
    assert len(warnings) == 1 and "no instructions for bfloat16" in warnings[0]


def test_a_cpu_without_bfloat16_is_refused(make, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match="enable_amp: expected a CPU on which oneDNN has products of bfloat16.*=False"):
        make().attach_optimizers()
