"""The order of pages is total, and every filter of it is an index scan that ends when the page is full."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine import database
from ingestion_assets.sources.transfers.tables import ORDER, same, transfers
from ingestion_assets_tests.sources.transfers.tiny import (
    CHAIN,
    Transfer,
    address,
    from_lists,
    from_logs,
    normalise,
)

c = transfers.c
PAGE = 3


def page(chain, after, *, backward=False):
    """The query of the module's docstring for one chain: what follows a row in the order, or comes before it."""
    query = sa.select(transfers).where(c.chain == chain)
    if after is not None:
        time, of, place, identity = after
        behind, at = (
            (c.block_time < time, c.block_time <= time)
            if backward
            else (c.block_time > time, c.block_time >= time)
        )
        row, limit = (
            sa.tuple_(c.block_time, c.place, c.id),
            sa.tuple_(*map(sa.literal, (time, place, identity))),
        )
        if chain == of:
            query = query.where(at, row < limit if backward else row > limit)
        else:
            query = query.where(behind if (chain < of) != backward else at)
    keys = [c.block_time, c.place, c.id]
    return query.order_by(*(key.desc() if backward else key for key in keys)).limit(PAGE)  # fmt: skip


def walk(engine, chains, *, backward=False):
    """All rows of these chains, page by page."""
    found, after = [], None
    with engine.connect() as connection:
        while True:
            parts = sa.union_all(
                *(page(chain, after, backward=backward).subquery().select() for chain in chains)
            ).subquery()
            keys = [parts.c[name] for name in ORDER]
            query = sa.select(parts).order_by(*(key.desc() if backward else key for key in keys)).limit(PAGE)
            rows = connection.execute(query).all()
            if not rows:
                return found
            found += [tuple(row._mapping[name] for name in ORDER) for row in rows]
            after = found[-1]  # fmt: skip


ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans(), st.integers(14, 17), st.integers(0, 3)), max_size=16)  # fmt: skip


@settings(max_examples=8)
@given(rows=ROWS)
def test_pages_over_all_chains_give_each_row_once_in_one_order(store, connection, rows):
    """With equal times on several chains, with log indexes and without; forward and backward."""
    connection.execute("DELETE FROM raw.evm_erc20_transfers")
    connection.execute("DELETE FROM raw.evm_token_transfers")
    for chain, is_log, block, tx in rows:
        (from_logs if is_log else from_lists)(connection, Transfer(block, tx=tx), chain=chain)
    for chain in "abc":
        normalise(store, chain=chain)
    engine = database.engine(store.pool.conninfo)
    with engine.connect() as reader:
        columns = [c[name] for name in ORDER]
        everything = [tuple(row) for row in reader.execute(sa.select(*columns).order_by(*columns))]
    assert len(set(everything)) == len(everything)
    assert walk(engine, "abc") == everything
    assert walk(engine, "abc", backward=True) == everything[::-1]


@pytest.fixture
def filled(store, connection):
    """Three months of one chain, enough for the planner to think before it reads all of it."""
    connection.execute(
        """
        INSERT INTO raw.evm_erc20_transfers (chain, block_number, block_time, tx_hash, from_address, to_address, token_address, value,
                                             ordinal, log_index, block_hash, provider, payload, id)
        SELECT 'base', n / 4, timestamptz '2024-01-01 00:00+00' + n * interval '12 minutes', 't' || n, 'a' || n % 97, 'a' || n % 89,
               'k' || n % 11, n, 0, n % 4, '', 'rpc', '{}', md5(n::text)::uuid
        FROM generate_series(1, 9000) AS n"""
    )
    normalise(store)
    connection.execute("ANALYZE core.transfers")
    # So few rows are sorted as fast as they are looked up: what is asked here is whether the index would do without.
    connection.execute("SET enable_sort = off")
    connection.execute("SET enable_bitmapscan = off")


def nodes(plan):
    """Every node of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


FROM, TO = (sa.literal_column(f"timestamptz '2024-{month:02}-10 00:00+00'") for month in (2, 3))


@pytest.mark.parametrize(
    ("index", "where"),
    [
        ("time", ()),
        ("time", (c.block_time >= FROM, c.block_time < TO)),
        ("time", (c.block_time >= FROM, c.block_time < TO, c.block_number.between(1200, 1700))),
        ("sender", (same(c.from_address, "a7"),)),
        ("receiver", (same(c.to_address, "a7"),)),
        ("token", (same(c.token_address, "k7"),)),
        ("token", (same(c.token_address, "k7"), c.block_time >= FROM)),
        ("time", (sa.tuple_(c.block_time, c.place, c.id) < sa.tuple_(TO, sa.literal_column("9"), sa.literal_column("'00000000-0000-0000-0000-000000000000'::uuid")), c.block_time <= TO)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turn", [sa.asc, sa.desc])
@pytest.mark.usefixtures("filled")
def test_a_page_reads_an_index_and_no_more_rows_than_it_shows(connection, index, where, turn):
    """Nothing is sorted, and the rows of one month are enough."""
    keys = (c.block_time, c.place, c.id)
    query = sa.select(transfers).where(c.chain == CHAIN, *where).order_by(*map(turn, keys)).limit(5)
    text = str(
        query.compile(dialect=sa.dialects.postgresql.dialect(), compile_kwargs={"literal_binds": True})
    )
    (((plan,),),) = [connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}").fetchone()]
    found = list(nodes(plan["Plan"]))
    assert {node["Node Type"] for node in found} <= {"Limit", "Append", "Index Scan", "Result"}
    scans = [node for node in found if node["Node Type"] == "Index Scan"]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) == 5
    order = {
        "time": "block_time",
        "sender": "hashtextextended",
        "receiver": "hashtextextended1",
        "token": "hashtextextended",
    }
    assert all("block_time" in node["Index Name"] or order[index] in node["Index Name"] for node in scans)


@pytest.mark.usefixtures("filled")
def test_a_hash_is_looked_up(connection):
    """In every month's index."""
    query = sa.select(transfers).where(same(c.tx_hash, "t77"))
    text = str(
        query.compile(dialect=sa.dialects.postgresql.dialect(), compile_kwargs={"literal_binds": True})
    )
    (((plan,),),) = [connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}").fetchone()]
    scans = [node for node in nodes(plan["Plan"]) if "Scan" in node["Node Type"]]
    assert len(scans) == 3
    assert all("Index" in node["Node Type"] and "Index Cond" in node for node in scans)


def test_a_hash_that_two_texts_share_does_no_harm():
    """The text itself is compared, too."""
    text = str(same(c.token_address, address(1)).compile(dialect=sa.dialects.postgresql.dialect()))
    assert "hashtextextended(core.transfers.token_address, 0) = hashtextextended(" in text
    assert "core.transfers.token_address = " in text


def test_the_time_of_a_row_is_that_of_its_block(store, connection):
    """In UTC."""
    from_logs(connection, Transfer(16))
    normalise(store)
    assert connection.execute("SELECT block_time FROM core.transfers").fetchone() == (
        datetime(2024, 2, 1, tzinfo=UTC),
    )
