"""The bookings, one file for each family of dialects. Belongs here: the list of them."""

from collections.abc import Mapping

from ingestion_assets.sources.statements.movements.binance import Binance
from ingestion_assets.sources.statements.movements.coinbase import Coinbase
from ingestion_assets.sources.statements.movements.ibkr_activity import ActivityStatement
from ingestion_assets.sources.statements.movements.ibkr_flex import Flex
from ingestion_assets.sources.statements.movements.ibkr_transactions import TransactionHistory
from ingestion_assets.sources.statements.movements.kraken import Kraken
from ingestion_assets.sources.statements.movements.kucoin import KuCoin
from ingestion_assets.sources.statements.movements.movement import Booking
from ingestion_assets.sources.statements.movements.tastytrade import Tastytrade

EVERY_BOOKING: tuple[Booking, ...] = (
    Tastytrade(),
    ActivityStatement(),
    Flex(),
    TransactionHistory(),
    Kraken(),
    KuCoin(),
    Coinbase(),
    Binance(),
)

BOOKINGS: Mapping[str, Booking] = {
    dialect: booking for booking in EVERY_BOOKING for dialect in booking.dialects
}
