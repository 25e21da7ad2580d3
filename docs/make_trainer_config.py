"""Writes docs/trainer_config.md from the fields and comments of TrainerConfig: python docs/make_trainer_config.py

Topics are the comments ``# -- topic`` in the class, the text of a field is the comment behind it.
"""

import ast
import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parent
SOURCE = DOCS.parent / "alf" / "algorithms" / "config.py"
HEAD = """# TrainerConfig

<!-- Written by docs/make_trainer_config.py from alf/algorithms/config.py: change it there. -->

Settings of a training run. A conf sets them with `alf.config("TrainerConfig", unroll_length=32)`, a command line with
`--conf_param TrainerConfig.unroll_length=32`. A value out of its range is refused with what to set.
"""


def code(text: str) -> str:
    """Return a text in which what stands between double backticks stands between single ones, and pages are links."""
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", text.replace("``", "`"))


def page() -> str:
    """Return the text of the page."""
    text = SOURCE.read_text(encoding="utf-8")
    lines = text.splitlines()
    config, = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == "TrainerConfig")
    notes = ast.get_docstring(config).split("\n\nRaises:")[0].split("\n\n", 1)[1]
    parts = [HEAD]
    # Not the mark behind which arguments are given by name.
    fields = {node.lineno: node for node in config.body if isinstance(node, ast.AnnAssign) and node.target.id != "_"}
    for number in range(min(fields) - 1, config.end_lineno + 1):
        line = lines[number - 1]
        if line.strip().startswith("# -- "):
            topic = line.strip().removeprefix("# -- ")
            parts.append(f"\n## {topic[0].upper() + topic[1:]}\n\n| field | default | what it is |\n|---|---|---|\n")
        elif number in fields:
            field = fields[number]
            default = "given by the command" if field.value is None else f"`{ast.unparse(field.value)}`"
            comment = line[field.end_col_offset:].strip()
            assert comment.startswith("# "), f"{SOURCE}, line {number}: expected a comment behind {field.target.id}"
            parts.append(f"| `{field.target.id}` | {default} | {code(comment[2:])} |\n")
    return "".join([*parts, "\n## Notes\n\n", code(notes), "\n"])


if __name__ == "__main__":
    (DOCS / "trainer_config.md").write_text(page(), encoding="utf-8")
