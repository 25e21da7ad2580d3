"""Running conf files: imports, what a failing conf says and leaves behind, saving a run's configuration."""

import os
import sys

import pytest

from alf.config_util import (
    ConfigModule,
    config,
    configurable,
    get_config_value,
    get_inoperative_configs,
    get_operative_configs,
    import_config,
    load_config,
    pre_config,
    reset_configs,
    save_config,
    validate_pre_configs,
)


@configurable("cf.fn")
def fn(a=1, b=2, activation=None, lr: float = 0.1):
    return a, b


def test_load_runs_the_conf_and_returns_its_names(confs):
    folder = confs(**{"a_conf.py": "alf.config('cf.fn', a=5)\nnumber = 3\n"})
    module = load_config(str(folder / "a_conf.py"))
    assert isinstance(module, ConfigModule)
    assert (module.number, fn()) == (3, (5, 2))


def test_import_searches_beside_the_importing_conf(confs, monkeypatch, tmp_path):
    folder = confs(
        **{
            "deep/main_conf.py": "base = alf.import_config('base_conf.py')\n"
            "alf.config('cf.fn', b=base.k + 1)\n",
            "deep/base_conf.py": "k = 6\nalf.config('cf.fn', a=5, b=6)\n",
            "base_conf.py": "raise RuntimeError('the wrong file')\n",
        }
    )
    monkeypatch.chdir(tmp_path)
    load_config("deep/main_conf.py")
    assert fn() == (5, 7)
    assert str(folder / "deep" / "base_conf.py") in get_operative_configs(places=True)[0][2]


def test_import_searches_the_config_path_next(confs, monkeypatch):
    folder = confs(
        **{
            "main/main_conf.py": "alf.import_config('shared/base_conf.py')\n",
            "lib2/shared/base_conf.py": "alf.config('cf.fn', a=5)\n",
            "lib1/other_conf.py": "",
        }
    )
    monkeypatch.setenv("ALF_CONFIG_PATH", os.pathsep.join([str(folder / "lib1"), str(folder / "lib2")]))
    load_config(str(folder / "main" / "main_conf.py"))
    assert fn() == (5, 2)


def test_conf_imported_by_two_others_runs_once(confs):
    folder = confs(
        **{
            "main_conf.py": "alf.import_config('x_conf.py')\nalf.import_config('y_conf.py')\n",
            "x_conf.py": "alf.import_config('base_conf.py')\nalf.config('cf.fn', a=2)\n",
            "y_conf.py": "alf.import_config('base_conf.py')\n",
            "base_conf.py": "alf.define_config('once', 1)\nalf.config('cf.fn', a=1)\n",
        }
    )
    load_config(str(folder / "main_conf.py"))
    assert fn() == (2, 2)


def test_import_without_a_running_conf_runs_the_file_each_time(confs, monkeypatch):
    folder = confs(**{"a_conf.py": "alf.config('cf.fn', a=5)\n"})
    monkeypatch.chdir(folder)
    import_config("a_conf.py")
    (folder / "a_conf.py").write_text("import alf.config_util as alf\nalf.config('cf.fn', a=6)\n")
    import_config("a_conf.py")
    assert fn() == (6, 2)


def test_import_without_a_running_conf_keeps_what_earlier_ones_defined(confs, monkeypatch):
    folder = confs(
        **{
            "a_conf.py": "alf.define_config('width', 3)\n",
            "b_conf.py": "alf.define_config('depth', 4)\nraise RuntimeError\n",
        }
    )
    monkeypatch.chdir(folder)
    import_config("a_conf.py")
    with pytest.raises(RuntimeError):
        import_config("b_conf.py")
    assert get_config_value("width") == 3
    with pytest.raises(ValueError, match="Cannot find config name depth"):
        get_config_value("depth")


def test_missing_conf_tells_where_it_was_looked_for_and_what_is_there(confs, monkeypatch):
    folder = confs(**{"main_conf.py": "\nalf.import_config('basis_conf.py')\n", "base_conf.py": ""})
    monkeypatch.setenv("ALF_CONFIG_PATH", "/no/such/folder")
    with pytest.raises(ValueError) as error:
        load_config(str(folder / "main_conf.py"))
    text = str(error.value)
    assert text.startswith(f"Cannot find conf file basis_conf.py ({folder}/main_conf.py:3). Looked for")
    assert f"{folder}/basis_conf.py, /no/such/folder/basis_conf.py" in text
    assert "Did you mean base_conf.py" in text


def test_directory_is_no_conf(confs):
    folder = confs(**{"a_conf.py": ""})
    with pytest.raises(ValueError, match="is a directory. Give a file in it, such as a_conf.py"):
        load_config(str(folder))


def test_circular_import_tells_the_chain(confs):
    folder = confs(
        **{
            "start_conf.py": "alf.import_config('a_conf.py')\n",
            "a_conf.py": "alf.import_config('b_conf.py')\n",
            "b_conf.py": "alf.import_config('a_conf.py')\n",
        }
    )
    with pytest.raises(ValueError, match=r"circle \(.*b_conf.py:2\): a_conf.py -> b_conf.py -> a_conf.py"):
        load_config(str(folder / "start_conf.py"))


def test_syntax_error_shows_file_line_text_and_caret_and_nothing_else(confs):
    folder = confs(**{"a_conf.py": "if True:\n    alf.config('cf.fn' a=1)\n"})
    with pytest.raises(ValueError) as error:
        load_config(str(folder / "a_conf.py"))
    first, text, caret = str(error.value).split("\n")
    assert first.startswith(f"Conf file {folder}/a_conf.py, line 3: ")
    assert text.strip() == "alf.config('cf.fn' a=1)"
    assert caret.index("^") == text.index("'cf.fn'")
    assert error.value.__suppress_context__


def test_conf_that_is_not_utf8(tmp_path):
    (tmp_path / "a_conf.py").write_bytes(b"x = 1\ny = '\xff'\n")
    with pytest.raises(ValueError, match=r"a_conf.py, line 2: not valid UTF-8 \(byte 0xff\)"):
        load_config(str(tmp_path / "a_conf.py"))
    (tmp_path / "b_conf.py").write_bytes(b"# coding: latin-1\ny = '\xff'\n")
    assert load_config(str(tmp_path / "b_conf.py")).y == "ÿ"


def test_conf_with_null_bytes(tmp_path):
    (tmp_path / "a_conf.py").write_bytes(b"x = 1\0\n")
    with pytest.raises(ValueError, match="a_conf.py"):
        load_config(str(tmp_path / "a_conf.py"))


def test_exception_in_a_conf_keeps_its_type_and_tells_every_conf_on_the_way(confs):
    folder = confs(
        **{
            "main_conf.py": "\nalf.import_config('base_conf.py')\n",
            "base_conf.py": "def helper():\n    return {}['key']\nhelper()\n",
        }
    )
    with pytest.raises(KeyError) as error:
        load_config(str(folder / "main_conf.py"))
    assert error.value.__notes__ == [
        f"In conf {folder}/base_conf.py, line 3",
        f"In conf {folder}/main_conf.py, line 3",
    ]


def test_failed_load_leaves_the_configuration_as_it_was(confs):
    folder = confs(
        **{
            "bad_conf.py": "alf.define_config('width', 1)\nalf.config('cf.fn', a=5)\n"
            "alf.import_config('worse_conf.py')\n",
            "worse_conf.py": "alf.get_config_value('fn.a')\nraise RuntimeError('stop')\n",
            "good_conf.py": "alf.define_config('width', 2)\nalf.config('cf.fn', a=6)\n",
        }
    )
    config("cf.fn", b=9)
    pre_config({"later.x": 1})
    with pytest.raises(RuntimeError, match="stop"):
        load_config(str(folder / "bad_conf.py"))
    assert get_inoperative_configs() == [("cf.fn.b", 9)] and get_operative_configs() == []
    load_config(str(folder / "good_conf.py"))
    assert fn() == (6, 9)
    assert get_config_value("width") == 2
    with pytest.raises(ValueError, match="later.x"):
        validate_pre_configs()


def test_failed_load_leaves_no_plans_behind(confs):
    folder = confs(**{"a_conf.py": "alf.config('cf.fn', a=5)\nfrom_call = FN()\nraise RuntimeError\n"})
    __builtins__["FN"] = fn
    try:
        with pytest.raises(RuntimeError):
            load_config(str(folder / "a_conf.py"))
    finally:
        del __builtins__["FN"]
    assert fn() == (1, 2)


def test_too_late_setting_in_a_conf_names_the_line_that_used_the_value(confs, tmp_path, monkeypatch):
    folder = confs(
        **{
            "world.py": "@alf.configurable('ns.make_env')\ndef make_env(n=1): return n\n"
            "def get_spec():\n    return make_env()\n",
            "a_conf.py": "import world\nspec = world.get_spec()\nalf.config('make_env', n=2)\n",
        }
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError) as error:
        load_config(str(folder / "a_conf.py"))
    sys.modules.pop("world")
    text = str(error.value)
    assert f"set to 2 by {folder}/a_conf.py:4" in text
    assert f"used by {folder}/world.py:5, reached from {folder}/a_conf.py:3" in text
    assert f"Move the setting above line 3 of {folder}/a_conf.py" in text
    assert "creates the environment" in text


def test_functions_of_a_conf_are_addressed_by_name_and_forgotten_by_reset(confs):
    folder = confs(
        **{
            "a_conf.py": "@alf.configurable\ndef make(x=1): return x\nalf.config('make', x=4)\n",
            "b_conf.py": "@alf.configurable\ndef make(y=1): return y\nalf.config('make', y=5)\n",
        }
    )
    assert load_config(str(folder / "a_conf.py")).make() == 4
    assert get_operative_configs() == [("<run_path>.make.x", 4)]
    reset_configs()
    assert load_config(str(folder / "b_conf.py")).make() == 5
    with pytest.raises(ValueError, match="has no argument 'x'"):
        config("make", x=1)


def test_conf_loads_again_without_reset(confs):
    folder = confs(
        **{
            "a_conf.py": "w = alf.define_config('width', 3)\n@alf.configurable\ndef make(x=1): return x\n"
            "alf.config('make', x=lambda: 1)\nalf.config('cf.fn', a=[w])\n"
        }
    )
    for _ in range(2):
        module = load_config(str(folder / "a_conf.py"))
        assert module.make()() == 1 and fn() == ([3], 2)


def test_dataclass_in_a_conf(confs):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    folder = confs()
    (folder / "a_conf.py").write_text(text + "@dataclass\nclass Point:\n    x: int = 1\n")
    assert load_config(str(folder / "a_conf.py")).Point().x == 1
    assert "<run_path>" not in sys.modules


@pytest.fixture
def package(confs, tmp_path, monkeypatch):
    """A package `my_confs` on the import path; its modules are forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    confs(**{"my_confs/__init__.py": ""})
    yield lambda **files: confs(**{f"my_confs/{name}.py": text for name, text in files.items()})
    for name in [name for name in sys.modules if name.split(".")[0] == "my_confs"]:
        del sys.modules[name]


def test_conf_imported_as_a_module_runs_again_after_reset(package, confs):
    package(base_conf="alf.config('cf.fn', a=5)\n", middle_conf="from my_confs import base_conf\n")
    folder = confs(**{"main_conf.py": "from my_confs import middle_conf\n"})
    for _ in range(3):
        load_config(str(folder / "main_conf.py"))
        assert fn() == (5, 2)
        reset_configs()
        assert fn() == (1, 2)
        reset_configs()


def test_conf_imported_as_a_module_runs_in_every_load(package, confs):
    package(base_conf="alf.config('cf.fn', a=5)\n")
    folder = confs(
        **{
            "one_conf.py": "from my_confs import base_conf\nalf.config('cf.fn', a=6)\n",
            "two_conf.py": "import my_confs.base_conf\n",
        }
    )
    load_config(str(folder / "one_conf.py"))
    load_config(str(folder / "two_conf.py"))
    assert fn() == (5, 2)


def test_module_imported_without_a_conf_runs_again_after_reset(package):
    package(base_conf="alf.config('cf.fn', a=5)\n")
    for _ in range(2):
        from my_confs import base_conf  # noqa: F401

        assert fn() == (5, 2)
        reset_configs()


def test_conf_module_imports_confs_beside_itself(package, confs, tmp_path):
    package(base_conf="alf.import_config('part_conf.py')\n", part_conf="alf.config('cf.fn', a=5)\n")
    folder = confs(
        **{
            "here/main_conf.py": "from my_confs import base_conf\nalf.import_config('part_conf.py')\n",
            "here/part_conf.py": "alf.config('cf.fn', b=6)\n",
        }
    )
    load_config(str(folder / "here" / "main_conf.py"))
    assert fn() == (5, 6)
    save_config(str(tmp_path / "run" / "alf_config.py"))
    assert run_saved(tmp_path / "run" / "alf_config.py") == (5, 6)


def test_module_that_configures_nothing_stays_imported(package, confs):
    package(
        library="value = object()\n", base_conf="from my_confs import library\nalf.config('cf.fn', a=5)\n"
    )
    folder = confs(**{"main_conf.py": "from my_confs import base_conf, library\nvalue = library.value\n"})
    values = [load_config(str(folder / "main_conf.py")).value for _ in range(2)]
    assert values[0] is values[1]


def run_saved(path):
    """Return what `fn` gives under a saved conf, in a configuration that knows nothing else."""
    reset_configs()
    load_config(str(path))
    validate_pre_configs()
    return fn()


def test_saved_configuration_runs_again_with_its_pre_configs(confs, tmp_path):
    folder = confs(
        **{
            "src/main_conf.py": "base = alf.import_config('parts/base_conf.py')\n"
            "alf.config('cf.fn', b=base.b)\n",
            "src/parts/base_conf.py": "b = 7\nalf.config('cf.fn', a=5)\n"
            "alf.import_config('../leaf_conf.py')\n",
            "src/leaf_conf.py": "alf.config('cf.fn', activation=max)\n",
        }
    )
    pre_config({"fn.a": [1, (2,), {"k": float("inf")}]})
    with pytest.warns(UserWarning, match="ignored"):
        load_config(str(folder / "src" / "main_conf.py"))
    saved = tmp_path / "run" / "alf_config.py"
    save_config(str(saved))
    for file in (folder / "src").rglob("*.py"):
        file.write_text("raise RuntimeError('the original is gone')\n")
    text = saved.read_text()
    assert "import alf\n" in text
    assert "config = alf.import_config('config_files/main_conf.py')" in text
    assert sorted(p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*.py")) == [
        "alf_config.py",
        "config_files/leaf_conf.py",
        "config_files/main_conf.py",
        "config_files/parts/base_conf.py",
    ]
    with pytest.warns(UserWarning, match="ignored"):
        assert run_saved(saved) == ([1, (2,), {"k": float("inf")}], 7)
    assert ("cf.fn.activation", max) in get_operative_configs()


def test_saved_configuration_may_lead_above_the_folder_of_the_root(confs, tmp_path):
    folder = confs(
        **{
            "src/deep/main_conf.py": "alf.import_config('../base_conf.py')\n",
            "src/base_conf.py": "import os\n"
            "alf.import_config(os.path.join(os.path.dirname(__file__), 'x_conf.py'))\n",
            "src/x_conf.py": "alf.config('cf.fn', a=5)\n",
        }
    )
    load_config(str(folder / "src" / "deep" / "main_conf.py"))
    saved = tmp_path / "run" / "alf_config.py"
    save_config(str(saved))
    for file in (folder / "src").rglob("*.py"):
        file.unlink()
    assert "config_files/deep/main_conf.py" in saved.read_text()
    assert run_saved(saved) == (5, 2)


def test_saved_configuration_holds_confs_of_the_config_path(confs, tmp_path, monkeypatch):
    folder = confs(
        **{
            "main/main_conf.py": "alf.import_config('shared/base_conf.py')\n",
            "lib/shared/base_conf.py": "alf.config('cf.fn', a=5)\n",
        }
    )
    monkeypatch.setenv("ALF_CONFIG_PATH", str(folder / "lib"))
    load_config(str(folder / "main" / "main_conf.py"))
    save_config(str(tmp_path / "run" / "alf_config.py"))
    monkeypatch.delenv("ALF_CONFIG_PATH")
    assert run_saved(tmp_path / "run" / "alf_config.py") == (5, 2)


def test_saving_a_saved_run_again_does_not_nest(confs, tmp_path):
    folder = confs(**{"main_conf.py": "alf.config('cf.fn', a=5)\n"})
    pre_config({"fn.b": 9})
    load_config(str(folder / "main_conf.py"))
    saved = tmp_path / "run" / "alf_config.py"
    save_config(str(saved))
    before = saved.read_text()
    for _ in range(2):
        assert run_saved(saved) == (5, 9)
        save_config(str(saved))
    assert saved.read_text() == before
    assert [p.name for p in (tmp_path / "run" / "config_files").iterdir()] == ["main_conf.py"]


def test_pre_config_values_are_written_by_name_or_as_the_given_source(confs, tmp_path):
    import functools

    import torch

    folder = confs(**{"main_conf.py": ""})
    pre_config({"fn.a": functools.partial(torch.clamp, min=0.0), "fn.b": torch.float16})
    pre_config({"fn.activation": lambda x: x}, sources={"fn.activation": "lambda x: x"})
    load_config(str(folder / "main_conf.py"))
    save_config(str(tmp_path / "run" / "alf_config.py"))
    a, b = run_saved(tmp_path / "run" / "alf_config.py")
    assert a.func is torch.clamp and a.keywords == {"min": 0.0} and b is torch.float16
    assert get_config_value("fn.activation")(3) == 3


def test_pre_config_without_source_is_told(confs, tmp_path):
    folder = confs(**{"main_conf.py": ""})
    pre_config({"fn.activation": lambda x: x}, origin="--conf_param")
    load_config(str(folder / "main_conf.py"))
    with pytest.raises(ValueError, match=r"the pre-config fn.activation \(--conf_param\) cannot be written"):
        save_config(str(tmp_path / "alf_config.py"))


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="no conf file has been loaded"):
        save_config(str(tmp_path / "alf_config.py"))


def test_wrong_type_in_a_conf_names_its_line(confs):
    folder = confs(**{"a_conf.py": "\nalf.config('cf.fn', lr='0.1')\n"})
    with pytest.raises(
        ValueError, match=r"cf.fn.lr: expected float, got '0.1' \(str\), set by .*a_conf.py:3"
    ):
        load_config(str(folder / "a_conf.py"))
