"""What every file promises its reader: a docstring that says what it is for, and nothing left to do."""

import ast
import importlib
import inspect
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "alf").rglob("*.py"))
TEXTS = sorted([
    *FILES, *(ROOT / "csrc").rglob("*.[ch]*"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.py"),
    *ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "setup.py", ROOT / "Makefile",
    *[path for path in (ROOT / "tests").rglob("*.py") if path != pathlib.Path(__file__)]
])
LEFT_TO_DO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?<![\w&\"'#(\[])#[0-9]+\b")


def shown(path) -> str:
    return str(path.relative_to(ROOT))


def first_paragraph(docstring: str) -> str:
    return docstring.strip().split("\n\n")[0]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_definitions(path):
    """Yield (name, docstring) of public classes and functions of a module, and of public methods of public classes.

    A method without a docstring has that of the method it overrides.
    """
    module_name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    definitions = [node for node in tree.body if isinstance(node, kinds) and is_public(node.name)]
    module = importlib.import_module(module_name) if definitions else None
    for node in definitions:
        yield node.name, ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and is_public(member.name):
                    yield f"{node.name}.{member.name}", inspect.getdoc(getattr(getattr(module, node.name), member.name))


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_module_says_what_it_is_for(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, "no docstring"
    assert first_paragraph(docstring).rstrip("`")[-1] in ".:?", first_paragraph(docstring)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_public_names_say_what_they_do(path):
    wrong = []
    for name, docstring in public_definitions(path):
        if not docstring:
            wrong.append(f"{name}: no docstring")
        elif not docstring.startswith("Args:") and first_paragraph(docstring).rstrip("`")[-1] not in ".:?":
            wrong.append(f"{name}: {first_paragraph(docstring)!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_nothing_is_left_to_do(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"line {i}: {line.strip()}" for i, line in enumerate(lines, 1) if LEFT_TO_DO.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text, is_found", [
    ("# TODO: later", True), ("fixed in #12", True), ("see #345.", True), ("color='#123456'", False),
    ("# 12 environments", False), ("[#1](#1)", False)
])
def test_what_counts_as_left_to_do(text, is_found):
    assert bool(LEFT_TO_DO.search(text)) == is_found
