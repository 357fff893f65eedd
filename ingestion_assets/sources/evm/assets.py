"""The assets of this family, and how a run's partitions become streams. The only module here that knows Dagster's resources."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing
from datetime import date

import dagster as dg

from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration import partitions, resources
from ingestion_assets.orchestration.checks import clean, proved
from ingestion_assets.orchestration.ingest import Ingestion, ingest, sorted_for_dagster
from ingestion_assets.orchestration.io_manager import Stopped, stop_requests
from ingestion_assets.orchestration.proving import Proof, prove
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import initial_status, sync
from ingestion_assets.sources.environment import Environment
from ingestion_assets.sources.evm.chains import Chains, watched_kinds
from ingestion_assets.sources.evm.config import ChainConfig
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    EVERY_KIND,
    INTERNAL_TRANSACTIONS,
    TRANSACTIONS,
    Kind,
)
from ingestion_assets.sources.evm.streams import History

RESOURCE, LOOKING = "evm", "evm_looking"  # resource keys

DESCRIPTIONS = {
    "transactions": "Transactions sent by or to a watched account, failed ones and contract creations included.",
    "internal_transactions": "Calls with value, creations and self-destructs inside transactions that name a watched account.",
    "token_transfers": "ERC-20 transfers in and out of every watched account, identical ones within a transaction each for itself.",
    "erc20_transfers": "Every ERC-20 transfer of the watched tokens, whoever sends it, read from the chain's logs.",
}


def definitions(
    configs: Mapping[str, ChainConfig], environment: Environment, chain_days: dg.MultiPartitionsDefinition
) -> dg.Definitions:
    """Assets, their checks, one sensor for each chain, and the resource they share."""
    assets = {kind: _asset(kind, chain_days) for kind in EVERY_KIND}
    status = initial_status(automate=environment.automate)

    def opened(*, attempts: int | None) -> dg.ResourceDefinition:
        def chains(database: Database) -> AbstractContextManager[Chains]:
            return closing(Chains(configs, environment.variables, database.store, attempts=attempts))

        return resources.sources(chains, "The chains of sources.yaml and the providers they are read from.")

    return dg.Definitions(
        assets=list(assets.values()),
        asset_checks=[check(kind) for kind in EVERY_KIND for check in (_clean, _proved)],
        jobs=[_verify_job()],
        sensors=[
            _sensor(name, config, [assets[kind].key for kind in watched_kinds(config)], status)
            for name, config in configs.items()
        ],
        resources={
            RESOURCE: opened(attempts=None),
            # A sensor tick must not wait: what fails now is asked again by the next tick.
            LOOKING: opened(attempts=1),
        },
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
        names = sorted({stream.chain.name for stream in streams})
        for name in names:
            for remark in chains.remarks(kind, name):
                context.log.warning("%s", remark)
        return Ingestion(
            streams=streams,
            read_ahead=chains.read_ahead(names),
            # Whole tokens come as one stream of disjoint blocks; accounts share rows, and would wait for each other.
            writers=2 if kind is ERC20_TRANSFERS else 1,
            partitions_of=chains.partitions_of,
            finish=lambda requests: chains.finish(names, requests),
            metadata=lambda: {"providers": dg.MetadataValue.json(chains.states(names))},
        )

    return history


def _streams(chains: Chains, kind: Kind, partition_keys: Iterable[str]) -> list[History]:
    wanted = partitions.spans(partition_keys)
    return [stream for chain, days in wanted.items() for stream in chains.streams(kind, chain, days)]


def _clean(kind: Kind) -> dg.AssetChecksDefinition:
    def streams(context: dg.OpExecutionContext) -> list[History]:
        return _streams(getattr(context.resources, RESOURCE), kind, context.partition_keys)

    return clean(dg.AssetKey(["evm", kind.name]), streams, required_resource_keys={RESOURCE})


def _proved(kind: Kind) -> dg.AssetChecksDefinition:
    def spans(context: dg.OpExecutionContext, chains: Chains) -> dict[str, tuple[partitions.Span, ...]]:
        if context.has_partition_key or context.has_partition_key_range:
            return partitions.spans(context.partition_keys)
        return {name: (chains.all_days(name),) for name in chains.configs}

    def streams(context: dg.OpExecutionContext) -> list[Stream]:
        chains: Chains = getattr(context.resources, RESOURCE)
        return [
            one for name, days in spans(context, chains).items() for one in chains.streams(kind, name, days)
        ]

    def proofs(context: dg.OpExecutionContext) -> list[Proof]:
        chains: Chains = getattr(context.resources, RESOURCE)
        return [
            one for name, days in spans(context, chains).items() for one in chains.proofs(kind, name, days)
        ]

    # An account's balance is explained by its transactions and its internal ones together.
    after = [dg.AssetKey(["evm", TRANSACTIONS.name])] if kind is INTERNAL_TRANSACTIONS else []
    return proved(
        dg.AssetKey(["evm", kind.name]), streams, proofs, required_resource_keys={RESOURCE}, after=after
    )


class VerifyConfig(dg.Config):
    """What to verify again."""

    chain: str
    first_day: str | None = None  # 2024-01-31; none: the chain's first
    last_day: str | None = None  # none: today
    proofs: list[str] = ["counted"]  # of nonce, balance, counted  # noqa: RUF012 - as Dagster's configs are written


def _verify_job() -> dg.JobDefinition:
    @dg.op(required_resource_keys={DATABASE, RESOURCE})
    def verify_again(context: dg.OpExecutionContext, config: VerifyConfig) -> None:
        """Hold what is stored against the proofs, mend what can be mended, take back what cannot."""
        chains: Chains = getattr(context.resources, RESOURCE)
        database: Database = getattr(context.resources, DATABASE)
        first, last = chains.all_days(config.chain)
        days = (
            date.fromisoformat(config.first_day) if config.first_day else first,
            date.fromisoformat(config.last_day) if config.last_day else last,
        )
        with sorted_for_dagster(), stop_requests() as stop:
            proofs = [
                proof
                for kind in EVERY_KIND
                for proof in chains.proofs(kind, config.chain, (days,), wanted=config.proofs, again=True)
            ]
            found = prove(proofs, database.store, should_stop=stop.is_set)
        if found.stopped:
            raise Stopped("stopped between two proofs: what they have shown so far stays")
        context.add_output_metadata(
            {
                "mended_rows": found.mended_rows,
                "contradictions": len(found.contradictions),
                "first": dg.MetadataValue.json([*found.contradictions, *found.failed, *found.findings][:20]),
            }
        )
        if found.contradictions or found.failed:
            raise dg.Failure(
                f"{len(found.contradictions)} contradictions are taken out of the coverage, {len(found.failed)} proofs could not be "
                f"made; the first: {[*found.contradictions, *found.failed][0]}. Materialise the partitions of what is missing "
                "again to read them anew.",
                allow_retries=False,
            )

    @dg.job(
        name="verify",
        description="Holds a chain's past days against the proofs again, and mends what they contradict.",
    )
    def job() -> None:
        verify_again()

    return job


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
