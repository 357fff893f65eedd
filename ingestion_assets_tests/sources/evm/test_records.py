"""Pages of rows, whoever made them: cutting, joining, comparing, and ids that say nothing of the provider."""

from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.records import (
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
    Page,
    Row,
)

KEY = b"\t".join([b"0x" + b"0f" * 32, b"0x" + b"a1" * 20, b"0x" + b"b2" * 20, b"0x" + b"c3" * 20])


def made(block, value=5, provider="node"):
    """A token transfer as any provider writes it down."""
    key = KEY + b"\t%d" % value
    attributes = f"\\N\tUSD\t6\t{provider}\t".encode()
    when = f"base\t{block}\t2024-01-01T00:00:00+00:00\t".encode()
    return Row(block, TOKEN_TRANSFERS.identity(key, attributes), when, key, attributes, b"{}")


def letter(block):
    """A record that could not be read, of a block that is known or not."""
    return Rejected(b"{}", "why", block)


ENTRIES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 2), st.sampled_from(["row", "bad", "lost"])), max_size=30
)


def page_of(entries):
    """A page of these records, oldest first."""
    good, bad = [], []
    for block, value, what in sorted(entries, key=lambda entry: entry[0]):
        if what == "row":
            good.append(made(block, value))
        else:
            bad.append((len(good), letter(block if what == "bad" else None)))
    return Page(good, bad, is_last=True)


def test_a_row_is_its_parts_and_its_ordinal_and_id():
    """The byte layout that providers write."""
    rows = Page([made(7), made(7)], [], is_last=True).rows(TOKEN_TRANSFERS)
    first, second = rows.lines.decode().splitlines()
    names = [column.name for column in TOKEN_TRANSFERS.table.columns]
    one, other = (dict(zip(names, line.split("\t"), strict=True)) for line in (first, second))
    assert (one["block_number"], one["value"], one["token_symbol"], one["provider"]) == (
        "7",
        "5",
        "USD",
        "node",
    )
    assert (one["ordinal"], other["ordinal"]) == ("0", "1")
    assert one["id"] != other["id"]


@given(entries=ENTRIES)
def test_ids_are_those_of_the_rows(entries):
    """In their order, whatever the kind; and no provider is in them."""
    page = page_of(entries)
    for kind in (TOKEN_TRANSFERS, TRANSACTIONS, INTERNAL_TRANSACTIONS):
        lines = page.rows(kind).lines.decode().splitlines()
        assert page.ids(kind) == [line.rpartition("\t")[2] for line in lines]
    others = Page(
        [made(row.block, int(row.key.rpartition(b"\t")[2]), "other") for row in page.good], [], is_last=True
    )
    assert others.ids(TOKEN_TRANSFERS) == page.ids(TOKEN_TRANSFERS)


def test_a_transaction_that_is_listed_twice_has_one_id():
    """Where there are no twins, an ordinal would invent one."""
    assert len(set(Page([made(1), made(1)], [], is_last=True).ids(TRANSACTIONS))) == 1


@given(entries=ENTRIES, block=st.integers(0, 11))
def test_before_and_since_are_the_whole(entries, block):
    """Every row and every dead letter is in exactly one of them."""
    page = page_of(entries)
    before, since = page.before(block), page.since(block)
    assert [*before.good, *since.good] == list(page.good)
    assert all(row.block < block for row in before.good)
    assert all(row.block >= block for row in since.good)
    assert len(before.bad) + len(since.bad) == len(page.bad)
    assert all(one.position is None or one.position < block for one in before.rejected())
    assert all(0 <= at <= len(since.good) for at, _ in since.bad)


@given(entries=ENTRIES)
def test_twice_reversed_is_the_same(entries):
    """And the dead letters keep their neighbours."""
    page = page_of(entries)
    assert page.reversed().reversed() == page
    assert [row.block for row in page.reversed().good] == [row.block for row in page.good][::-1]


@given(parts=st.lists(ENTRIES, min_size=1, max_size=4))
def test_joined_pages_hold_everything(parts):
    """In their order."""
    pages = [page_of(entries) for entries in parts]
    joined = Page.join(pages)
    assert list(joined.good) == [row for page in pages for row in page.good]
    assert joined.size == sum(page.size for page in pages)


def test_doubt_and_what_was_left_out_are_not_forgotten():
    """They go with every part that may lack something."""
    page = Page([made(1), made(2)], [], is_last=False, left_out=3, reach=9, doubt="not indexed")
    assert (page.size, page.last_block) == (5, 9)
    assert {
        part.doubt
        for part in (page.before(2), page.since(2), page.reversed(), Page.join([Page.empty(), page]))
    } == {"not indexed"}
    assert Page.empty().last_block == -1
    assert page.shared(page).doubt == "not indexed"
