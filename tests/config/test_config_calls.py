"""What a configured callable does when it is called, and what it stays."""

import copy
import functools
import inspect
import pickle
import threading
from collections import namedtuple
from dataclasses import dataclass

import pytest

from alf.config_util import config, configurable, get_all_config_names, get_operative_configs


def test_missing_argument_comes_from_the_configuration_and_else_from_the_default():
    @configurable("ns.fn")
    def fn(a, b=2, c=3):
        return a, b, c

    config("ns.fn", b=20)
    assert fn(1) == (1, 20, 3)


def test_explicit_argument_wins_however_it_is_passed():
    @configurable("ns.fn")
    def fn(a, b=2):
        return a, b

    config("ns.fn", b=20)
    assert [fn(1, 5), fn(1, b=6), fn(b=7, a=1)] == [(1, 5), (1, 6), (1, 7)]


def test_required_argument_can_come_from_the_configuration():
    @configurable("ns.fn")
    def fn(a, *, b):
        return a, b

    config("ns.fn", a=1, b=2)
    assert fn() == (1, 2)


def test_keyword_only_and_var_arguments():
    @configurable("ns.fn")
    def fn(a, *rest, flag=False, **others):
        return a, rest, flag, others

    config("ns.fn", flag=True)
    assert fn(1, 2, 3, z=4) == (1, (2, 3), True, {"z": 4})
    names = [name for name in get_all_config_names() if name.startswith("ns.fn")]
    assert names == ["ns.fn.a", "ns.fn.flag"]


def test_positional_only_arguments_are_filled_by_position():
    @configurable("ns.fn")
    def fn(a, b=2, c=3, /, d=4):
        return a, b, c, d

    config("ns.fn", c=30, d=40)
    assert [fn(1), fn(1, 9), fn(1, 9, 8), fn(1, d=7)] == [
        (1, 2, 30, 40), (1, 9, 30, 40), (1, 9, 8, 40), (1, 2, 30, 7),
    ]  # fmt: skip


def test_settings_made_between_calls_are_seen():
    @configurable("ns.fn")
    def fn(a=1):
        return a

    seen = [fn()]
    for value in (2, 3):
        config("ns.fn", a=value, raise_if_used=False)
        seen.append(fn())
    assert seen == [1, 2, 3]


@configurable
class Animal:
    """An animal."""

    def __init__(self, name="cat", legs=4):
        """Make it."""
        self.name, self.legs = name, legs

    @configurable
    def speak(self, word="meow", times=1):
        return " ".join([word] * times)

    @staticmethod
    @configurable
    def static(x=1):
        return x

    @configurable
    @classmethod
    def from_legs(cls, legs=2):
        return cls(legs=legs)


def test_class_stays_the_same_class():
    class Plain:
        """A doc."""

        def __init__(self, x: int, *, y: str = "b"):
            self.x, self.y = x, y

    decorated = configurable("ns.Plain")(Plain)
    assert decorated is Plain
    assert decorated.__doc__ == "A doc."
    assert str(inspect.signature(decorated)) == "(x: int, *, y: str = 'b')"
    assert type(decorated(1)) is Plain


def test_instance_pickles_and_copies():
    config("Animal", name="dog")
    animal = Animal()
    for twin in (pickle.loads(pickle.dumps(animal)), copy.deepcopy(animal)):
        assert type(twin) is Animal and twin.name == "dog"


def test_function_keeps_name_doc_and_signature_and_pickles():
    assert Animal.speak.__name__ == "speak"
    assert str(inspect.signature(Animal.speak)) == "(self, word='meow', times=1)"
    assert pickle.loads(pickle.dumps(Animal.speak)) is Animal.speak


def test_method_is_addressed_by_class_and_name():
    config("Animal.speak", times=2)
    assert Animal().speak() == "meow meow"
    assert Animal().speak("purr", times=1) == "purr"


def test_static_and_class_methods():
    config("Animal.static", x=5)
    config("Animal.from_legs", legs=3)
    assert Animal.static() == 5
    assert Animal.from_legs().legs == 3


def test_self_is_no_address():
    assert not [name for name in get_all_config_names() if name.endswith((".self", ".cls"))]


def test_method_of_a_class_that_is_not_configurable():
    class Buffer:
        def __init__(self, size=1):
            self.size = size

        @configurable("ns.Buffer.gather")
        def gather(self, n=1):
            return n + self.size

    config("Buffer.gather", n=10)
    assert Buffer().gather() == 11


def make_family():
    @configurable("ns.Base")
    class Base:
        def __init__(self, x=1, y=2):
            self.x, self.y = x, y

    @configurable("ns.Derived")
    class Derived(Base):
        pass

    return Base, Derived


def test_class_without_constructor_has_addresses_of_its_own():
    base, derived = make_family()
    config("Derived", x=10)
    assert (derived().x, base().x) == (10, 1)


def test_base_settings_fill_in_what_the_derived_class_leaves_open():
    base, derived = make_family()
    config("Base", x=5, y=6)
    config("Derived", x=10)
    assert (derived().x, derived().y, derived(y=0).y) == (10, 6, 0)


def test_default_of_a_base_is_reported_under_the_base_only():
    _, derived = make_family()
    derived()
    assert get_operative_configs() == [("ns.Base.x", 1), ("ns.Base.y", 2)]


def test_argument_a_derived_class_left_to_its_base_cannot_be_set_afterwards():
    _, derived = make_family()
    derived()
    with pytest.raises(ValueError, match="ns.Derived.x has already been used"):
        config("Derived", x=1)


def test_constructor_with_kwargs_also_has_the_arguments_of_its_base():
    base, _ = make_family()

    @configurable("ns.Open")
    class Open(base):
        def __init__(self, z=0, **kwargs):
            super().__init__(**kwargs)
            self.z = z

    config("Open", x=10, z=3)
    made = Open(y=7)
    assert (made.x, made.y, made.z) == (10, 7, 3)
    assert "ns.Open.kwargs" not in get_all_config_names()


def test_positional_arguments_handed_on_through_star_args():
    base, _ = make_family()

    @configurable("ns.Open")
    class Open(base):
        def __init__(self, z, *args, **kwargs):
            super().__init__(*args, **kwargs)

    config("Open", x=10, y=20)
    made = Open(0, 5)
    assert (made.x, made.y) == (5, 20)


def test_base_that_is_not_configurable_gives_its_arguments_and_defaults():
    class Base:
        def __init__(self, x=1):
            self.x = x

    @configurable("ns.Derived")
    class Derived(Base):
        pass

    assert Derived().x == 1
    assert get_operative_configs() == [("ns.Derived.x", 1)]


def test_multiple_inheritance_runs_every_constructor_once():
    order = []

    class Left:
        def __init__(self, x=1, **kwargs):
            order.append(("left", x))
            super().__init__(**kwargs)

    class Right:
        def __init__(self, y=2):
            order.append(("right", y))

    @configurable("ns.Middle")
    class Middle(Left):
        pass

    class Bottom(Middle, Right):
        pass

    config("Middle", x=10)
    Bottom(y=20)
    assert order == [("left", 10), ("right", 20)]


def test_class_made_by_new_alone():
    @configurable("ns.Pair")
    class Pair(namedtuple("Pair", ["a", "b"], defaults=[2])):
        pass

    config("Pair", b=9)
    assert Pair(1) == (1, 9)
    assert pickle.loads(pickle.dumps(Animal("x"))).name == "x"


def test_fields_of_a_dataclass_are_configurable():
    @configurable("ns.Settings")
    @dataclass(kw_only=True)
    class Settings:
        lr: float = 0.1
        steps: int = 10

    config("Settings", lr=0.5)
    assert Settings() == Settings(lr=0.5, steps=10)


def test_decorating_twice_changes_nothing():
    def fn(x=1):
        return x

    once = configurable("ns.twice")(fn)
    assert configurable("ns.twice")(once) is once

    class C:
        def __init__(self, x=1):
            self.x = x

    init = configurable("ns.C")(C).__init__
    assert configurable("ns.C")(C).__init__ is init


def test_two_names_for_one_function_are_two_configurations():
    def fn(x=1):
        return x

    inner = configurable("ns.inner")(fn)
    outer = configurable("ns.outer")(inner)
    config("ns.outer", x=3)
    config("ns.inner", x=2)
    assert (inner(), outer()) == (2, 3)


def test_name_that_sets_nothing_leaves_the_value_and_its_report_to_the_inner_name():
    def fn(x=1):
        return x

    inner = configurable("ns.inner")(fn)
    outer = configurable("ns.outer")(inner)
    config("ns.inner", x=2)
    assert outer() == 2
    assert get_operative_configs() == [("ns.inner.x", 2)]


def test_partial_as_a_value_wins_over_settings_that_it_repeats():
    @configurable("ns.make")
    def make(size=1, activation=None):
        return size, activation

    @configurable("ns.use")
    def use(ctor=None):
        return ctor()

    config("ns.make", size=5, activation="relu")
    config("ns.use", ctor=functools.partial(make, activation="tanh"))
    assert use() == (5, "tanh")


def test_partial_can_be_made_configurable():
    def fn(a, b=2):
        return a, b

    part = configurable("ns.part")(functools.partial(fn, 1))
    config("ns.part", b=7)
    assert part() == (1, 7)


def test_function_decorated_by_others_shows_its_own_arguments():
    def noisy(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            return fn(*args, **kwargs)

        return wrapper

    @configurable("ns.fn")
    @noisy
    def fn(a=1, b=2):
        return a, b

    config("ns.fn", b=5)
    assert fn() == (1, 5)


def test_function_of_another_library_is_registered_by_call():
    import textwrap

    indent = configurable(textwrap.indent)
    config("textwrap.indent", prefix="> ")
    assert indent("hello") == "> hello"


def test_whitelist_and_blacklist():
    def fn(a=1, b=2):
        return a, b

    configurable("ns.w", whitelist=["a"])(fn)
    configurable("ns.b", blacklist=["a"])(fn)
    assert [n for n in get_all_config_names() if n.startswith("ns.")] == ["ns.b.b", "ns.w.a"]
    with pytest.raises(ValueError, match="whitelist or blacklist, not both"):
        configurable("ns.c", whitelist=["a"], blacklist=["b"])
    configurable("ns.d", whitelist=["nosuch"])(fn)
    with pytest.raises(ValueError, match="ns.d has no argument 'nosuch'.*Its arguments: a, b"):
        get_all_config_names()


def test_builtin_class_cannot_be_configurable():
    with pytest.raises(ValueError, match="int cannot be made configurable: it is built in"):
        configurable(int)


def test_missing_argument_error_tells_the_address_and_how_to_set_it():
    @configurable("ns.Layer")
    class Layer:
        def __init__(self, size, depth, bias=True):
            pass

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'depth'") as error:
        Layer(3)
    [note] = error.value.__notes__
    assert "No value for ns.Layer.depth" in note
    assert "alf.config('Layer', depth=...)" in note


def test_failed_call_marks_nothing_as_used():
    @configurable("ns.fn")
    def fn(a, b=1):
        return a, b

    with pytest.raises(TypeError):
        fn()
    config("ns.fn", a=1, b=2)
    assert fn() == (1, 2)


def test_type_error_inside_the_function_gets_no_note():
    @configurable("ns.fn")
    def fn(a=1):
        return a + "x"

    with pytest.raises(TypeError) as error:
        fn()
    assert not getattr(error.value, "__notes__", [])


def test_many_ways_of_calling_do_not_pile_up():
    @configurable("ns.fn")
    def fn(a=1, **kwargs):
        return a, kwargs

    config("ns.fn", a=2)
    for i in range(1000):
        assert fn(**{f"k{i}": i}) == (2, {f"k{i}": i})
    assert len(fn.alf_config_entry.plans) <= 256


def test_threads_see_old_or_new_values_and_the_last_one_in_the_end():
    @configurable("ns.fn")
    def fn(a=0, b=0):
        return a, b

    stop, bad = threading.Event(), []

    def call():
        while not stop.is_set():
            value = fn()
            if not 0 <= value[0] <= 200 or value[1] != 0:
                bad.append(value)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(1, 201):
        config("ns.fn", a=i, raise_if_used=False)
    stop.set()
    for thread in threads:
        thread.join()
    assert not bad and fn() == (200, 0)
