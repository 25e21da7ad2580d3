"""Pages that promise something name the tests that hold it; those must exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "checkpoints.md", ROOT / "docs" / "security.md", ROOT / "docs" / "robustness.md"]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.joinpath("tests").rglob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    names = re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    assert len(names) > 3
    assert [name for name in names if f"def {name}(" not in TESTS] == []


def test_every_row_of_the_promises_names_a_test():
    text = PAGES[0].read_text(encoding="utf-8")
    tables = text[text.index("| promise | test |"):text.index("## Signals")]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert [row for row in rows if "`test_" not in row and not row.startswith(("| promise", "| changed"))] == []
