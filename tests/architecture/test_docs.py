"""The documentation keeps up with the code: confs in it load and train, flags, files, names and tags in it exist."""

import ast
import dataclasses
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

import alf
from alf.scale_out.search_space import read_search

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TUTORIAL = [*sorted((ROOT / "docs" / "tutorial").glob("*.md")), ROOT / "docs" / "environments.md",
            ROOT / "docs" / "networks.md"]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)```", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code in a page; `file` is the name it is to be saved under, from `<!-- file: name -->` above it."""

    page: pathlib.Path
    language: str
    code: str
    file: str

    def __str__(self):
        return self.file or self.page.name


def blocks(pages, language):
    """Return the blocks of a language in some pages."""
    return [
        Block(page, match["language"], match["code"], (match["mark"] or "").removeprefix("file: "))
        for page in pages for match in BLOCK.finditer(page.read_text()) if match["language"] == language
    ]


def shown(path) -> str:
    return str(path.relative_to(ROOT))


FILES = [block for block in blocks(TUTORIAL, "python") if block.file]
CONFS = [block for block in FILES if block.file.endswith("_conf.py")]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write all files of the tutorial into a folder that is the working directory and on the path, and return it."""
    for block in FILES:
        (tmp_path / block.file).write_text(block.code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(folder, *arguments):
    """Run a command of alf in a folder and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_tutorial_has_code():
    assert len(CONFS) >= 4 and len(FILES) > len(CONFS)


@pytest.mark.parametrize("block", [*blocks(TUTORIAL, "python")], ids=str)
def test_python_block_says_what_file_it_is(block):
    assert block.file, f"{block.page.name}: put <!-- file: name.py --> above, so that it is tested:\n{block.code}"
    compile(block.code, block.file, "exec")


@pytest.mark.parametrize("block", CONFS, ids=str)
def test_conf_of_the_tutorial_loads(block, written):
    alf.pre_config({"create_environment.nonparallel": True})
    alf.load_config(str(written / block.file))
    alf.validate_pre_configs()


@pytest.mark.parametrize("block", [block for block in FILES if block not in CONFS], ids=str)
def test_module_of_the_tutorial_runs(block, written):
    run(written, block.file.removesuffix(".py"))


def test_environment_of_the_tutorial_trains(written):
    run(written, "alf.bin.train", "--conf", "corridor_conf.py", "--root_dir", "out", "--conf_param",
        "TrainerConfig.num_iterations=2")
    assert (written / "out" / "train" / "algorithm" / "ckpt-2").is_dir()


def test_alf_environment_of_the_page_trains(written):
    run(written, "alf.bin.train", "--conf", "guess_conf.py", "--root_dir", "out", "--conf_param",
        "TrainerConfig.num_iterations=2")
    assert (written / "out" / "train" / "algorithm" / "ckpt-2").is_dir()


@pytest.mark.parametrize("block", blocks([ROOT / "docs" / "own_algorithm.md"], "python"))
def test_piece_of_the_own_algorithm_is_in_its_file(block):
    assert block.code in (ROOT / "alf" / "examples" / "tutorial" / "q_learning_algorithm.py").read_text()


def test_a_partial_leaves_the_config_inoperative_as_the_tutorial_says(written):
    run(written, "alf.bin.train", "--conf", "partial_conf.py", "--root_dir", "out", "--conf_param",
        "TrainerConfig.num_iterations=1")
    page = (ROOT / "docs" / "tutorial" / "2_how_it_works.md").read_text()
    for name, setting in (("operative", "std_bias_initializer_value = 0.5"),
                          ("inoperative", "state_dependent_std = False")):
        line = f"alf.networks.projection_networks.NormalProjectionNetwork.{setting}"
        assert line in page
        assert line in (written / "out" / f"{name}_configs.txt").read_text().splitlines()


def test_conf_of_the_readme_loads(tmp_path):
    block, = blocks([ROOT / "README.md"], "python")
    (tmp_path / "my_conf.py").write_text(block.code)
    alf.load_config(str(tmp_path / "my_conf.py"))


def test_search_config_of_the_readme_is_one(tmp_path):
    block, = blocks([ROOT / "README.md"], "json")
    (tmp_path / "search.json").write_text(block.code)
    assert len(read_search(str(tmp_path / "search.json")).trials()) == 12


def test_page_about_trainer_config_is_up_to_date():
    script = ROOT / "docs" / "make_trainer_config.py"
    page = runpy.run_path(str(script))["page"]()
    assert (ROOT / "docs" / "trainer_config.md").read_text() == page, f"stale: run python {shown(script)}"
    from alf.algorithms.config import TrainerConfig
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == {
        field.name for field in dataclasses.fields(TrainerConfig)}


def test_every_page_is_in_the_list_of_the_readme():
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {shown(page) for page in (ROOT / "docs").rglob("*.md")} == linked


def test_readme_begins_with_picture_and_two_commands():
    text = (ROOT / "README.md").read_text()
    assert text.index("docs/floors.svg") < text.index("make demo\nmake test\n") < text.index("\n## ")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_flags_of_commands_exist(page):
    wrong = []
    for command, rest in re.findall(r"python -m alf\.bin\.(\w+)((?:[^\n]*\\\n)*[^\n`]*)", page.read_text()):
        sources = [ROOT / "alf" / "bin" / name for name in (f"{command}.py", "_command.py")]
        known = set(re.findall(r'(?:DEFINE|define)_\w+\(\s*"(\w+)"', "".join(source.read_text() for source in sources)))
        flags = {flag.removeprefix("no") if flag not in known else flag for flag in re.findall(r" --(\w+)", rest)}
        wrong += [f"{command} --{flag}" for flag in flags - known]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_modules_of_commands_exist(page):
    modules = set(re.findall(r"python -m ((?:alf|benchmarks)[.\w]*)", page.read_text()))
    files = {module: ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules}
    assert not [module for module, file in files.items() if not file.is_file()]


def flags_of_benchmark(command, rest):
    """Return the flags that a benchmark knows; ``benchmarks.run NAME`` passes on those of its script."""
    names = [command]
    if command == "run":
        name = rest.split()[0] if rest.split() else ""
        names += ["train", f"bench_{name}"] if name != "NAME" else ["train"]
    files = [ROOT / "benchmarks" / f"{name}.py" for name in names]
    sources = [file.read_text() for file in files if file.is_file()]
    return {"help", *re.findall(r'add_argument\("--([\w-]+)"', "".join(sources))}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=shown)
def test_flags_of_benchmarks_exist(page):
    wrong = []
    for command, rest in re.findall(r"python -m benchmarks\.(\w+)((?:[^\n]*\\\n)*[^\n`]*)", page.read_text()):
        known = flags_of_benchmark(command, rest)
        flags = re.findall(r" --([\w-]+)", rest.split("#")[0])
        wrong += [f"{command}: --{flag}" for flag in flags if flag not in known]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_rows_of_tables_have_as_many_cells_as_their_head(page):
    wrong, width = [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line.rstrip())) - 1
        width = width or cells
        if cells != width:
            wrong.append(f"line {number}: {cells} cells, {width} in the head: {line}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_confs_of_commands_exist(page):
    folder = ROOT / "alf" / "examples"
    examples = {str(path.relative_to(folder)) for path in folder.rglob("*_conf.py")}
    own = {block.file for block in FILES} | {"my_conf.py"}
    assert set(re.findall(r"--conf (\S+\.py)", page.read_text())) <= examples | own


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    targets = [page.parent / target for target in re.findall(r"\]\((?!https?:)([^)#]+)", text)]
    paths = re.findall(r"`((?:alf|tests|docs|csrc|benchmarks)/[\w/.]+?)(?::[\w.]+)?`", text)
    targets += [ROOT / path for path in paths]
    missing = [str(target) for target in targets if not target.exists()]
    assert not missing


def names_in(path) -> set:
    """Return the classes, functions and methods of a file: `f`, `C`, `C.m`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
            found |= {f"{node.name}.{member.name}" for member in getattr(node, "body", ())
                      if isinstance(node, ast.ClassDef) and isinstance(member, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_names_in_files_exist(page):
    references = re.findall(r"`(alf/[\w/]+\.py):([\w.]+)`", page.read_text())
    missing = [f"{path}:{name}" for path, name in references if name not in names_in(ROOT / path)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_arguments_of_conf_params_exist(page):
    names = re.findall(r"`TrainerConfig\.(\w+)", page.read_text())
    from alf.algorithms.config import TrainerConfig
    assert set(names) <= {field.name for field in dataclasses.fields(TrainerConfig)}


@pytest.mark.parametrize("page, conf, settings", [
    ("a2c.md", "ac_cart_pole_conf.py", ["ActorCriticLoss.entropy_regularization=1e-3"]),
    ("ppo.md", "ppo_cart_pole_conf.py", ["PPOLoss.entropy_regularization=1e-3"]),
])
def test_logged_tags_are_those_of_the_page(page, conf, settings, tmp_path):
    settings = [*settings, "TrainerConfig.num_iterations=4", "TrainerConfig.random_seed=0",
                "TrainerConfig.debug_summaries=True"]
    run(tmp_path, "alf.bin.train", "--conf", conf, "--root_dir", "out",
        *[word for setting in settings for word in ("--conf_param", setting)])
    lines = (tmp_path / "out" / "train" / "metrics.jsonl").read_text().splitlines()
    logged = {tag for line in lines for tag in json.loads(line)}
    text = (ROOT / "docs" / "algorithms" / page).read_text()
    section = text[text.index("## What is logged"):text.index("## Results")]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    told = {tag for row in rows for tag in re.findall(r"`([^`]+)`", row)}
    assert len(told) > 10 and told <= logged, sorted(told - logged)
