"""What the verbs of the command share: their options, how errors are told, and the store."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ingestion_assets.engine.errors import IngestionError, Misconfigured
from ingestion_assets.settings import Settings

if TYPE_CHECKING:  # its imports take a second, and most verbs need none of them
    from ingestion_assets.engine.store import Store

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ChainOption = Annotated[str | None, typer.Option("--chain", help="Only this chain of sources.yaml.")]
FeedOption = Annotated[str | None, typer.Option("--feed", help="Only this feed of sources.yaml.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only this account of statement files.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]

narration = Console(stderr=True)  # progress and errors: what is piped on is the answer alone


@contextmanager
def explained() -> Iterator[None]:
    """Errors made for people are printed as they are, without a traceback; the exit code is 1."""
    try:
        yield
    except (IngestionError, TimeoutError) as error:
        narration.print(f"[red]{type(error).__name__}[/red]: ", end="")
        print(error, file=sys.stderr)  # noqa: T201 - rich would read brackets in it as markup
        raise typer.Exit(1) from error


@contextmanager
def opened_store() -> "Iterator[tuple[Settings, Store]]":
    """The settings, and the store, migrated."""
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


def fitting(asset: str, options: Mapping[str, str | None]) -> None:
    """An option that the asset's family does not know would be passed over in silence."""
    families = {"evm": "chain", "events": "feed", "statements": "account", "gomafia": None}
    family = asset.partition("/")[0]
    for option, value in options.items():
        if value is not None and family in families and option != families[family]:
            own = families[family]
            raise Misconfigured(f"--{option} does not belong to {asset}" + (f": --{own} does" if own else ""))


def known_chain(settings: Settings, chain: str | None) -> None:
    """Refuse one that sources.yaml does not have."""
    chains = settings.sources().chains
    if chain is not None and chain not in chains:
        raise Misconfigured(
            f"there is no chain {chain!r} in {settings.sources_file}; it has {', '.join(chains)}"
        )


def known_feed(settings: Settings, feed: str | None) -> None:
    """Refuse one that sources.yaml does not have."""
    feeds = settings.sources().events
    if feed is not None and feed not in feeds:
        raise Misconfigured(
            f"there is no feed {feed!r} in {settings.sources_file}; it has {', '.join(feeds) or 'none'}"
        )


def to_date(moment: datetime | None) -> date | None:
    """The day that was typed."""
    return None if moment is None else moment.date()
