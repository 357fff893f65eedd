"""Several budgets of one key: all have to allow a request."""

import pytest

from ingestion_assets.engine.budget import SharedBudget, Unlimited
from ingestion_assets.engine.budgets import Several, shared_budget
from ingestion_assets.engine.errors import TooMuch


def test_what_is_typed_makes_the_budgets(store):
    """The day is counted once, by the first of them."""
    assert isinstance(shared_budget(store, "key"), Unlimited)
    assert isinstance(shared_budget(store, "key", per_day=5), SharedBudget)
    minute = shared_budget(store, "key", per_minute=10, per_day=5)
    assert isinstance(minute, SharedBudget)
    assert (minute.requests, minute.window, minute.per_day) == (10, 60.0, 5)
    both = shared_budget(store, "key", per_second=2, per_minute=10, per_day=5)
    assert isinstance(both, Several)
    assert [(one.requests, one.window, one.per_day) for one in both.budgets] == [
        (10, 60.0, 5),
        (2, 1.0, None),
    ]
    assert len({one.name for one in both.budgets}) == 2


def test_a_request_takes_a_slot_of_each(store, connection):
    """And gives them back, to rest for their own window each."""
    both = shared_budget(store, "key", per_second=2, per_minute=10)
    with both.request():
        held = "SELECT budget, count(*) FROM ops.rate_slots WHERE free_at > clock_timestamp() GROUP BY 1 ORDER BY 1"
        assert connection.execute(held).fetchall() == [("key", 1), ("key/minute", 1)]
    assert both.most == 2
    with pytest.raises(TooMuch), both.request(3):
        pass


def test_waiting_holds_no_connection(store):
    """The pool is as full as before while a budget is waited for."""
    idle = []

    def look(seconds):
        stats = store.pool.get_stats()
        idle.append(stats["pool_available"] == stats["pool_size"])
        if seconds > 1:  # the first look only makes the slots
            raise InterruptedError

    budget = SharedBudget(store, "key", requests=1, window=60.0, sleep=look)
    with budget.request():
        pass
    with pytest.raises(InterruptedError), budget.request():
        pass
    assert set(idle) == {True}


@pytest.mark.parametrize(("allowed", "smaller"), [(1, "key"), (5, "key/minute"), (20, None)])
def test_a_refusal_shrinks_the_budget_that_it_must_mean(store, connection, allowed, smaller):
    """Five is more than two a second, and less than ten a minute."""
    both = shared_budget(store, "key", per_second=2, per_minute=10)
    with both.request():
        pass
    both.shrink(allowed)
    query = (
        "SELECT DISTINCT budget FROM ops.rate_slots WHERE free_at > clock_timestamp() + interval '2 hours'"
    )
    assert connection.execute(query).fetchall() == ([(smaller,)] if smaller else [])
