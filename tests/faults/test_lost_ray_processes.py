"""Processes and machines of a Ray cluster that are lost: training goes on with the rest."""

import os
import pathlib
import signal
import tempfile

import psutil
import pytest
from command_line import checkpoints

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

CONF = pathlib.Path(__file__).parents[1] / "bin" / "tiny_conf.py"


@pytest.fixture(scope="module")
def cluster():
    """Return a cluster of a machine with room for one process, and nothing else yet."""
    from ray.cluster_utils import Cluster
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path, for there are sockets in it
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=folder)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        yield cluster
        cluster.shutdown()
        del os.environ["RAY_TMPDIR"]


@pytest.fixture
def second_machine(cluster):
    """Return another machine of the cluster, with room for one more."""
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def train(commands, cluster, root_dir, *flags, num_iterations=100000):
    return commands.start("train", "--conf", CONF, "--root_dir", root_dir, "--distributed", "ray", "--ray_address",
                          cluster.address, *flags, "--conf_param", f"TrainerConfig.num_iterations={num_iterations}",
                          "--conf_param", "TrainerConfig.num_checkpoints=1000000",
                          RAY_TMPDIR=os.environ["RAY_TMPDIR"])


def member(root_dir, rank):
    """Return the process of a run with that rank."""
    for process in psutil.process_iter():
        try:
            if str(root_dir) in process.cmdline() and process.environ().get("RANK") == str(rank):
                return process
        except psutil.Error:
            pass
    raise AssertionError(f"no process {rank}")


def assert_ends_well(command, root_dir):
    """It goes on learning and leaves when it is asked to."""
    newest = checkpoints(root_dir)[-1]
    command.wait_for_checkpoint(root_dir, newest + 20)
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 143, command.stderr
    with pytest.raises(AssertionError, match="no process 0"):
        member(root_dir, 0)


def test_a_lost_process_is_made_again(commands, tmp_path, cluster, second_machine):
    command = train(commands, cluster, tmp_path / "run", "--num_processes", 2)
    command.wait_for_checkpoint(tmp_path / "run", 20)
    member(tmp_path / "run", 1).kill()
    command.wait_for(lambda: command.stderr.count("starting 2 processes") == 2)
    for words in ("process 1 of 2 ended with signal 9 (Killed)", "starting again from the last checkpoint; 3 more"):
        assert words in command.stderr, command.stderr
    assert_ends_well(command, tmp_path / "run")
    assert "env steps" in command.stdout  # what the first process shows is passed on


def test_training_goes_on_without_a_lost_machine(commands, tmp_path, cluster, second_machine):
    command = train(commands, cluster, tmp_path / "run")
    command.wait_for_checkpoint(tmp_path / "run", 20)
    assert "starting 2 processes" in command.stderr
    cluster.remove_node(second_machine, allow_graceful=False)
    command.wait_for(lambda: "starting 1 processes" in command.stderr)
    assert "a place of Ray is lost" in command.stderr
    assert_ends_well(command, tmp_path / "run")


def test_restarts_are_not_more_than_allowed(commands, tmp_path, cluster):
    command = train(commands, cluster, tmp_path / "run", "--max_restarts", 1)
    for number in (1, 2):
        command.wait_for(lambda number=number: command.stderr.count("starting 1 processes") == number)
        newest = checkpoints(tmp_path / "run")[-1:] or [0]
        command.wait_for_checkpoint(tmp_path / "run", newest[0] + 20)
        member(tmp_path / "run", 0).kill()
    assert command.wait() == 128 + signal.SIGKILL
    assert "process 0 of 1 ended with signal 9 (Killed)" in command.stderr


@pytest.mark.parametrize("flags, words", [
    (["--num_processes", 9], "expected a cluster with room for 9 processes, got 1 GPUs or, without any, CPUs"),
    (["--conf_param", "TrainerConfig.mini=1"], "Cannot find config name TrainerConfig.mini"),
])
def test_mistakes_are_told(commands, tmp_path, cluster, flags, words):
    command = train(commands, cluster, tmp_path / "run", *flags)
    assert command.wait() == 2 and words in command.stderr + command.stdout, command.stderr


def test_a_cluster_that_does_not_run_is_told(commands, tmp_path):
    command = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--distributed", "ray",
                           "--ray_address", "127.0.0.1:1")
    assert command.code == 2, command.stderr
    assert "--ray_address=127.0.0.1:1: expected the address of a Ray cluster that runs" in command.stderr


def test_a_machine_without_the_directory_of_the_run_is_told(tmp_path):
    from alf.scale_out._ray_members import _Place
    with pytest.raises(FileNotFoundError, match="expected a directory that all machines of the cluster share"):
        _Place().run(str(tmp_path / ".together"), "token", [], {}, str(tmp_path), str(tmp_path / "console.log"))


def test_ray_that_is_not_installed_names_the_extra(commands, tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('not here')")
    command = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--distributed", "ray",
                           cwd=tmp_path)
    assert command.code == 2 and "pip install 'alf-rl[ray]'" in command.stderr, command.stderr
