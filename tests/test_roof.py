"""`import alf`: quick, and everything is reached from there."""

import subprocess
import sys

import pytest

import alf


def _run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_alf_imports_nothing_heavy():
    _run("import sys, alf\n"
         "assert not {'torch', 'numpy', 'gymnasium', 'absl'} & sys.modules.keys()")


def test_submodules_are_reached_without_importing_them():
    _run("import alf, torch\n"
         "assert alf.utils.dist_utils.DistributionSpec\n"
         "assert alf.environments.suite_gym.load and alf.environments.gym_wrappers.FrameStack\n"
         "assert alf.algorithms.ppo_algorithm.PPOAlgorithm and alf.algorithms.data_transformer.FrameStacker\n"
         "assert alf.layers.FC and alf.networks.EncodingNetwork is alf.nn.EncodingNetwork\n"
         "assert alf.optimizers.Adam and alf.math is alf.utils.math_ops and alf.nest.utils.NestConcat\n"
         "assert alf.summary.render and alf.metrics.metrics.EnvironmentSteps and alf.trainers.policy_trainer.Trainer")


def test_submodules_are_reached_below_a_package_that_others_imported():
    _run("import alf.utils\nimport alf\nassert alf.utils.math_ops.identity(3) == 3")


def test_wrong_names_get_the_nearest():
    with pytest.raises(AttributeError, match="module 'alf' has no attribute 'optimisers'. Did you mean optimizers"):
        alf.optimisers  # noqa: B018
    with pytest.raises(AttributeError, match="'alf.utils' has no attribute 'dist_util'. Did you mean dist_utils"):
        alf.utils.dist_util  # noqa: B018
    with pytest.raises(ImportError):
        from alf.layers import NoSuchLayer  # noqa: F401
    assert not hasattr(alf, "__wrapped__") and not hasattr(alf.utils, "_no")


def test_dir_has_names_and_rooms():
    assert {"config", "TensorSpec", "networks", "environments", "utils"} <= set(dir(alf))
    assert not any(name.startswith("_") and name != "__version__" for name in dir(alf))
