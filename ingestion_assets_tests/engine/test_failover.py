"""Failover: whom we ask, whom we leave alone and for how long, and that all processes agree on it."""

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ingestion_assets.engine.breaker import ProviderState, after, printable, said
from ingestion_assets.engine.errors import (
    DatabaseUnavailable,
    Fenced,
    IngestionError,
    Misconfigured,
    Permanent,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.failover import Failover, stored_states
from ingestion_assets.engine.store import Store, connection_pool

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 5, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Source:
    """A provider that has nothing but a name."""

    name: str


A, B, C = Source("a"), Source("b"), Source("c")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self):
        """What time it is."""
        return self.now

    def pass_(self, seconds):
        """Let so many seconds pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    """One clock for all processes of a test."""
    return Clock()


@pytest.fixture
def processes(database_url, clock):
    """Makes a Failover with connections of its own, as another process would."""
    pools = []

    def start(*providers, scope="base"):
        pools.append(connection_pool(database_url, max_size=8))
        return Failover(Store(pools[-1]), scope, providers or (A, B), clock=clock)

    yield start
    for pool in pools:
        pool.close()


def able(failover, about="logs"):
    """The names of those who may be asked."""
    return [provider.name for provider in failover.able(about)]


def fail(failover, provider, error, times=1, about="logs"):
    """Fail so many times in a row."""
    for _ in range(times):
        failover.failed(provider, about, error)


def state(failover, provider=A):
    """What is known of a provider."""
    return next(state for state in failover.states() if state.provider == provider.name)


def answering(answers):
    """A question that provider by provider is answered, or raises; it writes down whom it asked."""
    asked = []

    def question(provider):
        asked.append(provider.name)
        answer = answers[provider.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return question, asked


# One error, one state


@pytest.mark.parametrize(
    ("error", "before", "word", "failures", "seconds"),
    [
        (Transient("x"), {}, "closed", 1, None),
        (Transient("x"), {"failures": 1}, "closed", 2, None),
        (Transient("x"), {"failures": 2}, "open", 3, 60),
        (Transient("x", retry_after=50), {"failures": 2}, "open", 3, 60),
        (RateLimited("x"), {}, "closed", 1, None),
        (RateLimited("x", retry_after=5), {"failures": 2}, "open", 3, 60),
        (RateLimited("x", retry_after=6), {}, "open", 0, 6),
        (RateLimited("x", retry_after=1e300), {}, "open", 0, 31 * 86_400),
        (QuotaExhausted("x", until=MIDNIGHT), {"failures": 1}, "open", 1, 12 * 3600),
        (QuotaExhausted("x", until=NOON - timedelta(hours=1)), {}, "open", 0, 0),
        (QuotaExhausted("x", until=datetime.max.replace(tzinfo=UTC)), {}, "open", 0, 31 * 86_400),
        (Unauthorized("x"), {}, "open", 0, 900),
        (SchemaDrift("x"), {}, "open", 3, 900),
        (Misconfigured("x"), {"failures": 1}, "open", 3, 900),
        (Permanent("x"), {}, "open", 3, 900),
        (IngestionError("x"), {}, "open", 3, 900),
        (Unsupported("x"), {"failures": 2}, "closed", 2, None),
    ],
)  # fmt: skip
def test_an_error_is_sorted_by_what_it_says_of_the_provider(error, before, word, failures, seconds):
    """Count it, leave the provider alone for a time, or remember what it does not answer."""
    found = after(ProviderState("base", "a", **before), error, about="logs", now=NOON, was_trial=False)
    assert (found.state, found.failures) == (word, failures)
    assert found.until == (None if seconds is None else NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("error", "until", "was_trial", "seconds"),
    [
        (Transient("x"), 60, False, 60),
        (Transient("x"), 0, False, 120),  # its time was over: somebody asked
        (Transient("x"), 0, True, 120),
        (Transient("x"), 40, True, 120),
        (RateLimited("x", retry_after=10), 60, False, 60),
        (RateLimited("x", retry_after=100), 60, False, 100),
        (Unauthorized("x"), 60, False, 900),
        (QuotaExhausted("x", until=MIDNIGHT), 60, False, 12 * 3600),
        (Unsupported("x"), 60, False, 60),
        (Unsupported("x"), 0, True, None),  # a trial that was answered, if not to our liking
    ],
)  # fmt: skip
def test_an_error_of_a_question_from_before_it_opened_only_makes_it_longer(error, until, was_trial, seconds):
    """Twenty threads fail at once, and that is one failure, not a quarter of an hour."""
    before = ProviderState("base", "a", "open", 3, NOON + timedelta(seconds=until), "Transient: y")
    found = after(before, error, about="logs", now=NOON, was_trial=was_trial)
    assert found.until == (None if seconds is None else NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(("error", "kind"), [(RateLimited("x"), RateLimited), (SchemaDrift("x"), SchemaDrift),
                                             (IngestionError("x"), Permanent)])  # fmt: skip
def test_the_kind_of_an_error_is_kept_with_its_text(error, kind):
    """So that another process raises the same."""
    assert ProviderState("base", "a", reason=said(error)).kind is kind


def test_what_is_kept_of_a_text_can_be_stored_and_printed():
    """Whatever the source wrote."""
    assert printable("a\x00b\nc\x1b[31m\ud800") == "a b c [31m"
    assert len(printable("ä" * 10_000)) == 500


# One process


def test_without_trouble_the_first_one_is_asked(processes):
    """And only that."""
    question, asked = answering({"a": 1, "b": 2})
    assert processes().ask(question, about="logs") == 1
    assert asked == ["a"]


def test_the_next_one_is_asked_when_one_fails(processes):
    """Without waiting for its breaker."""
    question, asked = answering({"a": Transient("x"), "b": 2})
    assert processes().ask(question, about="logs") == 2
    assert asked == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "is_told"), [(Unauthorized("wrong key"), True), (Transient("away"), False)]
)
def test_what_a_person_must_mend_is_told_though_another_one_answers(processes, caplog, error, is_told):
    """With the chain, the provider and what to change."""
    question, _ = answering({"a": error, "b": 2})
    assert processes().ask(question, about="logs") == 2
    assert ("base: a is not asked for logs for a while: wrong key" in caplog.text) is is_told


def test_a_provider_that_fails_three_times_in_a_row_is_left_alone(processes, clock):
    """For a minute; then it gets one trial, and is back when it answers."""
    failover = processes()
    fail(failover, A, Transient("x"), times=2)
    failover.succeeded(A)
    fail(failover, A, Transient("x"), times=2)
    assert able(failover) == ["a", "b"]
    fail(failover, A, Transient("x"))
    assert able(failover) == ["b"]
    clock.pass_(59)
    assert able(failover) == ["b"]
    clock.pass_(1)
    assert able(failover) == ["a", "b"]
    assert state(failover).state == "half-open"
    failover.succeeded(A)
    assert (state(failover).state, state(failover).failures) == ("closed", 0)


def test_it_is_left_alone_twice_as_long_each_time_up_to_a_quarter_of_an_hour(processes, clock):
    """A trial that fails opens it again at once."""
    failover = processes()
    fail(failover, A, Transient("x"), times=3)
    for seconds in (60, 120, 240, 480, 900, 900):
        assert state(failover).until - clock() == timedelta(seconds=seconds)
        clock.pass_(seconds)
        assert able(failover) == ["a", "b"]
        fail(failover, A, Transient("x"))
        assert able(failover) == ["b"]


def test_what_a_provider_does_not_support_is_remembered_for_a_day_and_for_that_only(processes, clock):
    """Other questions it still answers."""
    failover = processes()
    fail(failover, A, Unsupported("no logs on this plan"))
    assert able(failover) == ["b"]
    assert able(failover, "transactions") == ["a", "b"]
    assert state(failover).unsupported["logs"].reason == "no logs on this plan"
    clock.pass_(86_400)
    assert able(failover) == ["a", "b"]
    fail(failover, A, Unsupported("neither these"), about="traces")
    assert list(state(failover).unsupported) == ["traces"]  # what is forgotten is not kept


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("x"), Fenced("x"), TooMuch("x"), ValueError("x"), KeyError("x")]
)
def test_an_error_that_is_not_about_the_provider_is_raised(processes, error):
    """And nobody else is asked."""
    question, asked = answering({"a": error, "b": 2})
    failover = processes()
    with pytest.raises(type(error)) as caught:
        failover.ask(question, about="logs")
    assert caught.value is error
    assert asked == ["a"]
    assert state(failover).failures == 0


@pytest.mark.parametrize(("error", "word"), [(ValueError("x"), "open"), (TooMuch("x"), "closed")])
def test_a_trial_that_says_nothing_of_the_provider_is_given_back(processes, clock, error, word):
    """Somebody else tries, without waiting out the lease. That the answer is too large is an answer."""
    failover, other = processes(), processes()
    fail(failover, A, Transient("x"), times=3)
    clock.pass_(60)
    with pytest.raises(type(error)):
        failover.ask(answering({"a": error})[0], about="logs")
    assert state(other).state == word
    assert able(other) == ["a", "b"]


def test_a_late_answer_ends_no_wait_for_a_quota(processes, clock):
    """Its question was asked before. The trial ends it, and so does an answer when mere failures had opened it."""
    failover = processes()
    fail(failover, A, QuotaExhausted("enough", until=MIDNIGHT))
    failover.succeeded(A)
    assert able(failover) == ["b"]
    clock.now = MIDNIGHT
    assert able(failover) == ["a", "b"]
    failover.succeeded(A)
    assert state(failover).state == "closed"
    fail(failover, A, Transient("x"), times=3)
    failover.succeeded(A)
    assert state(failover).state == "closed"


def test_answers_cost_no_write(processes, clock, connection):
    """One a minute says that it is alive, and one when there was something to forgive."""
    failover = processes()

    def writes():
        return connection.execute("SELECT xmin::text, succeeded_at FROM ops.providers").fetchall()

    failover.succeeded(A)
    failover.failed(B, "logs", QuotaExhausted("enough", until=MIDNIGHT))
    failover.succeeded(B)
    before = writes()
    for _ in range(100):
        failover.succeeded(B)
        clock.pass_(0.5)
        failover.succeeded(A)
    assert writes() == before
    clock.pass_(15)
    failover.succeeded(A)
    assert [row[1] for row in writes()] == [NOON, clock()]
    fail(failover, A, Transient("x"))
    failover.succeeded(A)
    assert state(failover).failures == 0


def test_asking_costs_no_query_for_a_second(database_url, clock):
    """The process knows what it has read."""
    queries = []

    class Counting(Store):
        def transaction(self, work):
            queries.append(work)
            return super().transaction(work)

    with connection_pool(database_url) as pool:
        failover = Failover(Counting(pool), "base", (A, B), clock=clock)
        failover.succeeded(A)
        failover.succeeded(B)
        clock.pass_(1)
        queries.clear()
        for _ in range(1000):
            for provider in failover.able("logs"):
                failover.succeeded(provider)
        assert len(queries) == 1


def test_lies_are_counted_and_the_last_one_is_kept(processes):
    """They open nothing: what to do about it is for others to say."""
    failover = processes()
    failover.lied(A, "x")
    failover.lied(A, "block 7:\x00 two rows, one shown " + "!" * 1000)
    found = state(failover)
    assert (found.lies, found.state) == (2, "closed")
    assert found.last_lie.startswith("block 7:  two rows, one shown !!")
    assert len(found.last_lie) == 500
    assert able(failover) == ["a", "b"]


def test_a_reset_closes_breakers_for_everybody_and_forgets_what_is_not_supported(processes, clock):
    """Of one provider, or of all; the lies are kept, and what happens next is counted from the beginning."""
    failover, other = processes(), processes()
    failover.lied(A, "a row that is none")
    for provider in (A, B):
        fail(failover, provider, Unsupported("no logs"))
        fail(failover, provider, Unauthorized("wrong key"), about="blocks")
    assert able(failover) == able(other) == able(other, "blocks") == []
    failover.reset("a")
    clock.pass_(1)
    assert able(failover) == able(other) == able(other, "blocks") == ["a"]
    assert isinstance(failover.exhausted("logs"), Transient)
    failover.reset()
    clock.pass_(1)
    assert able(failover) == able(other, "blocks") == ["a", "b"]
    found = state(other)
    assert (found.failures, found.until, found.reason, found.lies) == (0, None, None, 1)
    fail(failover, A, Transient("oops"), times=2)
    assert able(failover) == ["a", "b"]


def test_a_reset_of_nobody_names_those_that_are(processes):
    """A slip of the pen must not look like success."""
    with pytest.raises(Misconfigured, match="base has no provider 'z'; it has a, b"):
        processes().reset("z")


def test_states_are_given_in_order_of_preference_known_or_not(processes):
    """For people to look at."""
    failover = processes(C, A, B)
    fail(failover, A, Unauthorized("wrong key"))
    assert [(state.provider, state.state, state.reason) for state in failover.states()] == [
        ("c", "closed", None), ("a", "open", "Unauthorized: wrong key"), ("b", "closed", None)
    ]  # fmt: skip
    assert [state.provider for state in stored_states(failover._store, "base")] == ["a"]


# Nobody answers


@pytest.mark.parametrize(
    ("errors", "kind", "texts"),
    [
        ([Transient("down"), Unauthorized("wrong key")], Transient, ["a: down", "b: left alone until", "wrong key"]),
        ([RateLimited("slow", retry_after=60), QuotaExhausted("enough", until=MIDNIGHT)], Transient, ["slow", "enough"]),
        ([QuotaExhausted("enough", until=MIDNIGHT), QuotaExhausted("done", until=NOON + timedelta(hours=1))],
         QuotaExhausted, ["a: left alone until 2024-05-02 00:00:00 UTC; enough", "b: ", "done"]),
        ([Unsupported("no logs"), QuotaExhausted("done", until=NOON + timedelta(hours=1))], QuotaExhausted, ["no logs"]),
        ([Unauthorized("wrong key"), SchemaDrift("odd")], Unauthorized, ["wrong key", "odd"]),
        ([SchemaDrift("odd"), Unauthorized("wrong key")], SchemaDrift, ["wrong key", "odd"]),
        ([Unsupported("no logs"), Misconfigured("url")], Misconfigured, ["no logs", "url"]),
        ([QuotaExhausted("enough", until=MIDNIGHT), Misconfigured("url")], Misconfigured, ["enough", "url"]),
        ([Unsupported("no logs"), Unsupported("nor here")], Unsupported, ["a: no logs", "b: nor here"]),
    ],
)  # fmt: skip
def test_when_nobody_answers_the_most_useful_error_is_raised(processes, errors, kind, texts):
    """The same in the process that was refused and in one that only sees the state; with each provider's reason."""
    failover = processes()
    question, asked = answering(dict(zip("ab", errors, strict=True)))
    with pytest.raises(IngestionError) as caught:
        failover.ask(question, about="logs")
    assert asked == ["a", "b"]
    other = processes()
    for error in (caught.value, other.exhausted("logs")):
        assert type(error) is kind
        assert str(error).startswith("no provider of base answers for logs: a: ")
        assert all(text in str(error) for text in texts)
        assert "\n" not in str(error)
        if kind is QuotaExhausted:
            assert error.until == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("errors", "seconds"),
    [
        ([RateLimited("x", retry_after=60), RateLimited("x", retry_after=40)], 40),
        ([RateLimited("x", retry_after=60), Transient("x", retry_after=2)], 2),
        ([RateLimited("x", retry_after=60), Transient("x")], None),
        ([RateLimited("x", retry_after=60), Unauthorized("x")], 60),
    ],
)  # fmt: skip
def test_the_error_says_when_it_is_worth_asking_again(processes, errors, seconds):
    """The shortest wait; None where one of them may be asked at any time."""
    failover = processes()
    with pytest.raises(Transient) as caught:
        failover.ask(answering(dict(zip("ab", errors, strict=True)))[0], about="logs")
    assert caught.value.retry_after == seconds


def test_without_providers_the_answer_is_that_nobody_serves_it(database_url, clock):
    """It names the scope."""
    with connection_pool(database_url) as pool:
        failover = Failover(Store(pool), "base", (), clock=clock)
        with pytest.raises(Unsupported, match="no provider of base answers for logs: there is none"):
            failover.ask(answering({})[0], about="logs")


def test_a_run_that_starts_in_a_bad_minute_asks_once_all_the_same(processes, clock):
    """As it would without a breaker; not again before an answer has come."""
    fail(processes(A), A, Transient("down"), times=3)
    failover = processes(A)
    question, asked = answering({"a": Transient("still down")})
    for _ in range(3):
        with pytest.raises(Transient, match="still down"):
            failover.ask(question, about="logs")
    assert asked == ["a"]
    assert state(failover, A).until - clock() == timedelta(seconds=120)
    clock.pass_(120)
    question, asked = answering({"a": 1})
    assert failover.ask(question, about="logs") == 1
    assert state(failover, A).state == "closed"
    fail(failover, A, SchemaDrift("odd"))
    assert able(failover) == ["a"]


def test_of_several_that_are_left_alone_the_one_that_is_back_first_is_tried(processes):
    """And never one that has no quota or no rights."""
    first = processes(A, B, C)
    fail(first, A, SchemaDrift("odd"))
    fail(first, B, Transient("down"), times=3)
    fail(first, C, Unauthorized("wrong key"))
    failover = processes(A, B, C)
    assert able(failover) == ["b"]
    assert able(failover) == ["a"]
    assert able(failover) == []


@pytest.mark.parametrize("error", [Unauthorized("wrong key"), QuotaExhausted("enough", until=MIDNIGHT)])
def test_without_quota_or_rights_nobody_is_tried(processes, error):
    """The error is the one that was remembered."""
    fail(processes(A), A, error)
    with pytest.raises(type(error), match=str(error)):
        processes(A).ask(answering({"a": 1})[0], about="logs")


def test_a_last_resort_that_answers_closes_its_breaker(processes):
    """For everybody."""
    fail(processes(A), A, RateLimited("slow", retry_after=60))
    assert processes(A).ask(answering({"a": 1})[0], about="logs") == 1
    assert able(processes(A)) == ["a"]


# Several processes


def test_what_one_process_learns_the_others_know_within_a_second(processes, clock):
    """Failures, parks, what is not supported; in this scope only."""
    one, two, elsewhere = processes(), processes(), processes(scope="ethereum")
    assert able(two) == able(elsewhere) == ["a", "b"]
    fail(one, A, QuotaExhausted("enough", until=MIDNIGHT))
    fail(one, B, Unsupported("no logs"))
    clock.pass_(1)
    assert able(two) == []
    assert able(two, "transactions") == ["b"]
    assert able(elsewhere) == ["a", "b"]


def test_failures_of_all_processes_are_counted_together(processes, clock):
    """And an answer to any of them begins the count anew."""
    one, two = processes(), processes()
    fail(one, A, Transient("x"))
    fail(two, A, Transient("x"))
    clock.pass_(1)
    one.succeeded(A)
    fail(two, A, Transient("x"), times=2)
    assert state(one).state == "closed"
    fail(one, A, Transient("x"))
    assert state(two).state == "open"


def test_exactly_one_of_many_threads_and_processes_makes_the_trial(processes, clock):
    """Twelve threads in three processes see at once that its time is over."""
    failovers = [processes() for _ in range(3)]
    fail(failovers[0], A, Transient("x"), times=3)
    clock.pass_(60)
    for _ in range(5):
        start, asked = threading.Barrier(12), Counter()

        def work(failover, start=start, asked=asked):
            start.wait(10)
            asked.update(able(failover))

        threads = [threading.Thread(target=work, args=[failovers[n % 3]]) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert asked == {"a": 1, "b": 12}
        clock.pass_(120)  # it never told the outcome: the lease ends


def test_a_process_that_died_with_the_trial_keeps_it_no_longer_than_its_lease(processes, clock):
    """Two minutes; then another one tries."""
    dead, other = processes(), processes()
    fail(dead, A, Transient("x"), times=3)
    clock.pass_(60)
    assert next(dead.able("logs")) is A
    assert able(other) == ["b"]
    clock.pass_(119)
    assert able(other) == ["b"]
    clock.pass_(1)
    assert able(other) == ["a", "b"]
    other.succeeded(A)
    assert able(processes()) == ["a", "b"]


def test_while_another_one_tries_the_error_says_to_look_again_soon(processes, clock):
    """It is Transient, whatever the failure was."""
    one, two = processes(A), processes(A)
    fail(one, A, SchemaDrift("odd"))
    clock.pass_(900)
    assert able(one) == ["a"]
    with pytest.raises(Transient, match="another worker is trying it; odd") as caught:
        two.ask(answering({"a": 1})[0], about="logs")
    assert caught.value.retry_after == 10


def test_many_threads_that_fail_at_once_open_it_for_a_minute(processes, clock):
    """Not for longer: their questions were asked before it opened."""
    failovers = [processes() for _ in range(2)]
    threads = [threading.Thread(target=fail, args=[failovers[n % 2], A, Transient("x")]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert state(failovers[0]).until == clock() + timedelta(seconds=60)
    assert state(failovers[0]).failures == 3


def test_a_clock_that_is_set_back_does_not_stop_us_from_looking(processes, clock):
    """What was read in the future is not fresh."""
    one, two = processes(), processes()
    assert able(two) == ["a", "b"]
    clock.pass_(-3600)
    fail(one, A, Unauthorized("x"))
    assert able(two) == ["b"]
