"""Whom to ask next: providers in order of preference, each behind a circuit breaker that all processes share.

The breakers live in `ops.providers`, one row for each scope (a chain) and provider; `breaker` says what an error
does to them. Asking costs no query: a process looks at the table once a second at most, and writes what changes.

When no provider is able, the one whose breaker ends first is tried anyway, each once in the life of a `Failover`,
unless it answered meanwhile: a run that starts in a bad minute asks at least once, as it would without a breaker.
Providers without quota or without rights are left out of that: one more question would not change it.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ingestion_assets.engine import breaker
from ingestion_assets.engine.breaker import ProviderState, Refused
from ingestion_assets.engine.errors import (
    DatabaseUnavailable,
    Fenced,
    IngestionError,
    Misconfigured,
    QuotaExhausted,
    RateLimited,
    TooMuch,
    Transient,
    Unsupported,
)
from ingestion_assets.engine.store import Connection, Store

FRESH = timedelta(seconds=1)  # how long a process believes what it has read
LEASE = timedelta(minutes=2)  # how long a trial may take before another worker may try
NOTED = timedelta(minutes=1)  # how often a success is written down
SOON = 10.0  # seconds: when to look again at a provider that another worker is trying


class Named(Protocol):
    """What a provider must have."""

    @property
    def name(self) -> str:
        """Under which its state is kept."""
        ...


log = logging.getLogger(__name__)

P = TypeVar("P", bound=Named)
T = TypeVar("T")


class Failover(Generic[P]):
    """The providers of one scope. Safe for threads; other processes have one of their own.

    Args:
        store: where the breakers are.
        scope: what the providers serve, such as a chain.
        providers: in order of preference; their names differ.
        clock: what time it is, in UTC.
    """

    def __init__(
        self,
        store: Store,
        scope: str,
        providers: Sequence[P],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.scope = scope
        self.providers = tuple(providers)
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, ProviderState] = {}
        self._read_at: datetime | None = None
        self._trying: set[str] = set()  # names that this process asks although they are not closed
        self._tried: set[str] = set()  # names that it tried because nobody was able
        self._last: dict[tuple[str, str], IngestionError] = {}  # by name and class of question
        self._noted: dict[str, datetime] = {}  # when a success was last written down

    def ask(self, question: Callable[[P], T], *, about: str, but: Collection[str] = ()) -> T:
        """The answer of the first provider that has one.

        Args:
            question: asks a provider; raises `engine.errors`.
            about: the class of the question. What a provider does not support is remembered for it.
            but: names of those that are not to be asked.

        Raises:
            IngestionError: nobody answered; see `exhausted`.
        """
        for provider in self.able(about, but=but):
            try:
                answer = question(provider)
            except Exception as error:  # noqa: BLE001 - `failed` raises what is not about the provider
                self.failed(provider, about, error)
            else:
                self.succeeded(provider)
                return answer
        raise self.exhausted(about, but=but)

    def able(
        self, about: str, *, but: Collection[str] = (), rank: Callable[[P], bool] = lambda _provider: False
    ) -> Iterator[P]:
        """The providers that may be asked such a question now, in order of preference.

        Args:
            about: the class of the question.
            but: names of those that are not to be asked.
            rank: those of which it is false come first.

        One that comes out is to be asked at once, and the outcome told to `failed` or `succeeded`: it may be a
        trial, which nobody else makes meanwhile.
        """
        anybody = False
        for provider in sorted(self.providers, key=rank):
            if provider.name not in but and self._may(provider.name, about):
                anybody = True
                yield provider
        if not anybody:
            yield from (one for one in self._last_resort(about) if one.name not in but)

    def failed(self, provider: P, about: str, error: Exception) -> None:
        """Note that a provider did not answer.

        Raises:
            Exception: `error` itself, where it is not about the provider: the database is away, the question is too
                large, another worker is ahead, or it is a mistake of ours.
        """
        name = provider.name
        if isinstance(error, TooMuch):  # this is an answer
            self.succeeded(provider)
            raise error
        if not isinstance(error, IngestionError) or isinstance(error, DatabaseUnavailable | Fenced):
            self._give_back(name, error)
            raise error
        self._last[name, about] = error
        if not isinstance(error, Transient):  # a person may have to mend something, also where others go on
            log.warning(
                "%s: %s is not asked for %s for a while: %s",
                self.scope,
                name,
                about,
                breaker.printable(str(error)),
            )
        was_trial = name in self._trying
        now = self._clock()
        self._change(
            name,
            lambda state: breaker.after(state, error, about=about, now=now, was_trial=was_trial),
            has_failed=True,
        )
        self._trying.discard(name)

    def succeeded(self, provider: P) -> None:
        """Note that a provider answered. Costs a write only when that changes something, and once a minute.

        It closes a breaker that had opened for failures. One that waits for a quota, a rate or rights stays open, unless
        this was the trial: the answer may be to a question that was asked before.
        """
        name, now = provider.name, self._clock()
        is_trial = name in self._trying
        known = self._state(name)
        noted = self._noted.get(name) or known.succeeded_at
        is_noted = noted is not None and now - noted < NOTED
        if is_noted and not is_trial and not _is_forgiven(known):
            return

        def change(state: ProviderState) -> ProviderState:
            base = breaker.closed(state) if is_trial or _is_forgiven(state) else state
            return replace(base, succeeded_at=now)

        self._change(name, change)
        self._noted[name] = now
        self._trying.discard(name)
        self._tried.discard(name)

    def lied(self, provider: P, what: str) -> None:
        """Note that an answer of this provider was proved wrong. `what` is kept, in 500 characters."""
        with self._lock:
            self._store.transaction(
                lambda c: c.execute(
                    _LIED, [self.scope, provider.name, breaker.printable(what), self._clock()]
                )
            )
            self._read_at = None

    def reset(self, name: str | None = None) -> None:
        """Close the breaker of a provider, or of all, and forget what it does not support; its lies are kept.

        For people who have mended what was wrong. Other processes see it within a second.

        Raises:
            Misconfigured: there is no provider of that name.
        """
        if name is not None and name not in self._names():
            raise Misconfigured(f"{self.scope} has no provider {name!r}; it has {', '.join(self._names())}")
        for one in self._names() if name is None else [name]:
            self._change(one, lambda state: replace(breaker.closed(state), reason=None, unsupported={}))
            self._trying.discard(one)
            self._tried.discard(one)
            self._noted.pop(one, None)
            for key in [key for key in self._last if key[0] == one]:
                del self._last[key]

    def exhausted(self, about: str, *, but: Collection[str] = ()) -> IngestionError:
        """Why nobody answers such a question, each provider with its reason, as the error that is of most use.

        Transient where one of them may answer later: `retry_after` is the shortest wait, in seconds. QuotaExhausted where all
        that support the question wait for their quota: `until` is the earliest. Else the first one's error.
        """
        now = self._clock()
        names = [name for name in self._names() if name not in but]
        whys = [self._why(name, about, now) for name in names]
        each = "; ".join(
            f"{name}: {breaker.printable(str(error))}" for name, error in zip(names, whys, strict=True)
        )
        text = f"no provider of {self.scope} answers for {about}: {each or 'there is none'}"
        passing = [error for error in whys if isinstance(error, Transient)]
        if passing:
            waits = [error.retry_after for error in passing]
            known = [wait for wait in waits if wait is not None]  # the others may be asked again at any time
            return Transient(text, retry_after=min(known) if len(known) == len(waits) else None)
        able = [error for error in whys if not isinstance(error, Unsupported)]
        quotas = [error for error in able if isinstance(error, QuotaExhausted)]
        if quotas and len(quotas) == len(able):
            return QuotaExhausted(text, until=min(error.until for error in quotas))
        first = next((error for error in (*able, *whys) if not isinstance(error, QuotaExhausted)), None)
        return type(first or Unsupported())(text)

    def states(self) -> list[ProviderState]:
        """What is known of each provider, in order of preference, read now."""
        with self._lock:
            self._refresh()
        return [self._known[name] for name in self._names()]

    def _names(self) -> list[str]:
        return [provider.name for provider in self.providers]

    def _may(self, name: str, about: str) -> bool:
        now = self._clock()
        state = self._state(name)
        if state.refuses(about, now):
            return False
        if state.state == "closed":
            return True
        return state.is_over(now) and self._win(name, now)

    def _win(self, name: str, now: datetime) -> bool:
        """Whether the one trial is ours."""
        with self._lock:
            won = self._store.transaction(
                lambda c: c.execute(_TRY, [now + LEASE, self.scope, name, now]).rowcount
            )
            self._refresh()
            if won:
                self._trying.add(name)
            return bool(won) or self._known[name].state == "closed"

    def _last_resort(self, about: str) -> Iterator[P]:
        now = self._clock()
        waiting = [
            (state.until or now, number)
            for number, name in enumerate(self._names())
            if (state := self._state(name)).state == "open"
            and not state.is_parked
            and not state.refuses(about, now)
            and name not in self._tried
        ]
        if not waiting:
            return
        provider = self.providers[min(waiting)[1]]
        with self._lock:
            if provider.name in self._tried:  # by another thread, just now
                return
            self._tried.add(provider.name)
            self._trying.add(provider.name)
        yield provider

    def _give_back(self, name: str, error: Exception) -> None:
        """End a trial that said nothing of the provider: somebody else may try."""
        if name in self._trying and not isinstance(error, DatabaseUnavailable):
            now = self._clock()
            self._change(name, lambda state: _reopened(state, now))
        self._trying.discard(name)

    def _why(self, name: str, about: str, now: datetime) -> IngestionError:
        """Why this provider does not answer, as an error whose text says until when."""
        state = self._state(name)
        if state.refuses(about, now):
            return Unsupported(state.unsupported[about].reason)
        last = self._last.get((name, about))
        if state.state == "closed":
            return last or Transient(state.text or "it was not asked")
        if state.state == "half-open":
            return Transient(f"another worker is trying it; {state.text}", retry_after=SOON)
        until = state.until or now
        text = f"left alone until {until:%Y-%m-%d %H:%M:%S} UTC; {state.text}"
        if issubclass(state.kind, QuotaExhausted):
            return QuotaExhausted(text, until=until)
        if issubclass(state.kind, Transient):
            return Transient(text, retry_after=max(0.0, (until - now).total_seconds()))
        return state.kind(text)

    def _state(self, name: str) -> ProviderState:
        with self._lock:
            now = self._clock()
            if self._read_at is None or not timedelta() <= now - self._read_at < FRESH:
                self._refresh()
            return self._known[name]

    def _refresh(self) -> None:
        found = {state.provider: state for state in stored_states(self._store, self.scope)}
        self._known = {name: found.get(name) or ProviderState(self.scope, name) for name in self._names()}
        self._read_at = self._clock()

    def _change(
        self, name: str, change: Callable[[ProviderState], ProviderState], *, has_failed: bool = False
    ) -> None:
        """Replace what is known of a provider, in one transaction that nobody else's change can fall into."""
        failed_at = self._clock() if has_failed else None

        def work(connection: Connection) -> ProviderState:
            connection.execute(_CREATE, [self.scope, name])
            found = connection.execute(_SELECT + _OF_ONE, [self.scope, name]).fetchone()
            new = change(_state_of(found) if found else ProviderState(self.scope, name))
            connection.execute(
                _UPDATE,
                [
                    new.state, new.failures, new.until, new.reason, msgspec.json.encode(new.unsupported).decode(),
                    new.succeeded_at, failed_at, self.scope, name,
                ],
            )  # fmt: skip
            return new

        with self._lock:
            self._known[name] = self._store.transaction(work)


def stored_states(store: Store, scope: str) -> list[ProviderState]:
    """What is known of the providers of a scope, by name; of those without an entry nothing is."""
    return [_state_of(row) for row in store.transaction(lambda c: c.execute(_SELECT, [scope]).fetchall())]


def _reopened(state: ProviderState, now: datetime) -> ProviderState:
    """Open to the next trial."""
    return replace(state, state="open", until=now) if state.state == "half-open" else state


def _is_forgiven(state: ProviderState) -> bool:
    """Whether an answer changes it: mere failures are forgotten, but waiting for a quota, a rate or rights goes on."""
    if state.state == "open":
        return not state.is_parked and not issubclass(state.kind, RateLimited)
    return state.state == "closed" and state.failures > 0


def _state_of(row: tuple[Any, ...]) -> ProviderState:
    *known, unsupported, lies, last_lie, succeeded_at = row
    scope, provider, state, failures, until, reason = known
    refused = msgspec.json.decode(unsupported, type=dict[str, Refused])
    return ProviderState(
        scope, provider, state, failures, until, reason, refused, lies, last_lie, succeeded_at
    )


_SELECT = """
    SELECT scope, provider, state, failures, until, reason, unsupported::text, lies, last_lie, succeeded_at
    FROM ops.providers WHERE scope = %s"""
_OF_ONE = " AND provider = %s FOR UPDATE"
_CREATE = "INSERT INTO ops.providers (scope, provider) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_UPDATE = """
    UPDATE ops.providers
    SET state = %s, failures = %s, until = %s, reason = %s, unsupported = %s, succeeded_at = %s, failed_at = coalesce(%s, failed_at)
    WHERE scope = %s AND provider = %s"""
# Of all who see that its time is over, one finds it so; it has the lease, and the others find the new `until`.
_TRY = """
    UPDATE ops.providers SET state = 'half-open', until = %s
    WHERE scope = %s AND provider = %s AND state <> 'closed' AND (until IS NULL OR until <= %s)"""
_LIED = """
    INSERT INTO ops.providers AS known (scope, provider, lies, last_lie, lied_at) VALUES (%s, %s, 1, %s, %s)
    ON CONFLICT (scope, provider) DO UPDATE SET lies = known.lies + 1, last_lie = excluded.last_lie, lied_at = excluded.lied_at"""
