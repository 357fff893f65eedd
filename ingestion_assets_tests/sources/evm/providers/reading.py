"""What the tests of explorers share: providers of a test server, and what they say of an account."""

from contextlib import ExitStack
from functools import cache
from itertools import pairwise

from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.provider import Question
from ingestion_assets.sources.evm.providers.blockscout import Blockscout
from ingestion_assets.sources.evm.providers.blockscout_rest import BlockscoutRest
from ingestion_assets.sources.evm.providers.cronos import Cronos
from ingestion_assets.sources.evm.providers.etherscan import Etherscan
from ingestion_assets.sources.evm.providers.explorer import Explorer
from ingestion_assets.sources.evm.providers.routescan import Routescan

OPENED = ExitStack()  # closed by conftest when the last test has ended
NUMBERED = (Etherscan, Routescan)  # these are told the chain's number
KINDS_OF_EXPLORER: dict[str, tuple[type[Explorer], str]] = {
    "etherscan": (Etherscan, "/v2/api"),
    "routescan": (Routescan, "/v2/network/mainnet/evm/1/etherscan/api"),
    "cronos": (Cronos, "/cronos"),
    "blockscout": (Blockscout, "/"),
    "blockscout-v2": (BlockscoutRest, "/"),
}


@cache
def _client(url, attempts):
    client = Client(url, attempts=attempts, sleep=lambda _seconds: None)
    OPENED.callback(client.close)
    return client


def opened(kind, url, *, path=None, attempts=1, **options):
    """An explorer of this kind at a server, asked without waiting between attempts."""
    made, usual = KINDS_OF_EXPLORER[kind]
    client = _client(url + (path or usual), attempts)
    number = {"chain_id": 1} if made in NUMBERED else {}
    return made(client, name=kind, chain="base", **number, **options)


def readings(provider, kind, address, lo, hi):
    """The readings of one account, oldest first; they follow each other without a hole."""
    found = list(provider.read(Question(kind, (address,), lo, hi)))
    assert (found[0].lo, found[-1].hi) == (lo, hi)
    assert all(one.hi + 1 == other.lo for one, other in pairwise(found))
    for reading in found:
        assert all(reading.lo <= row.block <= reading.hi for row in reading.page.good)
    return found


def table(kind, found):
    """What a table would hold of these readings: COPY text by column, by id."""
    names = [column.name for column in kind.table.columns]
    rows = {}
    for reading in found:
        written = reading.page.rows(kind)
        lines = written.lines.decode().splitlines()
        records = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
        assert [record["id"] for record in records] == reading.page.ids(kind)
        assert written.count == len(records)
        rows |= {record["id"]: record for record in records}
    return rows
