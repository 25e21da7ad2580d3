"""Tests of the optimizers against PyTorch's, with gradients that come and go."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from alf.optimizers import SGD, Adam, AdamTF, AdamW, adam_tf, adamw, get_opt_arg, wrap_optimizer

SHAPES = [(8, 3), (8,), (), (5, 8), (5,), (2, 3, 4, 4)]


def make_params(seed=0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_grads(params_lists, step, presence, scale=1.0):
    """Give equal random gradients to several copies of the parameters."""
    generator = torch.Generator().manual_seed(1000 + step)
    for i in range(len(params_lists[0])):
        grad = torch.randn(params_lists[0][i].shape, generator=generator) * scale
        present = (
            presence == "all"
            or (presence == "random" and bool(torch.rand((), generator=generator) < 0.6))
            or (presence == "alternate" and (i < 3) == (step % 2 == 0))
        )
        for params in params_lists:
            params[i].grad = grad.clone() if present else None


PAIRS = {
    "Adam": (
        lambda **kw: Adam(lr=0.05, weight_decay=0.1, **kw),
        lambda ps: torch.optim.Adam(ps, lr=0.05, weight_decay=0.1),
    ),
    "Adam amsgrad": (
        lambda **kw: Adam(lr=0.05, betas=(0.8, 0.9), eps=1e-4, amsgrad=True, **kw),
        lambda ps: torch.optim.Adam(ps, lr=0.05, betas=(0.8, 0.9), eps=1e-4, amsgrad=True),
    ),
    "AdamW": (lambda **kw: AdamW(lr=0.05, **kw), lambda ps: torch.optim.AdamW(ps, lr=0.05)),
    "SGD": (
        lambda **kw: SGD(lr=0.05, weight_decay=0.1, **kw),
        lambda ps: torch.optim.SGD(ps, lr=0.05, weight_decay=0.1),
    ),
    "SGD momentum": (
        lambda **kw: SGD(lr=0.05, momentum=0.9, dampening=0.3, **kw),
        lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, dampening=0.3),
    ),
    "SGD nesterov": (
        lambda **kw: SGD(lr=0.05, momentum=0.9, nesterov=True, **kw),
        lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    ),
}


def attach(optimizer, params):
    optimizer.add_param_group({"params": params})
    return optimizer


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a.detach(), b.detach(), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("flat", [None, True, False])
@pytest.mark.parametrize("presence", ["all", "random", "alternate"])
@pytest.mark.parametrize("pair", sorted(PAIRS))
def test_equals_torch_whatever_gradients_are_present(pair, presence, flat):
    make_ours, make_theirs = PAIRS[pair]
    ours, theirs = make_params(), make_params()
    optimizer, reference = attach(make_ours(flat=flat), ours), make_theirs(theirs)
    for step in range(12):
        set_grads([ours, theirs], step, presence)
        before = [p.detach().clone() for p in ours]
        optimizer.step()
        reference.step()
        assert_equal(ours, theirs)
        for p, old in zip(ours, before):
            assert p.grad is not None or torch.equal(p, old)
    set_grads([ours, theirs], 99, "none")
    before = [p.detach().clone() for p in ours]
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(ours, before))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("presence", ["all", "random"])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_global_norm_clipping_equals_torch(flat, presence, max_norm):
    ours, theirs = make_params(), make_params()
    optimizer = attach(
        Adam(lr=0.05, eps=1e-2, gradient_clipping=max_norm, clip_by_global_norm=True, flat=flat), ours
    )
    reference = torch.optim.Adam(theirs, lr=0.05, eps=1e-2)
    for step in range(8):
        set_grads([ours, theirs], step, presence)
        optimizer.step()
        norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        reference.step()
        torch.testing.assert_close(optimizer.total_norm, norm)
        assert_equal(ours, theirs)


@pytest.mark.parametrize("max_norm, divides", [(0.5, True), (1e3, False)])
def test_gradients_are_divided_only_where_they_are_to_be_clipped(monkeypatch, max_norm, divides):
    given = []
    monkeypatch.setattr(Adam, "_KERNEL", staticmethod(lambda *args, grad_scale, **kwargs: given.append(grad_scale)))
    params = make_params()
    optimizer = attach(Adam(lr=0.05, gradient_clipping=max_norm, clip_by_global_norm=True), params)
    set_grads([params], 0, "all")
    optimizer.step()
    assert given and all((g is not None) == divides for g in given)
    if divides:
        torch.testing.assert_close(given[0], optimizer.total_norm / max_norm)


@pytest.mark.parametrize("flat", [True, False])
def test_clipping_of_each_parameter(flat):
    ours, theirs = make_params(), make_params()
    optimizer = attach(SGD(lr=0.05, gradient_clipping=0.7, flat=flat), ours)
    reference = torch.optim.SGD(theirs, lr=0.05)
    for step in range(6):
        set_grads([ours, theirs], step, "random", scale=0.3)
        optimizer.step()
        for p in theirs:
            if p.grad is not None:
                torch.nn.utils.clip_grad_norm_(p, 0.7)
        reference.step()
        assert_equal(ours, theirs)


def test_global_norm_spans_all_groups():
    params = make_params()
    optimizer = SGD(lr=1.0, gradient_clipping=1.0, clip_by_global_norm=True)
    for p in params:
        optimizer.add_param_group({"params": p})
    set_grads([params], 0, "all")
    before = [p.detach().clone() for p in params]
    optimizer.step()
    moved = torch.linalg.vector_norm(torch.cat([(p.detach() - b).flatten() for p, b in zip(params, before)]))
    torch.testing.assert_close(moved, torch.tensor(1.0))


@pytest.mark.parametrize("presence", ["all", "random"])
def test_adam_tf_by_its_formula(presence):
    params = make_params()
    expected = [p.detach().clone().double() for p in params]
    m = [torch.zeros_like(p) for p in expected]
    v = [torch.zeros_like(p) for p in expected]
    counts = [0] * len(params)
    optimizer = attach(AdamTF(lr=0.1, eps=0.3, flat=True), params)
    for step in range(6):
        set_grads([params], step, presence)
        for i, p in enumerate(params):
            if p.grad is not None:
                counts[i] += 1
                t, g = counts[i], p.grad.double()
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                expected[i] = expected[i] - 0.1 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m[i] / (
                    v[i] ** 0.5 + 0.3
                )
        optimizer.step()
        for p, q in zip(params, expected):
            torch.testing.assert_close(p.detach().double(), q, atol=1e-5, rtol=1e-5)


def test_module_classes_take_parameters():
    for cls in (adam_tf.AdamTF, adamw.AdamW):
        params = make_params()
        optimizer = cls(params, lr=0.1)
        set_grads([params], 0, "all")
        optimizer.step()
        assert isinstance(optimizer, torch.optim.Optimizer) and optimizer.param_groups[0]["params"] == params
    assert adam_tf.AdamTF().param_groups == []


def test_small_parameters_are_packed_and_large_are_not():
    params = make_params(shapes=[(4, 4), (4,), (200, 200)])
    optimizer = attach(Adam(), params)
    pointer = params[2].data_ptr()
    set_grads([params], 0, "all")
    optimizer.step()
    assert params[1].data_ptr() == params[0].data_ptr() + 16 * 4 and params[2].data_ptr() == pointer
    other = make_params()
    attach(Adam(flat=True), other).prepare()
    assert all(b.data_ptr() == a.data_ptr() + a.numel() * 4 for a, b in zip(other, other[1:]))


def make_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(net, optimizer, num_steps, first=0):
    for step in range(first, first + num_steps):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


def reference_net(num_steps):
    net = make_net()
    train(net, torch.optim.Adam(net.parameters(), lr=0.01), num_steps)
    return net


def test_packed_network_is_still_copied_saved_and_loaded():
    net = make_net()
    optimizer = attach(Adam(lr=0.01), net.parameters())
    train(net, optimizer, 3)
    twin = copy.deepcopy(net)
    saved = io.BytesIO()
    torch.save(net.state_dict(), saved)
    train(net, optimizer, 3, first=3)
    torch.testing.assert_close(list(net.parameters()), list(reference_net(6).parameters()))
    # neither the copy nor the file follows the original
    torch.testing.assert_close(list(twin.parameters()), list(reference_net(3).parameters()))
    net.load_state_dict(torch.load(io.BytesIO(saved.getvalue())))
    torch.testing.assert_close(list(net.parameters()), list(reference_net(3).parameters()))
    before = [p.detach().clone() for p in net.parameters()]
    train(net, optimizer, 1, first=6)
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters()))


def test_replaced_data_are_packed_again():
    net = make_net()
    optimizer = attach(Adam(lr=0.01), net.parameters())
    train(net, optimizer, 2)
    for p in net.parameters():
        p.data = p.data.clone()
    train(net, optimizer, 2, first=2)
    net.share_memory()
    train(net, optimizer, 2, first=4)
    torch.testing.assert_close(list(net.parameters()), list(reference_net(6).parameters()))


def test_changed_dtype_is_told():
    net = make_net()
    optimizer = attach(Adam(lr=0.01), net.parameters())
    train(net, optimizer, 1)
    net.double()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(
        RuntimeError, match="was torch.float32 on cpu at the optimizer's first step and is now torch.float64"
    ):
        optimizer.step()


def test_backward_through_changed_weights_is_noticed():
    net = make_net()
    optimizer = attach(Adam(lr=0.01), net.parameters())
    train(net, optimizer, 1)
    loss = net(torch.ones(1, 3)).sum()
    train(net, optimizer, 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("saved_flat", [True, False])
@pytest.mark.parametrize("loaded_flat", [True, False])
@pytest.mark.parametrize("pair", sorted(PAIRS))
def test_resume_is_exact(pair, saved_flat, loaded_flat):
    make, _ = PAIRS[pair]
    one, two = make_params(), make_params(seed=5)
    first = attach(make(flat=saved_flat), one)
    for step in range(5):
        set_grads([one], step, "random")
        first.step()
    second = attach(make(flat=loaded_flat), two)
    with torch.no_grad():
        for a, b in zip(one, two):
            b.copy_(a)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second.load_state_dict(state)
    for step in range(5, 10):
        set_grads([one, two], step, "random")
        first.step()
        second.step()
        assert all(torch.equal(a, b) for a, b in zip(one, two)) or saved_flat != loaded_flat
        assert_equal(one, two)


def test_state_of_torch_adam_can_be_loaded():
    ours, theirs = make_params(), make_params()
    reference = torch.optim.Adam(theirs, lr=0.05)
    for step in range(3):
        set_grads([theirs], step, "random")
        reference.step()
    optimizer = attach(Adam(lr=0.7), ours)
    optimizer.load_state_dict(reference.state_dict())
    assert optimizer.lr == 0.05
    with torch.no_grad():
        for a, b in zip(ours, theirs):
            a.copy_(b)
    for step in range(3, 6):
        set_grads([ours, theirs], step, "random")
        optimizer.step()
        reference.step()
        assert_equal(ours, theirs)


def test_state_that_does_not_fit_is_told():
    params = make_params()
    optimizer = attach(Adam(name="critic"), params)
    set_grads([params], 0, "all")
    optimizer.step()
    state = optimizer.state_dict()
    with pytest.raises(
        ValueError, match="'critic': cannot load the state: it has 1 param groups, the optimizer has 0"
    ):
        Adam(name="critic").load_state_dict(state)
    with pytest.raises(ValueError, match="group 0 has 6 parameters there and 2 here"):
        attach(Adam(), make_params()[:2]).load_state_dict(state)
    other = attach(Adam(), [(f"net.{i}", p) for i, p in enumerate(make_params(shapes=[(8, 4)] + SHAPES[1:]))])
    with pytest.raises(ValueError, match=r"'net.0' has shape \(8, 3\) there and \(8, 4\) here"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="no 'momentum_buffer' there.*another kind of optimizer"):
        attach(SGD(momentum=0.9), make_params()).load_state_dict(state)


def test_scheduled_learning_rate_is_read_at_each_step():
    rates = [0.1, 0.2, 0.4]
    now = [0]
    p = nn.Parameter(torch.zeros(2))
    optimizer = attach(SGD(lr=lambda: rates[now[0]]), [p])
    expected = 0.0
    for i in range(3):
        now[0] = i
        p.grad = torch.ones(2)
        optimizer.step()
        expected -= rates[i]
        assert optimizer.lr == optimizer.get_lr() == optimizer.param_groups[0]["lr"] == rates[i]
        torch.testing.assert_close(p.detach(), torch.full((2,), expected))
    # loading a state does not stop the schedule
    state = optimizer.state_dict()
    now[0] = 0
    optimizer.load_state_dict(state)
    assert optimizer.lr == 0.1


def test_groups_have_their_own_settings():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = SGD(lr=1.0)
    optimizer.add_param_group({"params": [a], "lr": 0.5})
    optimizer.add_param_group({"params": [b]})
    a.grad, b.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    assert a.tolist() == [-0.5, -0.5] and b.tolist() == [-1.0, -1.0]
    c = nn.Parameter(torch.zeros(1))
    optimizer.add_param_group({"params": c, "lr": lambda: 0.25})  # groups may also come after a step
    c.grad = torch.ones(1)
    optimizer.step()
    assert c.item() == -0.25 and a.tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("flushes", [False, True])
def test_denormal_moments_become_zero_and_numbers_elsewhere_stay(flushes):
    smallest = 5e-324
    params = make_params(shapes=[(200,)])
    optimizer = attach(Adam(lr=0.05), params)
    num_steps_to_denormals = 900  # 0.9^900 is 7e-42
    torch.set_flush_denormal(flushes)
    try:
        for step in range(num_steps_to_denormals + 1):
            params[0].grad = torch.ones(200) if step == 0 else torch.zeros(200)
            optimizer.step()
            assert (smallest * 1.0 == 0.0) == flushes
    finally:
        torch.set_flush_denormal(False)
    assert not optimizer.state_dict()["state"][0]["exp_avg"].any()
    assert optimizer.state_dict()["state"][0]["exp_avg_sq"].all()


def test_opt_args_of_a_parameter():
    decayed, kept = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    kept.opt_args = dict(weight_decay=0.0)
    normed = nn.Parameter(torch.tensor([3.0, 4.0]))
    normed.opt_args = dict(fixed_norm=True)
    assert get_opt_arg(kept, "weight_decay") == 0.0 and get_opt_arg(decayed, "weight_decay", 7) == 7
    optimizer = attach(SGD(lr=0.1, weight_decay=0.5), [decayed, kept, normed])
    for _ in range(3):
        for p in (decayed, kept, normed):
            p.grad = torch.zeros_like(p)
        normed.grad[0] = 1.0
        optimizer.step()
    torch.testing.assert_close(decayed.detach(), torch.full((3,), 0.95**3))
    assert kept.tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(torch.linalg.vector_norm(normed.detach()), torch.tensor(5.0))
    assert normed[0] < 3


def test_adding_a_parameter_twice_names_it():
    net = make_net()
    optimizer = Adam(name="actor")
    optimizer.add_param_group({"params": list(net.named_parameters())})
    with pytest.raises(
        ValueError, match=r"'actor': parameter 'again' \(shape \(4, 3\)\) is already there as '0.weight'"
    ):
        optimizer.add_param_group({"params": [("again", net[0].weight)]})
    with pytest.raises(ValueError, match="parameter 0 of the new group .* is already there"):
        optimizer.add_param_group({"params": net[0].weight})
    p = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="Add each parameter once"):
        Adam().add_param_group({"params": [p, p]})


def test_bad_arguments_are_told():
    with pytest.raises(
        ValueError, match="Adam.lr: expected a non-negative number or a scheduler .*got '0.1'"
    ):
        Adam(lr="0.1")
    with pytest.raises(
        ValueError, match="Adam.gradient_clipping: expected a positive number or None, got -1"
    ):
        Adam(gradient_clipping=-1)
    with pytest.raises(ValueError, match=r"Adam.betas: expected two numbers in \[0, 1\)"):
        Adam(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="nesterov=True needs momentum"):
        SGD(nesterov=True)
    with pytest.raises(ValueError, match="must be a leaf of floating point type"):
        attach(Adam(), [nn.Parameter(torch.ones(2)) * 2])
    with pytest.raises(ValueError, match="unknown setting .'betta'. of a param group"):
        Adam().add_param_group({"params": make_params(), "betta": 1})
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"sparse=False"):
        attach(Adam(), embedding.parameters()).step()


@pytest.mark.parametrize(
    "optimizer", [Adam(lr=0.5, gradient_clipping=2.0, name="a"), SGD(momentum=0.9), AdamTF()]
)
def test_unused_optimizer_is_copied_and_pickled(optimizer):
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(twin) == repr(optimizer) and twin.name == optimizer.name
        net = make_net()
        train(net, attach(twin, net.parameters()), 1)
        assert optimizer.param_groups == []


def test_used_optimizer_is_copied_with_its_network():
    net = make_net()
    both = nn.ModuleDict(dict(net=net))
    both.optimizer = attach(Adam(lr=0.01), net.parameters())
    train(net, both.optimizer, 3)
    twin = copy.deepcopy(both)
    train(twin["net"], twin.optimizer, 3, first=3)
    torch.testing.assert_close(list(twin["net"].parameters()), list(reference_net(6).parameters()))
    torch.testing.assert_close(list(net.parameters()), list(reference_net(3).parameters()))
    train(net, both.optimizer, 3, first=3)
    torch.testing.assert_close(list(net.parameters()), list(reference_net(6).parameters()))


def test_reset_state_starts_anew():
    ours, theirs = make_params(), make_params()
    optimizer = attach(Adam(lr=0.05), ours)
    set_grads([ours], 0, "random")
    optimizer.step()
    optimizer.reset_state()
    with torch.no_grad():
        for a, b in zip(ours, theirs):
            a.copy_(b)
    set_grads([ours, theirs], 1, "all")
    optimizer.step()
    torch.optim.Adam(theirs, lr=0.05).step()
    assert_equal(ours, theirs)


def test_repr_zero_grad_closure_and_hooks():
    params = make_params()
    optimizer = Adam(lr=0.5, gradient_clipping=2.0, clip_by_global_norm=True)
    assert repr(optimizer) == (
        "Adam(lr=0.5, betas=(0.9, 0.999), eps=1e-08, weight_decay=0, amsgrad=False, "
        "gradient_clipping=2.0, clip_by_global_norm=True)"
    )
    attach(optimizer, params)
    assert repr(optimizer).endswith(" | 6 tensors, 174 parameters)")
    calls = []
    optimizer.register_step_post_hook(lambda *args: calls.append("post"))

    def closure():
        optimizer.zero_grad()
        loss = sum(p.sum() for p in params)
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad and calls == ["post"]
    optimizer.zero_grad(set_to_none=False)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_wrap_optimizer_refuses_what_it_cannot_do():
    RMSprop = wrap_optimizer(torch.optim.RMSprop)
    with pytest.raises(ValueError, match="RMSprop.gradient_clipping: expected a positive number or None, got -1.0"):
        RMSprop(lr=0.1, gradient_clipping=-1.0)
    for options in ({"weight_decay": 0.5}, {"fixed_norm": True}):
        params = make_params()
        params[1].opt_args = options
        with pytest.raises(ValueError, match=r"parameter of shape \(8,\) has the options .*cannot heed"):
            attach(RMSprop(lr=0.1), params)
    params[1].opt_args = {"weight_decay": 0}  # as all have it
    attach(RMSprop(lr=0.1), params)


def test_wrap_optimizer_takes_any_torch_optimizer():
    RMSprop = wrap_optimizer(torch.optim.RMSprop)
    assert wrap_optimizer()(torch.optim.RMSprop).__name__ == "RMSprop"
    ours, theirs = make_params(), make_params()
    optimizer = RMSprop(lr=lambda: 0.01, gradient_clipping=0.5, clip_by_global_norm=True, name="value")
    optimizer = copy.deepcopy(optimizer)
    attach(optimizer, ours)
    reference = torch.optim.RMSprop(theirs, lr=0.01)
    for step in range(3):
        set_grads([ours, theirs], step, "all")
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        reference.step()
        assert_equal(ours, theirs)
    assert optimizer.name == "value" and optimizer.lr == 0.01
    with pytest.raises(TypeError, match=r"RMSprop: unknown argument \['alpa'\]"):
        RMSprop(alpa=1)


@pytest.mark.parametrize("cls", [Adam, AdamW, AdamTF, SGD, wrap_optimizer(torch.optim.RMSprop)])
def test_published_arguments_that_are_not_offered_are_taken_with_their_defaults_only(cls):
    optimizer = cls(lr=0.1, parvi=None, repulsive_weight=1.0, capacity_ratio=1.0, min_capacity=8192,
                    masked_out_value=None)
    assert optimizer.lr == 0.1
    for name, value in dict(parvi="svgd", repulsive_weight=2.0, capacity_ratio=0.5, min_capacity=1,
                            masked_out_value=0.0).items():
        with pytest.raises(ValueError, match=f"{cls.__name__}.{name}: expected the default .* not offered yet, got"):
            cls(lr=0.1, **{name: value})
    with pytest.raises(TypeError, match="unknown argument .*learning_rate"):
        cls(learning_rate=0.1)
