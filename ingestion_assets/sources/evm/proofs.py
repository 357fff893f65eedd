"""Proofs: what is stored is held against a second provider, or against the chain's state, and mended.

A proof is a stream like any other. It reads what is covered, and its marks raise the evidence. Proofs compare with what is
committed, so they are drained without reading ahead.
"""

from collections.abc import Iterable

from ingestion_assets.engine.store import Store
from ingestion_assets.orchestration.proving import Proof
from ingestion_assets.sources.evm.reckoning import Reckoning
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS, TRANSACTIONS
from ingestion_assets.sources.evm.recount import Recount
from ingestion_assets.sources.evm.streams import History

PROOFS = ("nonce", "balance", "counted")


def proofs(history: History, wanted: Iterable[str], store: Store, *, again: bool = False) -> list[Proof]:
    """The proofs of a history, of those that are wanted; the strongest comes last.

    Args:
        history: what was read.
        wanted: some of `PROOFS`.
        store: where it is.
        again: also of what has been proved before.
    """
    found: list[Proof] = []
    with_transactions = History(history.chain, TRANSACTIONS, history.subjects, history.days)
    if "nonce" in wanted and history.kind is TRANSACTIONS:
        found.append(Reckoning("nonce", (history,), store, again=again))
    if "balance" in wanted and history.kind is INTERNAL_TRANSACTIONS:
        found.append(Reckoning("balance", (history, with_transactions), store, again=again))
    if "balance" in wanted and history.kind is TOKEN_TRANSFERS:
        found.append(Reckoning("balance", (history,), store, again=again))
    if "counted" in wanted:
        found.append(Recount(history, store, again=again))
    return found
