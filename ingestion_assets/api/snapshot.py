"""How far the store is, as of a moment: read every other second by one task, and shared by all answers.

An answer needs it for its freshness, its coverage and its warnings, and none of that may cost a query each time. What the rows
themselves are is always read from the database, but for pages that are kept ready (`warm`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from ingestion_assets.api.config import ApiConfig, ServedChain
from ingestion_assets.api.database import Database
from ingestion_assets.engine.coverage import Range, Ranges, union


@dataclass(frozen=True, slots=True)
class Piece:
    """A covered range of a stream."""

    lo: int
    hi: int
    evidence: str
    provider: str
    records: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ProviderState:
    """One provider of a chain."""

    name: str
    state: str
    failures: int
    until: datetime | None
    reason: str | None
    lies: int
    used_today: int
    per_day: int | None
    queued: int
    succeeded_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChainState:
    """What is known of a chain from its last check."""

    head: int | None = None
    final: int | None = None
    checked_at: datetime | None = None
    providers: tuple[ProviderState, ...] = ()

    @property
    def failures(self) -> int:
        """Failures in a row, of the provider that fails least: while one answers, the chain does not fail."""
        return min((one.failures for one in self.providers), default=0)

    @property
    def backoff_until(self) -> datetime | None:
        """When somebody may be asked again; None: somebody may be asked now, or nobody was asked yet."""
        waits = [one.until for one in self.providers if one.state == "open" and one.until is not None]
        return min(waits) if waits and len(waits) == len(self.providers) else None

    @property
    def queued(self) -> int:
        """Requests that wait for their turn at its providers."""
        return sum(one.queued for one in self.providers)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The store at a moment; equal to itself only, so that what follows from it can be remembered. All but `taken_at` and `chains` is shared with the one before as long as `version` is the same."""

    taken_at: datetime
    version: str  # another one: rows or marks have changed since
    chains: Mapping[str, ChainState] = field(default_factory=dict[str, ChainState])
    pieces: Mapping[str, tuple[Piece, ...]] = field(default_factory=dict[str, tuple[Piece, ...]])
    ingested: Mapping[str, datetime] = field(default_factory=dict[str, datetime])  # last commit, by chain
    letters: Mapping[str, int] = field(default_factory=dict[str, int])  # open dead letters, by stream
    unproved: Mapping[str, tuple[tuple[Range, str], ...]] = field(
        default_factory=dict[str, tuple[tuple[Range, str], ...]]
    )
    pending: Mapping[str, Ranges] = field(
        default_factory=dict[str, Ranges]
    )  # blocks not transferred yet, by chain
    floors: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # the first block that is kept, by chain
    days: Mapping[str, Mapping[date, int]] = field(
        default_factory=dict[str, Mapping[date, int]]
    )  # the first block of days, by chain
    counts: Mapping[str, int] = field(default_factory=dict[str, int])  # stored transfers, by chain
    uncounted: frozenset[str] = frozenset()  # chains whose counts are being made anew

    def of(self, chain: ServedChain) -> ChainState:
        """What is known of a chain."""
        return self.chains.get(chain.name, ChainState())


# The last two see to it that rows which anybody else writes are noticed too.
_VERSION = b"""
    SELECT concat_ws('/', (SELECT concat_ws('.', count(*), max(updated_at), sum(hi - lo)) FROM ops.coverage),
                     (SELECT concat_ws('.', count(*), max(id), count(settled_at)) FROM ops.dead_letters),
                     (SELECT concat_ws('.', count(*), max(noticed_at)) FROM ops.unproved),
                     (SELECT concat_ws('.', count(*), max(id)) FROM ops.transfer_changes),
                     (SELECT count(*) FROM ops.transfer_cells),
                     (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname = 'core'))"""
_CHAINS = b"SELECT chain, head, final, checked_at FROM ops.chains"
_PROVIDERS = b"""
    SELECT scope, provider, state, failures, until, reason, lies, succeeded_at, failed_at FROM ops.providers"""
_QUEUES = b"SELECT budget, count(*) FROM ops.rate_queue WHERE until > now() GROUP BY 1"
_USED = b"SELECT budget, used FROM ops.rate_days WHERE day = (now() AT TIME ZONE 'UTC')::date"
_COVERAGE = (
    b"SELECT stream, lo, hi, evidence, provider, records, updated_at FROM ops.coverage ORDER BY stream, lo"
)
_INGESTED = b"SELECT split_part(stream, '/', 3), max(updated_at) FROM ops.coverage WHERE stream ~ '^(evm|transfers)/' GROUP BY 1"
_LETTERS = b"SELECT stream, count(*) FROM ops.dead_letters WHERE settled_at IS NULL GROUP BY 1"
_UNPROVED = b"SELECT stream, lo, hi, reason FROM ops.unproved ORDER BY stream, lo"
_PENDING = b"""
    SELECT chain, lower(r), upper(r) - 1
    FROM (SELECT chain, unnest(range_agg(blocks)) AS r FROM ops.transfer_changes GROUP BY chain) AS ranges ORDER BY 1, 2"""
_FLOORS = b"SELECT chain, block FROM ops.transfer_floors"
_DAYS = b"SELECT chain, day, block FROM ops.block_times ORDER BY chain, day"
_COUNTS = b"SELECT chain, sum(transfer_count)::bigint FROM core.transfer_daily_totals GROUP BY 1"
_UNCOUNTED = b"SELECT DISTINCT chain FROM ops.transfer_cells"


async def take(database: Database, config: ApiConfig, last: Snapshot | None) -> Snapshot:
    """Look at the store.

    Args:
        database: where it is.
        config: whose chains.
        last: what was seen before; the rest is read again only if something has changed since.

    Raises:
        CannotServe: it cannot be looked at.
    """
    [version] = await database.row(_VERSION)
    chains = await _chains(database, config.chains)
    now = datetime.now(UTC)
    if last is not None and last.version == version:
        return replace(last, taken_at=now, chains=chains)
    pieces: defaultdict[str, list[Piece]] = defaultdict(list)
    for stream, *piece in await database.rows(_COVERAGE):
        pieces[stream].append(Piece(*piece))
    unproved: defaultdict[str, list[tuple[Range, str]]] = defaultdict(list)
    for stream, lo, hi, reason in await database.rows(_UNPROVED):
        unproved[stream].append(((lo, hi), reason))
    pending: defaultdict[str, list[Range]] = defaultdict(list)
    for chain, lo, hi in await database.rows(_PENDING):
        pending[chain].append((lo, hi))
    days: defaultdict[str, dict[date, int]] = defaultdict(dict)
    for chain, day, block in await database.rows(_DAYS):
        days[chain][day] = block
    return Snapshot(
        now,
        version,
        chains,
        pieces={stream: tuple(found) for stream, found in pieces.items()},
        ingested=dict(await database.rows(_INGESTED)),
        letters=dict(await database.rows(_LETTERS)),
        unproved={stream: tuple(found) for stream, found in unproved.items()},
        pending={chain: union(found) for chain, found in pending.items()},
        floors=dict(await database.rows(_FLOORS)),
        days=days,
        counts=dict(await database.rows(_COUNTS)),
        uncounted=frozenset(chain for (chain,) in await database.rows(_UNCOUNTED)),
    )


async def _chains(database: Database, served: Iterable[ServedChain]) -> dict[str, ChainState]:
    looked = {chain: (head, final, at) for chain, head, final, at in await database.rows(_CHAINS)}
    used: dict[str, int] = dict(await database.rows(_USED))
    queues: dict[str, int] = dict(await database.rows(_QUEUES))
    states = {(scope, name): rest for scope, name, *rest in await database.rows(_PROVIDERS)}
    found: dict[str, ChainState] = {}
    for chain in served:
        providers: list[ProviderState] = []
        for one in chain.providers:
            state, failures, until, reason, lies, succeeded_at, failed_at = states.get(
                (chain.name, one.name), ("closed", 0, None, None, 0, None, None)
            )
            providers.append(
                ProviderState(
                    one.name,
                    state,
                    failures,
                    until,
                    reason,
                    lies,
                    used.get(one.budget, 0),
                    one.per_day,
                    queues.get(one.budget, 0),
                    succeeded_at,
                    failed_at,
                )
            )
        found[chain.name] = ChainState(*looked.get(chain.name, (None, None, None)), tuple(providers))
    return found
