"""What the tables say of an account: which records it has in a range of blocks, and what these add up to.

Belongs here: reading `raw.evm_*` for the proofs. Sums are whole numbers of the smallest unit, modulo 2^256 as on the chain.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from ingestion_assets.engine.coverage import Range
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.fields import NULL
from ingestion_assets.sources.evm.provider import ALL, Reading, State
from ingestion_assets.sources.evm.records import TOKEN_TRANSFERS, TRANSACTIONS, Kind, Page, Row

MODULUS = 2**256

Totals = dict[tuple[str, str], int]  # by account and token; the token is "" for ether and nonces


def ids(
    store: Store, chain: str, kind: Kind, subjects: Sequence[str], blocks: Range
) -> dict[int, frozenset[str]]:
    """The ids of the stored rows that name one of the subjects, by block."""
    named = [sql.SQL("{} = ANY(%(subjects)s)").format(sql.Identifier(name)) for name in kind.subject_columns]
    query = sql.SQL(
        "SELECT block_number, array_agg(replace(id::text, '-', '')) FROM {}"
        " WHERE chain = %(chain)s AND block_number BETWEEN %(lo)s AND %(hi)s AND {} GROUP BY 1"
    ).format(
        sql.Identifier("raw", kind.table.name),
        sql.SQL("true") if ALL in subjects else sql.SQL("({})").format(sql.SQL(" OR ").join(named)),
    )
    span = {"chain": chain, "subjects": list(subjects), "lo": blocks[0], "hi": blocks[1]}
    found = store.transaction(lambda c: c.execute(query, span).fetchall())
    return {block: frozenset(rows) for block, rows in found}


def names(store: Store, chain: str, kind: Kind, block: int) -> set[str]:
    """Everybody that the stored rows of a block name."""
    query = sql.SQL("SELECT {} FROM {} WHERE chain = %s AND block_number = %s").format(
        sql.SQL(", ").join(map(sql.Identifier, kind.subject_columns)), sql.Identifier("raw", kind.table.name)
    )
    found = store.transaction(lambda c: c.execute(query, [chain, block]).fetchall())
    return {name for row in found for name in row if name is not None}


def merged(parts: Sequence[Reading]) -> Reading:
    """Readings of the same blocks for several subjects as one: a record that names two of them is there once."""
    if len(parts) == 1:
        return parts[0]
    most: Counter[bytes] = Counter()
    rows: list[Row] = []
    for part in parts:
        seen: Counter[bytes] = Counter()
        for row in part.page.good:
            seen[row.identity] += 1
            if seen[row.identity] > most[row.identity]:
                most[row.identity] += 1
                rows.append(row)
    rows.sort(key=lambda row: row.block)
    bad = [letter for part in parts for letter in part.page.bad]
    return Reading(parts[0].lo, parts[0].hi, Page(rows, bad, is_last=True), parts[0].level)


@dataclass(frozen=True, slots=True)
class Account:
    """One figure of one account: its nonce, its ether, or its balance of a token.

    Args:
        store: where the rows are.
        chain: its name.
        proof: `nonce` or `balance`.
        address: whose.
        token: of a token transfer's balance; empty for ether and nonces.
        sum: what its rows added up to when it was made.
    """

    store: Store
    chain: str
    proof: str
    address: str
    token: str
    sum: int

    @property
    def name(self) -> str:
        """For a sentence."""
        return f"{self.address} in token {self.token}" if self.token else self.address

    def figure(self, state: State, block: int) -> int | None:
        """The figure after a block, as the chain's state has it; None where the token's contract gives none."""
        if self.proof == "nonce":
            return state.nonce(self.address, block)
        if self.token:
            return self._of_token(state, block)
        return state.balance(self.address, block)

    def _of_token(self, state: State, block: int) -> int | None:
        try:
            return state.token_balance(self.token, self.address, block)
        except Misconfigured:  # the contract's fault, not the provider's; or it did not exist yet
            return None if state.has_code(self.token, block) else 0

    def stored(self, kinds: Sequence[Kind], lo: int, hi: int) -> int:
        """How the stored rows of these kinds move the figure in the blocks lo..hi."""
        sums = _sums(self.store, self.chain, self.proof, kinds, subjects=[self.address], blocks=(lo, hi))
        return sums.get((self.address, self.token), 0) % MODULUS

    def moved(self, kind: Kind, rows: Iterable[Row]) -> int:
        """How these rows, which may not be stored, move the figure."""
        return sum(self._moved_by(kind, row) for row in rows) % MODULUS

    def _moved_by(self, kind: Kind, row: Row) -> int:
        """The same as `_MOVES`, of one row."""
        _, sender, receiver, *token, value = row.key.decode().split("\t")
        attributes = row.attributes.decode().split("\t")
        if self.proof == "nonce":
            return sender == self.address
        if kind is TOKEN_TRANSFERS:
            amount = int(value) if token == [self.token] else 0
            return amount * ((receiver == self.address) - (sender == self.address))
        if kind is TRANSACTIONS:
            _, contract, _, gas_used, gas_price, succeeded, *_ = attributes
            amount, fee = int(value) if succeeded == "t" else 0, int(gas_used) * int(gas_price)
        else:
            _, contract, failed, *_ = attributes
            amount, fee = int(value) if failed == "f" else 0, 0
        whom = contract if receiver == NULL else receiver
        return amount * (whom == self.address) - (amount + fee) * (sender == self.address)


def accounts(
    store: Store, chain: str, kinds: Sequence[Kind], *, proof: str, subjects: Sequence[str], blocks: Range
) -> Iterator[Account]:
    """The figures of these accounts. All that their rows add up to is found in one pass over the blocks.

    Args:
        store: where the rows are.
        chain: its name.
        kinds: whose rows.
        proof: `nonce` or `balance`.
        subjects: the accounts.
        blocks: first and last.
    """
    sums = _sums(store, chain, proof, kinds, subjects=subjects, blocks=blocks)
    names = sums if TOKEN_TRANSFERS in kinds else [(subject, "") for subject in subjects]
    for address, token in names:
        yield Account(store, chain, proof, address, token, sums.get((address, token), 0) % MODULUS)


def _sums(
    store: Store, chain: str, proof: str, kinds: Sequence[Kind], *, subjects: Sequence[str], blocks: Range
) -> Totals:
    moves = " UNION ALL ".join(_MOVES[proof, kind.name] for kind in kinds)
    query = f"SELECT address, token, sum(moved) FROM ({moves}) AS movements WHERE address = ANY(%(subjects)s) GROUP BY 1, 2"
    span = {"chain": chain, "subjects": list(subjects), "lo": blocks[0], "hi": blocks[1]}
    found = store.transaction(lambda c: c.execute(query, span).fetchall())
    return {(address, token): int(total) for address, token, total in found}


_IN_BLOCKS = "chain = %(chain)s AND block_number BETWEEN %(lo)s AND %(hi)s"
# A failed transaction moves nothing but its fee; a contract's creation pays into what it creates.
_MOVES = {
    ("nonce", "transactions"): f"""
        SELECT from_address AS address, '' AS token, 1 AS moved FROM raw.evm_transactions WHERE {_IN_BLOCKS}""",
    ("balance", "transactions"): f"""
        SELECT from_address AS address, '' AS token,
               -(gas_used * gas_price) - CASE WHEN succeeded THEN value ELSE 0 END AS moved
        FROM raw.evm_transactions WHERE {_IN_BLOCKS}
        UNION ALL
        SELECT coalesce(to_address, contract_address), '', value FROM raw.evm_transactions
        WHERE {_IN_BLOCKS} AND succeeded""",
    ("balance", "internal_transactions"): f"""
        SELECT from_address AS address, '' AS token, -value AS moved FROM raw.evm_internal_transactions
        WHERE {_IN_BLOCKS} AND NOT failed
        UNION ALL
        SELECT coalesce(to_address, contract_address), '', value FROM raw.evm_internal_transactions
        WHERE {_IN_BLOCKS} AND NOT failed""",
    ("balance", "token_transfers"): f"""
        SELECT from_address AS address, token_address AS token, -value AS moved FROM raw.evm_token_transfers
        WHERE {_IN_BLOCKS}
        UNION ALL
        SELECT to_address, token_address, value FROM raw.evm_token_transfers WHERE {_IN_BLOCKS}""",
}
