"""Tests of what policies are told by critics."""

import pytest
import torch

from alf.algorithms._actor_critic.action_values import action_gradient, weights_fixed
from alf.layers import FC


def test_values_made_with_fixed_weights_have_the_gradient_of_the_action_alone():
    critic, action = FC(3, 1), torch.randn(4, 3, requires_grad=True)
    with weights_fixed(critic):
        value = critic(action).squeeze(-1)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(value.sum(), critic.weight, retain_graph=True)
    gradient, = action_gradient(value, [action])
    torch.testing.assert_close(gradient, critic.weight.detach().expand(4, 3))


def test_weights_are_trained_again_afterwards_unless_they_were_not_before():
    critic = FC(3, 1)
    critic.bias.requires_grad_(False)
    with pytest.raises(KeyError), weights_fixed(critic):
        assert not critic.weight.requires_grad
        raise KeyError
    assert critic.weight.requires_grad and not critic.bias.requires_grad
