"""Movements and snapshots as streams: what follows from the lines, however they came and whoever died on the way."""

import random
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ingestion_assets.engine import dead_letters
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Transient
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.statements.derived_assets import missing
from ingestion_assets.sources.statements.movement_stream import AccountMovements, seconds_of, time_of
from ingestion_assets.sources.statements.proof import proofs
from ingestion_assets.sources.statements.snapshot_stream import AccountSnapshots, day_of
from ingestion_assets_tests.engine.things import Countdown, Death, SteppingPool, die
from ingestion_assets_tests.sources.statements.tiny import DERIVED, Dropped, everything, fill, history, stored

FILES = Path(__file__).parent / "files"
LINES = (FILES / "tastytrade_positions.csv").read_text().splitlines()[1:]


def reset(connection) -> None:
    """As if nobody had ever read anything; the files stay known."""
    tables = ", ".join(DERIVED.values())
    connection.execute(
        f"TRUNCATE raw.statement_lines, ops.coverage, ops.dead_letters, ops.statement_chunks, ops.statement_counters,"
        f" ops.statement_changes, ops.statement_followers, ops.statement_files, ops.statement_inbox, {tables}"
    )


def test_any_split_into_files_and_runs_any_order_and_any_chunks_leave_the_same_tables(inbox, connection):
    """Lines that overlap, lots that were open, pairs that a file or a chunk would cut."""
    inbox.put("a/all.csv", history(*LINES))
    inbox.imported()
    inbox.derived(1000)
    whole = everything(connection)
    assert len(whole["movements"]) > len(LINES)
    assert [letter[3] for letter in whole["letters"]] == ["nobody knows what Money Movement / Wonder is"]
    chance = random.Random(5)
    for _ in range(4):
        reset(connection)
        cuts = [*sorted(chance.sample(range(1, len(LINES)), 3)), len(LINES)]
        parts = [
            LINES[max(0, lo - chance.randint(0, 3)) : hi] for lo, hi in zip([0, *cuts], cuts, strict=False)
        ]
        chance.shuffle(parts)
        for path in (inbox.folder / "a").iterdir():
            path.unlink()
        for number, part in enumerate(parts):
            inbox.put(f"a/{number}.csv", history(*part))
            inbox.imported(chance.randint(1, 5))
            if chance.random() < 0.7:
                inbox.derived(chance.randint(1, 9))
        inbox.derived(chance.randint(1, 9))
        again = everything(connection)
        for name in DERIVED:
            assert again[name] == whole[name], name
        assert [letter[3:] for letter in again["letters"]] == [letter[3:] for letter in whole["letters"]]


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_and_run_again_the_tables_are_those_of_one_run(inbox, database_url, connection, seed):
    """At any statement and before or after any commit, in either phase."""
    inbox.put("a/all.csv", history(*LINES))
    inbox.imported()
    inbox.derived()
    whole = everything(connection)
    reset(connection)
    inbox.imported()
    chance, deaths = random.Random(seed), 0
    while True:
        countdown = Countdown(chance.randint(5, 60), die)
        with connection_pool(database_url) as pool:
            mortal = Dropped(inbox.folder, Store(SteppingPool(pool, countdown)), inbox.config, inbox.now)
            try:
                mortal.derived(2, ["a"])
            except Death:
                deaths += 1
                if deaths < 40:
                    continue
                inbox.derived()
        break
    assert deaths > 3
    assert everything(connection) == whole


def test_what_is_derived_is_not_derived_again(inbox):
    """Until something changes, and then no more than that."""
    inbox.put("a/all.csv", history(*LINES))
    inbox.imported()
    inbox.derived()
    first, second = inbox.derived()
    assert (first.tally.batches, second.tally.batches) == (0, 0)
    inbox.put("a/again.csv", history(*LINES[5:9]))
    inbox.imported()
    first, second = inbox.derived()
    assert (first.tally.batches, second.tally.batches) == (0, 0)  # it held nothing new


def test_an_old_file_makes_its_days_wanted_again_and_the_snapshots_from_them_on(inbox, connection):
    """Not those before."""
    inbox.put("a/new.csv", history(fill(9, day=12), fill(9, day=20)))
    inbox.put("a/older.csv", history(fill(9, day=3)))
    inbox.imported()
    inbox.derived()
    inbox.put("a/old.csv", history(fill(9, day=11, order=7)))
    inbox.imported()
    (movements,) = [missing(inbox.store, AccountMovements("a", inbox.store))]
    days = [(time_of(lo + 2).date(), time_of(hi - 2).date()) for lo, hi in movements]
    assert days == [(date(2025, 3, 11), date(2025, 3, 11))]
    inbox.derived()[0]
    snapshots = connection.execute("SELECT day, cash FROM core.broker_snapshots ORDER BY day").fetchall()
    assert snapshots == [
        (date(2025, 3, 3), Decimal("-100.08")),
        (date(2025, 3, 11), Decimal("-200.16")),
        (date(2025, 3, 12), Decimal("-300.24")),
        (date(2025, 3, 20), Decimal("-400.32")),
    ]


def test_snapshots_are_made_again_from_the_day_of_the_change(inbox):
    """What came before stays covered."""
    inbox.put("a/new.csv", history(*(fill(9, day=day) for day in (3, 5, 7, 9))))
    inbox.imported()
    inbox.derived()
    inbox.put("a/old.csv", history(fill(10, day=7, order=3)))
    inbox.imported()
    drain([AccountMovements("a", inbox.store)], inbox.store)
    ((lo, hi),) = missing(inbox.store, AccountSnapshots("a", inbox.store))
    assert (day_of(lo), day_of(hi)) == (date(2025, 3, 7), date(2025, 3, 9))


def test_a_reading_of_lines_that_have_changed_meanwhile_is_not_committed(inbox, connection):
    """Whoever has read them reads again."""
    inbox.put("a/one.csv", history(fill(9)))
    inbox.imported()
    stream = AccountMovements("a", inbox.store)
    writer = inbox.store.open(stream)
    (batch,) = stream.read(writer.done)
    inbox.put("a/two.csv", history(fill(10)))
    inbox.imported()
    with pytest.raises(Transient, match="not true any more"):
        writer.commit(batch)
    assert connection.execute("SELECT count(*) FROM core.movements").fetchone() == (0,)
    inbox.derived()
    assert connection.execute("SELECT count(*) FROM core.movements").fetchone() == (2,)


def test_lines_that_somebody_deletes_take_their_movements_with_them(inbox, connection):
    """Whatever program it was: the table itself notes the change."""
    inbox.put("a/one.csv", history(fill(9, day=3), fill(9, day=5)))
    inbox.imported()
    inbox.derived()
    connection.execute("DELETE FROM raw.statement_lines WHERE at < '2025-03-04'")
    inbox.derived()
    assert connection.execute("SELECT count(*) FROM core.movements").fetchone() == (1,)
    assert connection.execute("SELECT day, cash FROM core.broker_snapshots").fetchall() == [
        (date(2025, 3, 5), Decimal("-100.08"))
    ]


def test_an_unknown_line_is_a_dead_letter_and_can_be_replayed(inbox):
    """With the line itself, at its second."""
    odd = fill(9).replace("Trade,Buy to Open", "Trade,Wonder")
    inbox.put("a/one.csv", history(fill(8), odd))
    inbox.imported()
    inbox.derived()
    (letter,) = dead_letters.open_letters(inbox.store)
    assert letter.raw.decode() == odd
    assert letter.stream == "statements/movements/a"
    assert "nobody knows what Trade / Wonder is" in letter.reason
    assert dead_letters.replay(inbox.store, "statements/movements/%")
    assert inbox.derived()[0].tally.batches == 1
    assert len(dead_letters.open_letters(inbox.store)) == 1


def test_only_what_is_asked_for_is_derived(inbox, connection):
    """As the check of a partition asks."""
    inbox.put("a/one.csv", history(fill(9, day=3), fill(9, day=12)))
    inbox.imported()
    week = (seconds_of(date(2025, 3, 10), date(2025, 3, 16)),)
    drain([AccountMovements("a", inbox.store, week)], inbox.store)
    assert connection.execute("SELECT at::date FROM core.movements").fetchall() == [(date(2025, 3, 12),)]


def test_both_snapshots_are_made_in_one_pass(inbox):
    """And cover both assets."""
    inbox.put("a/one.csv", history(fill(9)))
    inbox.imported()
    inbox.derived()
    covered = inbox.store.covered(["statements/broker_snapshots/a", "statements/ticker_snapshots/a"])
    assert len(covered) == 2


def test_a_file_proves_itself_and_a_mismatch_names_section_and_currency(inbox, connection):
    """Every number is told, those that agree too."""
    for name in ("ibkr_activity_all.csv", "kraken_trades.csv"):
        inbox.put(f"{name[:4]}/{name}", (FILES / name).read_bytes())
    inbox.imported(1000)
    inbox.derived()
    found = {proof.account: proof for proof in proofs(inbox.store, inbox.inbox.registry.files())}
    sections = {(one.section, one.currency): one for one in found["ibkr"].sums}
    for section in (
        ("Cash Report", "GBP"), ("Cash Report, its components", "USD"), ("Dividends", "USD"), ("Withholding Tax", "USD"),
        ("Trades, Stocks", "USD"), ("Change in NAV", "USD"), ("Open Positions", "XYZ"),
    ):  # fmt: skip
        assert sections[section].agrees, section
    assert not list(found["ibkr"].mismatches())
    assert list(found["krak"].mismatches()) == [
        "amount - fee, ZEUR: stated 658.764, computed 657.764"
    ]  # the unknown line
    connection.execute(
        "UPDATE core.movements SET amount = amount - 5, cash = cash - 5 WHERE kind = 'dividend'"
    )
    (wrong,) = [
        said
        for proof in proofs(inbox.store, inbox.inbox.registry.files("ibkr"))
        for said in proof.mismatches()
    ]
    assert wrong.startswith("Cash Report, USD: stated -743.2, computed -748.2")


def test_statements_that_follow_one_another_begin_where_the_last_one_ended(inbox):
    """Or the chain of values is told to be broken."""
    text = (FILES / "ibkr_activity_all.csv").read_text()
    for day, start, end in ((4, "2000", "2007.3"), (5, "2007.3", "2014.6"), (6, "2014.7", "2022")):
        statement = text.replace("March 4, 2025", f"March {day}, 2025").replace(
            "2025-03-04", f"2025-03-{day:02}"
        )
        statement = statement.replace("Starting Value,2000", f"Starting Value,{start}").replace(
            "Ending Value,2007.3", f"Ending Value,{end}"
        )
        inbox.put(f"a/{day}.csv", statement)
    inbox.imported(1000)
    inbox.derived()
    chain = [
        (one.stated, one.computed)
        for proof in proofs(inbox.store, inbox.inbox.registry.files())
        for one in proof.sums
        if one.section.endswith("from the statement before")
    ]
    assert sorted(chain) == [(Decimal("2007.3"), Decimal("2007.3")), (Decimal("2014.7"), Decimal("2014.6"))]


def test_a_file_keeps_which_lines_it_holds_though_another_one_stored_them(inbox, connection):
    """In the transaction of the chunk; equal lines are many."""
    inbox.put("a/one.csv", history(fill(9), fill(8), fill(8)))
    inbox.put("a/two.csv", history(fill(8), fill(8), fill(7)))
    inbox.imported(2)
    held = connection.execute(
        "SELECT file, sum(cardinality(ids)) FROM ops.statement_chunks GROUP BY 1"
    ).fetchall()
    assert [count for _, count in held] == [3, 3]
    assert len(stored(connection)) == 4
    ids = connection.execute(
        "SELECT count(*) FROM ops.statement_chunks AS k, unnest(k.ids) AS id JOIN raw.statement_lines AS l USING (id)"
        " WHERE l.at BETWEEN k.first_at AND k.last_at"
    ).fetchone()
    assert ids == (6,)
