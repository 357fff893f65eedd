"""Movements as COPY text."""

from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

from ingestion_assets.engine import rows
from ingestion_assets.sources.statements.movements.movement import Asset, Movement


def row(account: bytes, movement: Movement) -> bytes:
    """One contract or leg, in the order of the table's columns.

    Args:
        account: as COPY text.
        movement: of at most one contract.
    """
    line = movement.line
    return (
        b"\t".join(
            (
                account,
                _time(movement.at or line.at),
                _text(movement.rank),
                b"%d" % movement.step,
                _text(movement.kind),
                _asset(movement.asset),
                _text(movement.effect),
                number(movement.quantity),
                number(movement.price),
                _text(movement.currency),
                number(movement.amount),
                number(movement.commission),
                number(movement.fee),
                number(movement.cash),
                rows.text(movement.pair),
                rows.text(movement.description),
                _time(line.at),
                line.id.encode(),
                b"%d" % movement.part,
                identity(line.id, movement.part),
            )
        )
        + b"\n"
    )


def identity(line: str, part: int) -> bytes:
    """The id of a movement: hexadecimal digits."""
    return blake2b(b"%b/%d" % (line.encode(), part), digest_size=16).hexdigest().encode()


@lru_cache(maxsize=16_384)
def number(value: Decimal | None) -> bytes:
    """A decimal without exponent, exactly."""
    return rows.NULL if value is None else f"{value:f}".encode()


@lru_cache(maxsize=4_096)
def _time(at: datetime) -> bytes:
    return at.isoformat().encode()


@lru_cache(maxsize=16_384)
def _text(value: str | None) -> bytes:
    return rows.text(value)


@lru_cache(maxsize=16_384)
def _asset(asset: Asset | None) -> bytes:
    """The eight columns that say what a position is of."""
    if asset is None:
        return b"\t".join([rows.NULL] * 8)
    return b"\t".join(
        (
            rows.text(asset.instrument),
            rows.text(asset.symbol),
            rows.text(asset.ticker),
            rows.text(asset.key),
            rows.NULL if asset.expiration is None else asset.expiration.isoformat().encode(),
            number(asset.strike),
            rows.text(asset.put_call),
            number(asset.multiplier),
        )
    )
