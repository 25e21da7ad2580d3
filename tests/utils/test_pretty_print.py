"""Nested data printed for people."""

import re

from alf.data_structures import namedtuple
from alf.utils.pretty_print import PrettyPrinter, pformat_pycolor

Point = namedtuple("Point", ["x", "name"])
Pair = namedtuple("Pair", ["first", "second"])


def test_short_namedtuple_stays_on_one_line():
    assert PrettyPrinter().pformat(Point(1, "a")) == "Point(x=1, name='a')"


def test_long_namedtuple_has_a_field_on_each_line_nested_ones_too():
    value = {"key": Pair(Point(1, "a" * 8), Point(list(range(6)), "b"))}
    assert (
        PrettyPrinter(width=34).pformat(value)
        == """\
{'key': Pair(first=Point(x=1,
                         name='aaaaaaaa'),
             second=Point(x=[0,
                             1,
                             2,
                             3,
                             4,
                             5],
                          name='b'))}"""
    )


def test_what_is_printed_is_python_again():
    value = [Pair(Point(i, "n" * i), (i,)) for i in range(12)]
    assert eval(PrettyPrinter(width=20).pformat(value)) == value


def test_cycle_is_noticed():
    inner = []
    value = Pair(inner, "x" * 200)
    inner.append(value)
    assert "Recursion on Pair" in PrettyPrinter().pformat(value)


def test_items_can_be_inline():
    import io

    stream = io.StringIO()
    PrettyPrinter().format_namedtuple_items([("a", 1), ("b", 2)], stream, 0, 0, {}, 1, inline=True)
    assert stream.getvalue() == "a=1, b=2"


def test_colours_leave_the_text_as_it_is():
    coloured = pformat_pycolor(Point(1, "a"))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == "Point(x=1, name='a')"
