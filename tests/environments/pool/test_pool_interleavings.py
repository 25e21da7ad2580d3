"""Any order of stepping, resetting, calling, seeding, closing and kills gives what serial environments give.

Quick by default. ``ALF_POOL_OPERATIONS=10000`` makes it long, as ``python -m benchmarks.run faults`` does.
"""

import importlib.util
import os
import pathlib
import sys

import pytest

NUM_OPERATIONS = int(os.environ.get("ALF_POOL_OPERATIONS", 150))
RESTART = {"num_workers": 2, "on_worker_death": "restart"}


def load_machine():
    """Return the module with the state machine."""
    if "pool_machine" not in sys.modules:
        path = pathlib.Path(__file__).with_name("pool_machine.py")
        spec = importlib.util.spec_from_file_location("pool_machine", path)
        sys.modules["pool_machine"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["pool_machine"])
    return sys.modules["pool_machine"]


@pytest.mark.timeout(240 + NUM_OPERATIONS)
@pytest.mark.parametrize("options", [{"backend": "native", **RESTART}, {"backend": "python", **RESTART},
                                     {"backend": "native", "num_workers": 0}],
                         ids=["native", "python", "main process"])
def test_any_order_of_operations_gives_what_one_environment_after_the_other_gives(toys, options):
    machine = load_machine()
    done = machine.run(toys(machine.NUM_ENVS), options, NUM_OPERATIONS, length=40 if NUM_OPERATIONS > 1000 else 8)
    assert sum(done.values()) >= NUM_OPERATIONS and done["step_wait"] + done["step"] > NUM_OPERATIONS // 10, done
    assert ("kill" in done) == (options["num_workers"] > 0)


def test_a_pool_that_differs_is_caught(toys):
    machine = load_machine()

    class Off(toys(1)[0].func):
        """Returns by ``step_into``, as the pool asks, a little more than by ``step``, as the reference does."""

        def step_into(self, rows, index, action):
            step_type = super().step_into(rows, index, action)
            rows.reward[index] += 2.0**-10 * (step_type == machine.LAST)
            return step_type

    with pytest.raises(AssertionError, match="reward"):
        machine.run([Off] * machine.NUM_ENVS, {"num_workers": 0}, 300, length=8, simplifies=False)
