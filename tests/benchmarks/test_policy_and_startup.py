"""What the benchmarks of policy steps and of start-up do; nothing here measures speed."""

import os
import sys

import pytest
import torch

from benchmarks import _servers, bench_startup
from benchmarks.bench_startup import our_commands, run_once

sys.path.insert(0, str(bench_startup.HERE / "peers"))  # scripts of peers import each other by name
import serve_policy  # noqa: E402


@pytest.mark.parametrize("is_discrete", [True, False])
def test_floor_of_policy_steps_has_the_log_probability_of_its_action(is_discrete):
    torch.manual_seed(0)
    step = serve_policy.bare_step(is_discrete, batch_size=5)
    actor, observation = (cell.cell_contents for name, cell in zip(step.__code__.co_freevars, step.__closure__)
                          if name in ("actor", "observation"))
    with torch.no_grad():
        action, value, log_prob = step()
        output = actor(observation)
    expected = (torch.distributions.Categorical(logits=output).log_prob(action) if is_discrete
                else torch.distributions.Normal(output, 1.0).log_prob(action).sum(-1))
    torch.testing.assert_close(log_prob, expected)
    assert value.shape == (5, )


@pytest.mark.parametrize("case", ["discrete 8", "continuous 3"])
@pytest.mark.parametrize("candidate", ["alf", "bare"])
def test_candidates_make_the_same_kind_of_step(candidate, case):
    threads = torch.get_num_threads()
    try:
        measure, free, _ = serve_policy.open_case(candidate, case)
        assert measure(0.0) > 0
        free()
    finally:
        torch.set_num_threads(threads)


def test_time_of_a_process_is_that_from_its_start_to_its_end_on_the_wall_and_of_the_processor(tmp_path):
    seen = []

    def command(folder):
        seen.append(folder)
        return [sys.executable, "-c", "import os, time; open('left', 'w'); time.sleep(0.3); print(os.getcwd())"]

    wall, cpu = run_once(command)
    assert wall >= 0.3
    assert 0 < cpu < wall
    assert not os.path.exists(seen[0])


def test_a_process_that_fails_has_no_figure_but_its_last_words():
    with pytest.raises(_servers.ServerError, match="out of coffee"):
        run_once(lambda _: [sys.executable, "-c", "raise SystemExit('out of coffee')"])
    codes = {"good": "pass", "bad": "raise SystemExit(3)"}
    figures, failures = bench_startup.measure(
        {name: lambda _, code=code: [sys.executable, "-c", code] for name, code in codes.items()}, rounds=2)
    assert len(figures["good"]) == 2 and list(figures) == ["good"]
    assert failures == {"bad": "it printed nothing"}


@pytest.mark.parametrize("case", bench_startup.CASES)
def test_commands_name_files_that_exist(case, tmp_path):
    for command in our_commands(case).values():
        words = command(str(tmp_path))
        assert all(os.path.exists(word) for word in words if word.endswith("_conf.py"))
