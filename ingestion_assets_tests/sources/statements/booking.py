"""What the tests of movements share: the lines of a file as they are stored, without a database."""

import io
from collections.abc import Iterable, Iterator
from decimal import localcontext

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements.dialects import recognise
from ingestion_assets.sources.statements.identity import Ordinals
from ingestion_assets.sources.statements.movement_stream import booked, second
from ingestion_assets.sources.statements.movements.movement import APART, EXACT, Movement, Stored, Unknown


def stored_lines(content: bytes) -> list[Stored]:
    """The lines of a file, in the order of the table."""
    dialect = recognise(content.decode("utf-8", "replace").removeprefix("\ufeff"))
    ordinals = Ordinals(dialect.name, in_order=False)
    found = []
    for line in dialect.read(io.BytesIO(content)):
        assert not isinstance(line, Rejected), line
        _, digits = ordinals.next(line)
        found.append(Stored(line.at, digits, dialect.name, line.section, line.payload))
    return sorted(found, key=lambda line: (line.at, line.id))


def groups(lines: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Lines that stand close together."""
    held: list[Stored] = []
    for line in lines:
        if held and second(line.at) - second(held[-1].at) > APART:
            yield held
            held = []
        held.append(line)
    if held:
        yield held


def movements_of(content: bytes) -> list[Movement | Unknown]:
    """What a file tells, in order of time."""
    with localcontext(EXACT):
        found = [one for group in groups(stored_lines(content)) for one in booked(group)]
    return sorted(found, key=_order)


def _order(one: Movement | Unknown):
    if isinstance(one, Unknown):
        return (one.line.at, "", 9, one.reason, 0)
    return (one.at or one.line.at, one.rank, one.step, one.line.id, one.part)


def told(found: Iterable[Movement | Unknown]) -> list[str]:
    """A sentence for each, without ids, in an order of their own."""
    lines, pairs = [], {}
    for one in found:
        if isinstance(one, Unknown):
            lines.append(f"{one.line.at:%Y-%m-%dT%H:%M:%S} unknown: {one.reason}")
            continue
        if one.pair:
            pairs.setdefault(one.pair, len(pairs) + 1)
        parts = [f"{one.at or one.line.at:%Y-%m-%dT%H:%M:%S}", one.kind]
        if one.asset:
            name = (
                one.asset.symbol
                if one.asset.key == one.asset.symbol
                else f"{one.asset.symbol} [{one.asset.key}]"
            )
            parts.append(f"{one.asset.instrument} {name} of {one.asset.ticker}")
            if one.asset.put_call:
                parts.append(
                    f"{one.asset.put_call} {one.asset.strike:f} {one.asset.expiration} x{one.asset.multiplier:f}"
                )
        if one.quantity:
            parts.append(f"{one.quantity:+f}")
        if one.currency:
            parts.append(f"{one.amount:f} {one.commission:f} {one.fee:f} {one.currency}")
        if one.effect:
            parts.append(one.effect)
        if one.pair:
            parts.append("paired")
        lines.append(" ".join(parts))
    return sorted(lines)
