"""Snapshots: the sums of an account and of each ticker, day by day. Nothing here reads or writes.

Every sum is kept since the beginning, so the row of a day and the lots that were open on it are all that the next day needs.
"""

from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal

from ingestion_assets.sources.statements.lots import UNKNOWN, Effect, Moved
from ingestion_assets.sources.statements.movements.movement import ZERO

PRECISE = Decimal("1e-8")  # of what is divided: percentages, and the cost of one share

OPTIONS = frozenset({"option", "future_option"})
INCOMES = frozenset({"interest", "lending_income", "staking", "reward"})


@dataclass(slots=True)
class Ticker:
    """The sums of one ticker in one currency; named as the columns are."""

    total_shares: Decimal = ZERO
    share_cost: Decimal = ZERO  # of the lots that are shares; cost_basis times total_shares
    invested: Decimal = ZERO
    dividends: Decimal = ZERO
    dividend_taxes: Decimal = ZERO
    options: Decimal = ZERO
    commissions: Decimal = ZERO
    fees: Decimal = ZERO
    realized: Decimal = ZERO
    capital_deployed: Decimal = ZERO
    open_lots: int = 0

    @property
    def total_incomes(self) -> Decimal:
        """What it has brought, without what was realized."""
        return self.options + self.dividends - self.dividend_taxes - self.commissions - self.fees


@dataclass(slots=True)
class Account:
    """The sums of one currency; named as the columns are."""

    movement_counter: int = 0
    cash: Decimal = ZERO
    realized_gains: Decimal = ZERO
    invested: Decimal = ZERO
    commissions: Decimal = ZERO
    fees: Decimal = ZERO
    deposited: Decimal = ZERO
    withdrawn: Decimal = ZERO
    dividends_received: Decimal = ZERO
    options_income: Decimal = ZERO
    other_income: Decimal = ZERO
    account_costs: Decimal = ZERO
    exchanged: Decimal = ZERO
    unmatched: Decimal = ZERO
    open_lots: int = 0

    @property
    def net_cash_flow(self) -> Decimal:
        """Without what shares cost, as facts of cash and premiums."""
        return (
            self.deposited - self.withdrawn + self.dividends_received + self.options_income + self.other_income
            - self.commissions - self.fees
        )  # fmt: skip


SUMS_OF_ACCOUNT = tuple(one.name for one in fields(Account))


class Book:
    """The sums of an account while its movements pass by. What is not there yet has to be put in before it is touched."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.tickers: dict[tuple[str, str], Ticker] = {}
        self.touched_accounts: set[str] = set()
        self.touched_tickers: set[tuple[str, str]] = set()

    def account(self, currency: str) -> Account:
        """Its sums, which are about to change."""
        self.touched_accounts.add(currency)
        return self.accounts.setdefault(currency, Account())

    def ticker(self, ticker: str, currency: str) -> Ticker:
        """Its sums, which are about to change."""
        self.touched_tickers.add((ticker, currency))
        return self.tickers.setdefault((ticker, currency), Ticker())

    def add(self, one: Moved, effect: Effect) -> None:
        """A movement, and what it has done to the lots."""
        self._lots(effect)
        for currency, amount in effect.exchanged.items():
            self.account(currency).exchanged += amount
        if one.currency is not None:
            self._cash(one, effect, one.currency)
        elif effect.realized or effect.unmatched:
            self._of_pair(one, effect)
        if one.ticker:
            of = self.ticker(one.ticker, self._currency(one, effect))
            of.realized += effect.realized
            of.capital_deployed += effect.deployed

    def _currency(self, one: Moved, effect: Effect) -> str:
        if one.currency is not None:
            return one.currency
        if effect.closings:
            return effect.closings[0].currency
        return effect.opened[0].currency if effect.opened else UNKNOWN

    def _of_pair(self, one: Moved, effect: Effect) -> None:
        """A coin whose money is another leg."""
        account = self.account(self._currency(one, effect))
        account.realized_gains += effect.realized
        account.unmatched += effect.unmatched

    def _lots(self, effect: Effect) -> None:
        for lot in effect.opened:
            self._change(
                lot.ticker,
                lot.currency,
                lot.quantity if lot.is_share else ZERO,
                lot.cost,
                1,
                is_share=lot.is_share,
            )
        for closing in effect.closings:
            of = closing.lot
            if of is not None:
                number = -1 if of.closed == closing.day and not of.left else 0
                shares = -closing.quantity if of.is_share else ZERO
                self._change(of.ticker, of.currency, shares, -closing.cost, number, is_share=of.is_share)

    def _change(
        self, ticker: str, currency: str, shares: Decimal, cost: Decimal, number: int, *, is_share: bool
    ) -> None:
        of = self.ticker(ticker, currency)
        of.total_shares += shares
        of.share_cost += cost if is_share else ZERO
        of.invested += cost
        of.open_lots += number
        if currency != UNKNOWN:
            account = self.account(currency)
            account.invested += cost
            account.open_lots += number

    def _cash(self, one: Moved, effect: Effect, currency: str) -> None:
        account = self.account(currency)
        of = self.ticker(one.ticker, currency) if one.ticker else Ticker()
        account.movement_counter += (
            one.kind != "strike_adjustment"
        )  # the contracts are those that were counted
        account.cash += one.cash
        account.realized_gains += effect.realized
        account.unmatched += effect.unmatched
        costs = -one.commission - one.fee
        account.commissions -= one.commission
        account.fees -= one.fee
        of.commissions -= one.commission
        of.fees -= one.fee
        if one.quantity and one.asset is not None:
            if one.instrument in OPTIONS and one.kind == "trade":
                account.options_income += one.amount
                of.options += one.amount
            return  # its cash is in the lots
        if one.kind in ("trade", "fx_trade", "swap", "transfer"):
            return  # exchanged, with its costs
        account.account_costs += costs
        self._income(one, account, of)

    def _income(self, one: Moved, account: Account, of: Ticker) -> None:
        amount = one.amount
        if one.kind == "dividend":
            account.dividends_received += amount
            of.dividends += amount
        elif one.kind == "withholding" and one.ticker:
            account.dividends_received += amount
            of.dividend_taxes -= amount
        elif one.kind in INCOMES or one.kind == "withholding":
            account.other_income += amount
        elif one.kind in ("fee", "balance_adjustment"):
            account.fees -= amount
            account.account_costs -= amount
        elif one.kind == "deposit":
            account.deposited += amount
        elif one.kind == "withdrawal":
            account.withdrawn -= amount
        elif one.kind == "settlement":
            account.realized_gains += amount
            of.realized += amount
        else:
            account.exchanged += amount

    def end_of_day(self) -> tuple[list[str], list[tuple[str, str]]]:
        """The currencies and tickers that moved since the last end of a day."""
        moved = sorted(self.touched_accounts), sorted(self.touched_tickers)
        self.touched_accounts.clear()
        self.touched_tickers.clear()
        return moved


def ratio(part: Decimal, whole: Decimal, *, times: int = 1) -> Decimal:
    """A quotient, or zero where there is none."""
    if not whole:
        return ZERO
    return (part * times / whole).quantize(PRECISE)


def ticker_row(of: Ticker, currency_invested: Decimal) -> tuple[object, ...]:
    """The columns from total_shares on, in the order of the table."""
    basis = ratio(of.share_cost, of.total_shares)
    return (
        of.total_shares,
        ratio(of.invested, currency_invested, times=100),
        basis,
        basis - ratio(of.total_incomes, of.total_shares) if of.total_shares else ZERO,
        of.invested,
        of.dividends,
        of.dividend_taxes,
        of.options,
        of.commissions,
        of.fees,
        of.total_incomes,
        of.realized,
        None,
        of.capital_deployed,
        ratio(of.realized, of.capital_deployed, times=100),
        of.open_lots > 0,
    )


def account_row(of: Account) -> tuple[object, ...]:
    """The columns from movement_counter on, in the order of the table."""
    flow = of.net_cash_flow
    return (
        of.movement_counter,
        of.cash,
        of.realized_gains,
        ratio(of.realized_gains, flow, times=100) if flow > 0 else ZERO,
        None,
        None,
        of.invested,
        of.commissions,
        of.fees,
        of.deposited,
        of.withdrawn,
        of.dividends_received,
        of.options_income,
        of.other_income,
        flow,
        of.account_costs,
        of.exchanged,
        of.unmatched,
        of.open_lots,
        of.open_lots > 0,
    )


def midnight(day: date) -> str:
    """As COPY takes it."""
    return f"{day.isoformat()} 00:00:00+00"
