"""The tables of the second phase: `core.movements`, lots and snapshots, and what `ops` knows of changes.

Identity of a movement = its line + which part of the line it is. Lots and closings are the state of the snapshots, day by
day: what is open on a day follows from the rows of the days before it.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from ingestion_assets.sources.statements import tables

metadata, TIME = tables.metadata, tables.TIME

chunks = sa.Table(
    "statement_chunks",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("file", sa.Text, primary_key=True, comment="SHA-256 of its content"),
    sa.Column("lo", sa.BigInteger, primary_key=True, comment="first line of the chunk in the file"),
    sa.Column("hi", sa.BigInteger, primary_key=True, comment="and the last"),
    sa.Column("first_at", TIME, nullable=False, comment="time of the earliest line"),
    sa.Column("last_at", TIME, nullable=False, comment="and of the latest"),
    sa.Column(
        "ids", ARRAY(UUID(as_uuid=True)), nullable=False, comment="of the lines, in the order of the file"
    ),
    schema="ops",
    comment="Which lines each file holds, whoever stored them first.",
)

counters = sa.Table(
    "statement_counters",
    metadata,
    sa.Column("source", sa.Text, primary_key=True, comment="the asset whose rows changed"),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("change", sa.BigInteger, nullable=False, comment="number of the last change"),
    schema="ops",
    comment="How often the rows of an account have changed.",
)

changes = sa.Table(
    "statement_changes",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC"),
    sa.Column("change", sa.BigInteger, nullable=False, comment="number of the last change that touched it"),
    schema="ops",
    comment="The days that hold rows of an account.",
)

followers = sa.Table(
    "statement_followers",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("change", sa.BigInteger, nullable=False, comment="the last one of its source that it has taken note of"),
    schema="ops",
    comment="How far each derived stream has taken back what it had covered.",
)  # fmt: skip

covers = sa.Table(
    "statement_covers",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("file", sa.Text, primary_key=True, comment="SHA-256 of its content"),
    sa.Column("topic", sa.Text, primary_key=True, comment="trades, dividends, …"),
    sa.Column("first", sa.Date, primary_key=True, comment="of the statement's period"),
    sa.Column("last", sa.Date, primary_key=True),
    sa.Column("dialect", sa.Text, nullable=False, comment="of the file; poorer ones give way to it"),
    schema="ops",
    comment="What the richer files of an account tell, and of which days, as movements are derived by it.",
)

movements = sa.Table(
    "movements",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("at", TIME, primary_key=True, comment="when it took effect; the legs of a pair at the time of the first"),
    sa.Column("rank", sa.Text, nullable=False, comment="order among those of one moment: where lines tell a day only"),
    sa.Column("step", sa.SmallInteger, nullable=False, comment="then: money 0, what opens 1, closes 2, goes out 3, comes in 4"),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("instrument", sa.Text, nullable=True, comment="stock, option, future_option, coin, …; null: money"),
    sa.Column("symbol", sa.Text, nullable=True, comment="as the source writes it"),
    sa.Column("ticker", sa.Text, nullable=True, comment="the underlying; of what has none, the symbol"),
    sa.Column("asset", sa.Text, nullable=True, comment="what the position is kept under: the broker's id, or the symbol"),
    sa.Column("expiration", sa.Date, nullable=True),
    sa.Column("strike", sa.Numeric, nullable=True),
    sa.Column("put_call", sa.Text, nullable=True, comment="put, call"),
    sa.Column("multiplier", sa.Numeric, nullable=True),
    sa.Column("effect", sa.Text, nullable=True, comment="open, close; null: the position decides"),
    sa.Column("quantity", sa.Numeric, nullable=False, comment="by which the position changes"),
    sa.Column("price", sa.Numeric, nullable=True, comment="of one, as the line states it"),
    sa.Column("currency", sa.Text, nullable=True, comment="of the money; null: none moves"),
    sa.Column("amount", sa.Numeric, nullable=False, comment="by which the cash changes, without the next two"),
    sa.Column("commission", sa.Numeric, nullable=False, comment="by which it changes the cash: mostly negative"),
    sa.Column("fee", sa.Numeric, nullable=False, comment="likewise; taxes of a trade too"),
    sa.Column("cash", sa.Numeric, nullable=False, comment="amount + commission + fee"),
    sa.Column("pair", sa.Text, nullable=True, comment="what belongs together has the same"),
    sa.Column("description", sa.Text, nullable=True),
    sa.Column("line_at", TIME, nullable=False, comment="with line the key in raw.statement_lines"),
    sa.Column("line", UUID(as_uuid=True), nullable=False),
    sa.Column("part", sa.Integer, nullable=False, comment="of the line: which contract, which leg"),
    sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="hash of line and part"),
    sa.CheckConstraint("cash = amount + commission + fee", name="movements_cash_is_its_parts"),
    sa.Index("movements_line", "account", "line_at", "line"),
    schema="core",
    comment="What happened in each account: a row for each contract and each leg.",
)  # fmt: skip

lots = sa.Table(
    "lots",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("opened", sa.Date, primary_key=True, comment="UTC"),
    sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="of the movement that opened it, or carried it here"),
    sa.Column("part", sa.Integer, primary_key=True, comment="of several that one movement has carried here"),
    sa.Column("rank", sa.Text, nullable=False, comment="first in by this, first out"),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("ticker", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False, comment="of the cost; empty: it came without one"),
    sa.Column("is_share", sa.Boolean, nullable=False, comment="counts as shares of its ticker, as options do not"),
    sa.Column("quantity", sa.Numeric, nullable=False, comment="negative: short"),
    sa.Column("cost", sa.Numeric, nullable=False, comment="paid for all of it, commission and fees too; negative: what was got"),
    sa.Column("closed", sa.Date, nullable=False, comment="when nothing was left of it; 9999-12-31: something is"),
    sa.Index("lots_by_ticker", "account", "ticker", "closed"),
    schema="core",
    comment="What was opened, at which cost.",
)  # fmt: skip

closings = sa.Table(
    "closings",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC"),
    sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="of the movement that closed it"),
    sa.Column("part", sa.Integer, primary_key=True, comment="of several lots that one movement has closed"),
    sa.Column("lot", UUID(as_uuid=True), nullable=True, comment="null: nobody knows when it was opened"),
    sa.Column("lot_part", sa.Integer, nullable=True),
    sa.Column("quantity", sa.Numeric, nullable=False, comment="taken out of the lot; negative: it was short"),
    sa.Column("cost", sa.Numeric, nullable=False, comment="its part of the cost of the lot"),
    sa.Column("currency", sa.Text, nullable=False, comment="of what was got"),
    sa.Column("proceeds", sa.Numeric, nullable=True, comment="net; null: it was carried on, or went without money"),
    sa.Column("realized", sa.Numeric, nullable=True, comment="proceeds - cost; null: nobody can tell"),
    sa.Index("closings_of_lot", "account", "lot"),
    schema="core",
    comment="What the lots were closed with, first in, first out.",
)  # fmt: skip

ticker_snapshots = sa.Table(
    "ticker_snapshots",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("ticker", sa.Text, primary_key=True),
    sa.Column("currency", sa.Text, primary_key=True, comment="empty: of what came without money"),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC; one on which something moved"),
    sa.Column("at", TIME, nullable=False, comment="its midnight"),
    sa.Column("total_shares", sa.Numeric, nullable=False),
    sa.Column("weight", sa.Numeric, nullable=False, comment="percent of what is invested in this currency"),
    sa.Column("cost_basis", sa.Numeric, nullable=False, comment="of one share: the open lots' cost"),
    sa.Column("real_cost", sa.Numeric, nullable=False, comment="cost basis less the incomes of one share"),
    sa.Column("invested", sa.Numeric, nullable=False, comment="cost of all open lots, options too; what was got for short ones is negative"),
    sa.Column("dividends", sa.Numeric, nullable=False),
    sa.Column("dividend_taxes", sa.Numeric, nullable=False),
    sa.Column("options", sa.Numeric, nullable=False, comment="premiums, those paid are negative; without commissions and fees"),
    sa.Column("commissions", sa.Numeric, nullable=False),
    sa.Column("fees", sa.Numeric, nullable=False),
    sa.Column("total_incomes", sa.Numeric, nullable=False, comment="options + dividends - dividend_taxes - commissions - fees"),
    sa.Column("realized", sa.Numeric, nullable=False, comment="by lots, first in, first out; net of commissions and fees"),
    sa.Column("unrealized", sa.Numeric, nullable=True, comment="null: no statement tells a price"),
    sa.Column("capital_deployed", sa.Numeric, nullable=False),
    sa.Column("performance", sa.Numeric, nullable=False, comment="percent of the capital deployed that was realized"),
    sa.Column("open_trades", sa.Boolean, nullable=False),
    sa.Index("ticker_snapshots_at", "account", "at"),
    schema="core",
    comment="Each ticker at the end of each day on which it moved, since the beginning.",
)  # fmt: skip

broker_snapshots = sa.Table(
    "broker_snapshots",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("currency", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC; one on which something moved"),
    sa.Column("at", TIME, nullable=False, comment="its midnight"),
    sa.Column("movement_counter", sa.BigInteger, nullable=False, comment="contracts counted one by one"),
    sa.Column("cash", sa.Numeric, nullable=False, comment="sum of all movements"),
    sa.Column("realized_gains", sa.Numeric, nullable=False, comment="by lots, first in, first out; net of commissions and fees"),
    sa.Column("realized_percentage", sa.Numeric, nullable=False, comment="of the net cash flow"),
    sa.Column("unrealized_gains", sa.Numeric, nullable=True, comment="null: no statement tells a price"),
    sa.Column("unrealized_gains_percentage", sa.Numeric, nullable=True),
    sa.Column("invested", sa.Numeric, nullable=False, comment="cost of all open lots; what was got for short ones is negative"),
    sa.Column("commissions", sa.Numeric, nullable=False),
    sa.Column("fees", sa.Numeric, nullable=False),
    sa.Column("deposited", sa.Numeric, nullable=False),
    sa.Column("withdrawn", sa.Numeric, nullable=False),
    sa.Column("dividends_received", sa.Numeric, nullable=False, comment="net of tax"),
    sa.Column("options_income", sa.Numeric, nullable=False, comment="premiums, those paid are negative; without commissions and fees"),
    sa.Column("other_income", sa.Numeric, nullable=False, comment="interest, lending, staking, rewards; what was paid is negative"),
    sa.Column("net_cash_flow", sa.Numeric, nullable=False, comment="deposited - withdrawn + the three incomes - commissions - fees"),
    sa.Column("account_costs", sa.Numeric, nullable=False, comment="commissions and fees that belong to no position"),
    sa.Column("exchanged", sa.Numeric, nullable=False, comment="for other currencies and coins, and what was moved to other wallets"),
    sa.Column("unmatched", sa.Numeric, nullable=False, comment="got for what nobody knows when it was opened"),
    sa.Column("open_lots", sa.BigInteger, nullable=False),
    sa.Column("open_trades", sa.Boolean, nullable=False),
    sa.CheckConstraint(
        "cash = deposited - withdrawn + dividends_received + other_income - account_costs + realized_gains - invested"
        " + exchanged + unmatched",
        name="broker_snapshots_cash_is_accounted_for",
    ),
    sa.Index("broker_snapshots_at", "account", "at"),
    schema="core",
    comment="Each account and currency at the end of each day on which something moved, since the beginning.",
)  # fmt: skip
