"""The dialects, one file each. Belongs here: the list of them, and the choice of one for a file."""

from ingestion_assets.sources.statements.dialects.binance import BINANCE
from ingestion_assets.sources.statements.dialects.coinbase import COINBASE
from ingestion_assets.sources.statements.dialects.ibkr_activity import ACTIVITY
from ingestion_assets.sources.statements.dialects.ibkr_flex import FLEX
from ingestion_assets.sources.statements.dialects.ibkr_transactions import TRANSACTION_HISTORY
from ingestion_assets.sources.statements.dialects.kraken import KRAKEN
from ingestion_assets.sources.statements.dialects.kucoin import KUCOIN
from ingestion_assets.sources.statements.dialects.tastytrade import TASTYTRADE
from ingestion_assets.sources.statements.line import Dialect, Unreadable

# In this order: the transaction history of Interactive Brokers looks like its activity statement.
DIALECTS: tuple[Dialect, ...] = (
    TASTYTRADE,
    TRANSACTION_HISTORY,
    ACTIVITY,
    FLEX,
    KRAKEN,
    KUCOIN,
    COINBASE,
    BINANCE,
)

SHOWN = 120  # characters of an unknown file's first line


def recognise(head: str) -> Dialect:
    """The dialect of a file that begins like this.

    Raises:
        Unreadable: nobody knows it.
    """
    for dialect in DIALECTS:
        if dialect.recognises(head):
            return dialect
    first = next((line for line in head.splitlines() if line.strip()), "")
    if not first:
        raise Unreadable("it is empty")
    raise Unreadable(f"its format is not known; it begins with {first[:SHOWN]!r}")


def named(name: str) -> Dialect:
    """The dialect of this name.

    Raises:
        Unreadable: a newer version of this project has registered the file.
    """
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    raise Unreadable(
        f"there is no dialect {name!r} here; there are {', '.join(one.name for one in DIALECTS)}"
    )
