"""What the tests of this family share: an account to read, and what its tables should hold afterwards."""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.stream import Covered, Done
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.config import Depth
from ingestion_assets.sources.evm.providers.etherscan import Etherscan
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import History

ALL_DAYS = ((date(2024, 1, 1), date(2024, 1, 10)),)
NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)


@cache
def _client(url, attempts, timeout):
    client = Client(f"{url}/v2/api", attempts=attempts, timeout=timeout, sleep=lambda _seconds: None)
    OPENED.callback(client.close)
    return client


OPENED = ExitStack()  # closed by conftest when the last test has ended


def explorer_at(
    upstream, *, name="base", chain_id=1, page_size=1_000, window=10_000, attempts=3, timeout=5.0
):
    """The explorer of a test server, asked without waiting between attempts."""
    client = _client(upstream.url, attempts, timeout)
    return Etherscan(
        client, name="etherscan", chain=name, chain_id=chain_id, page_size=page_size, result_window=window
    )


def chain_of(providers, store, *, name="base", chain_id=1, finality=None, now=NOON, **options):
    """A chain as these providers show it, the most preferred first. By default every block that is shown is final."""
    return Chain(
        name,
        chain_id=chain_id,
        start=options.pop("start", date(2024, 1, 1)),
        finality=finality or Depth(depth=0),
        providers=Failover(store, name, providers),
        store=store,
        now=lambda: now,
        **options,
    )


def chain_at(upstream, store, *, name="base", chain_id=1, finality=None, now=NOON, **options):
    """A chain of a test server, with its days and blocks."""
    provider = explorer_at(upstream, name=name, chain_id=chain_id, **options)
    return chain_of([provider], store, name=name, chain_id=chain_id, finality=finality, now=now)


@dataclass(frozen=True, slots=True)
class Stretch(History):
    """A history of these blocks, whatever the days."""

    stretch: Ranges = ()

    def wanted(self):
        """The blocks."""
        return self.stretch


def stretch(providers, kind, addresses, wanted, store, **options):
    """The stream of these accounts' blocks, as these providers show them."""
    return Stretch(chain_of(providers, store, **options), kind, tuple(addresses), ALL_DAYS, wanted)


def nothing_done(stream, covered=()):
    """What a store says of a stream of which nothing is committed, or these blocks."""
    return {key: Done(covered) for key in stream.keys}


def covered_by(batches):
    """The ranges that these batches make whole."""
    return union((batch.mark.lo, batch.mark.hi) for batch in batches if isinstance(batch.mark, Covered))


ACTIONS = dict(zip(KINDS, ("txlist", "txlistinternal", "tokentx"), strict=True))  # what explorers call them


def same_but_confirmations(record):
    """A record as Postgres keeps it, without the field that grows with every block."""
    return tuple(
        sorted(
            (name, value.replace("\0", copy_text.NUL_SYMBOL))
            for name, value in record.items()
            if name != "confirmations"
        )
    )


def truth(chain, kind, *addresses, lo=0, hi=10**9):
    """What the chain holds of these accounts: a record that two of them share is there once."""
    whole = Counter()
    for address in addresses:
        whole |= Counter(map(same_but_confirmations, chain.rows(ACTIONS[kind], address, lo, hi)))
    return whole


def stored(connection, kind, chain="base"):
    """What a table holds of a chain."""
    query = f"SELECT payload FROM {kind.table.fullname} WHERE chain = %s"
    return Counter(same_but_confirmations(payload) for (payload,) in connection.execute(query, [chain]))


def kept(kind, batches):
    """What a table would hold after these batches: rows with the same key come once."""
    names = [column.name for column in kind.table.columns]
    at = [names.index(name) for name in ("block_number", "id", "payload")]
    table = {}
    for batch in batches:
        for rows in batch.rows:
            for line in rows.lines.split(b"\n")[:-1]:
                block, identity, payload = (copy_text.column(line, index) for index in at)
                table.setdefault((block, identity), same_but_confirmations(json.loads(payload)))
    return Counter(table.values())


TXLIST, TXLISTINTERNAL, TOKENTX = KINDS
