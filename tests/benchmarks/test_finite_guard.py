"""What the benchmark of the finite guard tells of its rounds, and that its cases can be switched."""

import pytest

from alf.algorithms._training.finite_guard import FiniteGuard
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from benchmarks import bench_finite_guard


def test_cost_is_the_median_of_the_ratios_in_percent():
    rounds = 39 * [{True: 1.02, False: 1.0}] + [{True: 500.0, False: 1.0}]
    cost, error = bench_finite_guard.cost_percent(rounds)
    assert cost == pytest.approx(2.0) and error == pytest.approx(0.0, abs=1e-9)
    assert bench_finite_guard.cost_of_quickest_percent(rounds) == pytest.approx(2.0)


@pytest.mark.parametrize("name, guard", [("sac", FiniteGuard.passes), ("thread", AlfGymWrapper._check_finite)],
                         ids=["sac", "thread"])
def test_guard_of_a_case_is_asked_only_while_it_is_switched_on(name, guard, tmp_path, monkeypatch):
    asked = []
    owner = FiniteGuard if name == "sac" else AlfGymWrapper
    monkeypatch.setattr(owner, guard.__name__, lambda *arguments: (asked.append(1), guard(*arguments))[1])
    run, switch = bench_finite_guard.sac() if name == "sac" else bench_finite_guard.thread(str(tmp_path))
    for is_on in (True, False):
        switch(is_on)
        run()  # a thread's first step comes before
        asked.clear()
        run()
        assert bool(asked) is is_on


def test_pool_looks_for_nan_only_while_the_guard_is_switched_on(tmp_path):
    run, switch = bench_finite_guard.pool(str(tmp_path))
    host = switch.__closure__[switch.__code__.co_freevars.index("host")].cell_contents
    for is_on in (True, False):
        switch(is_on)
        run()
        host._views.reward[0, 3] = float("nan")
        assert (host._keeper.finish(0, 0, 8) is not None) is is_on
        host._views.reward[0, 3] = 0.0
