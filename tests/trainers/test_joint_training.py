"""JointTraining: the order in which processes save, and what counts when one cannot."""

import pytest

from alf.trainers._joint_training import JointTraining, Wishes
from alf.utils import distributed
from alf.utils.checkpoint_utils import CheckpointError
from alf.utils.per_process_context import PerProcessContext


class Recorder:
    """A Checkpointer that only notes what it is asked."""

    def __init__(self, events, fails=False):
        self._events = events
        self._fails = fails

    def write(self, step):
        self._events.append("fails to write" if self._fails else "writes")
        if self._fails:
            raise CheckpointError("the disk is full")
        return "path"

    def drop_older(self, step):
        self._events.append("drops")

    def save(self, step):
        self._events.append("saves")
        return "path"


@pytest.fixture
def exchanged(monkeypatch):
    """Return a function that says what others add at each exchange, and gives the list of events."""

    def say(*others):
        events, left = [], list(others)

        def total(numbers):
            events.append(f"exchanges {list(map(int, numbers))}")
            return [number + left.pop(0) for number in numbers]

        monkeypatch.setattr(distributed, "total", total)
        return events

    return say


def test_alone_nothing_is_exchanged(exchanged):
    events = exchanged()
    joint = JointTraining(-1, "root")
    assert joint.save(Recorder(events), 3) == "path"
    assert joint.exchange([5], Wishes(leave=130)) == ([5], Wishes(leave=130))
    assert events == ["saves"]


def test_the_first_writes_when_all_others_have_and_nothing_older_goes_before_that(exchanged):
    events = exchanged(0, 0)
    assert JointTraining(0, "root").save(Recorder(events), 3) == "path"
    assert events == ["exchanges [0]", "writes", "exchanges [0]", "drops"]
    events = exchanged(0, 0)
    assert JointTraining(1, "root").save(Recorder(events), 3) == "path"
    assert events == ["writes", "exchanges [0]", "exchanges [0]", "drops"]


def test_a_checkpoint_does_not_count_when_another_process_could_not_save(exchanged):
    events = exchanged(1, 1)
    with pytest.raises(CheckpointError, match="another process could not save its part"):
        JointTraining(0, "root").save(Recorder(events), 3)
    assert events == ["exchanges [0]", "exchanges [1]"]  # it writes nothing, and drops nothing
    events = exchanged(0, 1)
    with pytest.raises(CheckpointError, match="another process could not save its part"):
        JointTraining(1, "root").save(Recorder(events), 3)
    assert events == ["writes", "exchanges [0]", "exchanges [0]"]


def test_who_could_not_save_says_why(exchanged):
    events = exchanged(0, 1)
    with pytest.raises(CheckpointError, match="the disk is full"):
        JointTraining(1, "root").save(Recorder(events, fails=True), 3)
    assert events == ["fails to write", "exchanges [1]", "exchanges [1]"]


def test_what_any_is_asked_for_all_do(monkeypatch):
    PerProcessContext().set_distributed(0, 2)
    joint = JointTraining(0, "root")
    # sums of: two counts, checkpoint, overdue, left by Ctrl-C, left by SIGTERM
    for sums, wishes in (([7, 2, 0, 0, 0, 0], Wishes()), ([7, 2, 1, 0, 0, 0], Wishes(checkpoint=True)),
                         ([7, 2, 0, 2, 0, 0], Wishes(overdue=True)), ([7, 2, 0, 0, 1, 0], Wishes(leave=130)),
                         ([7, 2, 0, 0, 1, 1], Wishes(leave=143))):
        monkeypatch.setattr(distributed, "total", lambda numbers, sums=sums: [float(s) for s in sums])
        assert joint.exchange([3, 1], Wishes()) == ([7, 2], wishes)
    PerProcessContext()._reset()
