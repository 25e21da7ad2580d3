"""The house has floors: a module imports from lower floors, or inside its own room. This table is its plan."""

import ast
import dataclasses
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "alf"

# room (the part of a module's name after "alf.") -> floor; the roof is `alf` itself
FLOOR = {
    "_config": 0,  # the configuration system
    "_install": 0,  # how to install what only some parts need
    "_envs": 0,  # C++, csrc/envs
    "_parallel_env": 0,  # C++, csrc/parallel_env
    "_exchange": 0,  # C++, csrc/exchange
    "_replay": 0,  # C++, csrc/replay
    "tensor_specs": 1,  # shape, dtype and bounds of a tensor
    "progress": 1,  # how far training is
    "device_ctx": 1,  # where new tensors are made
    "nest": 2,  # lists, tuples and dictionaries of tensors
    "config_util": 2,  # the public face of _config
    "data_structures": 3,  # TimeStep, Experience, AlgStep, LossInfo
    "summary": 3,  # what goes to TensorBoard, and the only room that knows it
    "optimizers": 3,
    "norm_layers": 3,
    "initializers": 3,
    "utils": 4,  # mathematics, distributions, losses, schedules, checkpoints
    "environments": 5,  # the only room that knows Gymnasium
    "metrics": 5,  # what is measured over episodes
    "experience_replayers": 5,  # stored experience
    "layers": 5,  # tensors in, tensors out
    "networks": 6,  # specs in, specs out
    "algorithms": 7,  # where the two wings meet
    "config_helpers": 8,  # what confs ask for: specs, environment
    "examples": 8,  # confs
    "trainers": 9,  # the loops
    "test": 9,  # what users' tests inherit
    "scale_out": 10,  # the same training in more processes
    "bin": 11,  # the commands
}
ROOF = "alf"

# The world wing and the learning wing know nothing of each other; algorithms know both.
WORLD_WING = {"environments", "metrics", "experience_replayers"}
LEARNING_WING = {"layers", "networks"}

# package -> the rooms that may import it
KEPT_TO = {
    "gymnasium": {"environments"},
    "gym": {"environments"},
    "tensorboard": {"summary"},
    "torch.utils.tensorboard": {"summary"},
    "ray": {"scale_out"},
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One import statement: `importer` at `line` needs the module `imported`."""

    importer: str  # dotted name of the module with the statement
    imported: str  # dotted name of the module it needs
    line: int
    at_module_level: bool  # runs when the importer is imported

    def __str__(self):
        return f"{self.importer}:{self.line} imports {self.imported}"


def sources() -> dict[str, pathlib.Path]:
    """Return the path of every module of alf by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: pathlib.Path, modules) -> list[Import]:
    """Return the imports of one module; `from package import name` counts as the module `package.name` if there is one.

    `importlib.import_module("literal")` counts as an import, too.
    """
    found = []

    def add(name, node, at_module_level):
        found.append(Import(module, name, node.lineno, at_module_level))

    def visit(node, at_module_level):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node, at_module_level)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                parents = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                add(name if name in modules else base, node, at_module_level)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                add(node.args[0].value, node, at_module_level)
        inside_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            visit(child, at_module_level and not inside_function and not for_types_only)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def all_imports() -> list[Import]:
    """Return every import of every module of alf."""
    modules = sources()
    return [one for module, path in modules.items() for one in imports_of(module, path, modules)]


def room(module: str) -> str:
    """Return the room of a module: the part of its name after `alf.`; the roof is `alf`."""
    parts = module.split(".")
    return ROOF if len(parts) == 1 else parts[1]


def inside(imports):
    """Return the imports of alf in alf."""
    return [one for one in imports if one.imported.split(".")[0] == "alf"]


def told(imports) -> str:
    return "\n".join(map(str, imports))


@pytest.fixture(scope="module")
def imports():
    return all_imports()


def test_every_room_is_on_the_plan():
    assert {room(module) for module in sources()} - {ROOF} <= set(FLOOR)


def test_no_import_points_upward(imports):
    upward = [
        one for one in inside(imports)
        if room(one.importer) != ROOF and room(one.imported) != ROOF
        and FLOOR[room(one.imported)] > FLOOR[room(one.importer)]
    ]
    assert not upward, told(upward)


def test_rooms_on_one_floor_do_not_import_each_other(imports):
    sideways = [
        one for one in inside(imports)
        if ROOF not in (room(one.importer), room(one.imported)) and room(one.importer) != room(one.imported)
        and FLOOR[room(one.imported)] == FLOOR[room(one.importer)]
    ]
    assert not sideways, told(sideways)


def test_the_wings_do_not_import_each_other(imports):
    across = [
        one for one in inside(imports)
        if (room(one.importer) in WORLD_WING and room(one.imported) in LEARNING_WING)
        or (room(one.importer) in LEARNING_WING and room(one.imported) in WORLD_WING)
    ]
    assert not across, told(across)


def test_algorithms_know_of_environments_only_their_interface(imports):
    known = [
        one for one in inside(imports)
        if room(one.importer) == "algorithms" and room(one.imported) == "environments"
        and one.imported != "alf.environments.alf_environment"
    ]
    assert not known, told(known)


def test_nobody_imports_the_roof_but_confs(imports):
    roof = [one for one in inside(imports) if one.imported == ROOF and room(one.importer) not in ("examples", ROOF)]
    assert not roof, told(roof)


@pytest.mark.parametrize("top", ["bin", "examples"])
def test_nobody_imports_commands_and_confs(imports, top):
    used = [one for one in inside(imports) if room(one.imported) == top and room(one.importer) != top]
    assert not used, told(used)


@pytest.mark.parametrize("package", KEPT_TO)
def test_foreign_packages_are_kept_to_their_rooms(imports, package):
    elsewhere = [
        one for one in imports
        if (one.imported == package or one.imported.startswith(package + "."))
        and room(one.importer) not in KEPT_TO[package]
    ]
    assert not elsewhere, told(elsewhere)


def test_there_is_no_import_circle(imports):
    needs = {}
    modules = sources()
    for one in imports:
        if one.at_module_level and one.imported in modules and one.imported != one.importer:
            needs.setdefault(one.importer, set()).add(one.imported)
    done, path = set(), []

    def visit(module):
        if module in path:
            pytest.fail("import circle: " + " -> ".join([*path[path.index(module):], module]))
        if module in done:
            return
        path.append(module)
        for imported in sorted(needs.get(module, ())):
            visit(imported)
        path.pop()
        done.add(module)

    for module in sorted(needs):
        visit(module)


def test_the_reader_of_imports_sees_every_way_to_import(tmp_path):
    source = tmp_path / "thing.py"
    source.write_text("""
import alf.utils.math_ops as math_ops
from alf.utils import common, schedulers as s
from . import sibling
from ..nest import flatten
if TYPE_CHECKING:
    from alf.networks import Network
def function():
    import alf
    importlib.import_module("alf.layers")
""")
    modules = {"alf.utils.common", "alf.utils.schedulers", "alf.algorithms.sibling"}
    found = {(one.imported, one.at_module_level) for one in imports_of("alf.algorithms.thing", source, modules)}
    assert found == {("alf.utils.math_ops", True), ("alf.utils.common", True), ("alf.utils.schedulers", True),
                     ("alf.algorithms.sibling", True), ("alf.nest", True), ("alf.networks", False), ("alf", False),
                     ("alf.layers", False)}
