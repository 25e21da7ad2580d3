"""The JSON file of a sweep: combinations, names, seeds, and mistakes in their words."""

import json
import pathlib
import re

import pytest

from alf.scale_out import search_space
from alf.scale_out.search_space import SearchSpace, read_search


def write(tmp_path, **said) -> str:
    path = tmp_path / "search.json"
    path.write_text(json.dumps(said))
    return str(path)


def test_every_combination_is_there_once_before_any_is_repeated(tmp_path):
    space = read_search(write(tmp_path, repeats=2, parameters={"A.lr": [0.1, 0.2], "A.fixed": [7], "A.size": [1, 2]}))
    assert [trial.name for trial in space.trials()] == [
        "0000r0+lr=0.1+size=1", "0001r0+lr=0.1+size=2", "0002r0+lr=0.2+size=1", "0003r0+lr=0.2+size=2",
        "0000r1+lr=0.1+size=1", "0001r1+lr=0.1+size=2", "0002r1+lr=0.2+size=1", "0003r1+lr=0.2+size=2"]
    last = space.trials()[-1]
    assert (last.index, last.repeat, last.seed) == (3, 1, 1)
    assert search_space.settings(last) == ["TrainerConfig.random_seed=1", "A.lr=0.2", "A.fixed=7", "A.size=2"]


def test_values_are_the_expressions_of_conf_params(tmp_path):
    values = [1, 1e-5, True, None, [1, 2], {"a": 1}, "(64, )", "'text'", "math.pi", "torch.tanh"]
    space = read_search(write(tmp_path, parameters={"A.x": values}))
    assert space.parameters == {"A.x": [
        "1", "1e-05", "True", "None", "[1, 2]", "{'a': 1}", "(64, )", "'text'", "math.pi", "torch.tanh"]}


def test_an_expression_may_give_the_list(tmp_path):
    space = read_search(write(tmp_path, parameters={"A.x": "[10**-i for i in range(3)]", "A.y": "['math.pi', 2]"}))
    assert space.parameters == {"A.x": ["1", "0.1", "0.01"], "A.y": ["math.pi", "2"]}


def test_example_of_the_documentation_is_read(tmp_path):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    (tmp_path / "search.json").write_text(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    found = read_search(str(tmp_path / "search.json")).trials()
    assert len(found) == 2 * 2 * 2 * 3
    assert search_space.settings(found[-1]) == [
        "TrainerConfig.random_seed=2", "Agent.optimizer=alf.optimizers.Adam(lr=1e-3)",
        "ActorDistributionNetwork.fc_layer_params=(32, 32)", "TrainerConfig.unroll_length=32"]


def test_everything_else_has_a_default(tmp_path):
    assert read_search(write(tmp_path, parameters={"A.x": [1]})) == SearchSpace({"A.x": ["1"]})
    space = read_search(write(tmp_path, desc="d", comment="c", use_gpu=True, gpus=[0, 2], max_worker_num=2, repeats=3,
                              parameters={"A.x": [1]}))
    assert space == SearchSpace({"A.x": ["1"]}, 3, 2, True, [0, 2], "d", "c")


def test_names_are_short_distinct_and_safe():
    space = SearchSpace({
        "Agent.optimizer": ["alf.optimizers.Adam(lr=1e-2)", "None"],
        "TrainerConfig.unroll_length": ["8", "16"],
        "TrainerConfig.use_later": ["True", "False"],
        "B.lr": ["1", "2"],
        "A.lr": ["'ü/../x'", "2"],
    })
    assert space.varying == {"Agent.optimizer": "optimizer", "TrainerConfig.unroll_length": "unroll_length",
                             "TrainerConfig.use_later": "use_later", "B.lr": "B.lr", "A.lr": "A.lr"}
    names = [trial.name for trial in space.trials()]
    # With the first two letters of each word, for `ul` would be both; what does not fit into 50 letters is left out.
    assert names[0] == "0000r0+opti=Adam_lr_1e-2+unle=8+usla=True+B.lr=1"
    assert names[-1] == "0031r0+opti=None+unle=16+usla=False+B.lr=2+A.lr=2"
    for name in names:
        assert len(name) <= 50 and re.fullmatch(r"[A-Za-z0-9._+=-]+", name)
    assert len(set(names)) == 32


@pytest.mark.parametrize("name", ["TrainerConfig.random_seed", "random_seed", "alf.TrainerConfig.random_seed"])
def test_seed_may_be_a_parameter_or_come_from_the_command_line(tmp_path, name):
    space = read_search(write(tmp_path, parameters={name: [5, 6]}))
    assert [search_space.settings(trial) for trial in space.trials()] == [[f"{name}=5"], [f"{name}=6"]]
    trial, = SearchSpace({"A.x": ["1"]}).trials()
    assert search_space.settings(search_space.seeded(trial, [f"{name} = 3"])) == ["A.x=1"]
    assert search_space.settings(search_space.seeded(trial, ["A.random_seed=3"]))[0] == "TrainerConfig.random_seed=0"


@pytest.mark.parametrize("said, words", [
    ({"parameter": {"A.x": [1]}}, "unknown key 'parameter'. Did you mean parameters? Known are parameters, repeats,"),
    ({}, "parameters: expected an object with at least one name and its values, like "),
    ({"parameters": {}}, "parameters: expected an object with at least one name"),
    ({"parameters": [1]}, "parameters: expected an object with at least one name"),
    ({"parameters": {"A.x": []}}, "parameters.A.x: expected a list of at least one value, got []."),
    ({"parameters": {"A.x": "[]"}}, "parameters.A.x: expected a list of at least one value, got []."),
    ({"parameters": {"A.x": 3}}, "parameters.A.x: expected a list of at least one value, got 3."),
    ({"parameters": {"A.x": "3"}}, "parameters.A.x: expected a list of values, got '3', which is of type int. Put it "
                                   "into brackets: [3]."),
    ({"parameters": {"A=x": [1]}}, 'parameters.A=x: expected the name of a config, got "A=x".'),
    ({"parameters": {"A.x": [1e-3, 2, "0.001"]}}, "parameters.A.x: the value 0.001 is there twice: 0.001, 2, 0.001."),
    ({"parameters": {"A.x": ["CartPole"]}}, "parameters.A.x: not a Python expression: 'CartPole' (NameError: name "
     "'CartPole' is not defined). Strings need quotes of their own: \"'CartPole'\"."),
    ({"parameters": {"A.x": "range(3"}}, "parameters.A.x: not a Python expression: 'range(3' (SyntaxError: "),
    ({"parameters": {"A.x": [1]}, "max_worker_num": 0}, "max_worker_num: expected a whole number of at least 1, got"),
    ({"parameters": {"A.x": [1]}, "repeats": True}, "repeats: expected a whole number of at least 1, got true."),
    ({"parameters": {"A.x": [1]}, "gpus": ["0"]}, "gpus: expected a list of numbers of GPUs, each once, like [0, 1]"),
    ({"parameters": {"A.x": [1]}, "gpus": [1, 1]}, "gpus: expected a list of numbers of GPUs, each once, like [0, 1]"),
    ({"parameters": {"A.x": [1]}, "use_gpu": 1}, "use_gpu: expected true or false, got 1."),
    ({"parameters": {"A.x": [1]}, "desc": 1}, "desc: expected text, got 1."),
    ({"parameters": {"random_seed": [1, 2]}, "repeats": 2}, "parameters.random_seed: each repeat has a seed"),
])
def test_mistake_is_told(tmp_path, said, words):
    path = write(tmp_path, **said)
    with pytest.raises(ValueError) as caught:
        read_search(path)
    assert str(caught.value).startswith(f"{path}: {words}")


@pytest.mark.parametrize("text, words", [
    ('{"parameters":\n {"A.x": [1,]}}', ", line 2, column "),
    ('{"parameters": {"A.x": [1], "A.x": [2]}}', ": cannot be read: 'A.x' is there twice."),
    ("[1]", ": expected an object, {...}, got [1]."),
])
def test_text_that_is_no_search_is_told(tmp_path, text, words):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"search.json{words}")):
        read_search(str(tmp_path / "search.json"))


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, parameters={})
    with pytest.raises(FileNotFoundError, match=r"serch.json: no such file. Did you mean search.json\?"):
        read_search(str(tmp_path / "serch.json"))
    with pytest.raises(ValueError, match="cannot be read: .*directory"):
        read_search(str(tmp_path))


@pytest.mark.parametrize("conf_param, words", [
    ("A.x=2", "--conf_param A.x: the search has values for it; leave out one of both."),
    ("A.y", "--conf_param: expected 'name=value', got 'A.y'."),
    ("A.y=nonsense", "--conf_param A.y: not a Python expression: 'nonsense'"),
    ("TrainerConfig.random_seed=3", "--conf_param TrainerConfig.random_seed: each repeat has a seed of its own"),
])
def test_value_of_the_command_line_that_does_not_fit_is_told(conf_param, words):
    space = SearchSpace({"A.x": ["1"]}, repeats=2)
    search_space.check_conf_params(space, ["A.z=2", "A.z=torch.tanh"])
    with pytest.raises(ValueError, match=re.escape(words)):
        search_space.check_conf_params(space, [conf_param])
