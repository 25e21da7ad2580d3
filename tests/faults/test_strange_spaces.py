"""Spaces that no network can take: each told in words, with exit code 2, before anything is made."""

import pathlib

import pytest

CONF = pathlib.Path(__file__).parent / "confs" / "strange_space_conf.py"


@pytest.mark.parametrize("kind, words", [
    ("text", "action: the space Text("),
    ("graph", "a Graph has no fixed shape and dtype. Supported are Box, Discrete,"),
    ("sequence", "a Sequence has no fixed shape and dtype"),
    ("empty_dict", "the space Dict() cannot become a TensorSpec: it is empty"),
    ("huge_discrete", "A layer needs a parameter of shape [1099511627776, 3], 13,194 GB, which is too much"),
    ("int_box", "expected actions that begin with 0, got BoundedTensorSpec(shape=(2,), dtype=torch.int64"),
    ("unbounded", "expected finite action bounds, got Box(-inf, inf, (2,), float32)"),
    ("image_hwc", "got TensorSpec(shape=(3, 84, 84), dtype=torch.float32). Set conv_layer_params for images"),
])
def test_space_that_cannot_be_trained_in_is_told(commands, tmp_path, kind, words):
    command = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                           f"_CONFIG._USER.kind='{kind}'")
    assert command.code == 2, command.stderr
    assert words in command.stderr[command.stderr.index("error: "):], command.stderr
    assert "Traceback" not in command.stderr
    assert not (tmp_path / "run").exists()


def test_environment_without_pictures_trains_and_says_why_it_cannot_be_recorded(commands, tmp_path):
    trained = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                           "_CONFIG._USER.kind='int_obs'")
    assert trained.code == 0, trained.stderr
    video = tmp_path / "x.mp4"
    played = commands.run("play", "--root_dir", tmp_path / "run", "--num_episodes", 1, "--record_file", video)
    assert played.code == 2, played.stderr
    assert "Strange (env_id 0): cannot draw: its metadata['render_modes'] is empty" in played.stderr
    assert not video.exists() and "recorded" not in played.stderr
