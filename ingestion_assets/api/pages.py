"""The SQL of pages and counts of transfers. What it says is composed of constants; every value is bound.

A page is a merge of branches, each of which an index gives in order and is read no further than the page needs: one for each chain,
and of an address one where it sends and one where it receives. So a page costs its own rows, wherever it lies and however many
chains there are. The form of the conditions is that of `sources/transfers/tables`, which says what the indexes can do.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec
from psycopg import sql

from ingestion_assets.api.ordering import Position
from ingestion_assets.api.records import Stored
from ingestion_assets.sources.transfers.tables import ORDER, transfers

_TABLE = sql.Identifier(str(transfers.schema), transfers.name)
_OF_CHAIN = tuple(name for name in ORDER if name != "chain")
_AS_TEXT: dict[str, sql.Composable] = {
    "value": sql.SQL("value::text AS value"),
    "payload": sql.SQL("payload::text AS payload"),
}
Side = Literal["any", "sender", "receiver"]
Edge = Literal["none", "whole", "rest", "later"]  # of a branch's chain: which rows come after the position


class Wanted(msgspec.Struct, frozen=True, cache_hash=True):
    """Which transfers, of which chains, in which direction. Blocks and `since` are inclusive, `until` is not."""

    chains: tuple[str, ...]
    newest_first: bool = True
    lo: int | None = None
    hi: int | None = None
    address: str | None = None
    token: str | None = None
    hash: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    sender: str | None = None
    receiver: str | None = None
    is_either: bool = False  # sender or receiver, where both are named

    @property
    def is_whole(self) -> bool:
        """Whether it is all of some chains, or of a token on them: what daily totals add up to."""
        return not any(getattr(self, name) is not None for name in _GIVEN if name != "token")

    @property
    def is_of_account(self) -> bool:
        """Whether it wants what some account has sent or received."""
        return (self.address or self.sender or self.receiver) is not None

    @property
    def is_skewed(self) -> bool:
        """Whether it wants an account and a token: which of both leads to fewer rows depends on which they are."""
        return self.token is not None and self.is_of_account

    def fingerprint(self) -> tuple[object, ...]:
        """What tells it from others."""
        return (self.chains, self.newest_first, self.is_either, *(getattr(self, name) for name in _GIVEN))

    def values(self) -> dict[str, Any]:
        """What its SQL is bound to."""
        named: dict[str, Any] = {f"chain{n}": chain for n, chain in enumerate(self.chains)}
        for name in _GIVEN:
            if (value := getattr(self, name)) is not None:
                named[name] = value
        return named

    def shape(self) -> "_Shape":
        """Which conditions it has."""
        given = tuple(name for name in _GIVEN if getattr(self, name) is not None)
        return _Shape(len(self.chains), given, self.newest_first, self.is_either)


class _Shape(msgspec.Struct, frozen=True, cache_hash=True):
    chains: int
    given: tuple[str, ...]
    newest_first: bool
    is_either: bool


_GIVEN = ("lo", "hi", "address", "token", "hash", "since", "until", "sender", "receiver")


def page(wanted: Wanted, limit: int, after: Position | None = None) -> tuple[bytes, dict[str, Any]]:
    """The query of `limit` rows right after a position, or from the beginning, and its values."""
    values = wanted.values()
    if after is not None:
        values |= dict(zip(("at_time", "at_chain", "at_place", "at_id"), after, strict=True))
    return _page(wanted.shape(), _edges(wanted, after), Stored._fields, limit), values


def position_before(wanted: Wanted, rows: int) -> tuple[bytes, dict[str, Any]]:
    """The query of the position up to and with which so many rows lie, and its values. It reads all of these, from an index."""
    values = wanted.values() | {"limit": rows, "skipped": rows - 1}
    return _page(wanted.shape(), _edges(wanted, None), ORDER, None), values


def count(wanted: Wanted, most: int) -> tuple[bytes, dict[str, Any]]:
    """The query of how many there are, counted no further than one more than `most`, and its values."""
    return _count(wanted.shape()), wanted.values() | {"limit": most + 1}


def first_counted(wanted: Wanted, limit: int, most: int) -> tuple[bytes, dict[str, Any]]:
    """The query of the first `limit` rows, each with how many there are, counted no further than one more than `most`, and its values."""
    return _first_counted(wanted.shape(), limit, most), wanted.values()


def export(wanted: Wanted, chain: int, columns: sql.Composable) -> tuple[sql.Composed, dict[str, Any]]:
    """The query of all of them on one of the chains, by its number, in order, and its values: one scan, for all of it is read."""
    shape = wanted.shape()
    conditions = [_of_chain(chain), *_conditions(shape, chain)]
    if "address" in shape.given:
        sides = sql.SQL(" OR ").join([_same("from_address", "address"), _same("to_address", "address")])
        conditions.append(sql.SQL("({})").format(sides))
    query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}").format(
        columns, _TABLE, sql.SQL(" AND ").join(conditions), _order(_OF_CHAIN, newest_first=shape.newest_first)
    )
    return query, wanted.values()


def _of_chain(number: int) -> sql.Composable:
    return sql.SQL("chain = {}").format(sql.Placeholder(f"chain{number}"))


def _same(column: str, name: str) -> sql.Composable:
    """What `sources.transfers.tables.same` says: the index holds hashes of these texts."""
    return sql.SQL("(hashtextextended({0}, 0) = hashtextextended({1}, 0) AND {0} = {1})").format(
        sql.Identifier(column), sql.Placeholder(name)
    )


def _conditions(shape: _Shape, chain: int) -> list[sql.Composable]:
    """Those of the filter, but for the address. The key tells between which times blocks lie, and so in which months."""
    time_of = sql.SQL(
        "(SELECT block_time FROM {} WHERE {} AND block_number {} {} ORDER BY block_number {}, block_time {} LIMIT 1)"
    )
    up, down = sql.SQL("ASC"), sql.SQL("DESC")
    known: dict[str, sql.Composable] = {
        "lo": sql.SQL("block_number >= %(lo)s AND block_time >= {}").format(
            time_of.format(_TABLE, _of_chain(chain), sql.SQL(">="), sql.Placeholder("lo"), up, up)
        ),
        "hi": sql.SQL("block_number <= %(hi)s AND block_time <= {}").format(
            time_of.format(_TABLE, _of_chain(chain), sql.SQL("<="), sql.Placeholder("hi"), down, down)
        ),
        "token": _same("token_address", "token"),
        "hash": _same("tx_hash", "hash"),
        "since": sql.SQL("block_time >= %(since)s"),
        "until": sql.SQL("block_time < %(until)s"),
    }
    parties = [
        _same(column, name)
        for column, name in (("from_address", "sender"), ("to_address", "receiver"))
        if name in shape.given
    ]
    if parties and shape.is_either:
        parties = [sql.SQL("({})").format(sql.SQL(" OR ").join(parties))]
    return [*(known[name] for name in shape.given if name in known), *parties]


def _side(side: Side) -> list[sql.Composable]:
    match side:
        case "any":
            return []
        case "sender":
            return [_same("from_address", "address")]
        case "receiver":  # a transfer to oneself is the sender's
            return [_same("to_address", "address"), sql.SQL("from_address <> %(address)s")]


def _everywhere(chains: int) -> tuple[Edge, ...]:
    none: Edge = "none"
    return (none,) * chains


def _edges(wanted: Wanted, after: Position | None) -> tuple[Edge, ...]:
    """Of each chain, which of its rows come after the position. Names are compared by the codes of their letters."""
    if after is None:
        return _everywhere(len(wanted.chains))
    _, at, _, _ = after
    edges: list[Edge] = []
    for chain in wanted.chains:
        if chain == at:
            edges.append("rest")
        else:
            edges.append("whole" if (chain > at) != wanted.newest_first else "later")
    return tuple(edges)


def _edge(edge: Edge, *, newest_first: bool) -> list[sql.Composable]:
    """The rows that come after the position: `rest` of its moment on its own chain, the `whole` moment, or only `later` ones."""
    sign = sql.SQL("<" if newest_first else ">")
    from_there = sql.SQL("block_time {}= %(at_time)s").format(sign)
    match edge:
        case "none":
            return []
        case "rest":
            whole_row = sql.SQL("(block_time, place, id) {} (%(at_time)s, %(at_place)s, %(at_id)s)")
            return [from_there, whole_row.format(sign)]
        case "whole":
            return [from_there]
        case "later":
            return [sql.SQL("block_time {} %(at_time)s").format(sign)]


def _order(columns: tuple[str, ...], *, newest_first: bool) -> sql.Composable:
    # names of chains are compared by the codes of their letters, here as in `_edges`, whatever the database's language
    terms: dict[str, sql.Composable] = {"chain": sql.SQL('chain COLLATE "C"')}
    word = sql.SQL("{} DESC" if newest_first else "{}")
    return sql.SQL(", ").join(word.format(terms.get(name, sql.Identifier(name))) for name in columns)


def _branches(shape: _Shape, edges: tuple[Edge, ...]) -> Iterator[sql.Composable]:
    """The conditions of each branch."""
    sides: tuple[Side, ...] = ("sender", "receiver") if "address" in shape.given else ("any",)
    for chain, edge in enumerate(edges):
        for side in sides:
            yield sql.SQL(" AND ").join(
                [
                    _of_chain(chain),
                    *_side(side),
                    *_conditions(shape, chain),
                    *_edge(edge, newest_first=shape.newest_first),
                ]
            )


def _names(columns: tuple[str, ...]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _in_words(columns: tuple[str, ...]) -> sql.Composable:
    """The same, as answers tell them."""
    return sql.SQL(", ").join(_AS_TEXT.get(name, sql.Identifier(name)) for name in columns)


def _of_branches(
    shape: _Shape, edges: tuple[Edge, ...], columns: sql.Composable, most: sql.Composable
) -> sql.Composable:
    """The first rows of each branch, `most` of each."""
    inner = _order(_OF_CHAIN, newest_first=shape.newest_first)
    branch = sql.SQL("(SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {})")
    parts = [
        branch.format(columns, _TABLE, conditions, inner, most) for conditions in _branches(shape, edges)
    ]
    return sql.SQL(" UNION ALL ").join(parts)


@lru_cache(maxsize=4_096)
def _page(shape: _Shape, edges: tuple[Edge, ...], columns: tuple[str, ...], limit: int | None) -> bytes:
    """With the limit in its text, a plan that is kept for all values knows how little is read; None: all but one row is skipped."""
    most = sql.Placeholder("limit") if limit is None else sql.Literal(limit)
    query = sql.SQL("SELECT {} FROM ({}) AS branches ORDER BY {}").format(
        _names(columns),
        _of_branches(shape, edges, _in_words(columns), most),
        _order(ORDER, newest_first=shape.newest_first),
    )
    tail = sql.SQL(" OFFSET %(skipped)s LIMIT 1") if limit is None else sql.SQL(" LIMIT {}").format(most)
    return (query + tail).as_bytes()


@lru_cache(maxsize=4_096)
def _first_counted(shape: _Shape, limit: int, most: int) -> bytes:
    """All that is counted is read as it is stored; only what is answered is put into words."""
    columns, whole = Stored._fields, _order(ORDER, newest_first=shape.newest_first)
    rows = _of_branches(shape, _everywhere(shape.chains), _names(columns), sql.Literal(max(limit, most + 1)))
    counted = sql.SQL("SELECT *, count(*) OVER () AS counted FROM ({}) AS branches ORDER BY {} LIMIT {}")
    first = counted.format(rows, whole, sql.Literal(limit))
    query = sql.SQL("SELECT {}, counted FROM ({}) AS first ORDER BY {}")
    return query.format(_in_words(columns), first, whole).as_bytes()


@lru_cache(maxsize=4_096)
def _count(shape: _Shape) -> bytes:
    branch = sql.SQL("(SELECT 1 FROM {} WHERE {} LIMIT %(limit)s)")
    parts = [branch.format(_TABLE, conditions) for conditions in _branches(shape, _everywhere(shape.chains))]
    counted = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM ({}) AS branches LIMIT %(limit)s) AS counted")
    return counted.format(sql.SQL(" UNION ALL ").join(parts)).as_bytes()
