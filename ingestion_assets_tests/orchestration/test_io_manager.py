"""What a run reports, retries and refuses to retry, told with a stream of three-line batches."""

from decimal import Decimal

import dagster as dg
import pytest

from ingestion_assets.engine.errors import Permanent, SchemaDrift, Transient
from ingestion_assets.engine.stream import Rejected
from ingestion_assets_tests.orchestration import tiny
from ingestion_assets_tests.orchestration.tiny import (
    cannot_prove,
    covers,
    definitions,
    failure,
    materialised,
    partition,
    run,
    stored,
)


def attempts(result) -> int:
    """How often the step was begun."""
    return 1 + len([event for event in result.all_events if event.is_step_up_for_retry])


def check(result) -> dg.AssetCheckEvaluation:
    """The one evaluation of the run."""
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def missing(done, lo, hi):
    """The days lo..hi that are not covered yet, a batch each."""
    for day in range(lo, hi + 1):
        if not any(first <= day <= last for first, last in done.covered):
            yield covers(day, day)


def test_all_whole_means_one_event_for_each_partition(database_url, instance, connection):
    """Days of the batch that nobody asked for are stored and not reported."""
    defs = definitions(database_url, lambda _done: [covers(0, 5)])
    result = run(defs, instance, 1, 4)
    assert result.success
    assert check(result).passed
    assert stored(connection) == [partition(day) for day in range(6)]
    assert {
        key: said["dagster/partition_row_count"] for key, said in materialised(instance, result).items()
    } == {partition(day): 1 for day in range(1, 5)}


def test_what_cannot_be_proved_fails_the_run_once_and_spares_the_other_partitions(
    database_url, instance, connection
):
    """The failure names the stream and the reason; no attempt is wasted; all that was shown is stored."""
    defs = definitions(database_url, lambda _done: [covers(0, 1), cannot_prove(2), covers(3, 4)])
    result = run(defs, instance, 0, 4)
    assert not result.success
    assert attempts(result) == 1
    assert "1 ranges cannot be proved whole: tiny/days/a: its pages moved" in failure(result)
    assert {
        key: said["dagster/partition_row_count"] for key, said in materialised(instance, result).items()
    } == {partition(day): 1 for day in (0, 1, 3, 4)}
    assert stored(connection) == [partition(day) for day in range(5)]


def test_a_drift_fails_the_run_once_and_keeps_what_came_before_it(database_url, instance, connection):
    """The failure names the stream and what is gone; nothing is reported whole."""

    def drifting(_done):
        yield covers(0, 1)
        raise SchemaDrift("value is gone")

    result = run(definitions(database_url, drifting), instance, 0, 4)
    assert not result.success
    assert attempts(result) == 1
    assert "SchemaDrift in 1 of 1 streams: tiny/days/a: value is gone" in failure(result)
    assert stored(connection) == [partition(0), partition(1)]
    assert materialised(instance, result) == {}


def test_a_source_that_wants_a_long_rest_gets_it(database_url, instance):
    """A run does not sit out an hour in a slot that others could use."""

    def tired(_done):
        raise Transient("come back later", retry_after=3600)
        yield

    result = run(definitions(database_url, tired), instance, 0, 0)
    assert attempts(result) == 1
    assert "the source asks to be left alone for 3600 s" in failure(result)


def test_a_gap_fails_the_check_as_an_error(database_url, instance):
    """A stream that ends without covering what was wanted is found out, whatever it thought of itself."""
    result = run(definitions(database_url, lambda _done: [covers(0, 1), covers(4, 4)]), instance, 0, 4)
    assert result.success
    assert (check(result).passed, check(result).severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check(result).metadata["first"].value == ["tiny/days/a: 2–3"]


def test_a_dead_letter_fails_the_check_as_a_warning(database_url, instance):
    """In its own partition only."""
    bad = Rejected(b"{}", "no hash", position=2)
    defs = definitions(database_url, lambda _done: [covers(0, 4, rejected=(bad,))])
    result = run(defs, instance, 2, 2)
    assert materialised(instance, result)[partition(2)]["rejected"] == 1
    assert (check(result).passed, check(result).severity) == (False, dg.AssetCheckSeverity.WARN)
    elsewhere = definitions(database_url, lambda _done: [])
    assert check(run(elsewhere, instance, 3, 4)).passed


def test_a_permanent_error_is_not_retried(database_url, instance):
    """A person must act; what the error says is what the failure says."""

    def refused(_done):
        raise Permanent("the key is wrong")
        yield

    result = run(definitions(database_url, refused), instance, 0, 4)
    assert (result.success, attempts(result)) == (False, 1)
    assert failure(result) == "Permanent: the key is wrong"
    assert materialised(instance, result) == {}


def test_a_transient_error_is_retried_and_resumes_after_the_last_commit(database_url, instance, connection):
    """Each attempt is told what is done; nothing is read twice."""
    seen = []

    def plan(done):
        seen.append(done.covered)
        for number, batch in enumerate(missing(done, 0, 4)):
            if number == 2 and len(seen) < 3:
                raise Transient("the line broke")
            yield batch

    result = run(definitions(database_url, plan), instance, 0, 4)
    assert result.success
    assert attempts(result) == len(seen) == 3
    assert seen == [(), ((0, 1),), ((0, 3),)]
    assert stored(connection) == [partition(day) for day in range(5)]
    assert len(materialised(instance, result)) == 5


def test_a_transient_error_that_stays_fails_the_run_after_all_attempts(database_url, instance, connection):
    """What was committed before it stays, and the error's own text is there to read."""

    def plan(done):
        yield from missing(done, 0, 0)
        raise Transient("still down")

    result = run(definitions(database_url, plan), instance, 0, 1)
    assert not result.success
    assert attempts(result) == 1 + tiny.AT_ONCE.max_retries
    assert "still down" in failure(result)
    assert stored(connection) == [partition(0)]


def test_the_source_says_when_to_come_back(database_url, instance):
    """Its time, not the policy's."""
    calls = []

    def plan(done):
        calls.append(done)
        if len(calls) == 1:
            raise Transient("slow down", retry_after=0.25)
        yield covers(0, 0)

    defs = definitions(database_url, plan, retry=dg.RetryPolicy(max_retries=3, delay=99))
    result = run(defs, instance, 0, 0)
    assert result.success
    (event,) = [event for event in result.all_events if event.is_step_up_for_retry]
    assert event.step_retry_data.seconds_to_wait == 0.25


def test_a_bug_is_not_taken_for_something_else(database_url, instance):
    """An error that nobody expected ends the run with its own name."""

    def plan(_done):
        yield covers(0, 0)
        raise ZeroDivisionError("ours")

    result = run(definitions(database_url, plan, retry=dg.RetryPolicy(max_retries=0)), instance, 0, 0)
    assert not result.success
    assert "ZeroDivisionError: ours" in failure(result)


def test_every_commit_is_told(database_url, instance):
    """To whoever asked for it, such as a progress bar."""
    told = []
    defs = definitions(
        database_url,
        lambda _done: [covers(0, 1), covers(2, 2)],
        on_commit=lambda stream, batch, tally: told.append((stream.keys[0], batch.mark.hi, tally.inserted)),
    )
    assert run(defs, instance, 0, 2).success
    assert told == [("tiny/days/a", 1, 2), ("tiny/days/a", 2, 1)]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3)])
def test_a_derived_asset_gets_the_rows_of_its_partitions_with_every_digit(
    database_url, instance, first, last
):
    """A DataFrame of Decimals: 10**30 + n would lose n as a float."""
    got = []

    @dg.asset(
        partitions_def=tiny.partitions.chain_days(["a", "b"], tiny.FIRST),
        ins={"days": dg.AssetIn(tiny.KEY)},
    )
    def derived(days) -> None:
        got.append(days)

    defs = definitions(database_url, lambda _done: [covers(0, 5)], derived)
    result = run(defs, instance, first, last, tiny.KEY, derived.key)
    assert result.success
    (frame,) = got
    assert sorted(frame["n"]) == [Decimal(10**30 + day) for day in range(first, last + 1)]
    assert {type(value) for value in frame["n"]} == {Decimal}
    assert set(frame["chain"]) == {"a"}
    assert list(frame.columns) == ["chain", "at", "n"]


def test_an_unpartitioned_asset_gets_all_rows(database_url, instance):
    """Both chains."""
    got = []

    @dg.asset(ins={"days": dg.AssetIn(tiny.KEY)})
    def derived(days) -> None:
        got.append(days)

    defs = definitions(database_url, lambda _done: [covers(0, 5)], derived)
    assert run(defs, instance, 0, 5).success
    job = defs.get_repository_def().get_implicit_job_def_for_assets([derived.key])
    assert job.execute_in_process(
        instance=instance, asset_selection=[derived.key], run_config=tiny.QUIET
    ).success
    assert len(got[0]) == 6
