"""Which chains a question is about, and what of its parameters belongs together."""

from collections.abc import Sequence

from ingestion_assets.api.config import ApiConfig, ServedChain
from ingestion_assets.api.errors import BadQuestion, Wrong
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.parameters import Filter, OfChains

ALL = ("", "0", "all")


def chosen(config: ApiConfig, question: OfChains) -> Sequence[ServedChain]:
    """The chains of a question.

    Raises:
        BadQuestion: there is no such chain.
    """
    key = question.chain_id.strip().lower()
    if key in ALL:
        return config.chains
    chain = config.chain(key)
    if chain is None:
        known = ", ".join(f"{one.chain_id} ({one.name})" for one in config.chains)
        raise BadQuestion(
            Wrong("chainId", question.chain_id, f"known are 0 or all, {known or 'and no chain'}")
        )
    return (chain,)


def filtered(chains: Sequence[ServedChain], question: Filter, *, newest_first: bool) -> Wanted:
    """What a filter wants.

    Raises:
        BadQuestion: its parameters contradict each other.
    """
    lo, hi = question.start_block, question.end_block
    if lo is not None and hi is not None and lo > hi:
        raise BadQuestion(Wrong("startBlock", lo, f"at most endBlock, {hi}"))
    if question.block is not None:
        if (lo or 0) > question.block or (hi is not None and hi < question.block):
            raise BadQuestion(Wrong("block", question.block, "a block between startBlock and endBlock"))
        lo = hi = question.block
    if question.from_ is not None and question.to is not None and question.from_ >= question.to:
        raise BadQuestion(Wrong("from", question.from_.isoformat(), f"before to, {question.to.isoformat()}"))
    return Wanted(
        chains=tuple(chain.name for chain in chains),
        newest_first=newest_first,
        lo=lo,
        hi=hi,
        address=question.address,
        token=question.token,
        hash=question.hash,
        since=question.from_,
        until=question.to,
    )
