"""PerProcessContext: one record, which cannot change once something relies on it."""

import pytest

from alf.utils.per_process_context import PerProcessContext


@pytest.fixture
def context():
    context = PerProcessContext()
    yield context
    context._reset()


def test_a_process_trains_alone_unless_told_otherwise(context):
    assert not context.is_distributed
    assert (context.ddp_rank, context.num_processes) == (-1, 1)


def test_there_is_one_for_the_process(context):
    PerProcessContext().set_distributed(1, 3)
    assert context.is_distributed
    assert (context.ddp_rank, context.num_processes) == (1, 3)


def test_keeps_a_queue(context):
    assert context.paras_queue is None
    context.set_paras_queue("queue")
    assert PerProcessContext().paras_queue == "queue"


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_out_of_range_is_refused(context, rank):
    with pytest.raises(ValueError, match=f"expected a rank from 0 to 1, got {rank}"):
        context.set_distributed(rank, 2)


def test_it_does_not_change_after_finalize(context):
    context.finalize()
    with pytest.raises(RuntimeError, match=r"set_distributed: called after finalize\(\)"):
        context.set_distributed(0, 2)
    with pytest.raises(RuntimeError, match=r"set_paras_queue: called after finalize\(\)"):
        context.set_paras_queue("queue")
