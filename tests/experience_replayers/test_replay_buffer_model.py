"""ReplayBuffer against lists of steps, under random schedules of storing, removing, sampling and asking."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

import alf.nest as nest
from alf.data_structures import namedtuple
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec

Step = namedtuple("Step", ["step_type", "reward", "discount", "observation", "state"], default_value=())
SPEC = Step(
    step_type=TensorSpec((), torch.int32),
    reward=TensorSpec(()),
    discount=TensorSpec(()),
    observation={"z": [TensorSpec((3, ), torch.float64)], "image": TensorSpec((11, 100), torch.uint8)},
    state=(TensorSpec((2, )), TensorSpec((), torch.bool)))
FIRST, MID, LAST = 0, 1, 2


def random_steps(outer, generator):
    """Return steps of which no two are likely to be equal; episodes are short."""
    def leaf(spec):
        if spec.dtype.is_floating_point:
            return torch.rand((*outer, *spec.shape), generator=generator, dtype=spec.dtype)
        high = 2 if spec.dtype is torch.bool else 3 if spec.dtype is torch.int32 else 256
        return torch.randint(high, (*outer, *spec.shape), generator=generator).to(spec.dtype)

    steps = nest.map_structure(leaf, SPEC)
    return steps._replace(discount=(steps.discount < 0.8).float())


class Model:
    """Environments as dictionaries from positions to steps."""

    def __init__(self, num_environments, max_length):
        self.steps = [{} for _ in range(num_environments)]
        self.next = [0] * num_environments
        self.latest_type = [LAST] * num_environments
        self.latest_discount = [1.0] * num_environments
        self.max_length = max_length

    def add(self, env, step):
        self.steps[env][self.next[env]] = step
        self.next[env] += 1
        if len(self.steps[env]) > self.max_length:
            del self.steps[env][min(self.steps[env])]

    def make_valid(self, env_ids, batch):
        """After LAST comes FIRST, and a discount of 0 stays 0: change steps ``[T, B, ...]`` in place."""
        for step_types, discounts in zip(batch.step_type, batch.discount):
            for i, env in enumerate(env_ids):
                if self.latest_type[env] == LAST:
                    step_types[i] = FIRST
                if step_types[i] != FIRST and self.latest_discount[env] == 0:
                    discounts[i] = 0
                self.latest_type[env], self.latest_discount[env] = int(step_types[i]), float(discounts[i])

    def starts(self, length, ignored, interval):
        """Return all (environment, position) from which sequences begin."""
        return [(env, p) for env, steps in enumerate(self.steps) for p in sorted(steps)[ignored:]
                if p % interval == 0 and p + length - 1 in steps]

    def begin(self, env, p):
        while self.steps[env][p].step_type != FIRST and p - 1 in self.steps[env]:
            p -= 1
        return p

    def end(self, env, p):
        while p + 1 in self.steps[env] and self.steps[env][p + 1].step_type != FIRST:
            p += 1
        return p

    def zero_discount(self, env, p):
        zeros = [q for q in range(self.begin(env, p), self.end(env, p) + 1) if self.steps[env][q].discount == 0]
        return zeros[0] if zeros else -1

    def discounted_return(self, env, p, gamma, default):
        end = self.end(env, p)
        if self.steps[env][end].step_type != LAST:
            return default
        total, weight = 0.0, 1.0
        for q in range(p + 1, end + 1):
            total += weight * min(max(float(self.steps[env][q].reward), 0.2), 0.6)
            weight *= gamma * float(self.steps[env][q].discount)
        return total


def assert_equal(got, expected):
    nest.assert_same_structure(got, expected)
    for a, b in zip(nest.flatten(got), nest.flatten(expected)):
        assert a.dtype is b.dtype and torch.equal(a, b)


ACTIONS = st.one_of(
    st.tuples(st.just("add_batch"), st.sets(st.integers(0, 2))),
    st.tuples(st.just("add_steps"), st.integers(1, 9)),
    st.tuples(st.just("clear"), st.sets(st.integers(0, 2))),
    st.tuples(st.just("remove"), st.integers(1, 3)),
    st.tuples(st.just("ask"), st.none()))


def run(buffer, model, action, argument, generator):
    """Do one thing to the buffer and to the model."""
    num_environments = len(model.steps)
    if action == "add_batch":
        env_ids = sorted((env for env in argument if env < num_environments), reverse=True)
        batch = random_steps((len(env_ids) or num_environments, ), generator)
        model.make_valid(env_ids or range(num_environments), nest.map_structure(lambda leaf: leaf.unsqueeze(0), batch))
        buffer.add_batch(batch, torch.tensor(env_ids) if env_ids else None)
        for i, env in enumerate(env_ids or range(num_environments)):
            model.add(env, nest.map_structure(lambda leaf, i=i: leaf[i], batch))
    elif action == "add_steps":
        batch = random_steps((argument, num_environments), generator)
        model.make_valid(range(num_environments), batch)
        buffer.add_steps(batch)
        for t in range(argument):
            for env in range(num_environments):
                model.add(env, nest.map_structure(lambda leaf, t=t, env=env: leaf[t, env], batch))
    elif action == "clear":
        env_ids = [env for env in argument if env < num_environments]
        buffer.clear(torch.tensor(env_ids, dtype=torch.int64))
        for env in env_ids:
            model.steps[env].clear()
    elif action == "remove":
        buffer.remove_up_to(argument)
        for steps in model.steps:
            for p in sorted(steps)[:argument]:
                del steps[p]


def check_episodes(buffer, model):
    where = [(env, p) for env, steps in enumerate(model.steps) for p in steps]
    if where:
        envs, positions = torch.tensor(where).T
        assert buffer.get_episode_begin_position(positions, envs).tolist() == [model.begin(*at) for at in where]
        assert buffer.steps_to_episode_end(positions, envs).tolist() == [model.end(*at) - at[1] for at in where]
        assert buffer.get_disc_0_begin_position(positions, envs).tolist() == [model.zero_discount(*at) for at in where]


def check_sampling(buffer, model, length, ignored, interval, sparse):
    starts = model.starts(length, ignored, interval)
    if not starts:
        with pytest.raises(ValueError, match=f"batch_length={length} steps"):
            buffer.get_batch(1, length)
        return
    batch, info = buffer.get_batch(len(starts), length)  # without replacement: every start once
    drawn = list(zip(info.env_ids.tolist(), info.positions.tolist()))
    assert sorted(drawn) == starts
    for b, (env, p) in enumerate(drawn):
        steps = [model.steps[env][p + t] for t in range(length)]
        expected = nest.map_structure(lambda *leaves: torch.stack(leaves), *steps)
        if sparse:
            expected = expected._replace(state=nest.map_structure(lambda leaf: leaf[:1], expected.state))
        assert_equal(nest.map_structure(lambda leaf, b=b: leaf[b], batch), expected)
        for t in range(length):
            expected_return = model.discounted_return(env, p + t, 0.9, -5.0)
            assert float(info.discounted_return[b, t]) == pytest.approx(expected_return, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
@hypothesis.settings(max_examples=100, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_buffer_is_what_lists_would_be(implementation, sparse, data):
    num_environments = data.draw(st.integers(1, 3))
    max_length = data.draw(st.integers(1, 7))
    ignored = data.draw(st.integers(0, min(2, max_length - 1)))
    interval = data.draw(st.integers(1, min(3, max_length))) if sparse else 1
    buffer = ReplayBuffer(SPEC, num_environments, max_length, num_earliest_frames_ignored=ignored,
                          state_field="state" if sparse else None, state_interval=interval, record_episodic_return=True,
                          gamma=0.9, reward_clip=(0.2, 0.6), default_return=-5.0)
    model = Model(num_environments, max_length)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    for action, argument in data.draw(st.lists(ACTIONS, min_size=1, max_size=12)):
        run(buffer, model, action, argument, generator)
        assert buffer.current_size.tolist() == [len(steps) for steps in model.steps]
        assert buffer.get_current_position().tolist() == model.next
        if action == "ask":
            check_episodes(buffer, model)
    check_episodes(buffer, model)
    check_sampling(buffer, model, data.draw(st.integers(1, max_length)), ignored, interval, sparse)
    stored = [(env, p) for env, steps in enumerate(model.steps) for p in steps]
    if stored:
        envs, positions = torch.tensor(stored).T
        expected = [model.steps[env][p].observation for env, p in stored]
        expected = nest.map_structure(lambda *leaves: torch.stack(leaves), *expected)
        assert_equal(buffer.get_field("observation", envs, positions), expected)
        twice = buffer.get_field("observation.image", envs.expand(2, -1), positions.expand(2, -1))
        assert_equal(twice, expected["image"].expand(2, *expected["image"].shape))


@hypothesis.settings(max_examples=60, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_all_that_is_gathered_and_dequeued_is_in_order(implementation, data):
    num_environments, max_length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    ignored = data.draw(st.integers(0, max_length - 1))
    buffer = ReplayBuffer(SPEC, num_environments, max_length, num_earliest_frames_ignored=ignored, state_field="state")
    model = Model(num_environments, max_length)
    generator = torch.Generator().manual_seed(0)
    for num_steps in data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)):
        run(buffer, model, "add_steps", num_steps, generator)

    def expected(env, positions):
        return nest.map_structure(lambda *leaves: torch.stack(leaves), *[model.steps[env][p] for p in positions])

    for left_out in (0, ignored):
        if len(model.steps[0]) <= left_out:
            with pytest.raises(ValueError, match=f"same number of steps, more than {left_out}, in all environments"):
                buffer.gather_all(ignore_earliest_frames=True)
            continue
        batch, info = buffer.gather_all(ignore_earliest_frames=left_out > 0)
        for env in range(num_environments):
            positions = sorted(model.steps[env])[left_out:]
            assert int(info.positions[env]) == positions[0]
            assert_equal(nest.map_structure(lambda leaf, env=env: leaf[env], batch), expected(env, positions))
    earliest = buffer.dequeue()
    for env in range(num_environments):
        first = min(model.steps[env])
        assert_equal(nest.map_structure(lambda leaf, env=env: leaf[env], earliest), expected(env, [first]))
    assert buffer.total_size == num_environments * (len(model.steps[0]) - 1)
