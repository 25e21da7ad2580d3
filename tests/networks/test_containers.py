import pytest
import torch

import alf.layers as layers
from alf.data_structures import namedtuple
from alf.layers import FC
from alf.nest.utils import NestConcat, NestSum
from alf.networks import Branch, Delay, Echo, GRUCell, LSTMCell, Parallel, Sequential
from alf.tensor_specs import TensorSpec

Pair = namedtuple("Pair", ["z", "a"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_sequential_threads_the_state_of_its_networks():
    cell = GRUCell(3, 2)
    net = Sequential(FC(4, 3), cell, torch.neg)
    x, h = torch.randn(5, 4), torch.randn(5, 2)
    y, state = net(x, [(), h, ()])
    expected, _ = cell(net[0](x), h)
    torch.testing.assert_close(y, -expected)
    torch.testing.assert_close(state[1], expected)
    assert net.state_spec == [(), TensorSpec((2,)), ()]


def test_named_networks_are_routed():
    a, b = LSTMCell(4, 3), GRUCell(4, 3)
    net = Sequential(a=a, b=("input", b), both=(("a", "b"), NestSum()), output=Pair(z="both", a="b"))
    x = torch.randn(2, 4)
    state = [(torch.randn(2, 3), torch.randn(2, 3)), torch.randn(2, 3), ()]
    y, new_state = net(x, state)
    ya, sa = a(x, state[0])
    yb, sb = b(x, state[1])
    torch.testing.assert_close(y.z, ya + yb)
    torch.testing.assert_close(y.a, yb)
    torch.testing.assert_close(new_state[0][1], sa[1])
    assert net.output_spec == Pair(z=TensorSpec((3,)), a=TensorSpec((3,)))


def test_sequential_takes_its_input_spec_from_the_first_element_or_the_argument():
    assert Sequential(FC(4, 3)).input_tensor_spec == TensorSpec((4,))
    spec = dict(x=TensorSpec((4,)))
    assert Sequential(("input.x", FC(4, 3)), input_tensor_spec=spec).output_spec == TensorSpec((3,))
    with pytest.raises(ValueError, match="the input spec is not known"):
        Sequential(torch.tanh, FC(4, 3)).output_spec  # noqa: B018


def test_the_same_network_may_run_twice():
    fc = FC(3, 3)
    x = torch.randn(2, 3)
    torch.testing.assert_close(Sequential(fc, fc)(x)[0], fc(fc(x)))


def test_copy_of_a_sequential_with_shared_structure_has_other_parameters():
    net = Sequential(FC(3, 3), a=GRUCell(3, 2), output=("a", ""))
    copied = net.copy()
    assert copied.name == "Sequential" and not copied[0].weight.equal(net[0].weight)
    assert copied.output_spec == net.output_spec


def test_parallel_gives_each_network_its_part():
    net = Parallel(
        Pair(z=FC(4, 2), a=torch.neg), input_tensor_spec=Pair(z=TensorSpec((4,)), a=TensorSpec((3,)))
    )
    x = Pair(z=torch.randn(5, 4), a=torch.randn(5, 3))
    y, state = net(x)
    torch.testing.assert_close(y.a, -x.a)
    assert y.z.shape == (5, 2) and state == ()
    assert net.networks.z.output_spec == TensorSpec((2,))


def test_parallel_parts_may_be_nests_and_have_state():
    net = Parallel((Delay(dict(p=TensorSpec(()))), FC(2, 1)))
    x = (dict(p=torch.tensor([7.0])), torch.zeros(1, 2))
    y, state = net(x, ((dict(p=torch.tensor([3.0])),), ()))
    assert y[0]["p"].item() == 3 and state[0][0]["p"].item() == 7 and state[1] == ()


def test_branch_applies_all_networks_to_one_input():
    cell = GRUCell(3, 2)
    net = Branch(a=FC(3, 1), b=cell)
    x, h = torch.randn(4, 3), torch.randn(4, 2)
    y, state = net(x, dict(a=(), b=h))
    torch.testing.assert_close(y["b"], cell(x, h)[0])
    torch.testing.assert_close(state["b"], y["b"])
    assert net.input_tensor_spec == TensorSpec((3,))


def _make_echo():
    block = Sequential(
        ("input", NestSum()),
        output=dict(output="", echo=""),
        input_tensor_spec=dict(input=TensorSpec(()), echo=TensorSpec(())),
    )
    return Echo(block)


def test_echo_of_a_sum_accumulates():
    net = _make_echo()
    state = ((), torch.zeros(1))
    outputs = []
    for x in (1.0, 2.0, 3.0):
        y, state = net(torch.tensor([x]), state)
        outputs.append(y.item())
    assert outputs == [1, 3, 6]
    assert net.state_spec == ((), TensorSpec(()))


def test_echo_refuses_blocks_without_echo():
    with pytest.raises(
        ValueError, match=r"Echo: expected a block with the input dict\(input=..., echo=...\)"
    ):
        Echo(FC(3, 2))
    block = Sequential(
        ("input.input", layers.Identity()),
        output=dict(output="", echo=""),
        input_tensor_spec=dict(input=TensorSpec((2,)), echo=TensorSpec(())),
    )
    with pytest.raises(ValueError, match="the same spec for the echo"):
        Echo(block)


def test_parallel_of_routed_sequential_keeps_its_routes():
    net = Sequential(FC(3, 2), a=(("input", ""), NestConcat()), output=dict(x="a"), name="net")
    parallel = net.make_parallel(2)
    assert parallel.name == "parallel_net"
    assert parallel.output_spec == dict(x=TensorSpec((2, 5)))
