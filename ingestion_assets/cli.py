"""The command `ingestion`: what an engineer does from a terminal. Every verb that prints takes `--json`."""

import dataclasses
import itertools
import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingestion_assets.engine.errors import IngestionError, Misconfigured
from ingestion_assets.settings import Settings

if TYPE_CHECKING:
    from ingestion_assets.report import Status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Raw records into Postgres.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ChainOption = Annotated[str | None, typer.Option("--chain", help="Only this chain of sources.yaml.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only this account of statement files.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]

HEAD_REQUESTS = 2  # a sync's own: how far the chain is, and how far it is final

console = Console()
narration = Console(stderr=True)  # progress and errors: what is piped on is the answer alone


@app.callback()
def main() -> None:
    """Raw records into Postgres."""
    # The embedded Postgres asks for a folder that containers do not have, and is content with another one.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")


@contextmanager
def _explained() -> Iterator[None]:
    """Errors made for people are printed as they are, without a traceback; the exit code is 1."""
    try:
        yield
    except (IngestionError, TimeoutError) as error:
        narration.print(f"[red]{type(error).__name__}[/red]: ", end="")
        print(error, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
        raise typer.Exit(1) from error


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Of the UI.")] = 3000,
    code_port: Annotated[int, typer.Option(help="Of the code server.")] = 4000,
    sandbox_port: Annotated[int, typer.Option(help="Of the sandbox, if sources.yaml asks it.")] = 8545,
) -> None:
    """Run everything: Postgres, the UI, the daemon, and the sandbox if sources.yaml asks it. Ctrl-C stops all of it."""
    from ingestion_assets.supervise import Ports
    from ingestion_assets.supervise import up as run

    with _explained():
        run(Settings.from_environment(), Ports(port, code_port, sandbox_port), typer.echo)


@app.command()
def check(as_json: Json = False) -> None:
    """Read sources.yaml and say what it asks for, or what is wrong with it and where."""
    from ingestion_assets.sources.evm.records import KINDS

    with _explained():
        settings = Settings.from_environment()
        sources = settings.sources()
        chains = sources.chains
        missing = [
            f"{name}: the variable {variable} is not set"
            for name, chain in chains.items()
            for provider in chain.providers
            for variable in provider.key_env or ()
            if not settings.variables.get(variable)
        ]
        found = [
            {
                "chain": name,
                "start": chain.start.isoformat(),
                "addresses": len(chain.addresses),
                "tokens": len(chain.tokens),
                "requests_per_sync": HEAD_REQUESTS + len(KINDS) * len(chain.addresses),
                "provider": ", ".join(f"{called} at {one.url.host}" for called, one, _ in chain.named()),
            }
            for name, chain in chains.items()
        ]
        inbox = sources.statements and settings.sources_folder / sources.statements.inbox
        if inbox and as_json:
            _print([*found, {"statements": str(inbox)}], as_json=True)
        elif inbox:
            if found:
                _print(found, as_json=False)
            typer.echo(f"statements: {inbox}{'' if inbox.is_dir() else ', which is not there yet'}")
        else:
            _print(found, as_json=as_json)
        if missing:
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
    from ingestion_assets import report

    with _explained(), _store() as (settings, store):
        _known_chain(settings, chain)
        if reset:
            report.reset_providers(settings, store, chain)
        found = [line for line in report.providers(settings, store) if chain in (None, line.chain)]
        _print([dataclasses.asdict(line) for line in found], as_json=as_json)


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

    with _explained(), _store() as (settings, store):
        _known_chain(settings, chain)
        found = report.verify(settings, store, chain, (_date(first), _date(last)), proof)
        if as_json:
            _print([dataclasses.asdict(found)], as_json=True)
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
def status(chain: ChainOption = None, as_json: Json = False) -> None:
    """How far every stream is, from the marks alone."""
    from ingestion_assets import report

    with _explained(), _store() as (settings, store):
        _known_chain(settings, chain)
        found = [line for line in report.status(settings, store) if chain in (None, line.chain)]
        accounts = report.statements(store) if chain is None else []
        if as_json:
            _print([*map(dataclasses.asdict, found), *map(dataclasses.asdict, accounts)], as_json=True)
            return
        for name, lines in itertools.groupby(found, key=lambda line: line.chain):
            _print_status(name, list(lines))
        if accounts:
            typer.echo(accounts[0].asset)
            columns = ("account", "files", "unfinished", "records", "lines", "missing", "dead_letters")
            _print_table([{name: getattr(line, name) for name in columns} for line in accounts])


@app.command()
def gaps(chain: ChainOption = None, as_json: Json = False) -> None:
    """What is wanted and not covered: blocks of each chain up to its last final one, and lines of registered files."""
    from ingestion_assets import report

    with _explained(), _store() as (settings, store):
        _known_chain(settings, chain)
        found = report.gaps(settings, store, chain)
        lines = report.statement_gaps(store) if chain is None else []
        if as_json:
            _print([dataclasses.asdict(gap) for gap in (*found, *lines)], as_json=True)
            return
        _print_ranges((gap.stream, gap.lo, gap.hi, gap.reason) for gap in (*found, *lines))
        typer.echo(f"{len(found):,} gaps, {report.blocks(found):,} blocks")
        if lines:
            typer.echo(f"{len(lines):,} gaps, {report.blocks(lines):,} lines of statement files")


@app.command()
def replay(
    streams: Annotated[str, typer.Argument(help="LIKE pattern of stream keys.")] = "%", as_json: Json = False
) -> None:
    """Make the ranges of open dead letters wanted again; the next sync or backfill reads them."""
    from ingestion_assets.engine import dead_letters

    with _explained(), _store() as (_settings, store):
        reopened = dead_letters.replay(store, streams)
        found = [(key, lo, hi) for key, ranges in reopened.items() for lo, hi in ranges]
        if as_json:
            _print([{"stream": key, "lo": lo, "hi": hi} for key, lo, hi in found], as_json=True)
            return
        _print_ranges((*one, "") for one in found)
        typer.echo(f"{len(found):,} ranges will be read again by the next sync or backfill")


@app.command()
def backfill(
    asset: Annotated[
        str, typer.Argument(help="evm/transactions, or evm/* for all of a family; statements/lines.")
    ],
    chain: ChainOption = None,
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
    """Read all days of a span; days that are covered cost nothing."""
    from ingestion_assets import backfills

    with _explained():
        settings = Settings.from_environment()
        _known_chain(settings, chain)
        if backfills.is_of_statements(asset):
            with _store() as (_, store):
                selection, look = backfills.select_statements(
                    settings, store, account, _date(first), _date(last)
                )
            for said in (*look.rejected, *look.refused):
                print(said, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
        else:
            selection = backfills.select(settings, asset, chain, _date(first), _date(last))
        if here:
            done = backfills.run_here(settings, selection, narration)
            lists = ("runs", "errors", "contradicted")
            _print([done] if as_json else [done | {name: len(done[name]) for name in lists}], as_json=as_json)
            for said in (*done["errors"], *done["contradicted"]):
                print(said, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
            if done["errors"] or done["contradicted"]:
                raise typer.Exit(1)
            return
        launched = backfills.launch(url, selection)
        if wait:
            launched = backfills.wait(url, launched["id"], narration)
        _print([launched], as_json=as_json)
        if launched["status"] not in ("REQUESTED", "COMPLETED_SUCCESS"):
            raise typer.Exit(1)


@contextmanager
def _store() -> "Iterator[tuple[Settings, Any]]":
    from ingestion_assets import migrations
    from ingestion_assets.engine import database
    from ingestion_assets.engine.store import Store, connection_pool

    settings = Settings.from_environment()
    url = settings.database_url()
    database.migrate(url, migrations.SCRIPTS)
    pool = connection_pool(url)
    try:
        yield settings, Store(pool)
    finally:
        pool.close()


def _known_chain(settings: Settings, chain: str | None) -> None:
    chains = settings.sources().chains
    if chain is not None and chain not in chains:
        raise Misconfigured(
            f"there is no chain {chain!r} in {settings.sources_file}; it has {', '.join(chains)}"
        )


def _date(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, default=str))
        return
    if not rows:
        typer.echo("nothing")
        return
    _print_table(rows)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table whose numbers are never cut or broken."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | None) for row in rows)
        table.add_column(
            name.replace("_", " "),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text("–" if value is None else _cell(value)) for value in row.values()))
    console.print(table)


def _print_status(chain: str, lines: "Sequence[Status]") -> None:
    """One chain: what is true of all its streams above, and what differs below. 80 columns are enough."""
    first = lines[0]
    looked = (
        "not looked at yet"
        if first.final is None
        else f"final block {first.final:,} at {_cell(first.checked_at)} UTC"
    )
    watched = ", ".join(
        f"{line.streams} {'tokens' if line.asset.endswith('erc20_transfers') else 'accounts'}"
        for line in {line.asset.endswith("erc20_transfers"): line for line in lines}.values()
    )
    typer.echo(f"{chain}: {watched}, {looked}")
    _print_table(
        [
            {
                "covered": f"  {line.asset.rpartition('/')[2]}",
                "records": line.records,
                "from": line.covered_from,
                "to": line.covered_to,
                "lag": line.lag_blocks,
                "holes": line.holes,
                "unproved": line.unproved,
                "dead": line.dead_letters,
            }
            for line in lines
        ]
    )


def _print_ranges(found: Iterable[tuple[str, int, int, str]]) -> None:
    """Ranges below the stream that they are missing from; stream keys are never cut, so that they can be copied."""
    for stream, ranges in itertools.groupby(found, key=itemgetter(0)):
        typer.echo(stream)
        for _, lo, hi, reason in ranges:
            typer.echo(f"  {lo:,}–{hi:,}  {reason}".rstrip())


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return f"{value:,}" if isinstance(value, int) else str(value)
