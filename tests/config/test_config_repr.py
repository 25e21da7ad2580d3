"""`repr_wrapper`: objects that show how they were made."""

import pickle

import torch

from alf.config_util import config, configurable, repr_wrapper


@repr_wrapper
class Point:
    def __init__(self, x, y, size=1, color="red"):
        self.x = x


def test_shows_positional_and_keyword_arguments_without_defaults():
    assert repr(Point(1, 2)) == "Point(1, 2)"
    assert repr(Point(1, y="a", color="blue")) == "Point(1, y='a', color='blue')"
    assert repr(Point(1, 2, 1, color="red")) == "Point(1, 2, 1)"


def test_derived_class_shows_its_own_arguments():
    @repr_wrapper
    class Derived(Point):
        def __init__(self, z):
            super().__init__(z, z)

    class Plain(Point):
        pass

    assert repr(Derived(3)) == "Derived(3)"
    assert repr(Plain(3, 4)) == "Plain(3, 4)"


def test_shows_configured_values():
    @configurable("ns.Ball")
    @repr_wrapper
    class Ball:
        def __init__(self, radius=1, color="red"):
            self.radius = radius

    config("Ball", radius=3)
    assert repr(Ball()) == "Ball(radius=3)"
    assert repr(Ball(color="blue")) == "Ball(radius=3, color='blue')"


def test_works_on_torch_modules_and_survives_pickling():
    @repr_wrapper
    class Layer(torch.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.inner = torch.nn.Linear(size, size)

    layer = Layer(2)
    assert repr(layer) == "Layer(2)"
    assert list(layer.state_dict()) == ["inner.weight", "inner.bias"]
    assert repr(pickle.loads(pickle.dumps(Point(1, 2)))) == "Point(1, 2)"
