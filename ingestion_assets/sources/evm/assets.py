"""The assets of this family, and how a run's partitions become streams. The only module here that knows Dagster."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import dagster as dg

from ingestion_assets.engine.budget import Budget, SharedBudget, Unlimited, budget_name
from ingestion_assets.engine.coverage import Range, difference, intersection, union
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store
from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import Ingestion, Unprovable, ingest
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import sync
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.config import ChainConfig, EtherscanProvider
from ingestion_assets.sources.evm.etherscan import Etherscan
from ingestion_assets.sources.evm.records import KINDS, Kind
from ingestion_assets.sources.evm.streams import AccountHistory, stream_keys

RESOURCE, LOOKING = "evm", "evm_looking"  # resource keys

DESCRIPTIONS = {
    "transactions": "Transactions sent by or to a watched account, failed ones and contract creations included.",
    "internal_transactions": "Calls with value, creations and self-destructs inside transactions that name a watched account.",
    "token_transfers": "ERC-20 transfers in and out of every watched account, identical ones within a transaction each for itself.",
}


class Chains:
    """The chains of sources.yaml, opened when first asked for. One for each run, sensor tick or command.

    Args:
        configs: by name.
        variables: where the API keys are.
        store: for marks, and for budgets that processes share.
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
        self._open: dict[str, tuple[Chain, Client]] = {}

    def chain(self, name: str) -> Chain:
        """A chain, ready to be asked.

        Raises:
            Misconfigured: it is not in sources.yaml, or the variable that holds its key is not set.
        """
        if name not in self._open:
            self._open[name] = self._connect(name)
        return self._open[name][0]

    def _connect(self, name: str) -> tuple[Chain, Client]:
        if name not in self.configs:
            raise Misconfigured(
                f"sources.yaml has no chain {name!r}; it has {', '.join(sorted(self.configs)) or 'none'}"
            )
        config = self.configs[name]
        provider = config.providers[0]
        client = self._client(name, provider)
        explorer = Etherscan(
            client, name, config.chain_id, page_size=provider.page_size, result_window=provider.result_window
        )
        return Chain(
            name, start=config.start, finality=config.finality, provider=explorer, store=self.store
        ), client

    def _client(self, chain: str, provider: EtherscanProvider) -> Client:
        key = None
        if provider.key_env is not None:
            key = self._variables.get(provider.key_env)
            if not key:
                raise Misconfigured(
                    f"chains.{chain}: the variable {provider.key_env}, which should hold the API key, is not set; "
                    "export it, or remove key_env from sources.yaml to ask without a key"
                )
        return Client(
            str(provider.url),
            secrets={"apikey": key} if key else {},
            budget=self._budget(provider, key),
            timeout=provider.timeout_seconds,
            attempts=self._attempts or provider.attempts,
        )

    def _budget(self, provider: EtherscanProvider, key: str | None) -> Budget:
        rate = provider.requests_per_second
        if rate is None and provider.requests_per_day is None:
            return Unlimited()
        # Whole requests in a window, rounded down: 3 a second are 3 in 1 s, 2.5 are 2 in 1 s, 0.5 is 1 in 2 s.
        window = 1.0 if rate is None or rate == int(rate) else max(1.0, 1 / rate)
        requests = 1_000 if rate is None else max(1, int(rate * window))
        return SharedBudget(
            self.store,
            budget_name(provider.url.host or "", key),
            requests=requests,
            window=window,
            per_day=provider.requests_per_day,
            lease=provider.timeout_seconds,
        )

    def streams(self, kind: Kind, chain: str, days: tuple[partitions.Span, ...]) -> list[AccountHistory]:
        """One stream for each watched account of the chain."""
        opened = self.chain(chain)
        return [AccountHistory(opened, kind, address, days) for address in self.configs[chain].addresses]

    def partitions_of(self, unproved: Unprovable) -> set[str]:
        """The partitions that unproved blocks lie in."""
        found: set[str] = set()
        for stream, gaps in unproved.items():
            name = stream.split("/")[2]
            found |= self.partitions_between(name, [(gap.lo, gap.hi) for gap in gaps])
        return found

    def partitions_between(self, name: str, blocks: list[Range]) -> set[str]:
        """The partitions of the days that these blocks fall on."""
        found: set[str] = set()
        for days in self.chain(name).days_of(union(blocks)):
            found.update(partitions.keys(name, days))
        return found

    def pending(self, name: str) -> set[str]:
        """The partitions a sync should run: what lies between the first covered block and the final one, uncovered.

        Accounts of which nothing is covered yet begin today; their history is a backfill's business.
        Gaps that the source could not prove whole are left to a backfill as well.
        """
        config = self.configs[name]
        keys = stream_keys(name, config.addresses)
        if not keys:
            return set()
        chain = self.chain(name)
        final = chain.final()
        if final < 0:
            return set()
        covered = self.store.covered(keys)
        unproved = self.store.unproved(keys)
        begins = {key: ranges[0][0] for key, ranges in covered.items()}
        for key, lo, _ in self.store.open_letter_ranges(keys):  # a replay may have taken the first range out
            begins[key] = min(lo, begins.get(key, lo))
        gaps: list[Range] = []
        for key, begin in begins.items():
            gaps += difference([(begin, final)], (*covered.get(key, ()), *unproved.get(key, ())))
        if gaps:
            gaps = list(intersection(gaps, [(chain.first_block(config.start), final)]))
        is_new = len(begins) < len(keys)
        found = self.partitions_between(name, gaps)
        if is_new:
            found |= self.partitions_between(name, [(final, final)])
        return found

    def close(self) -> None:
        """Close all connections to providers."""
        for _, client in self._open.values():
            client.close()


class Environment(Protocol):
    """What this family needs of the project's settings."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Where API keys are looked up."""
        ...

    @property
    def automate(self) -> bool:
        """Whether sensors begin switched on."""
        ...


def definitions(
    configs: Mapping[str, ChainConfig], environment: Environment, chain_days: dg.MultiPartitionsDefinition
) -> dg.Definitions:
    """Assets, their checks, one sensor for each chain, and the resource they share."""
    assets = [_asset(kind, chain_days) for kind in KINDS]
    status = dg.DefaultSensorStatus.RUNNING if environment.automate else dg.DefaultSensorStatus.STOPPED
    return dg.Definitions(
        assets=assets,
        asset_checks=[_check(kind) for kind in KINDS],
        sensors=[
            _sensor(name, config, [asset.key for asset in assets], status) for name, config in configs.items()
        ],
        resources={
            RESOURCE: _resource(configs, environment, attempts=None),
            # A sensor tick must not wait: what fails now is asked again by the next tick.
            LOOKING: _resource(configs, environment, attempts=1),
        },
    )


def _resource(
    configs: Mapping[str, ChainConfig], environment: Environment, *, attempts: int | None
) -> dg.ResourceDefinition:
    def opened(context: dg.InitResourceContext) -> Iterator[Chains]:
        database: Database = getattr(context.resources, DATABASE)
        chains = Chains(configs, environment.variables, database.store, attempts=attempts)
        try:
            yield chains
        finally:
            chains.close()

    return dg.ResourceDefinition(
        dg.resource(required_resource_keys={DATABASE})(opened).resource_fn,
        required_resource_keys={DATABASE},
        description="The chains of sources.yaml and the providers they are read from.",
    )


def _asset(kind: Kind, chain_days: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    @ingest(
        key=f"evm/{kind.name}",
        table=kind.table,
        time_column="block_time",
        partitions_def=chain_days,
        group_name="evm",
        required_resource_keys={RESOURCE},
        description=DESCRIPTIONS[kind.name],
    )
    def history(context: dg.AssetExecutionContext) -> Ingestion:
        chains: Chains = getattr(context.resources, RESOURCE)
        streams = _streams(chains, kind, context.partition_keys)
        return Ingestion(
            streams=streams,
            read_ahead=min(
                (chains.configs[stream.chain.name].providers[0].read_ahead for stream in streams), default=0
            ),
            partitions_of=chains.partitions_of,
        )

    return history


def _streams(chains: Chains, kind: Kind, partition_keys: Iterable[str]) -> list[AccountHistory]:
    wanted = partitions.spans(partition_keys)
    return [stream for chain, days in wanted.items() for stream in chains.streams(kind, chain, days)]


def _check(kind: Kind) -> dg.AssetChecksDefinition:
    def streams(context: dg.OpExecutionContext) -> list[AccountHistory]:
        return _streams(getattr(context.resources, RESOURCE), kind, context.partition_keys)

    return clean(dg.AssetKey(["evm", kind.name]), streams, required_resource_keys={RESOURCE})


def _sensor(
    name: str, config: ChainConfig, assets: list[dg.AssetKey], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    def pending(context: dg.SensorEvaluationContext) -> set[str]:
        chains: Chains = getattr(context.resources, LOOKING)
        return chains.pending(name)

    return sync(
        name=f"evm_sync_{name.replace('-', '_')}",
        chain=name,
        assets=assets,
        pending=pending,
        required_resource_keys={LOOKING},
        interval=config.sync_seconds,
        status=status,
    )
