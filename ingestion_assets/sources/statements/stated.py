"""What the files of each dialect state of their own sums. Belongs here: one reader for each dialect; nothing that is computed.

A reader is shown the lines of a file in their order. `sums` are section, currency, what is stated, what that has to equal
(None: the sum of the file's movements in that currency), and by how much they may differ.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Protocol

from ingestion_assets.sources.statements.movements.movement import ZERO, Stored
from ingestion_assets.sources.statements.topics import period_of

CENT = Decimal("0.01")  # to which a broker rounds what it reports
Stating = tuple[str, str, Decimal, Decimal | None, Decimal]


@dataclass(slots=True)
class Statement:
    """What a file states of the account as a whole, if it is a statement."""

    first: date | None = None
    last: date | None = None
    base: str | None = None
    value_before: Decimal | None = None
    value_after: Decimal | None = None
    positions: dict[str, Decimal] = field(default_factory=dict[str, Decimal])


class Reader(Protocol):
    """Of one file."""

    def add(self, line: Stored) -> None:
        """The next line."""
        ...

    def sums(self) -> Iterator[Stating]:
        """What the file states."""
        ...

    def statement(self) -> Statement:
        """Of the account as a whole."""
        ...


class _Sums:
    """Of exports: each line states a change, and what follows is their sum in each currency or coin."""

    section = "Sum of the lines"

    def __init__(self) -> None:
        self.stated: defaultdict[str, Decimal] = defaultdict(Decimal)

    def sums(self) -> Iterator[Stating]:
        """One for each currency."""
        for currency, amount in sorted(self.stated.items()):
            yield self.section, currency, amount, None, ZERO

    def statement(self) -> Statement:
        """An export is none."""
        return Statement()


class _Tastytrade(_Sums):
    section = "Value + Commissions + Fees"

    def add(self, line: Stored) -> None:
        """The Total of a line is rounded by its broker, and off by a cent at times; its parts are exact."""
        self.stated[line.text("currency")] += sum(map(line.number, ("value", "commissions", "fees")), ZERO)


class _Kraken(_Sums):
    section = "amount - fee"

    def __init__(self) -> None:
        super().__init__()
        self._balances: dict[str, list[tuple[object, Decimal, Decimal]]] = {}

    def add(self, line: Stored) -> None:
        """A line without txid is a shadow."""
        if line.text("txid"):
            change = line.number("amount") - line.number("fee")
            self.stated[line.text("asset")] += change
            if line.payload.get("balance") is not None:
                self._balances.setdefault(line.text("asset"), []).append(
                    (line.at, change, line.number("balance"))
                )

    def sums(self) -> Iterator[Stating]:
        """And the balance goes from the first to the last as the changes say."""
        yield from super().sums()
        for asset, told in sorted(self._balances.items()):
            told.sort(key=lambda one: str(one[0]))
            first, last = told[0], told[-1]
            changed = sum((change for _, change, _ in told[1:]), ZERO)
            yield "balance", asset, last[2], first[2] + changed, ZERO


class _Binance(_Sums):
    section = "Change"

    def add(self, line: Stored) -> None:
        """Each line is a change."""
        self.stated[line.text("coin")] += line.number("change")


class _Nothing(_Sums):
    """Of exports that state nothing that could be held against the movements."""

    def add(self, line: Stored) -> None:
        """No."""


class _Transactions:
    """Of the transaction history of Interactive Brokers."""

    def __init__(self) -> None:
        self._net = ZERO
        self._base = ""
        self._summary: dict[str, Decimal] = {}

    def add(self, line: Stored) -> None:
        """Its summary stands above the lines."""
        if line.section == "Transaction History":
            self._net += line.number("Net Amount")
            self._base = line.text("Base Currency")
        elif line.section == "Summary":
            name, value = line.text("Field Name"), line.text("Field Value")
            if name in ("Starting Cash", "Change", "Ending Cash"):
                self._summary[name] = _decimal(value)

    def sums(self) -> Iterator[Stating]:
        """Net amounts are the movements, and the summary's change."""
        if not self._base:
            return
        yield "Net Amount", self._base, self._net, None, ZERO
        if "Change" in self._summary:
            yield "Summary", self._base, self._summary["Change"], self._net, CENT

    def statement(self) -> Statement:
        """It tells neither a value nor positions."""
        return Statement()


class _Activity:
    """Of the activity statement of Interactive Brokers."""

    TOTALS = ("Deposits & Withdrawals", "Dividends", "Withholding Tax", "Interest", "Fees", "Other Fees")

    def __init__(self) -> None:
        self._statement = Statement()
        self._cash: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
        self._section: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._open: tuple[str, str] | None = None  # section and currency whose lines were read last
        self._totalled: set[tuple[str, str]] = set()
        self._told: list[Stating] = []
        self._trades: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._nav: dict[str, Decimal] = {}

    def add(self, line: Stored) -> None:
        """By section."""
        name, kind = line.section, line.text("kind")
        if (period := period_of(line)) is not None:
            self._statement.first, self._statement.last = period
        elif name == "Account Information" and line.text("Field Name") in (
            "Base Currency",
            "Basiswährung",
            "Базовая валюта",
        ):
            self._statement.base = line.text("Field Value")
        elif name == "Cash Report" and kind == "Data" and "Currency Summary" in line.payload:
            self._cash[line.text("Currency")][line.text("Currency Summary")] = line.number("Total")
        elif name == "Change in NAV" and kind == "Data":
            self._nav[line.text("Field Name")] = _decimal(line.text("Field Value"))
        elif name == "Open Positions" and kind == "Data" and line.text("DataDiscriminator") == "Summary":
            self._statement.positions[line.text("Symbol")] = line.number("Quantity")
        elif name == "Trades":
            self._trade(line, kind)
        elif name in self.TOTALS and kind in ("Data", "Total"):
            self._total(line, name)

    def _trade(self, line: Stored, kind: str) -> None:
        key = line.text("Asset Category"), line.text("Currency")
        if kind == "Data" and line.text("DataDiscriminator") == "Order":
            self._trades[key] += line.number("Proceeds")
        elif kind == "Total" and key in self._trades and line.payload.get("Proceeds") is not None:
            self._told.append((f"Trades, {key[0]}", key[1], line.number("Proceeds"), self._trades[key], CENT))

    def _total(self, line: Stored, name: str) -> None:
        amount, currency = line.number("Amount"), line.text("Currency")
        if line.payload.get("Date") is not None or line.payload.get("Settle Date") is not None:
            self._open = name, currency
            self._section[self._open] += amount
        elif currency in TOTAL and self._open and self._open[0] == name and self._open not in self._totalled:
            self._totalled.add(self._open)
            self._told.append((name, self._open[1], amount, self._section[self._open], CENT))

    def sums(self) -> Iterator[Stating]:
        """Cash reports, by movements and by their own components; totals of sections; the change in value."""
        yield from self._told
        for currency, told in sorted(self._cash.items()):
            start, end = _first(told, STARTING), _first(told, ENDING)
            if start is None or end is None:
                continue
            parts = sum((amount for name, amount in told.items() if not name.startswith(BOUNDS)), ZERO)
            yield "Cash Report, its components", currency, end, start + parts, CENT
            if len(currency) == 3:  # noqa: PLR2004 - an ISO code, and not the summary in the base currency
                yield "Cash Report", currency, end - start, None, CENT
        start, end = _first(self._nav, STARTING_VALUE), _first(self._nav, ENDING_VALUE)
        if start is not None and end is not None:
            parts = sum(self._nav.values(), ZERO) - start - end
            yield "Change in NAV", self._statement.base or "base", end, start + parts, CENT

    def statement(self) -> Statement:
        """Its period, positions and value."""
        self._statement.value_before = _first(self._nav, STARTING_VALUE)
        self._statement.value_after = _first(self._nav, ENDING_VALUE)
        return self._statement


class _Flex:
    """Of Flex queries."""

    def __init__(self) -> None:
        self._statement = Statement()
        self._cash: list[tuple[str, Mapping[str, str | None]]] = []
        self._nav: Mapping[str, str | None] | None = None

    def add(self, line: Stored) -> None:
        """By element."""
        if (period := period_of(line)) is not None:
            self._statement.first, self._statement.last = period
        elif line.section == "CashReportCurrency":
            self._cash.append((line.text("currency"), line.payload))
        elif line.section == "ChangeInNAV":
            self._nav = line.payload
        elif line.section == "OpenPosition" and line.text("levelOfDetail") in ("SUMMARY", ""):
            self._statement.positions[line.text("symbol")] = line.number("position")

    def sums(self) -> Iterator[Stating]:
        """Cash reports."""
        for currency, told in self._cash:
            start, end = _told(told, "startingCash"), _told(told, "endingCash")
            if start is None or end is None:
                continue
            parts = sum((_told(told, name) or ZERO for name in told if name in FLEX_COMPONENTS), ZERO)
            yield "CashReport, its components", currency, end, start + parts, CENT
            if currency != "BASE_SUMMARY":
                yield "CashReport", currency, end - start, None, CENT

    def statement(self) -> Statement:
        """Its period, positions and value."""
        if self._nav is not None:
            self._statement.value_before = _told(self._nav, "startingValue")
            self._statement.value_after = _told(self._nav, "endingValue")
        return self._statement


TOTAL = ("Total", "Gesamt", "Всего")  # and not the one in the base currency
STARTING = ("Starting Cash", "Anfangsbarbestand", "Начальная сумма")
ENDING = ("Ending Cash", "Endbarbestand", "Конечная сумма")
BOUNDS = ("Starting", "Ending", "Anfang", "End", "Начальн", "Конечн")
STARTING_VALUE = ("Starting Value", "Anfangswert", "Начальное значение")
ENDING_VALUE = ("Ending Value", "Endwert", "Конечное значение")

# Those that are no sums of others: `depositWithdrawals` is deposits and withdrawals.
FLEX_COMPONENTS = frozenset(
    {
        "clientFees", "commissions", "billableCommissions", "deposits", "withdrawals", "carbonCredits", "donations",
        "accountTransfers", "linkingAdjustments", "internalTransfers", "paxosTransfers", "debitCardActivity", "billPay",
        "dividends", "insuredDepositInterest", "brokerInterest", "brokerFees", "bondInterest", "cashSettlingMtm",
        "realizedVm", "realizedForexVm", "cfdCharges", "netTradesSales", "netTradesPurchases", "advisorFees", "feesReceivables",
        "paymentInLieu", "transactionTax", "taxReceivables", "withholdingTax", "withholding871m", "withholdingCollectedTax",
        "salesTax", "billableSalesTax", "ipoSubscription", "fxTranslationGainLoss", "otherFees", "otherIncome", "other",
        "commissionCreditsRedemption", "referralFee", "excessFundSweep",
    }
)  # fmt: skip

READERS: Mapping[str, type[Reader]] = {
    "tastytrade": _Tastytrade,
    "kraken_ledgers": _Kraken,
    "binance": _Binance,
    "ibkr_activity": _Activity,
    "ibkr_transactions": _Transactions,
    "ibkr_flex": _Flex,
}


def reader_of(dialect: str) -> Reader:
    """For one file in this dialect."""
    return READERS.get(dialect, _Nothing)()


def _decimal(written: str) -> Decimal:
    try:
        return Decimal(written.replace(",", "") or "0")
    except ArithmeticError:
        return ZERO  # a text, such as a note that stands among the numbers


def _first(told: Mapping[str, Decimal], names: tuple[str, ...]) -> Decimal | None:
    return next((told[name] for name in names if name in told), None)


def _told(told: Mapping[str, str | None], name: str) -> Decimal | None:
    written = told.get(name)
    return None if written is None else _decimal(written)
