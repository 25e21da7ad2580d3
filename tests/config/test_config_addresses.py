"""Which names mean which argument: suffixes, ambiguity, unknown names, names of callables."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alf._config._discover import find_in_source
from alf._config._registry import Registry, module_path
from alf.config_util import config, config1, configurable, get_all_config_names, get_config_value


def make(path, *args):
    """Return a new configurable with this path and arguments without defaults, all returned as a dict."""
    scope = {}
    exec(f"def fn({', '.join(f'{a}=None' for a in args)}): return dict(locals())", scope)
    return configurable(path)(scope["fn"])


@pytest.mark.parametrize(
    "module, shown",
    [
        ("alf.layers", "alf.layers"),
        ("alf.layers._dense", "alf.layers"),
        ("alf._private.thing", "alf.thing"),
        ("__main__", "__main__"),
        ("__mp_main__", "__main__"),
    ],
)
def test_private_segments_of_a_module_are_invisible_in_addresses(module, shown):
    assert module_path(module) == shown


def test_address_is_module_qualified_name_and_argument():
    def fn(x=1):
        return x

    fn.__module__, fn.__qualname__ = "some.pkg._part", "Outer.fn"
    configurable(fn)
    assert "some.pkg.Outer.fn.x" in get_all_config_names()


def test_name_of_a_function_in_main():
    def foo(b=1):
        return b

    foo.__module__, foo.__qualname__ = "__main__", "foo"
    configurable(foo)
    assert "__main__.foo.b" in get_all_config_names()


def test_name_with_dots_replaces_module_and_qualified_name():
    make("ns.bar", "x")
    assert "ns.bar.x" in get_all_config_names()


def test_name_without_dots_keeps_the_module():
    def fn(x=1):
        return x

    fn.__module__ = "some.module"
    configurable("other")(fn)
    assert "some.module.other.x" in get_all_config_names()


@pytest.mark.parametrize("name", ["alpha.beta.fn.x", "beta.fn.x", "fn.x", "x_only_here"])
def test_any_unambiguous_end_of_the_full_name_will_do(name):
    fn = make("alpha.beta.fn", "x", "x_only_here")
    config1(name, 5)
    assert 5 in fn().values()


def test_part_of_a_segment_is_no_match():
    make("alpha.my_fn", "x")
    with pytest.raises(ValueError, match="Cannot find config name fn.x"):
        config("fn", x=1)


def test_ambiguous_name_lists_three_candidates_and_the_line():
    for name in "abcd":
        make(f"{name}.twin", "x")
    with pytest.raises(ValueError) as error:
        config("twin", x=1)
    text = str(error.value)
    assert "twin.x is ambiguous" in text
    assert "a.twin.x, b.twin.x, c.twin.x and 1 more" in text
    assert f"{__file__}:" in text


def test_longer_end_resolves_an_ambiguity():
    first, second = make("a.twin", "x"), make("b.twin", "x")
    config("b.twin", x=3)
    assert (first()["x"], second()["x"]) == (None, 3)


def test_argument_only_one_of_two_namesakes_has_is_not_ambiguous():
    make("a.twin", "x"), make("b.twin", "x", "y")
    config("twin", y=1)
    assert get_config_value("b.twin.y") == 1


def test_unknown_callable_suggests_nearest_and_tells_the_line():
    make("ns.learning_rate_schedule", "factor")
    with pytest.raises(ValueError) as error:
        config("learning_rate_shedule", factor=1)
    line = sys._getframe().f_lineno - 1
    text = str(error.value)
    assert text.startswith(f"Cannot find config name learning_rate_shedule.factor ({__file__}:{line})")
    assert "Did you mean learning_rate_schedule.factor?" in text


def test_misspelt_argument_is_told_with_the_nearest_alone():
    make("ns.Dense", "activation", "use_bias")
    with pytest.raises(ValueError) as error:
        config("Dense", activatoin=1)
    text = str(error.value)
    assert text.startswith("Cannot find config name Dense.activatoin")
    assert text.endswith("). Did you mean Dense.activation? ns.Dense has no argument 'activatoin'.")


def test_unknown_argument_like_no_other_is_told_with_all():
    make("ns.Dense", "activation", "use_bias")
    with pytest.raises(ValueError) as error:
        config("Dense", gamma=1)
    assert str(error.value).endswith("ns.Dense has no argument 'gamma'; its arguments are activation, use_bias.")


def test_at_most_three_names_are_suggested():
    make("ns.thing", "value_1", "value_2", "value_3", "value_4")
    with pytest.raises(ValueError) as error:
        config("thing", value_5=1)
    assert str(error.value).split("Did you mean ")[1].count("thing.") == 3


def test_bare_argument_that_is_misspelt_suggests_nearest():
    make("ns.thing", "a_most_unusual_argument")
    with pytest.raises(ValueError, match="Did you mean a_most_unusual_argument"):
        config1("a_most_unusual_argumant", 1)


def test_argument_outside_the_whitelist_is_told_as_such():
    def fn(a=1, b=2):
        return a, b

    configurable("ns.white", whitelist=["a"])(fn)
    with pytest.raises(ValueError, match="keeps its argument 'b' out of the configuration"):
        config("white", b=1)


def test_one_full_name_may_not_be_the_end_of_another():
    make("inner.fn", "x")
    with pytest.raises(ValueError, match="inner.fn.x is the end of outer.inner.fn.x"):
        make("outer.inner.fn", "x")


def test_path_may_be_the_end_of_another_if_no_argument_is_shared():
    make("inner.fn", "x")
    make("outer.inner.fn", "y")
    config("outer.inner.fn", y=1)
    config("inner.fn", x=2)
    assert (get_config_value("outer.inner.fn.y"), get_config_value("inner.fn.x")) == (1, 2)


def test_two_callables_may_not_have_the_same_path():
    def one(x=1):
        return x

    def other(x=1):
        return x

    configurable("ns.same")(one)
    with pytest.raises(ValueError, match=r"one and .*other would have the config path ns.same"):
        configurable("ns.same")(other)


def test_registering_a_function_again_replaces_it_and_keeps_its_settings():
    def define(default):
        @configurable("ns.again")
        def fn(x=default):
            return x

        return fn

    first = define(1)
    config("ns.again", x=7)
    second = define(2)
    assert (first(), second()) == (7, 7)


def test_older_function_of_a_path_sees_later_settings():
    def define():
        @configurable("ns.again")
        def fn(x=1):
            return x

        return fn

    first = define()
    first()
    define()
    config("ns.again", raise_if_used=False, x=2)
    assert first() == 2


def test_config_wants_a_prefix_with_keywords_or_a_dict():
    with pytest.raises(ValueError, match="expected .*got 3"):
        config(3)
    with pytest.raises(ValueError, match="and keywords"):
        config({"a.b": 1}, c=2)


SEGMENT = st.sampled_from(["a", "b", "cc", "c"])
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(tuple)


class FakeEntry:
    def __init__(self, path, args):
        self.path, self.args = path, dict.fromkeys(args)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(PATHS, st.sets(SEGMENT, min_size=1), min_size=1, max_size=8),
    st.lists(SEGMENT, min_size=1, max_size=5),
)
def test_resolution_equals_a_naive_search_over_all_full_names(callables, query):
    registry = Registry()
    full_names = set()  # tuples of segments
    for path, args in callables.items():
        names = {(*path, arg) for arg in args}
        shadows = any(
            a != b and len(a) != len(b) and a[-min(len(a), len(b)) :] == b[-min(len(a), len(b)) :]
            for a in names
            for b in full_names
        )
        entry = FakeEntry(".".join(path), args)
        if shadows:
            with pytest.raises(ValueError, match="is the end of"):
                registry.add(entry)
        else:
            registry.add(entry)
            full_names |= names
    expected = {name for name in full_names if name[-len(query) :] == tuple(query)}
    found = {(*entry.path.split("."), arg) for entry, arg in registry.addresses(".".join(query))}
    assert found == expected


def test_configurables_are_found_in_source_without_importing():
    source = """
import alf
from alf.config_util import configurable

@configurable
class Plain(Base):
    def not_me(self): pass

    @configurable(blacklist=["x"])
    def method(self, y): pass

@alf.configurable("some.name")
def named(a): pass

@configurable(
    whitelist=[
        "a"])
@other
def long(a): pass

def undecorated(): pass
"""
    assert find_in_source(source, "alf.layers._dense") == [
        "alf.layers.Plain",
        "alf.layers.Plain.method",
        "some.name",
        "alf.layers.long",
    ]


def test_unknown_name_imports_the_module_of_alf_that_defines_it(monkeypatch, tmp_path):
    (tmp_path / "late_module_of_alf.py").write_text(
        "from alf.config_util import configurable\n@configurable\ndef late_function(x=1): return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "alf._config._discover.configurables_in_package",
        lambda: {"late_module_of_alf.late_function": "late_module_of_alf"},
    )
    config("late_function", x=4)
    assert sys.modules.pop("late_module_of_alf").late_function() == 4


def test_every_configurable_of_an_imported_module_is_found_in_its_source():
    program = """
import alf.tensor_specs, alf.layers, alf.optimizers
from alf._config._discover import configurables_in_package
from alf._config._registry import registry
registered = {entry.path for entry in registry}
assert "alf.layers.FC" in registered and "alf.tensor_specs.TensorSpec" in registered
assert not registered - set(configurables_in_package()), registered - set(configurables_in_package())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
