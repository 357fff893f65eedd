"""The feeds of sources.yaml, opened: who is asked within which budget, which streams there are, and what there is to read."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ingestion_assets.engine.budget import budget_name
from ingestion_assets.engine.budgets import shared_budget
from ingestion_assets.engine.coverage import Ranges, difference
from ingestion_assets.engine.dead_letters import feed_letters
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Done
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feed import Feed
from ingestion_assets.sources.events.position import SHORT, Position
from ingestion_assets.sources.events.streams import BY_DAY, WHOLE, Days, History, Letters, Span


def open_feed(
    name: str, config: FeedConfig, variables: Mapping[str, str], store: Store, *, attempts: int | None = None
) -> Feed:
    """A feed, ready to be asked; whoever opens it closes its client.

    Args:
        name: in sources.yaml.
        config: what is typed there.
        variables: where its API key is.
        store: for the budget that all processes share.
        attempts: of one question; None: as sources.yaml says.

    Raises:
        Misconfigured: the variable that should hold its key is not set.
    """
    key = None if config.key_env is None else variables.get(config.key_env)
    if config.key_env is not None and not key:
        raise Misconfigured(
            f"events.{name}: the variable {config.key_env}, which should hold its API key, is not set; export it, or "
            "remove key_env from sources.yaml to ask without a key"
        )
    client = Client(
        str(config.url),
        secrets=Secrets(headers={config.key_header: key} if key else {}),
        budget=shared_budget(
            store,
            budget_name(config.url.host or "", key),
            per_second=config.requests_per_second,
            per_minute=config.requests_per_minute,
            per_day=config.requests_per_day,
            lease=config.timeout_seconds,
        ),
        timeout=config.timeout_seconds,
        attempts=attempts or config.attempts,
        longest_wait=120.0,  # a minute's budget may ask for more than a minute
        errors_in_body=True,
        unit=config.reset_unit,
    )
    return Feed(name, config, client, count=lambda: stored(store, name))


def stored(store: Store, feed: str) -> int:
    """How many events of a feed there are, counted one by one."""
    query = "SELECT count(*) FROM raw.events WHERE feed = %s"
    found = store.transaction(lambda c: c.execute(query, [feed]).fetchone())
    return int(found[0]) if found else 0


class Feeds:
    """The feeds of sources.yaml, opened when first asked for. One for each run, sensor tick or command.

    Args:
        configs: by name.
        variables: where the API keys are.
        store: for marks, and for the budgets that processes share.
        attempts: of one question; None: as sources.yaml says.
    """

    def __init__(
        self,
        configs: Mapping[str, FeedConfig],
        variables: Mapping[str, str],
        store: Store,
        *,
        attempts: int | None = None,
    ) -> None:
        self.configs = configs
        self.store = store
        self._variables = variables
        self._attempts = attempts
        self._open: dict[str, Feed] = {}

    def feed(self, name: str) -> Feed:
        """A feed, ready to be asked.

        Raises:
            Misconfigured: it is not in sources.yaml, or the variable that holds its key is not set.
        """
        if name not in self._open:
            if name not in self.configs:
                raise Misconfigured(
                    f"sources.yaml has no feed {name!r}; it has {', '.join(sorted(self.configs)) or 'none'}"
                )
            config = self.configs[name]
            self._open[name] = open_feed(name, config, self._variables, self.store, attempts=self._attempts)
        return self._open[name]

    def history(self, name: str) -> History:
        """The feed as one stream."""
        return History(self.feed(name), self.configs[name].pages_per_run)

    def days(self, name: str, days: tuple[Span, ...]) -> Days:
        """Days of a feed that has a start."""
        return Days(self.feed(name), days)

    def letters(self, name: str) -> Letters:
        """The open dead letters of a feed."""
        return Letters(self.feed(name), feed_letters(self.store, f"{WHOLE}/{name}"))

    def done(self, name: str) -> Done:
        """What is committed of a feed."""
        history = self.history(name)
        return self.store.open(history).done[history.keys[0]]

    def is_pending(self, name: str) -> bool:
        """Whether there is anything to read: what the last drain has left, or, asked for with one question, something new."""
        done = self.done(name)
        position = done.position(Position)
        if position is None or not position.ended:
            return True
        if lacking(done) and position.short < SHORT:
            return True
        return any(True for _ in History(self.feed(name), 1).read({f"{WHOLE}/{name}": done}))

    def gaps(self, name: str, days: tuple[Span, ...]) -> Ranges:
        """The seconds of these days that are wanted and not covered."""
        stream = self.days(name, days)
        return difference(stream.wanted(), self.store.covered(stream.keys).get(f"{BY_DAY}/{name}", ()))

    def notes(self, name: str) -> dict[str, Any]:
        """What was noticed of a feed since it was opened, and the new fields of its records."""
        return asdict(self.feed(name).notes)

    def new_fields(self, name: str) -> list[str]:
        """The fields that records of this feed have had since it was opened and never before; noted, so told once.

        Of a feed that was never read before, no field is new.
        """
        fields = sorted(self.feed(name).records.fields)

        def note(connection: Any) -> list[str]:
            known = connection.execute(
                "SELECT 1 FROM ops.feed_fields WHERE feed = %s LIMIT 1", [name]
            ).fetchone()
            added = connection.execute(
                "INSERT INTO ops.feed_fields (feed, field) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING field",
                [name, fields],
            ).fetchall()
            return sorted(field for (field,) in added) if known else []

        return self.store.transaction(note) if fields else []

    def close(self) -> None:
        """Close all connections to feeds."""
        for feed in self._open.values():
            feed.client.close()


def lacking(done: Done) -> int:
    """How many events a feed says it has beyond those that are stored or wait as dead letters; 0 before its sweep ends."""
    position = done.position(Position)
    return position.missing(done.records, done.letters) if position is not None and position.ended else 0
