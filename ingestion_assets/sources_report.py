"""What sources.yaml asks for, as `ingestion check` tells it, and which keys of providers are missing. Nobody is asked."""

from typing import Any

from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.records import KINDS

Table = list[dict[str, Any]]

HEAD_REQUESTS = 2  # a sync's own: how far the chain is, and how far it is final


def asked_for(settings: Settings) -> tuple[Table, ...]:
    """A table for each family: chains, feeds, statements, the rating.

    Raises:
        Misconfigured: the file cannot be read, or says what cannot be meant.
    """
    sources = settings.sources()
    chains = [
        {
            "chain": name,
            "start": chain.start.isoformat(),
            "addresses": len(chain.addresses),
            "tokens": len(chain.tokens),
            "requests_per_sync": HEAD_REQUESTS + len(KINDS) * len(chain.addresses),
            "provider": ", ".join(f"{called} at {one.url.host}" for called, one, _ in chain.named()),
        }
        for name, chain in sources.chains.items()
    ]
    feeds = [
        {
            "feed": name,
            "read": "as a whole" if feed.start is None else f"by day since {feed.start}",
            "page_size": feed.page_size,
            "pages": feed.pages.kind,
            "url": str(feed.url),
        }
        for name, feed in sources.events.items()
    ]
    statements = [
        {"statements": str(inbox), "state": "there" if inbox.is_dir() else "not there yet"}
        for inbox in (settings.sources_folder / one.inbox for one in [sources.statements] if one)
    ]
    rating = [
        {
            "gomafia": str(one.url),
            "asked_through": ", ".join(one.ways),
            "since": one.start_year,
            "seconds_between_requests": 1 / one.requests_per_second,
        }
        for one in [sources.gomafia]
        if one
    ]
    return chains, feeds, statements, rating


def missing_keys(settings: Settings) -> list[str]:
    """Of each provider whose key is in a variable that is not set, a sentence."""
    sources = settings.sources()
    wanted = [(name, feed.key_env) for name, feed in sources.events.items() if feed.key_env is not None] + [
        (name, variable)
        for name, chain in sources.chains.items()
        for provider in chain.providers
        for variable in provider.key_env or ()
    ]
    return [
        f"{name}: the variable {variable} is not set"
        for name, variable in wanted
        if not settings.variables.get(variable)
    ]
