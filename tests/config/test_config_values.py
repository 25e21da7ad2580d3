"""Setting values: order, use, mutability, pre-configs, the user's own values, and what is reported."""

import functools
import math
import warnings

import numpy as np
import pytest
import torch

from alf._config._values import same_value
from alf.config_util import (
    config,
    config1,
    configurable,
    define_config,
    get_config_value,
    get_handled_pre_configs,
    get_inoperative_configs,
    get_operative_configs,
    pre_config,
    reset_configs,
    validate_pre_configs,
)


@configurable("ns.fn")
def fn(a=1, b=2):
    return a, b


def lines_of(function, *needles):
    """Return the line numbers of the first lines of `function` that hold each text."""
    lines, first = __import__("inspect").getsourcelines(function)
    return [first + next(i for i, line in enumerate(lines) if needle in line) for needle in needles]


def test_last_setting_wins_before_use():
    config("fn", a=5)
    config({"ns.fn.a": 6, "fn.b": 7})
    config1("fn.b", 8)
    assert fn() == (6, 8)


def test_setting_after_use_names_both_places():
    config("fn", a=5)
    fn()  # the use
    with pytest.raises(ValueError) as error:
        config("fn", a=6)  # the late one
    use, late = lines_of(test_setting_after_use_names_both_places, "# the use", "# the late one")
    text = str(error.value)
    assert text.startswith("ns.fn.a has already been used. You should config its value before using it.")
    assert f"set to 6 by {__file__}:{late}" in text
    assert f"its value 5 was used by {__file__}:{use}" in text


def test_default_that_was_used_cannot_be_changed_either():
    fn()
    with pytest.raises(ValueError, match="its value 1 was used"):
        config("fn", a=6)
    config("fn", a=1)


def test_same_value_after_use_is_accepted():
    config("fn", a=[1, 2])
    fn()
    config("fn", a=[1, 2])
    assert fn() == ([1, 2], 2)


def test_explicit_argument_does_not_use_the_setting():
    config("fn", a=5)
    fn(3)
    config("fn", a=6)
    assert fn(b=0) == (6, 0)


def test_raise_if_used_false_changes_the_value_for_later_calls():
    fn()
    config("fn", a=6, raise_if_used=False)
    assert fn() == (6, 2)


def test_if_one_of_several_is_wrong_none_is_set():
    fn(a=0)  # uses b
    for bad in ({"fn.a": 9, "fn.nosuch": 1}, {"fn.a": 9, "fn.b": 1}):
        with pytest.raises(ValueError):
            config(bad)
    assert fn() == (1, 2)


def test_immutable_value_stays_with_one_warning():
    config("fn", mutable=False, a=5)
    with pytest.warns(
        UserWarning, match="ns.fn.a was set to 5 for good by .*; 6 set here is ignored"
    ) as seen:
        config("fn", a=6)
    assert len(seen) == 1 and seen[0].filename == __file__
    assert fn() == (5, 2)


def test_immutable_value_set_again_to_the_same_does_not_warn():
    config("fn", mutable=False, a=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config("fn", a=5)


def test_same_value_set_immutable_becomes_immutable():
    config("fn", a=5)
    config("fn", mutable=False, a=5)
    with pytest.warns(UserWarning):
        config("fn", a=6)
    assert fn() == (5, 2)


def test_late_setting_of_an_immutable_used_value_warns_only():
    config("fn", mutable=False, a=5)
    fn()
    with pytest.warns(UserWarning, match="ignored"):
        config("fn", a=6)


def test_pre_config_of_a_known_name_wins_over_the_conf():
    pre_config({"fn.a": 5})
    with pytest.warns(UserWarning, match="ignored"):
        config("fn", a=6)
    assert fn() == (5, 2)
    assert get_handled_pre_configs() == [("fn.a", 5)]


def test_pre_config_waits_for_its_callable():
    pre_config({"later.x": 5})
    assert get_handled_pre_configs() == []

    @configurable("ns.later")
    def later(x=1):
        return x

    validate_pre_configs()
    with pytest.warns(UserWarning, match="ignored"):
        config("later", x=6)
    assert later() == 5
    assert get_handled_pre_configs() == [("later.x", 5)]


def test_pre_config_that_belongs_to_nothing_is_an_error_with_suggestion_and_origin():
    pre_config({"ns.fm.a": 5}, origin="--conf_param")
    with pytest.raises(ValueError) as error:
        validate_pre_configs()
    assert str(error.value).startswith(
        "Cannot find config name ns.fm.a (--conf_param). Did you mean ns.fn.a?"
    )


def test_pre_config_that_became_ambiguous_is_an_error():
    pre_config({"fn.a": 5})

    @configurable("other.fn")
    def other(a=1):
        return a

    with pytest.raises(ValueError, match="fn.a is ambiguous"):
        validate_pre_configs()


def test_first_pre_config_of_a_name_counts():
    pre_config({"fn.a": 5})
    with pytest.warns(UserWarning, match="ignored"):
        pre_config({"ns.fn.a": 6})
    assert dict(get_handled_pre_configs()) == {"fn.a": 5, "ns.fn.a": 5}


def test_defined_config_returns_its_default():
    assert define_config("width", 64) == 64
    assert get_config_value("width") == get_config_value("_CONFIG._USER.width") == 64


def test_defined_config_takes_a_waiting_pre_config():
    pre_config({"_CONFIG._USER.width": 32, "net.depth": 3})
    assert define_config("width", 64) == 32
    assert define_config("net.depth", 1) == 3
    validate_pre_configs()


def test_defining_twice_is_an_error():
    define_config("width", 64)
    with pytest.raises(ValueError, match="_CONFIG._USER.width has already been defined"):
        define_config("width", 64)


def test_defined_value_cannot_change_after_it_was_returned():
    define_config("width", 64)
    with pytest.raises(ValueError, match="already been used"):
        config1("_CONFIG._USER.width", 32)


def test_get_config_value_returns_setting_or_default_and_counts_as_use():
    config("fn", a=5)
    assert (get_config_value("fn.a"), get_config_value("fn.b")) == (5, 2)
    with pytest.raises(ValueError, match="already been used"):
        config("fn", b=3)


def test_get_config_value_of_an_argument_without_value():
    configurable("ns.req")(lambda x: x)
    with pytest.raises(ValueError, match="ns.req.x has no value .*alf.config\\('req', x=...\\)"):
        get_config_value("req.x")


def test_operative_are_used_values_and_defaults_inoperative_are_unused_settings():
    config("fn", a=5)
    config1("fn.b", 9)
    fn(b=0)
    assert get_operative_configs() == [("ns.fn.a", 5)]
    assert get_inoperative_configs() == [("ns.fn.b", 9)]
    fn(0)
    assert get_operative_configs() == [("ns.fn.a", 5), ("ns.fn.b", 9)]
    assert get_inoperative_configs() == []


def test_setting_shadowed_by_a_partial_is_inoperative():
    @configurable("ns.use")
    def use(ctor=None):
        return ctor()

    config("fn", a=5)
    config("use", ctor=functools.partial(fn, a=7))
    assert use() == (7, 2)
    assert get_inoperative_configs() == [("ns.fn.a", 5)]


def test_listings_tell_where_a_value_was_set():
    config("fn", a=5)  # set here
    fn()
    [line] = lines_of(test_listings_tell_where_a_value_was_set, "# set here")
    assert get_operative_configs(places=True) == [
        ("ns.fn.a", 5, f"{__file__}:{line}"),
        ("ns.fn.b", 2, "default"),
    ]


def test_reset_forgets_settings_uses_and_user_values():
    pre_config({"nosuch.name": 1})
    config("fn", mutable=False, a=5)
    define_config("width", 64)
    fn()
    reset_configs()
    assert (get_operative_configs(), get_inoperative_configs(), get_handled_pre_configs()) == ([], [], [])
    validate_pre_configs()
    config("fn", a=7)
    assert fn() == (7, 2)
    assert define_config("width", 65) == 65


def make_function(k):
    return lambda x: x + k


def make_recursive_function(value):
    def function(n):
        return value if n == 0 else function(n - 1)
    return function


def make_functions_that_call_each_other(value):
    def one(n):
        return value if n == 0 else other(n - 1)

    def other(n):
        return one(n)
    return one


PAIRS_THAT_ARE_THE_SAME = [
    (1, 1.0),
    (math.nan, math.nan),
    (np.array([1, 2]), np.array([1, 2])),
    (torch.ones(2), torch.ones(2)),
    ({"a": (1, torch.zeros(1))}, {"a": (1, torch.zeros(1))}),
    (functools.partial(max, 1, key=abs), functools.partial(max, 1, key=abs)),
    (make_function(1), make_function(1)),
    (make_recursive_function(1), make_recursive_function(1)),
    (make_functions_that_call_each_other(1), make_functions_that_call_each_other(1)),
]
PAIRS_THAT_DIFFER = [
    (1, 2),
    (None, ()),
    ((1,), [1]),
    (np.array([1, 2]), np.array([1, 3])),
    (np.array([1, 2]), np.array([1, 2, 3])),
    (np.array([1, 2]), np.array([1.0, 2.0])),
    (np.array([1, 2]), [1, 2]),
    (torch.ones(2), torch.zeros(2)),
    (torch.ones(2), 1),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (functools.partial(max, torch.ones(2)), functools.partial(max, torch.zeros(2))),
    (make_function(1), make_function(2)),
    (make_recursive_function(1), make_recursive_function(2)),
    (make_functions_that_call_each_other(1), make_functions_that_call_each_other(2)),
    (object(), object()),
]


@pytest.mark.parametrize("a, b", PAIRS_THAT_ARE_THE_SAME)
def test_same_values(a, b):
    assert same_value(a, b) and same_value(b, a)


@pytest.mark.parametrize("a, b", PAIRS_THAT_DIFFER)
def test_different_values(a, b):
    assert not same_value(a, b) and not same_value(b, a)


def test_value_without_a_keyword_is_refused():
    """Otherwise it would be taken for the argument `mutable`, and nothing would be set."""
    with pytest.raises(ValueError, match=r"expected keywords with the values .*config1\(\"FC\.activation\", value\)"):
        config("FC.activation", 0.9)
