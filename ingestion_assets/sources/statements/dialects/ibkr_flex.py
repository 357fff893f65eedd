"""The Flex queries of Interactive Brokers as XML: every element with attributes is a record.

A person chooses sections, columns and the form of dates, so nothing but ids can be relied on: a record that has one is
keyed on it, so that the 364 days which two downloads of the last 365 share are stored once.
https://www.ibkrguides.com/reportingreference/reportguide/activityflexqueryreference.htm
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements.line import Line, Source, key_of
from ingestion_assets.sources.statements.values import NOTHING, ibkr, ibkr_time, number
from ingestion_assets.sources.statements.xml import Element, elements

STATEMENT = "FlexStatement"
CONTAINERS = frozenset({"FlexQueryResponse", "FlexStatements"})

IDS = ("tradeID", "transactionID", "actionID", "ibExecID")
# One id may have several records: levels of detail, the legs of a corporate action, the currencies of a dividend.
BESIDE_IDS = ("levelOfDetail", "currency", "conid", "type")

WHEN = (
    "dateTime", "tradeDate", "transactionDateTime", "reportDate", "date", "valueDate", "settleDate", "exDate", "toDate",
)  # fmt: skip
# Of the rates of a day there is one in every download.
KEYS: Mapping[str, tuple[str, ...]] = {"ConversionRate": ("reportDate", "fromCurrency", "toCurrency")}

NUMBERS = frozenset(
    {
        "quantity", "tradePrice", "tradeMoney", "proceeds", "taxes", "ibCommission", "netCash", "closePrice", "cost",
        "fifoPnlRealized", "mtmPnl", "amount", "value", "fxRateToBase", "multiplier", "strike", "rate", "startingCash",
        "endingCash", "commissions", "accruedInt", "position", "markPrice", "positionValue", "costBasisPrice",
        "costBasisMoney", "fifoPnlUnrealized", "grossAmount", "grossRate", "tax", "fee", "netAmount",
    }
)  # fmt: skip


class Flex:
    """The dialect."""

    name = "ibkr_flex"
    broker = "ibkr"

    def recognises(self, head: str) -> bool:
        """Whether its first element is that of a Flex query."""
        return "<FlexQueryResponse" in head[:4096]

    def read(self, source: Source) -> Iterator[Line | Rejected]:
        """One record for each element, in the order of the document."""
        statement: Mapping[str, str] = {}
        for element in elements(source):
            if element.name == STATEMENT:
                statement = element.attributes
            if element.name in CONTAINERS or not element.attributes:
                continue
            try:
                line: Line | Rejected = _line(element, statement)
            except ValueError as error:
                line = Rejected(element.raw.encode(), f"{element.name}: {error}", element.number)
            yield line


def _line(element: Element, statement: Mapping[str, str]) -> Line:
    said = element.attributes
    payload = {name: _value(name, value) for name, value in said.items()}
    is_event = any(_is_said(said, name) for name in IDS)
    day = _day(said) or _day({"toDate": statement.get("toDate", "")})
    if day is None:
        raise ValueError("neither it nor its statement tells a day")
    at = datetime.combine(day, time(), UTC)
    if element.name in KEYS:
        key: tuple[str | None, ...] = tuple(payload.get(name) for name in KEYS[element.name])
    elif is_event:
        key = tuple(payload.get(name) for name in (*IDS, *BESIDE_IDS))
    else:
        period = (statement.get("fromDate"), statement.get("toDate"))
        key = (*period, *(f"{name}={payload[name]}" for name in sorted(payload)))
    account = statement.get("accountId") or said.get("accountId")
    return Line(element.number, element.raw, element.name, at, key_of(key), payload, account)


def _is_said(attributes: Mapping[str, str], name: str) -> bool:
    return attributes.get(name, "").strip() not in NOTHING


def _value(name: str, value: str) -> str | None:
    if name in NUMBERS:
        return number(value.strip())
    lowered = name.lower()
    if lowered.endswith(("date", "datetime")) or name in ("whenGenerated", "settleDateTarget", "expiry"):
        try:
            return ibkr_time(value)
        except ValueError:
            return (
                value.strip() or None
            )  # a form of date that is not known is kept as it is, unless it says when
    return value.strip() or None


def _day(said: Mapping[str, str]) -> date | None:
    """The day of a record, by the surest attribute that it has.

    The day alone: one query tells the time of an event, and another one of the same account does not.
    """
    return next((ibkr(said[name])[1] for name in WHEN if _is_said(said, name)), None)


FLEX = Flex()
