"""The command `ingestion`: what an engineer does from a terminal. Every verb that prints takes `--json`."""

import dataclasses
import itertools
import sys
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.printing import (
    print_providers,
    print_ranges,
    print_rows,
    print_status,
    print_table,
    print_tables,
)
from ingestion_assets.settings import Settings
from ingestion_assets.terminal import (
    AccountOption,
    ChainOption,
    FeedOption,
    Json,
    explained,
    fitting,
    known_chain,
    known_feed,
    narration,
    opened_store,
    to_date,
)

if TYPE_CHECKING:  # its imports take a second, and most verbs need none of them
    from ingestion_assets.backfills import Selection

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Raw records into Postgres."""
    # The embedded Postgres asks for a folder that containers do not have, and is content with another one.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Of the UI.")] = 3000,
    api_port: Annotated[int, typer.Option(help="Of the API.")] = 8000,
    code_port: Annotated[int, typer.Option(help="Of the code server.")] = 4000,
    sandbox_port: Annotated[int, typer.Option(help="Of the sandbox, if sources.yaml asks it.")] = 8545,
) -> None:
    """Run everything: Postgres, the UI, the daemon, the API, and the sandbox if sources.yaml asks it. Ctrl-C stops all of it."""
    from ingestion_assets.supervise import Ports
    from ingestion_assets.supervise import up as run

    with explained():
        ports = Ports(ui=port, api=api_port, code=code_port, sandbox=sandbox_port)
        run(Settings.from_environment(), ports, typer.echo)


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where it listens.")] = 8000,
    requests_per_second: Annotated[
        float, typer.Option(min=0, help="Of one client, on average; 0: no limit.")
    ] = 50.0,
    burst: Annotated[int, typer.Option(min=1, help="Requests of one client at once.")] = 200,
    connections: Annotated[int, typer.Option(min=1, help="To Postgres, for questions.")] = 4,
    count: Annotated[int, typer.Option(min=1, help="Rows that a filter is counted to.")] = 1_000,
    query_seconds: Annotated[float, typer.Option(min=0.1, help="That one query may take.")] = 10.0,
    processes: Annotated[
        int, typer.Option(min=1, help="That share the port; each with limits of its own.")
    ] = 1,
) -> None:
    """Serve what is stored over HTTP. INGESTION_API_TOKEN, if set, is wanted as a bearer token."""
    from ingestion_assets.api.config import Limits
    from ingestion_assets.serving import serve

    with explained():
        limits = Limits(
            requests_per_second=requests_per_second,
            burst=burst,
            connections=connections,
            count=count,
            query_seconds=query_seconds,
        )
        serve(Settings.from_environment(), host=host, port=port, limits=limits, processes=processes)


@app.command()
def check(as_json: Json = False) -> None:
    """Read sources.yaml and say what it asks for, or what is wrong with it and where."""
    from ingestion_assets import sources_report

    with explained():
        settings = Settings.from_environment()
        print_tables(*sources_report.asked_for(settings), as_json=as_json)
        if missing := sources_report.missing_keys(settings):
            raise Misconfigured("; ".join(missing))


@app.command()
def providers(
    chain: ChainOption = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="First close the breakers and forget what is not supported.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Who is asked, in order of preference: breakers, budgets of the day, what they refuse, and who was caught lying."""
    from ingestion_assets import gomafia_report, report

    with explained(), opened_store() as (settings, store):
        known_chain(settings, chain)
        if reset:
            report.reset_providers(settings, store, chain)
        found = [line for line in report.providers(settings, store) if chain in (None, line.chain)]
        found += [] if chain else gomafia_report.providers(settings, store, reset=reset)
        if as_json:
            print_rows([dataclasses.asdict(line) for line in found], as_json=True)
            return
        for name, lines in itertools.groupby(found, key=lambda line: line.chain):
            print_providers(name, list(lines))


@app.command()
def verify(
    chain: Annotated[str, typer.Option(help="Of sources.yaml.")],
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day; default: the chain's start."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day; default: today.")
    ] = None,
    proof: Annotated[
        list[str] | None, typer.Option(help="nonce, balance or counted; default: as sources.yaml says.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold what is stored against a second provider and the chain's state; mend it, or take it out of the coverage."""
    from ingestion_assets import report

    with explained(), opened_store() as (settings, store):
        known_chain(settings, chain)
        found = report.verify(settings, store, chain, (to_date(first), to_date(last)), proof)
        if as_json:
            print_rows([dataclasses.asdict(found)], as_json=True)
        else:
            typer.echo(
                f"{found.mended_rows:,} rows written anew, {len(found.contradictions):,} contradictions taken out of the "
                f"coverage, {len(found.failed):,} proofs not made"
            )
            for reason in (*found.contradictions, *found.failed, *found.findings):
                typer.echo(f"  {reason}")
        if found.contradictions or found.failed:
            raise typer.Exit(1)


@app.command()
def prove(
    account: AccountOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Sums that agree, too.")] = False,
    as_json: Json = False,
) -> None:
    """Hold what statement files state, their sums and positions, against the movements derived of them."""
    from ingestion_assets import statement_report

    with explained(), opened_store() as (_settings, store):
        found = statement_report.proved(store, account)
        wrong = sum(1 for proof in found for _ in proof.mismatches())
        if as_json:
            print_rows([proof.told() for proof in found], as_json=True)
        else:
            for proof in found:
                agreeing = sum(one.agrees for one in proof.sums)
                typer.echo(f"{proof.file}: {agreeing} of {len(proof.sums)} sums agree")
                for said in filter(None, (proof.note, *proof.mismatches())):
                    typer.echo(f"  {said}")
                for one in (one for one in proof.sums if everything and one.agrees):
                    typer.echo(f"  {one.section}, {one.currency}: {one.stated:f}")
            typer.echo(f"{len(found):,} files, {wrong:,} mismatches")
        if wrong:
            raise typer.Exit(1)


@app.command()
def status(chain: ChainOption = None, feed: FeedOption = None, as_json: Json = False) -> None:
    """How far every stream is, from the marks alone."""
    from ingestion_assets import feed_report, gomafia_report, report, statement_report, store_report

    with explained(), opened_store() as (settings, store):
        known_chain(settings, chain)
        known_feed(settings, feed)
        found = [
            line for line in report.status(settings, store) if feed is None and chain in (None, line.chain)
        ]
        stored = store_report.transfers(settings, store, chain) if feed is None else []
        feeds = [
            one for one in feed_report.feeds(settings, store) if chain is None and feed in (None, one.feed)
        ]
        is_all = chain is None and feed is None
        accounts = statement_report.statements(store) if is_all else []
        derived = statement_report.derived(store) if is_all else []
        phases = gomafia_report.phases(settings, store) if is_all else []
        others = [
            list(map(dataclasses.asdict, lines)) for lines in (stored, feeds, accounts, derived, phases)
        ]
        if as_json:
            print_rows([*map(dataclasses.asdict, found), *itertools.chain(*others)], as_json=True)
            return
        for name, lines in itertools.groupby(found, key=lambda line: line.chain):
            print_status(name, list(lines))
        for rows in filter(None, others):
            is_told = len({row["asset"] for row in rows}) > 1
            print_table([{name: row[name] for name in row if is_told or name != "asset"} for row in rows])


@app.command()
def gaps(chain: ChainOption = None, feed: FeedOption = None, as_json: Json = False) -> None:
    """What is wanted and not covered: blocks of each chain up to its last final one, events of feeds, and lines of files."""
    from ingestion_assets import feed_report, gomafia_report, report, statement_report

    with explained(), opened_store() as (settings, store):
        known_chain(settings, chain)
        known_feed(settings, feed)
        found = report.gaps(settings, store, chain) if feed is None else []
        feeds = [] if chain is not None else feed_report.feed_gaps(settings, store, feed)
        lines = statement_report.statement_gaps(store) if chain is None and feed is None else []
        derived = statement_report.derived_gaps(store) if chain is None and feed is None else []
        entities = gomafia_report.phase_gaps(settings, store) if chain is None and feed is None else []
        if as_json:
            told = (*map(dataclasses.asdict, found), *map(dataclasses.asdict, feeds))
            of_files = (*map(dataclasses.asdict, lines), *map(dataclasses.asdict, derived))
            print_rows([*told, *of_files, *map(dataclasses.asdict, entities)], as_json=True)
            return
        print_ranges((gap.stream, gap.lo, gap.hi, gap.reason) for gap in found)
        for gap in feeds:
            typer.echo(f"{gap.stream}\n  {gap.since or ''}–{gap.until or ''}  {gap.reason}")
        print_ranges((gap.stream, gap.lo, gap.hi, gap.reason) for gap in (*lines, *entities))
        for one in derived:
            typer.echo(f"{one.stream}\n  {one.since}–{one.until}  {one.reason}")
        typer.echo(f"{len(found):,} gaps, {report.blocks(found):,} blocks")
        if lines:
            typer.echo(f"{len(lines):,} gaps, {report.blocks(lines):,} lines of statement files")
        if entities:
            typer.echo(f"{len(entities):,} gaps, {report.blocks(entities):,} entities of the rating")


@app.command()
def replay(
    streams: Annotated[str, typer.Argument(help="LIKE pattern of stream keys.")] = "%", as_json: Json = False
) -> None:
    """Make the ranges of open dead letters wanted again; the next sync or backfill reads them. Those of feeds are tried at once."""
    from ingestion_assets import feed_report
    from ingestion_assets.engine import dead_letters

    with explained(), opened_store() as (settings, store):
        reopened = dead_letters.replay(store, streams)
        found = [(key, lo, hi) for key, ranges in reopened.items() for lo, hi in ranges]
        feeds = feed_report.replay_feeds(settings, store, streams)
        if as_json:
            ranges = [{"stream": key, "lo": lo, "hi": hi} for key, lo, hi in found]
            print_rows([*ranges, *map(dataclasses.asdict, feeds)], as_json=True)
            return
        for one in feeds:
            typer.echo(f"{one.stream}: {one.settled:,} dead letters became rows, {one.open:,} stay open")
        print_ranges((*one, "") for one in found)
        typer.echo(f"{len(found):,} ranges will be read again by the next sync or backfill")


@app.command()
def backfill(
    asset: Annotated[
        str, typer.Argument(help="evm/transactions, or evm/* for all of a family, statements/* too.")
    ],
    chain: ChainOption = None,
    feed: FeedOption = None,
    account: AccountOption = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day; default: the chain's start."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day; default: today.")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="In this process, without a daemon.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the backfill has ended.")] = False,
    url: Annotated[str, typer.Option(help="Of the UI that launches it.")] = "http://127.0.0.1:3000",
    as_json: Json = False,
) -> None:
    """Read all days of a span, or a feed until it is caught up; what is stored costs nothing."""
    from ingestion_assets import backfills

    with explained():
        settings = Settings.from_environment()
        known_chain(settings, chain)
        known_feed(settings, feed)
        fitting(asset, {"chain": chain, "feed": feed, "account": account})
        if backfills.is_of_gomafia(asset):
            selections = backfills.select_gomafia(settings, asset, to_date(first), to_date(last))
            if len(selections) > 1 and not here:
                raise Misconfigured(
                    f"the phases of {asset} follow one another: let the sensor gomafia_sync ask for them, or use --here"
                )
        elif backfills.is_of_statements(asset):
            with opened_store() as (_, store):
                selection, look = backfills.select_statements(
                    settings, store, asset, account, (to_date(first), to_date(last))
                )
            for said in (*look.rejected, *look.refused):
                print(said, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
            selections = [selection]
        else:
            selections = [backfills.select(settings, asset, feed or chain, to_date(first), to_date(last))]
        if here:
            _run_here(settings, selections, as_json=as_json)
            return
        launched = backfills.launch(url, selections[0])
        if wait:
            launched = backfills.wait(url, launched["id"], narration)
        print_rows([launched], as_json=as_json)
        if launched["status"] not in ("REQUESTED", "COMPLETED_SUCCESS"):
            raise typer.Exit(1)


def _run_here(settings: Settings, selections: "Sequence[Selection]", *, as_json: bool) -> None:
    """One after another; what follows one that fails would lack what it needs."""
    from ingestion_assets import backfills

    told: list[dict[str, Any]] = []
    failures: list[str] = []
    for selection in selections:
        done = backfills.run_here(settings, selection, narration)
        named = {"assets": ", ".join(selection.assets)} if selection.in_one_run else {}
        counts = {name: len(done[name]) for name in ("runs", "errors", "contradicted")}
        told.append(named | done | ({} if as_json else counts))
        failures = [*done["errors"], *done["contradicted"]]
        if failures:
            break
    print_rows(told, as_json=as_json)
    for said in failures:
        print(said, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
    if failures:
        raise typer.Exit(1)
