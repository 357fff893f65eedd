"""What is known to be whole: which streams can answer a question, and how much of it they cover.

A question about an account is answered by the stream of its token transfers; one about a token by the stream of all transfers of
the token; one about neither by all streams of the chain together, for then every watched account and token has to be read. Covered
means: read by `evm`, and in `core.transfers` by now.
"""

from collections.abc import Sequence
from functools import lru_cache

from msgspec.structs import replace

from ingestion_assets.api.answers import BlockRange, ChainCoverage, CoveredRange
from ingestion_assets.api.config import ALL_TOKENS, ServedChain
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection, union
from ingestion_assets.engine.stream import LEVELS

MOST_SHOWN = 20  # ranges, and gaps, of one chain in an answer

# Of `evm`, which keeps a mark for each watched account and token: `evm/token_transfers/base/0xabc…`
TRANSACTIONS = "evm/transactions"
INTERNAL_TRANSACTIONS = "evm/internal_transactions"
OF_ACCOUNT = "evm/token_transfers"
OF_TOKEN = "evm/erc20_transfers"  # noqa: S105 - a token of another kind


def key(kind: str, chain: ServedChain, subject: str) -> str:
    """The stream of an account or a token."""
    return f"{kind}/{chain.name}/{subject}"


def watched(chain: ServedChain) -> list[str]:
    """All streams that transfers of a chain come from."""
    return [
        *(key(OF_ACCOUNT, chain, address) for address in sorted(chain.addresses)),
        *(key(OF_TOKEN, chain, token) for token in sorted(chain.tokens)),
    ]


def able(chain: ServedChain, address: str | None, token: str | None) -> list[str]:
    """Streams each of which, alone, has all transfers of this account, of this token, or of this account in this token."""
    found: list[str] = []
    if address is not None and address in chain.addresses:
        found.append(key(OF_ACCOUNT, chain, address))
    if token is not None and token in chain.tokens:
        found.append(key(OF_TOKEN, chain, token))
    if ALL_TOKENS in chain.tokens:
        found.append(key(OF_TOKEN, chain, ALL_TOKENS))
    return found


def covered(snapshot: Snapshot, stream: str) -> Ranges:
    """The blocks of a stream that are whole."""
    return union((piece.lo, piece.hi) for piece in snapshot.pieces.get(stream, ()))


def of_question(snapshot: Snapshot, chain: ServedChain, wanted: Wanted) -> tuple[Ranges, list[str]]:
    """What is whole of the transfers that are wanted of a chain: the blocks, and the streams that say so."""
    if streams := able(chain, wanted.address, wanted.token):
        ranges = union(blocks for stream in streams for blocks in covered(snapshot, stream))
    else:
        streams = watched(chain)
        ranges = everywhere(snapshot, chain)
    return difference(ranges, snapshot.pending.get(chain.name, ())), streams


def _note(chain: ServedChain, wanted: Wanted) -> str | None:
    """A sentence where the store cannot have all transfers of an account or a token."""
    account = [f"account {wanted.address}"] if wanted.address else []
    token = [f"token {wanted.token}"] if wanted.token else []
    if not (account or token) or able(chain, wanted.address, wanted.token):
        return None
    return f"{' in '.join(account + token)} is not watched on {chain.name}: there are only transfers that involve what is"


@lru_cache(maxsize=64)
def everywhere(snapshot: Snapshot, chain: ServedChain) -> Ranges:
    """The blocks that every stream of a chain has read."""
    common: Ranges | None = None
    for stream in watched(chain):
        ranges = covered(snapshot, stream)
        common = ranges if common is None else intersection(common, ranges)
        if not common:
            break
    return common or ()


def span(snapshot: Snapshot, chain: ServedChain, wanted: Wanted, ranges: Ranges) -> Range | None:
    """From where to where a question reaches: the blocks it names, and no further than the chain was seen and is kept."""
    state, days = snapshot.of(chain), snapshot.days.get(chain.name, {})
    last = max(
        [block for block in (state.final, ranges[-1][1] if ranges else None) if block is not None], default=-1
    )
    first = days.get(chain.start)
    if first is None:
        first = ranges[0][0] if ranges else last + 1
    first = max(first, snapshot.floors.get(chain.name, 0))
    if wanted.since is not None:  # to the whole day
        first = max([first, *(block for day, block in days.items() if day == wanted.since.date())])
    if wanted.until is not None:
        last = min([last, *(block - 1 for day, block in days.items() if day > wanted.until.date())])
    lo, hi = max(first, wanted.lo or 0), last if wanted.hi is None else min(last, wanted.hi)
    return (lo, hi) if lo <= hi else None


def of_answer(snapshot: Snapshot, chain: ServedChain, wanted: Wanted) -> ChainCoverage:
    """What an answer says of its own completeness on one chain."""
    note = _note(chain, wanted)
    # What nobody watches is answered by all that is watched: the same for every such account and token.
    address, token = (wanted.address, wanted.token) if note is None else (None, None)
    within = Wanted(
        (), lo=wanted.lo, hi=wanted.hi, address=address, token=token, since=wanted.since, until=wanted.until
    )
    found = _of_answer(snapshot, chain, within)
    return found if note is None else replace(found, complete=False, note=note)


@lru_cache(maxsize=512)
def _of_answer(snapshot: Snapshot, chain: ServedChain, wanted: Wanted) -> ChainCoverage:
    ranges, streams = of_question(snapshot, chain, wanted)
    reach = span(snapshot, chain, wanted, ranges)
    inside = intersection(ranges, [reach]) if reach else ()
    gaps = difference([reach], inside) if reach else ()
    pieces = weakest(snapshot, streams, inside)
    return ChainCoverage(
        chain_id=chain.chain_id,
        chain_name=chain.name,
        spans=BlockRange(lo=reach[0], hi=reach[1]) if reach else None,
        complete=bool(reach) and not gaps,
        evidence=min((piece.evidence for piece in pieces), key=LEVELS.index, default=None),
        ranges=pieces[-MOST_SHOWN:],
        gaps=[BlockRange(lo=lo, hi=hi) for lo, hi in gaps[-MOST_SHOWN:]],
        truncated=max(len(pieces), len(gaps)) > MOST_SHOWN,
    )


def weakest(snapshot: Snapshot, streams: Sequence[str], ranges: Ranges) -> list[CoveredRange]:
    """Each range with the weakest evidence that any of the streams has anywhere in it."""
    pieces = sorted(
        (piece.lo, piece.hi, piece.evidence)
        for stream in streams
        for piece in snapshot.pieces.get(stream, ())
    )
    found: list[CoveredRange] = []
    for lo, hi in ranges:
        levels = {level for low, high, level in pieces if low <= hi and lo <= high}
        found.append(CoveredRange(lo=lo, hi=hi, evidence=min(levels, key=LEVELS.index, default=LEVELS[0])))
    return found
