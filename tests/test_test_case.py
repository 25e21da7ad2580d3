"""alf.test.TestCase: every test begins as a fresh process does; its assertions tell what differs."""

import unittest

import pytest
import torch

import alf
from alf import progress, summary
from alf.utils import common


def run(*tests):
    """Run test methods in turn as those of one TestCase, and return the result."""
    case = type("Case", (alf.test.TestCase, ), {f"test_{i}": test for i, test in enumerate(tests)})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun == len(tests)
    return result


def test_nothing_of_a_test_is_left():
    drawn = []

    def change(self):
        drawn.append(torch.rand(3))
        alf.config("TrainerConfig", random_seed=3)
        alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
        alf.get_env()
        summary.increment_global_counter()
        progress.update_progress("percent", 0.5)

    def look(self):
        assert not common.has_env()
        assert alf.get_config_value("TrainerConfig.random_seed") is None
        assert summary.get_global_counter() == 0 and progress.get_progress("percent") == 0
        assert torch.equal(torch.rand(3), drawn[0])

    result = run(look_at_nothing, change, look)
    assert result.wasSuccessful(), result.errors + result.failures
    assert not common.has_env()


def look_at_nothing(self):
    assert not common.has_env()


ONES = torch.ones(2, 3)


@pytest.mark.parametrize("name, good, bad, told", [
    ("assertTensorEqual", (ONES, ONES.clone()), (ONES, ONES + 1e-7), "!="),
    ("assertTensorEqual", (ONES, ONES.clone()), (ONES, ONES[:1]), "torch.Size"),
    ("assertTensorEqual", (ONES, ONES.clone()), (ONES, 1.0), "not an instance of"),
    ("assertTensorClose", (ONES, ONES + 5e-7), (ONES, ONES + 1e-5), "expected at most 1e-06"),
    ("assertTensorClose", (ONES, ONES + 0.1, 0.2), (ONES, ONES * float("nan")), "differ by nan"),
    ("assertTensorNotClose", (ONES, ONES + 1e-5), (ONES, ONES + 5e-7), "expected more than 1e-06"),
])
def test_assertions_tell_what_differs(name, good, bad, told):
    result = run(lambda self: getattr(self, name)(*good), lambda self: getattr(self, name)(*bad, msg="why"))
    assert len(result.failures) == 1 and not result.errors
    (_, text), = result.failures
    assert told in text and "why" in text


def test_main_is_that_of_unittest():
    assert alf.test.main is unittest.main
