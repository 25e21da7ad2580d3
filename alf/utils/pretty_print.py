"""Printing nested data for people: `pprint` that also knows namedtuples, and colours for terminals."""

from __future__ import annotations

import pprint
from typing import Any, Iterable

from alf.nest import is_namedtuple


class PrettyPrinter(pprint.PrettyPrinter):
    """`pprint.PrettyPrinter` that breaks long namedtuples over lines, one field on each."""

    def _format(self, object, stream, indent, allowance, context, level):
        if is_namedtuple(object) and id(object) not in context:
            if len(self._repr(object, context, level)) > self._width - indent - allowance:
                context[id(object)] = 1
                self.format_namedtuple(object, stream, indent, allowance, context, level + 1)
                del context[id(object)]
                return
        super()._format(object, stream, indent, allowance, context, level)

    def format_namedtuple(
        self, object: Any, stream: Any, indent: int, allowance: int, context: dict, level: int
    ) -> None:
        """Write a namedtuple over several lines; the arguments are those of pprint's own methods."""
        name = type(object).__name__
        stream.write(f"{name}(")
        fields = [(field, getattr(object, field)) for field in object._fields]
        self.format_namedtuple_items(fields, stream, indent + len(name) + 1, allowance + 1, context, level)
        stream.write(")")

    def format_namedtuple_items(
        self,
        items: Iterable[tuple[str, Any]],
        stream: Any,
        indent: int,
        allowance: int,
        context: dict,
        level: int,
        inline: bool = False,
    ) -> None:
        """Write `field=value` pairs.

        Args:
            items: (field, value) pairs.
            stream: written to.
            indent: column of the fields.
            allowance: columns to leave free at the end.
            context: ids of the objects that are being written, to notice cycles.
            level: depth of nesting.
            inline: put them all on one line.
        """
        separator = ", " if inline else ",\n" + " " * indent
        items = list(items)
        for i, (field, value) in enumerate(items):
            if i:
                stream.write(separator)
            stream.write(f"{field}=")
            is_last = i == len(items) - 1
            self._format(value, stream, indent + len(field) + 1, allowance if is_last else 1, context, level)


def pformat_pycolor(obj: Any) -> str:
    """Return `obj` formatted over lines and coloured like Python source, for terminals."""
    from pygments import highlight
    from pygments.formatters import TerminalFormatter
    from pygments.lexers import PythonLexer

    return highlight(PrettyPrinter().pformat(obj), PythonLexer(), TerminalFormatter()).rstrip("\n")
