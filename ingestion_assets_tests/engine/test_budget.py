"""Rate budgets: never one request too many, whoever asks, and nobody waits longer than needed."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from starlette.responses import PlainTextResponse

from ingestion_assets.engine.budget import (
    SharedBudget,
    Unlimited,
    budget_name,
    finish_estimate,
    next_midnight,
)
from ingestion_assets.engine.errors import QuotaExhausted, TooMuch
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets_tests.upstream import Upstream

CLIENT = """
import sys, threading
from ingestion_assets.engine.budget import SharedBudget
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store, connection_pool
url, database, requests, window, threads, each = sys.argv[1:]
with connection_pool(database) as pool:
    budget = SharedBudget(Store(pool), "source", int(requests), float(window))
    client = Client(url, budget=budget)
    def work():
        for _ in range(int(each)):
            client.ask({}, bytes)
    print("ready", flush=True)
    input()
    workers = [threading.Thread(target=work) for _ in range(int(threads))]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    client.close()
"""


BATCHES = """
import sys
from ingestion_assets.engine.budget import SharedBudget
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store, connection_pool
url, database, requests, window, *sizes = sys.argv[1:]
with connection_pool(database) as pool:
    client = Client(url, budget=SharedBudget(Store(pool), "source", int(requests), float(window)))
    print("ready", flush=True)
    input()
    for size in map(int, sizes):
        client.ask({"calls": size}, bytes, permits=size)
    client.close()
"""


def app(scope, receive, send):
    """Fine."""
    return PlainTextResponse("fine")(scope, receive, send)


@pytest.fixture
def upstream():
    """A source that counts."""
    with Upstream(app) as opened:
        yield opened


@pytest.fixture
def budget(store):
    """Two requests a quarter of a second."""
    return SharedBudget(store, "source", 2, 0.25)


def use(budget, times=1, permits=1):
    """Make so many requests of no duration."""
    for _ in range(times):
        with budget.request(permits):
            pass


def fullest(upstream, window):
    """How many calls came in the fullest window, where a request says how many it holds."""
    seen = sorted((one.arrived, int(one.query["calls"])) for one in upstream.requests)
    return max(
        sum(calls for later, calls in seen[at:] if later <= arrived + window)
        for at, (arrived, _) in enumerate(seen)
    )


def test_threads_together_never_pass_the_budget(store, upstream):
    """More of them than slots, and yet none waits out a lease."""
    requests, window = 3, 0.2
    client = Client(upstream.url, budget=SharedBudget(store, "source", requests, window))
    started = time.monotonic()
    threads = [threading.Thread(target=lambda: [client.ask({}, bytes) for _ in range(3)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    client.close()
    assert len(upstream.requests) == 24
    assert upstream.peak(window) <= requests
    assert time.monotonic() - started < 15


def test_processes_together_never_pass_the_budget(upstream, database_url, project):
    """Three of them, with two threads each."""
    requests, window = 3, 0.2
    command = [sys.executable, "-c", CLIENT, upstream.url, database_url, str(requests), str(window), "2", "3"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=project, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"\n", timeout=30)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(upstream.requests) == 18
    assert upstream.peak(window) <= requests


def test_batches_of_several_processes_never_pass_the_budget_and_all_get_their_turn(
    upstream, database_url, project
):
    """Counted call by call: large ones, small ones, and single calls in between."""
    requests, window = 5, 0.2
    command = [sys.executable, "-c", BATCHES, upstream.url, database_url, str(requests), str(window)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    sizes = [["5"] * 3, ["3"] * 4, ["2", "4"] * 2, ["1"] * 8]
    processes = [subprocess.Popen([*command, *each], cwd=project, **pipes) for each in sizes]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"\n", timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(int(one.query["calls"]) for one in upstream.requests) == 47
    assert fullest(upstream, window) <= requests


def test_a_slow_answer_does_not_let_others_through_early(store, upstream):
    """The slot rests from the answer on, for nobody knows when the source counted the request."""
    upstream.fail("slow", seconds=0.3)
    client = Client(upstream.url, budget=SharedBudget(store, "source", 1, 0.2))
    for _ in range(3):
        client.ask({}, bytes)
    client.close()
    first, second, third = (seen.arrived for seen in upstream.requests)
    assert second - first >= 0.5
    assert third - second >= 0.2


def test_nobody_waits_out_the_lease_of_a_request_that_is_under_way(store):
    """It ends long before: who waits asks again after a window at the latest."""
    waits = []
    budget = SharedBudget(store, "source", 1, 0.25, sleep=waits.append)
    waiting = threading.Event()

    def note(seconds):
        waits.append(seconds)
        waiting.set()
        time.sleep(min(seconds, 0.25))

    other = SharedBudget(store, "source", 1, 0.25, sleep=note)
    with budget.request():
        thread = threading.Thread(target=use, args=[other])
        thread.start()
        assert waiting.wait(5)
    thread.join(5)
    assert not thread.is_alive()
    assert all(seconds <= 0.25 for seconds in waits)


def test_waiting_holds_no_connection(database_url):
    """With one connection in the pool, somebody else can use it while a request waits and while one is under way."""
    with connection_pool(database_url, max_size=1, timeout=2) as pool:
        store, used = Store(pool), []

        def sleep(seconds):
            used.append(store.transaction(lambda connection: connection.execute("SELECT 1").fetchone()))
            time.sleep(seconds)

        budget = SharedBudget(store, "source", 1, 0.1, sleep=sleep)
        use(budget)
        with budget.request():
            store.transaction(lambda connection: connection.execute("SELECT 1"))
        assert used


def test_a_slot_comes_back_when_the_request_fails(budget):
    """After its window."""
    for _ in range(4):
        with pytest.raises(OSError, match="broken"), budget.request():
            raise OSError("broken")


def test_budgets_with_other_names_are_other_budgets(store):
    """One does not wait for the other."""
    waits = []
    for name in "ab":
        use(SharedBudget(store, name, 2, 60, sleep=waits.append), 2)
    assert [wait for wait in waits if wait > 0.01] == []  # a moment passes when the slots are made


def test_the_quota_of_a_day_is_kept_and_says_until_when(store, connection):
    """The request too many is not sent, and leaves its slot to others."""
    budget = SharedBudget(store, "source", 5, 0.01, per_day=3)
    use(budget, 3)
    for _ in range(6):  # more often than there are slots: each was given back
        with pytest.raises(QuotaExhausted, match="3 requests a day of source") as caught, budget.request():
            raise AssertionError("it was let through")
    now = datetime.now(UTC)
    assert now < caught.value.until <= now + timedelta(days=1)
    assert (caught.value.until.hour, caught.value.until.minute) == (0, 0)
    assert connection.execute("SELECT used FROM ops.rate_days").fetchall() == [(3,)]
    connection.execute("UPDATE ops.rate_days SET day = day - 1")
    use(budget)


def test_requests_of_a_day_are_counted_without_a_quota_too(budget, connection):
    """By budget."""
    use(budget, 2)
    assert connection.execute("SELECT budget, used FROM ops.rate_days").fetchall() == [("source", 2)]


def test_what_is_used_today_is_counted_over_all_processes(budget, database_url, connection):
    """Yesterday does not count."""
    assert budget.used_today() == 0
    with connection_pool(database_url) as pool:
        use(SharedBudget(Store(pool), "source", 2, 0.01), 2)
    use(budget)
    assert budget.used_today() == 3
    connection.execute("UPDATE ops.rate_days SET day = day - 1")
    assert budget.used_today() == 0


def at(day, hour=0, minute=0, second=0):
    """A moment of May 2024."""
    return datetime(2024, 5, day, hour, minute, second, tzinfo=UTC)


NEVER = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "budget", "now", "expected"),
    [
        (0, (1, 10, 10), at(1, 12), at(1, 12)),
        (-5, (1, 10, 10), at(1, 12), at(1, 12)),
        (5, (None, None, 0), at(1, 12), at(1, 12)),
        (7200, (2, None, 9), at(1, 12), at(1, 13)),
        (200_000, (1, None, 0), at(1), at(3, 7, 33, 20)),
        (7200, (2, 10_000, 0), at(1, 12), at(1, 13)),
        (7200, (2, 10_000, 2_800), at(1, 12), at(1, 13)),  # just enough
        (7201, (1, 10_000, 2_800), at(1, 12), at(2, 0, 0, 1)),  # one too many: tomorrow
        (100, (1, 1_000, 1_000), at(1, 12), at(2, 0, 1, 40)),
        (100, (1, 1_000, 5_000), at(1, 12), at(2, 0, 1, 40)),  # more used than allowed
        (1_000, (1, 1_000, 1_000), at(1, 12), at(2, 0, 16, 40)),
        (1_001, (1, 1_000, 1_000), at(1, 12), at(3, 0, 0, 1)),
        (2_500, (1, 1_000, 500), at(1, 12), at(3, 0, 16, 40)),
        (2_500, (None, 1_000, 0), at(1, 12), at(3)),
        (2_000, (None, 1_000, 0), at(1, 12), at(2)),
        (20, (1, 1_000, 0), at(1, 23, 59, 50), at(2, 0, 0, 10)),  # the day ends before its budget
        (200_000, (1, 1_000_000, 0), at(1), at(3, 7, 33, 20)),  # the day's budget never counts
        (86_400, (0.5, 43_200, 0), at(1), at(3)),
        (1, (1, 0, 0), at(1), NEVER),
        (10**30, (1, None, 0), at(1), NEVER),
        (10**30, (1, 1_000, 0), at(1), NEVER),
    ],
)  # fmt: skip
def test_when_a_backfill_will_be_through(left, budget, now, expected):
    """As fast as is allowed, with the day's budget full again at midnight. A budget: per second, per day, used."""
    per_second, per_day, used = budget
    found = finish_estimate(
        requests_left=left, per_second=per_second, per_day=per_day, used_today=used, now=now
    )
    assert found == expected
    elsewhere = now.astimezone(timezone(timedelta(hours=-7)))
    assert found == finish_estimate(
        requests_left=left, per_second=per_second, per_day=per_day, used_today=used, now=elsewhere
    )


def test_an_estimate_is_what_a_day_by_day_count_gives():
    """For any numbers."""
    for left in range(0, 60, 7):
        for per_day in range(1, 30, 4):
            for used in (0, 3, 40):
                now, remaining, can = at(1, 23, 59, 50), left, max(0, min(per_day - used, 10))
                while remaining > can:
                    remaining -= can
                    now, can = next_midnight(now), per_day
                expected = now + timedelta(seconds=remaining)
                assert expected == finish_estimate(
                    requests_left=left, per_second=1, per_day=per_day, used_today=used, now=at(1, 23, 59, 50)
                )


class WaitedError(Exception):
    """Somebody would have to wait."""


def refuse(seconds):
    """A sleep for tests of who has to wait, and how long. The moment in which slots are made does not count."""
    if seconds > 0.01:
        raise WaitedError(seconds)


def another_process(database_url, **options):
    """A budget of the same name with a connection of its own."""
    pool = connection_pool(database_url)
    return pool, SharedBudget(
        Store(pool), "source", options.pop("requests", 2), 0.05, sleep=refuse, **options
    )


def test_a_pause_reaches_everybody_and_is_never_shortened(budget, database_url):
    """The longest one counts, however full the budget is."""
    pool, other = another_process(database_url)
    use(other)
    budget.pause(30)
    budget.pause(5)
    with pytest.raises(WaitedError) as caught, other.request():
        pass
    assert 25 < caught.value.args[0] <= 30
    pool.close()


def test_a_long_pause_ends_the_run_instead_of_sleeping_in_it(budget):
    """The error says until when, and no request is sent."""
    use(budget)
    budget.pause(3600)
    with pytest.raises(QuotaExhausted, match="source is parked") as caught, budget.request():
        raise AssertionError("it was let through")
    assert timedelta(minutes=59) < caught.value.until - datetime.now(UTC) <= timedelta(hours=1)


def test_no_pause_is_longer_than_a_day(budget):
    """Whatever a source asks for: it may be a slip, or the end of the calendar."""
    use(budget)
    budget.pause(1e300)
    with pytest.raises(QuotaExhausted) as caught, budget.request():
        raise AssertionError("it was let through")
    assert caught.value.until <= datetime.now(UTC) + timedelta(days=1)


def test_a_pause_ends(store):
    """And then it goes on as before."""
    budget = SharedBudget(store, "source", 2, 0.01)
    use(budget)
    started = time.monotonic()
    budget.pause(0.2)
    use(budget)
    assert 0.19 <= time.monotonic() - started < 10


def test_shrinking_reaches_everybody_even_those_with_a_request_under_way(store, upstream, database_url):
    """Of five slots one stays, and the source sees no more than that."""
    budget = SharedBudget(store, "source", 5, 0.2)
    with budget.request(), budget.request(), budget.request(), budget.request(), budget.request():
        budget.shrink(1)
    time.sleep(0.2)
    with connection_pool(database_url) as pool:
        client = Client(upstream.url, budget=SharedBudget(Store(pool), "source", 5, 0.2))
        for _ in range(3):
            client.ask({}, bytes)
        client.close()
    assert upstream.peak(0.2) == 1


def test_a_limit_that_is_not_below_ours_shrinks_nothing(budget, connection, caplog):
    """And nobody is told that it did."""
    use(budget)
    before = connection.execute("SELECT slot, free_at::text FROM ops.rate_slots ORDER BY slot").fetchall()
    budget.shrink(2)
    budget.shrink(600)
    assert (
        connection.execute("SELECT slot, free_at::text FROM ops.rate_slots ORDER BY slot").fetchall()
        == before
    )
    assert not caplog.records
    budget.shrink(1)
    assert "source allows 1 requests per window, fewer than configured" in caplog.text


def test_a_budget_never_shrinks_to_nothing(store):
    """Whatever a source says of itself."""
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        assert len(waits) < 100
        time.sleep(seconds)

    budget = SharedBudget(store, "source", 2, 0.01, sleep=sleep)
    use(budget)
    budget.shrink(0)
    use(budget, 3)


def test_the_slot_of_a_holder_that_died_comes_back_after_its_lease(store):
    """Not before, and not never."""
    budget = SharedBudget(store, "source", 1, 0.05, lease=0.3)
    dead = budget.request()
    dead.__enter__()
    started = time.monotonic()
    use(budget)
    assert 0.3 <= time.monotonic() - started < 5
    dead.__exit__(None, None, None)


def test_a_holder_that_was_thought_dead_does_not_free_its_successors_slot(store, connection):
    """It answers after its lease, when somebody else has the slot."""
    slow = SharedBudget(store, "source", 1, 0.01, lease=0.0)
    late = slow.request()
    late.__enter__()
    successor = SharedBudget(store, "source", 1, 0.01, lease=60)
    with successor.request():
        held = connection.execute("SELECT free_at FROM ops.rate_slots").fetchall()
        late.__exit__(None, None, None)
        assert connection.execute("SELECT free_at FROM ops.rate_slots").fetchall() == held


def test_the_name_of_a_budget_does_not_give_the_key_away():
    """It is the same for the same key only."""
    name = budget_name("source.test", "hush-hush")
    assert "hush" not in name
    assert name.startswith("source.test/")
    assert name == budget_name("source.test", "hush-hush")
    assert name != budget_name("source.test", "hush")
    assert name != budget_name("other.test", "hush-hush")
    assert budget_name("source.test", None) == "source.test"


def test_no_budget_never_waits():
    """For sources that set no limit."""
    budget = Unlimited()
    budget.pause(1000)
    budget.shrink(0)
    use(budget, 100, permits=1_000)
    assert budget.most is None


def test_a_batch_takes_all_its_slots_or_none(store, database_url, connection):
    """And the day counts its calls."""
    pool, other = another_process(database_url, requests=5)
    budget = SharedBudget(store, "source", 5, 0.05)
    with budget.request(3):
        with pytest.raises(WaitedError), other.request(3):
            raise AssertionError("it was let through")
        use(other, permits=2)
        assert connection.execute("SELECT used FROM ops.rate_days").fetchall() == [(5,)]
    pool.close()


def test_the_calls_of_a_batch_count_for_the_day(store, connection):
    """One that would pass the quota is not sent, and takes nothing."""
    budget = SharedBudget(store, "source", 50, 0.01, per_day=10)
    assert budget.most == 10
    use(budget, permits=8)
    with pytest.raises(QuotaExhausted), budget.request(3):
        raise AssertionError("it was let through")
    assert budget.used_today() == 8
    use(budget, permits=2)
    assert connection.execute("SELECT count(*) FROM ops.rate_queue").fetchall() == [(0,)]


def test_a_batch_larger_than_the_budget_is_too_much(budget):
    """At once: it could wait for ever."""
    assert budget.most == 2
    with pytest.raises(TooMuch, match="source allows 2 requests at once, not 3"), budget.request(3):
        raise AssertionError("it was let through")
    assert budget.used_today() == 0


def test_a_batch_for_which_a_budget_has_shrunk_is_too_much_even_while_it_waits(store):
    """It must be cut; a smaller one, and a single request, go on."""
    budget = SharedBudget(store, "source", 5, 0.05)

    def shrink(seconds):
        budget.shrink(2)
        time.sleep(seconds)

    use(budget, permits=5)
    waiting = SharedBudget(store, "source", 5, 0.05, sleep=shrink)
    with pytest.raises(TooMuch, match="source allows 2 requests at once"), waiting.request(4):
        raise AssertionError("it was let through")
    use(budget, permits=2)
    budget.shrink(1)
    use(budget)


def test_a_batch_that_waits_honours_a_pause(store):
    """Which begins meanwhile."""
    pauses = iter([0.3])

    def sleep(seconds):
        for pause in pauses:
            budget.pause(pause)
        time.sleep(seconds)

    budget = SharedBudget(store, "source", 3, 0.05)
    use(budget, permits=2)
    started = time.monotonic()
    use(SharedBudget(store, "source", 3, 0.05, sleep=sleep), permits=3)
    assert 0.3 <= time.monotonic() - started < 10


def test_a_batch_that_waits_holds_no_connection(database_url):
    """With one in the pool, somebody else can use it."""
    with connection_pool(database_url, max_size=1, timeout=2) as pool:
        store, used = Store(pool), []

        def sleep(seconds):
            used.append(store.transaction(lambda connection: connection.execute("SELECT 1").fetchone()))
            time.sleep(seconds)

        budget = SharedBudget(store, "source", 4, 0.05, sleep=sleep)
        use(budget, 3, permits=3)
        assert used


def test_a_batch_does_not_wait_for_ever_behind_single_requests(store):
    """They take each slot that comes free, until it has a place in the queue."""
    budget = SharedBudget(store, "source", 4, 0.05)
    ended = threading.Event()

    def go_on():
        while not ended.is_set():
            use(budget)

    threads = [threading.Thread(target=go_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    use(budget, 3, permits=4)
    waited = time.monotonic() - started
    ended.set()
    for thread in threads:
        thread.join(10)
    assert waited < 10


def test_a_single_request_does_not_wait_for_ever_behind_batches(store):
    """They take everything, each time."""
    budget = SharedBudget(store, "source", 4, 0.05)
    ended = threading.Event()

    def go_on():
        while not ended.is_set():
            use(budget, permits=4)

    threads = [threading.Thread(target=go_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    use(budget, 3)
    waited = time.monotonic() - started
    ended.set()
    for thread in threads:
        thread.join(10)
    assert waited < 10


def test_those_behind_go_ahead_where_enough_is_free_for_all(store, connection):
    """And not where they would take what an earlier one needs."""
    use(SharedBudget(store, "source", 5, 0.01))
    connection.execute(
        "INSERT INTO ops.rate_queue (place, budget, permits, until) VALUES (-1, 'source', 3, now() + interval '1 minute')"
    )
    time.sleep(0.02)
    budget = SharedBudget(store, "source", 5, 60, sleep=refuse)
    use(budget, permits=2)
    looked = SharedBudget(store, "source", 5, 60, sleep=raising)
    with pytest.raises(WaitedError), looked.request():
        raise AssertionError("it was let through")


def raising(seconds):
    """A sleep for tests in which nobody may wait at all."""
    raise WaitedError(seconds)


def test_the_place_of_one_that_died_is_void_after_a_while(store, connection):
    """And goes with the next one that had to wait."""
    use(SharedBudget(store, "source", 2, 0.01))
    connection.execute(
        "INSERT INTO ops.rate_queue (place, budget, permits, until) VALUES (-1, 'source', 2, now() + interval '0.3 s')"
    )
    started = time.monotonic()
    use(SharedBudget(store, "source", 2, 0.01))
    assert 0.2 < time.monotonic() - started < 5
    assert connection.execute("SELECT count(*) FROM ops.rate_queue").fetchall() == [(0,)]


def test_one_that_gives_up_leaves_the_queue(database_url, store, connection):
    """Interrupted, or for the error that it got."""
    pool, other = another_process(database_url)
    with SharedBudget(store, "source", 2, 0.05).request(), pytest.raises(WaitedError), other.request(2):
        raise AssertionError("it was let through")
    assert connection.execute("SELECT count(*) FROM ops.rate_queue").fetchall() == [(0,)]
    pool.close()
