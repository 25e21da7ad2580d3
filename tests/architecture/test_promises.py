"""Pages that promise something name the tests that hold it; those must exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("checkpoints", "security", "robustness", "sweeps", "distributed")]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.joinpath("tests").rglob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    names = re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    assert len(names) > 3
    assert [name for name in names if f"def {name}(" not in TESTS] == []


@pytest.mark.parametrize("page", [ROOT / "docs" / "bad_input.md", ROOT / "docs" / "robustness.md"],
                         ids=lambda page: page.name)
def test_files_and_tests_that_a_table_names_exist(page):
    places = re.findall(r"`(?:tests/)?([\w/]+/test_\w+\.py)(?:::(test_\w+))?`", page.read_text(encoding="utf-8"))
    assert len(places) > 20
    wrong = []
    for path, name in places:
        file = ROOT / "tests" / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
            wrong.append(f"{path}::{name}")
    assert wrong == []


def test_every_fault_names_a_test():
    for page, begin in ((ROOT / "docs" / "robustness.md", "| fault |"), (ROOT / "docs" / "bad_input.md", "| what |")):
        text = page.read_text(encoding="utf-8")
        rows = [row for table in text.split(begin)[1:] for row in table.split("\n\n")[0].splitlines()[2:]]
        assert len(rows) > 15
        assert [row for row in rows if "test_" not in row] == []


def test_every_row_of_the_promises_names_a_test():
    text = PAGES[0].read_text(encoding="utf-8")
    tables = text[text.index("| promise | test |"):text.index("## Signals")]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert [row for row in rows if "`test_" not in row and not row.startswith(("| promise", "| changed"))] == []
