"""The questions, one function for each: from parameters to an envelope."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace
from psycopg import sql

from ingestion_assets.api import coverage, records
from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.facade import coverage as headers
from ingestion_assets.api.facade.envelope import (
    NO_BLOCK,
    NO_LOGS,
    NO_ROWS,
    Parameters,
    Refused,
    Told,
    listed,
)
from ingestion_assets.api.facade.listing import INTERNAL_TRANSACTIONS, TRANSACTIONS, Listing, Lists, Query
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.service import Service

MOST_LOGS = 1_000  # records of getLogs, where the size of the page is not said
FUTURE = 253_402_300_800  # seconds: the year 10000


class Questions:
    """All that may be asked.

    Args:
        service: what all answers share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lists = Lists(service.database)
        self._known: dict[tuple[str, str], Callable[[Parameters, str], Awaitable[Told]]] = {
            ("account", "txlist"): self._transactions,
            ("account", "txlistinternal"): self._internal_transactions,
            ("account", "tokentx"): self._token_transfers,
            ("block", "getblocknobytime"): self._block_by_time,
            ("logs", "getlogs"): self._logs,
        }

    async def answer(self, parameters: Parameters, client: str) -> Told:
        """The answer to a question.

        Raises:
            Refused: with the explorer's sentence, or with ours where it has none.
            CannotServe: the store is away.
        """
        module, action = parameters.get("module").lower(), parameters.get("action").lower()
        if module not in {known for known, _ in self._known}:
            raise Refused("Error! Missing Or invalid Module name")
        if (module, action) not in self._known:
            raise Refused("Error! Missing Or invalid Action name")
        return await self._known[module, action](parameters, client)

    async def _transactions(self, parameters: Parameters, client: str) -> Told:
        if parameters.address() is None:
            raise Refused("Error! Missing address")
        return await self._list(TRANSACTIONS, parameters, client, None)

    async def _internal_transactions(self, parameters: Parameters, client: str) -> Told:
        return await self._list(INTERNAL_TRANSACTIONS, parameters, client, parameters.hash())

    async def _list(
        self, listing: Listing, parameters: Parameters, client: str, transaction: str | None
    ) -> Told:
        chain = parameters.chain(self._service.config)
        address = parameters.address()
        lo, hi = parameters.block("startblock"), parameters.block("endblock")
        if address is None and transaction is None and (lo is None or hi is None):
            raise Refused("Error! Missing address, txhash, or startblock and endblock")
        if address is not None and address not in chain.addresses:
            raise self._unwatched(chain, f"address {address}")
        page, size = parameters.page(self._service.config.limits.rows)
        query = Query(chain.name, lo, hi, address, transaction, parameters.is_newest_first)
        snapshot = self._service.snapshot
        head = snapshot.of(chain).head
        rows = await self._lists.page(listing, query, page=page, size=size, client=client)
        said = (
            {}
            if address is None
            else headers.of_stream(snapshot, chain, coverage.key(listing.stream, chain, address), lo, hi)
        )
        return listed([listing.told(row, head) for row in rows], NO_ROWS, said)

    async def _token_transfers(self, parameters: Parameters, client: str) -> Told:
        chain = parameters.chain(self._service.config)
        address, token = parameters.address(), parameters.address("contractaddress")
        if address is None and token is None:
            raise Refused("Error! Missing address Or contractaddress")
        if not coverage.able(chain, address, token):
            what = " and ".join(
                f"{name} {value}" for name, value in (("address", address), ("token", token)) if value
            )
            raise self._unwatched(chain, what)
        page, size = parameters.page(self._service.config.limits.rows)
        wanted = Wanted(
            (chain.name,),
            newest_first=parameters.is_newest_first,
            lo=parameters.block("startblock"),
            hi=parameters.block("endblock"),
            address=address,
            token=token,
        )
        snapshot = self._service.snapshot
        found = await self._service.transfers.numbered(wanted, size, page, client)
        head = snapshot.of(chain).head
        rows = [records.token_transfer(row, head) for row in found.rows]
        return listed(rows, NO_ROWS, headers.of_transfers(snapshot, chain, wanted))

    def _unwatched(self, chain: ServedChain, what: str) -> Refused:
        """An empty list would say that there is nothing."""
        return Refused(f"Error! Not stored here: {what} is not watched on {chain.name}; see sources.yaml")

    async def _block_by_time(self, parameters: Parameters, _client: str) -> Told:
        chain = parameters.chain(self._service.config)
        seconds, closest = parameters.number("timestamp"), parameters.get("closest").lower() or "before"
        if seconds is None or seconds >= FUTURE:
            raise Refused("Error! Invalid timestamp")
        if closest not in ("before", "after"):
            raise Refused("Error! Invalid parameter closest: before or after is wanted")
        query = _BEFORE if closest == "before" else _AFTER
        values = {"chain": chain.name, "moment": datetime.fromtimestamp(seconds, UTC)}
        [block] = await self._service.database.row(query, values)
        return Told("1", "OK", str(block)) if block is not None else Told("0", "NOTOK", NO_BLOCK)

    async def _logs(self, parameters: Parameters, client: str) -> Told:
        chain = parameters.chain(self._service.config)
        token = parameters.address()
        topics = {number: parameters.get(f"topic{number}").lower() for number in range(4)}
        topics = {number: topic for number, topic in topics.items() if topic}
        if token is None and not topics:
            raise Refused("Error! Missing address Or topic")
        if topics.get(0, records.TRANSFER) != records.TRANSFER:
            raise Refused(f"Error! Not stored here: only logs of the topic0 {records.TRANSFER} are")
        if not coverage.able(chain, None, token):
            what = "every token" if token is None else f"token {token}"
            raise self._unwatched(chain, what)
        page, size = parameters.page(self._service.config.limits.rows)
        if not parameters.get("offset"):
            size = min(size, MOST_LOGS)
        parties = _parties(parameters, topics)
        if parties is None:
            return listed([], NO_LOGS, {})
        wanted = replace(
            parties,
            chains=(chain.name,),
            newest_first=parameters.is_newest_first,
            lo=parameters.block("fromBlock"),
            hi=parameters.block("toBlock"),
            token=token,
        )
        snapshot = self._service.snapshot
        found = await self._service.transfers.numbered(wanted, size, page, client)
        rows = [records.log(row, None) for row in found.rows if row.log_index is not None]
        return listed(rows, NO_LOGS, headers.of_transfers(snapshot, chain, wanted))


def _parties(parameters: Parameters, topics: Mapping[int, str]) -> Wanted | None:
    """Which transfers have these topics, put together from the left as topicX_Y_opr says; None: none has.

    The first topic is the same for all transfers, the next two are sender and receiver, and no ERC-20 transfer has a fourth.
    """
    found: Wanted | None = Wanted(())
    before: int | None = None
    for number, topic in topics.items():
        address = records.address_of(topic) if number in (1, 2) else None
        one: Wanted | None
        if number == 0:
            one = Wanted(())
        elif address is None:
            one = None
        else:
            one = Wanted((), sender=address) if number == 1 else Wanted((), receiver=address)
        is_or = before is not None and parameters.get(f"topic{before}_{number}_opr").lower() == "or"
        found = one if before is None else _either(found, one) if is_or else _both(found, one)
        before = number
    return found


def _both(one: Wanted | None, other: Wanted | None) -> Wanted | None:
    if one is None or other is None:
        return None
    return replace(one, sender=one.sender or other.sender, receiver=one.receiver or other.receiver)


def _either(one: Wanted | None, other: Wanted | None) -> Wanted | None:
    if one is None or other is None:
        return one or other
    if one.is_whole or other.is_whole:
        return Wanted(())
    return replace(
        one, sender=one.sender or other.sender, receiver=one.receiver or other.receiver, is_either=True
    )


# The blocks that are known: those of stored rows, the first of each day that was looked up, and the head when it was seen. For
# whoever asks about what is stored, the closest of these bounds the same rows as the closest block of all.
_TABLES = ("evm_transactions", "evm_internal_transactions", "evm_token_transfers", "evm_erc20_transfers")


def _closest(sign: str, direction: str, pick: str, others: str) -> sql.Composed:
    of_rows = sql.SQL(
        "(SELECT block_number FROM {} WHERE chain = %(chain)s AND block_time {} %(moment)s"
        " ORDER BY block_time {}, block_number {} LIMIT 1)"
    )
    # both words are constants of this module
    sign_, direction_ = sql.SQL(sign), sql.SQL(direction)
    parts = [
        *(of_rows.format(sql.Identifier("raw", table), sign_, direction_, direction_) for table in _TABLES),
        sql.SQL(others),
    ]
    return sql.SQL("SELECT {}(block_number) FROM ({}) AS known").format(
        sql.SQL(pick),
        sql.SQL(" UNION ALL ").join(parts),
    )


_BEFORE = _closest(
    "<=",
    "DESC",
    "max",
    "(SELECT block - 1 FROM ops.block_times WHERE chain = %(chain)s AND block > 0 AND (day AT TIME ZONE 'UTC') <= %(moment)s"
    " ORDER BY day DESC LIMIT 1) UNION ALL (SELECT head FROM ops.chains WHERE chain = %(chain)s AND checked_at <= %(moment)s)",
)
_AFTER = _closest(
    ">=",
    "ASC",
    "min",
    "(SELECT block FROM ops.block_times WHERE chain = %(chain)s AND (day AT TIME ZONE 'UTC') >= %(moment)s ORDER BY day LIMIT 1)",
)
