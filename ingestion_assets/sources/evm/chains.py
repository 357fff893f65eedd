"""The chains of sources.yaml, opened: which providers each has, which streams, and what a sync should read."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ingestion_assets.engine.budget import Budget, SharedBudget, budget_name, finish_estimate
from ingestion_assets.engine.budgets import shared_budget
from ingestion_assets.engine.coverage import Range, difference, intersection, union
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store
from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.ingest import Unprovable
from ingestion_assets.orchestration.proving import Proof
from ingestion_assets.sources.evm import remarks
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.config import ChainConfig
from ingestion_assets.sources.evm.proofs import PROOFS, proofs
from ingestion_assets.sources.evm.provider import ALL, Provider
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.records import ERC20_TRANSFERS, KINDS, TRANSACTIONS, Kind
from ingestion_assets.sources.evm.streams import History, kind_of, stream_key, stream_keys

log = logging.getLogger(__name__)

UNPROVED_RESTS = timedelta(hours=1)
ALONE, AMONG_OTHERS = 5, 2  # attempts of one question, where sources.yaml does not say


def watched_kinds(config: ChainConfig) -> tuple[Kind, ...]:
    """The kinds of records that a chain is read for."""
    return (
        *(KINDS if config.addresses or not config.tokens else ()),
        *((ERC20_TRANSFERS,) if config.tokens else ()),
    )


class Chains:
    """The chains of sources.yaml, opened when first asked for. One for each run, sensor tick or command.

    Args:
        configs: by name.
        variables: where the API keys are.
        store: for marks, and for what processes share: budgets, and the state of providers.
        attempts: of one question; None: as sources.yaml says.
    """

    def __init__(
        self,
        configs: Mapping[str, ChainConfig],
        variables: Mapping[str, str],
        store: Store,
        *,
        attempts: int | None = None,
    ) -> None:
        self.configs = configs
        self.store = store
        self._variables = variables
        self._attempts = attempts
        self._open: dict[str, tuple[Chain, list[Provider]]] = {}
        self._systems: dict[str, str] = {}  # by provider
        self._budgets: dict[tuple[str, str], Budget] = {}  # by chain and provider

    def chain(self, name: str) -> Chain:
        """A chain, ready to be asked.

        Raises:
            Misconfigured: it is not in sources.yaml, or the variable that holds its key is not set.
        """
        if name not in self._open:
            self._open[name] = self._connect(name)
        return self._open[name][0]

    def providers(self, name: str) -> list[Provider]:
        """The providers of a chain, the most preferred first."""
        self.chain(name)
        return self._open[name][1]

    def _config(self, name: str) -> ChainConfig:
        if name not in self.configs:
            raise Misconfigured(
                f"sources.yaml has no chain {name!r}; it has {', '.join(sorted(self.configs)) or 'none'}"
            )
        return self.configs[name]

    def _connect(self, name: str) -> tuple[Chain, list[Provider]]:
        config = self._config(name)
        providers = self._providers(name, config)
        chain = Chain(
            name,
            chain_id=config.chain_id,
            start=config.start,
            finality=config.finality,
            follow_head=config.follow_head,
            providers=Failover(self.store, name, providers),
            store=self.store,
            systems=self._systems,
        )
        return chain, providers

    def _providers(self, chain: str, config: ChainConfig) -> list[Provider]:
        """Each provider, once for each of its keys. One whose key is missing is left out as long as there are others."""
        found: list[Provider] = []
        missing: list[str] = []
        wanted = config.named()
        attempts = ALONE if len(wanted) == 1 else AMONG_OTHERS
        for name, provider, variable in wanted:
            if variable is not None and not self._variables.get(variable):
                missing.append(
                    f"chains.{chain}: the variable {variable}, which should hold the API key of {name}, is not set; "
                    "export it, or remove key_env from sources.yaml to ask without a key"
                )
                continue
            key = None if variable is None else self._variables[variable]
            self._systems[name] = provider.system
            self._budgets[chain, name] = budget = self._budget(provider, key)
            found.append(
                provider.open(
                    self._client(provider, key, budget, attempts),
                    name=name,
                    chain=chain,
                    chain_id=config.chain_id,
                    store=self.store,
                )
            )
        if not found:
            raise Misconfigured("; ".join(missing))
        for message in missing:
            log.warning("%s", message)
        return found

    def _client(self, provider: ProviderConfig, key: str | None, budget: Budget, attempts: int) -> Client:
        return Client(
            str(provider.url),
            secrets=provider.secrets(key),
            budget=budget,
            timeout=provider.timeout_seconds,
            attempts=self._attempts or provider.attempts or attempts,
            errors_in_body=provider.errors_in_body,
            unit=provider.reset_unit,
        )

    def _budget(self, provider: ProviderConfig, key: str | None) -> Budget:
        return shared_budget(
            self.store,
            budget_name(provider.url.host or "", key),
            per_second=provider.requests_per_second,
            per_day=provider.requests_per_day,
            lease=provider.timeout_seconds,
        )

    def used_today(self, chain: str, provider: str) -> int:
        """Requests of this UTC day, of all processes that share the key; 0 where nobody counts them."""
        budget = self._budgets[chain, provider]
        return budget.used_today() if isinstance(budget, SharedBudget) else 0

    def per_day(self, chain: str, provider: str) -> int | None:
        """Requests that are allowed in a UTC day; None: as many as there is time for."""
        budget = self._budgets[chain, provider]
        return budget.per_day if isinstance(budget, SharedBudget) else None

    def streams(self, kind: Kind, chain: str, days: tuple[partitions.Span, ...]) -> list[History]:
        """One stream for all that is watched of this kind on the chain."""
        config = self.configs[chain]
        subjects = config.tokens if kind is ERC20_TRANSFERS else config.addresses
        self.chain(chain).renew()  # a step that is tried again begins here
        return [History(self.chain(chain), kind, subjects, days)] if subjects else []

    def proofs(
        self,
        kind: Kind,
        chain: str,
        days: tuple[partitions.Span, ...],
        *,
        wanted: Sequence[str] | None = None,
        again: bool = False,
    ) -> list[Proof]:
        """The proofs of what is stored of this kind: those that sources.yaml wants, or others.

        Args:
            kind: of records.
            chain: its name.
            days: whose records.
            wanted: names of proofs; None: as sources.yaml says.
            again: also of what has been proved before.

        Raises:
            Misconfigured: there is no such proof.
        """
        names = tuple(self.configs[chain].proofs if wanted is None else wanted)
        for name in names:
            if name not in PROOFS:
                raise Misconfigured(f"there is no proof {name!r}; there are {', '.join(PROOFS)}")
        return [
            proof
            for history in self.streams(kind, chain, days)
            for proof in proofs(history, names, self.store, again=again)
        ]

    def read_ahead(self, chains: Iterable[str]) -> int:
        """Pages that may be read while one is committed: what the most careful provider allows."""
        return min((one.read_ahead for name in chains for one in self.configs[name].providers), default=0)

    def finish(self, chains: Iterable[str], requests: int) -> datetime | None:
        """When so many requests can be through, if the most preferred provider of each chain does all of its part."""
        names = list(chains)
        now = datetime.now(UTC)
        ends: list[datetime] = []
        for name in names:
            config, provider = self.configs[name].providers[0], self.providers(name)[0].name
            if config.requests_per_second is not None or config.requests_per_day is not None:
                end = finish_estimate(
                    requests_left=-(-requests // len(names)),
                    per_second=config.requests_per_second,
                    per_day=config.requests_per_day,
                    used_today=self.used_today(name, provider),
                    now=now,
                )
                ends.append(end)
        return max(ends, default=None)

    def states(self, chains: Iterable[str]) -> dict[str, list[dict[str, object]]]:
        """Each provider of these chains as all processes see it, in order of preference, for people to read."""
        return {
            name: [
                {
                    "provider": state.provider,
                    "state": state.state,
                    "until": state.until.isoformat() if state.until else None,
                    "failures": state.failures,
                    "reason": state.reason,
                    "unsupported": sorted(state.unsupported),
                    "lies": state.lies,
                    "last_lie": state.last_lie,
                    "used_today": self.used_today(name, state.provider),
                    "per_day": self.per_day(name, state.provider),
                }
                for state in self.chain(name).providers.states()
            ]
            for name in chains
        }

    def remarks(self, kind: Kind, name: str) -> list[str]:
        """What is odd about what is watched and was never read before, a sentence each."""
        config = self.configs[name]
        subjects = config.tokens if kind is ERC20_TRANSFERS else config.addresses
        covered = self.store.covered(stream_key(kind, name, subject) for subject in subjects)
        new = [one for one in subjects if one != ALL and stream_key(kind, name, one) not in covered]
        if kind is ERC20_TRANSFERS:
            return remarks.on_tokens(self.chain(name), new)
        return remarks.on_accounts(self.chain(name), new) if kind is TRANSACTIONS else []

    def all_days(self, name: str) -> partitions.Span:
        """The first and the last day of a chain, today.

        Raises:
            Misconfigured: it is not in sources.yaml.
        """
        return self._config(name).start, datetime.now(UTC).date()

    def partitions_of(self, unproved: Unprovable) -> set[str]:
        """The partitions that unproved blocks lie in."""
        blocks: dict[str, list[Range]] = {}
        for stream, gaps in unproved.items():
            blocks.setdefault(stream.split("/")[2], []).extend((gap.lo, gap.hi) for gap in gaps)
        return {key for name, found in blocks.items() for key in self.partitions_between(name, found)}

    def partitions_between(self, name: str, blocks: Iterable[Range]) -> set[str]:
        """The partitions of the days that these blocks fall on."""
        found: set[str] = set()
        for days in self.chain(name).days_of(union(blocks)):
            found.update(partitions.keys(name, days))
        return found

    def pending(self, name: str) -> set[str]:
        """The partitions a sync should run: what lies between the first covered block and the last wanted one, uncovered.

        What is watched since a moment ago begins where the others of its kind do; where nothing is covered at all, with
        the last block: history is a backfill's business. Gaps that no provider could prove whole are looked at again after
        an hour: an index may have caught up.
        """
        config = self.configs[name]
        keys = stream_keys(name, config.addresses, config.tokens)
        if not keys:
            return set()
        chain = self.chain(name)
        last = chain.last()
        if last < 0:
            return set()
        covered = self.store.covered(keys)
        unproved = self.store.unproved(keys, within=UNPROVED_RESTS)
        begins = {key: ranges[0][0] for key, ranges in covered.items()}
        for key, lo, _ in self.store.open_letter_ranges(keys):  # a replay may have taken the first range out
            begins[key] = min(lo, begins.get(key, lo))
        first: dict[str, int] = {}
        for key, begin in begins.items():
            first[kind_of(key)] = min(begin, first.get(kind_of(key), begin))
        gaps: list[Range] = []
        for key in keys:
            begin = begins.get(key, first.get(kind_of(key), last))
            gaps += difference([(begin, last)], (*covered.get(key, ()), *unproved.get(key, ())))
        if gaps:
            gaps = list(intersection(gaps, [(chain.first_block(config.start), last)]))
        return self.partitions_between(name, gaps)

    def close(self) -> None:
        """Close all connections to providers."""
        for _, providers in self._open.values():
            for provider in providers:
                provider.close()
