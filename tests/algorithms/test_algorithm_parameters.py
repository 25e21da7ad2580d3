"""Which optimizer trains what in a tree of algorithms."""

import pytest
import torch
from torch import nn

from alf.algorithms.algorithm import Algorithm
from alf.data_structures import LossInfo
from alf.optimizers import SGD


class Tree(Algorithm):
    """An algorithm with children by keyword, and names of those that it does not train."""

    def __init__(self, optimizer=None, ignore=(), name="Tree", **children):
        super().__init__(optimizer=optimizer, name=name)
        self._ignore = ignore
        for child_name, child in children.items():
            setattr(self, child_name, child)

    def _trainable_attributes_to_ignore(self):
        return list(self._ignore)


def parameter():
    return nn.Parameter(torch.ones(()))


def trained_by(root):
    """Return, for each optimizer of the tree by name, the names of the parameters it trains; "None": nobody."""
    assignment = root.attach_optimizers()
    named = {optimizer.name: sorted(root.get_param_name(p) for p in parameters)
             for optimizer, parameters in zip(assignment.optimizers, assignment.parameters)}
    if assignment.unhandled:
        named["None"] = sorted(root.get_param_name(p) for p in assignment.unhandled)
    for optimizer, parameters in zip(assignment.optimizers, assignment.parameters):
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert held == [id(p) for p in parameters]
    return named


def test_default_optimizer_takes_what_nothing_below_takes():
    root = Tree(SGD(name="root"), w=parameter(), child=Tree(v=parameter(), net=nn.Linear(1, 1)))
    assert trained_by(root) == {"root": ["child.net.bias", "child.net.weight", "child.v", "w"]}


def test_a_child_with_its_own_optimizer_keeps_its_parameters():
    root = Tree(SGD(name="root"), w=parameter(), child=Tree(SGD(name="child"), v=parameter()))
    assert trained_by(root) == {"child": ["child.v"], "root": ["w"]}


def test_algorithms_within_plain_modules_count():
    root = Tree(SGD(name="root"), w=parameter(), children_=nn.ModuleList([Tree(SGD(name="child"), v=parameter())]))
    assert trained_by(root) == {"child": ["children_.0.v"], "root": ["w"]}


def test_added_optimizers_take_their_modules_and_parameters():
    root = Tree(SGD(name="root"), w=parameter(), v=parameter(), net=nn.Linear(1, 1))
    root.add_optimizer(SGD(name="added"), [root.net, root.v])
    assert trained_by(root) == {"added": ["net.bias", "net.weight", "v"], "root": ["w"]}


def test_shared_modules_are_trained_once():
    shared = nn.Linear(1, 1, bias=False)
    root = Tree(SGD(name="root"), w=parameter(), child=Tree(SGD(name="child"), net=shared),
                other=Tree(SGD(name="other"), net=shared, u=parameter()))
    assert trained_by(root) == {"child": ["child.net.weight"], "other": ["other.u"], "root": ["w"]}


def test_a_parameter_held_twice_by_one_module_is_given_once():
    w = parameter()
    root = Tree(SGD(name="root"), w=w, v=w)
    assert trained_by(root) == {"root": ["w"]}


def test_ignored_attributes_are_not_trained_and_are_reported():
    root = Tree(SGD(name="root"), ignore=["target", "u"], w=parameter(), u=parameter(), target=nn.Linear(1, 1))
    assert trained_by(root) == {"root": ["w"]}
    assert sorted(root.get_unoptimized_parameter_info()) == ["target.bias", "target.weight", "u"]


def test_parameters_without_optimizer_are_reported(caplog):
    root = Tree(w=parameter(), child=Tree(SGD(name="child"), v=parameter()), name="Root")
    assert trained_by(root) == {"child": ["child.v"], "None": ["w"]}
    assert root.get_optimizer_info()[-1] == {"optimizer": "None", "parameters": ["w"]}
    assert root.get_unoptimized_parameter_info() == ["w"]


def test_parameters_forced_visible_are_left_to_the_parent():
    child = Tree(SGD(name="child"), v=parameter())
    child.force_params_visible_to_parent = True
    assert child.force_params_visible_to_parent
    root = Tree(SGD(name="root"), w=parameter(), child=child)
    assert trained_by(root) == {"root": ["child.v", "w"]}


def test_a_root_forced_visible_trains_its_parameters_itself():
    root = Tree(SGD(name="root"), w=parameter())
    root.force_params_visible_to_parent = True
    assert trained_by(root) == {"root": ["w"]}


def test_one_optimizer_may_serve_several_algorithms_of_a_tree():
    shared = SGD(name="shared")
    root = Tree(shared, w=parameter(), child=Tree(shared, v=parameter()), other=Tree(SGD(name="other"), u=parameter()))
    assert trained_by(root) == {"shared": ["child.v", "w"], "other": ["other.u"]}
    assert root.optimizers() == [shared, root.other.default_optimizer]


def test_an_optimizer_cannot_serve_two_trees():
    optimizer = SGD(name="shared")
    Tree(optimizer, w=parameter()).attach_optimizers()
    words = r"Second: expected an optimizer without parameters, got .*SGD.*give this one its own"
    with pytest.raises(ValueError, match=words):
        Tree(optimizer, w=parameter(), name="Second").attach_optimizers()


def test_asking_who_trains_what_attaches_nothing():
    child = Tree(SGD(name="child"), v=parameter())
    assert child.get_optimizer_info()[0]["parameters"] == ["v"]
    assert child.get_unoptimized_parameter_info() == []
    assert trained_by(Tree(SGD(name="root"), w=parameter(), child=child)) == {"child": ["child.v"], "root": ["w"]}


def test_optimizers_lists_those_below_unless_not_trained_from_here():
    inner = Tree(SGD(name="inner"), v=parameter())
    root = Tree(SGD(name="root"), ignore=["target"], w=parameter(), child=Tree(SGD(name="child"), v=parameter()),
                target=inner)
    names = lambda **kwargs: [optimizer.name for optimizer in root.optimizers(**kwargs)]  # noqa: E731
    assert names() == ["root", "child"]
    assert names(include_ignored_attributes=True) == ["root", "child", "inner"]
    assert names(recurse=False) == ["root"]


def test_each_update_steps_all_optimizers_of_the_tree():
    root = Tree(SGD(lr=0.5), w=parameter(), child=Tree(SGD(lr=0.25), v=parameter()))
    loss_info, params = root.update_with_gradient(LossInfo(loss=2 * root.w + 2 * root.child.v), weight=2.0)
    assert (root.w.item(), root.child.v.item()) == (-1.0, 0.0)
    assert params == []  # only named when summaries are recorded


def test_adding_an_optimizer_after_training_began_is_refused():
    root = Tree(SGD(), w=parameter(), v=parameter())
    root.attach_optimizers()
    with pytest.raises(AssertionError, match="after training began"):
        root.add_optimizer(SGD(), [root.v])


def test_names_of_parameters_of_other_trees_are_none():
    assert Tree(w=parameter()).get_param_name(parameter()) is None


# ---- state dictionaries --------------------------------------------------------------------------------------------


def momentum_tree():
    shared = SGD(lr=0.5, momentum=0.9, name="shared")
    root = Tree(shared, w=parameter(), child=Tree(shared, v=parameter()))
    root.other = Tree(u=parameter(), unused=parameter())
    root.other.add_optimizer(SGD(lr=0.1, momentum=0.5, name="other"), [root.other.u])
    return root


def update(root):
    root.update_with_gradient(LossInfo(loss=root.w**2 + root.child.v * root.w + root.other.u**3))


def values(root):
    return {name: p.item() for name, p in root.named_parameters()}


def test_training_goes_on_the_same_from_a_state_dict():
    trained = momentum_tree()
    for _ in range(3):
        update(trained)
    copy = momentum_tree()
    copy.load_state_dict(trained.state_dict())
    assert values(copy) == values(trained)
    for _ in range(3):
        update(trained)
        update(copy)
    assert values(copy) == values(trained)


def test_state_dict_has_each_optimizer_once_below_the_algorithm_that_has_it():
    root = momentum_tree()
    assert not [key for key in root.state_dict() if "_optimizers" in key]  # nothing attached yet
    update(root)
    keys = [key for key in root.state_dict() if "_optimizers" in key]
    assert keys == ["_optimizers.0", "other._optimizers.0"]
    assert [key for key in root.state_dict(prefix="p.") if "_optimizers" in key] == ["p._optimizers.0",
                                                                                   "p.other._optimizers.0"]


def test_a_module_that_contains_an_algorithm_saves_and_loads_its_parameters():
    box = nn.ModuleList([momentum_tree()])
    update(box[0])
    copy = nn.ModuleList([momentum_tree()])
    copy.load_state_dict(box.state_dict())
    assert values(copy) == values(box)


def test_state_without_optimizers_loads_parameters_and_keeps_optimizers():
    trained, copy = momentum_tree(), momentum_tree()
    update(trained)
    update(copy)
    update(copy)
    momentum = copy.default_optimizer.state_dict()["state"]
    momentum = {i: entry["momentum_buffer"].clone() for i, entry in momentum.items()}
    copy.load_state_dict({k: v for k, v in trained.state_dict().items() if "_optimizers" not in k})
    assert values(copy) == values(trained)
    for i, entry in copy.default_optimizer.state_dict()["state"].items():
        assert torch.equal(entry["momentum_buffer"], momentum[i])


def test_missing_and_unknown_parameters_are_refused_unless_not_strict():
    root = momentum_tree()
    state = root.state_dict()
    state["unknown"] = state.pop("w")
    with pytest.raises(RuntimeError, match="Missing key.*w.*\n.*Unexpected key.*unknown"):
        momentum_tree().load_state_dict(state)
    result = momentum_tree().load_state_dict(state, strict=False)
    assert result.missing_keys == ["w"] and result.unexpected_keys == ["unknown"]


# ---- loading a part of a checkpoint at construction ----------------------------------------------------------------


class PreTrained(Algorithm):

    def __init__(self, checkpoint=None):
        super().__init__(checkpoint=checkpoint, name="PreTrained")
        # Made after the base is: it can only be loaded once this constructor has run.
        self.net = nn.Linear(2, 1)


def test_checkpoint_argument_loads_a_part_of_a_saved_algorithm(tmp_path):
    from alf.utils.checkpoint_utils import Checkpointer
    saved = Tree(SGD(lr=0.1, momentum=0.9), child=PreTrained(), w=parameter())
    saved.update_with_gradient(LossInfo(loss=saved.w + saved.child.net.weight.sum()))
    Checkpointer(str(tmp_path), algorithm=saved).save(7)
    loaded = PreTrained(checkpoint=f"alg.child@{tmp_path}")
    assert loaded.pre_loaded
    assert torch.equal(loaded.net.weight, saved.child.net.weight)
    assert not PreTrained().pre_loaded


def test_checkpoint_argument_must_have_a_prefix_and_a_path(tmp_path):
    with pytest.raises(ValueError, match=r"PreTrained.checkpoint: expected 'prefix@path', got 'somewhere'"):
        PreTrained(checkpoint="somewhere")
