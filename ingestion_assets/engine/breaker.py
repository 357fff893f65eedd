"""A circuit breaker as a value: what is known of one provider, and what it is after an error. Pure functions.

closed: it is asked. open: it is not, until `until`. half-open: after that, ONE worker asks it, and its answer decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    Permanent,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    Transient,
    Unauthorized,
    Unsupported,
)

THRESHOLD = 3  # failures in a row that open it
FIRST = timedelta(seconds=60)  # it stays open at first; twice as long each time it fails again
LONGEST = timedelta(minutes=15)
PATIENCE = 5.0  # seconds that a provider may ask us to wait without being left alone
FARTHEST = timedelta(days=31)  # nobody is parked for longer, whatever a source says
REMEMBERED = timedelta(days=1)  # how long "not supported" is believed
TEXT = 500  # characters that are kept of what went wrong

# The reason that is kept begins with the name of the error's class, so every process knows of which kind it was.
KINDS: dict[str, type[IngestionError]] = {
    kind.__name__: kind
    for kind in (
        Transient, RateLimited, Unauthorized, Unsupported, QuotaExhausted, Misconfigured, SchemaDrift, Permanent
    )
}  # fmt: skip

Word = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A class of questions that a provider does not answer; asked again after `until`."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What is known of one provider in one scope, as it stands in `ops.providers`."""

    scope: str
    provider: str
    state: Word = "closed"
    failures: int = 0
    until: datetime | None = None
    reason: str | None = None
    unsupported: Mapping[str, Refused] = field(default_factory=dict[str, Refused])
    lies: int = 0
    last_lie: str | None = None
    succeeded_at: datetime | None = None

    @property
    def kind(self) -> type[IngestionError]:
        """The kind of its last failure."""
        return KINDS.get((self.reason or "").partition(":")[0], Transient)

    @property
    def text(self) -> str:
        """What its last failure said, without its kind; empty where it never failed."""
        return (self.reason or "").partition(": ")[2]

    @property
    def is_parked(self) -> bool:
        """Whether it is open for a reason that one more question cannot change."""
        return self.state == "open" and issubclass(self.kind, QuotaExhausted | Unauthorized)

    def is_over(self, now: datetime) -> bool:
        """Whether its time has passed: one worker may try."""
        return self.state != "closed" and (self.until is None or self.until <= now)

    def refuses(self, about: str, now: datetime) -> bool:
        """Whether it is known not to answer this class of questions."""
        refused = self.unsupported.get(about)
        return refused is not None and refused.until > now


def said(error: BaseException) -> str:
    """The kind of an error and its text, short enough to keep."""
    kind = next((cls for cls in type(error).__mro__ if cls.__name__ in KINDS), Permanent)
    return printable(f"{kind.__name__}: {error}")


def printable(text: str) -> str:
    """One line of at most 500 characters that Postgres and terminals take."""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * TEXT]).strip()[:TEXT]


def after(
    state: ProviderState, error: IngestionError, *, about: str, now: datetime, was_trial: bool
) -> ProviderState:
    """The state after a provider failed.

    Args:
        state: before.
        error: what it failed with.
        about: the class of the question.
        now: UTC.
        was_trial: it was asked although it was not closed, to see whether it is back.
    """
    match error:
        case Unsupported():  # it does answer, only not this
            kept = {name: entry for name, entry in state.unsupported.items() if entry.until > now}
            kept[about] = Refused(printable(str(error)), now + REMEMBERED)
            base = closed(state) if was_trial else state
            return replace(base, unsupported=kept)
        case RateLimited(retry_after=float() | int() as seconds) if seconds > PATIENCE:
            return _opened(state, error, now, timedelta(seconds=min(seconds, FARTHEST.total_seconds())))
        case QuotaExhausted():
            return _opened(state, error, now, error.until - now)
        case Unauthorized():
            return _opened(state, error, now, LONGEST)
        case Transient():
            return _counted(state, error, now, was_trial=was_trial)
        case _:  # it answers what nobody understands, or its configuration is wrong
            failures = max(state.failures + 1, THRESHOLD)
            return replace(_opened(state, error, now, LONGEST), failures=failures)


def closed(state: ProviderState) -> ProviderState:
    """The state after a provider answered."""
    return replace(state, state="closed", failures=0, until=None)


def _counted(state: ProviderState, error: IngestionError, now: datetime, *, was_trial: bool) -> ProviderState:
    if state.state != "closed" and not was_trial and not state.is_over(now):
        return state  # asked before it opened: many threads fail at once, and that is one failure
    failures = state.failures + 1
    if state.state != "closed":
        failures = max(failures, THRESHOLD)
    if failures < THRESHOLD:
        return replace(state, failures=failures, reason=said(error))
    doubled = FIRST * 2 ** min(failures - THRESHOLD, 10)
    return replace(_opened(state, error, now, min(doubled, LONGEST), is_new=True), failures=failures)


def _opened(
    state: ProviderState, error: IngestionError, now: datetime, lasting: timedelta, *, is_new: bool = False
) -> ProviderState:
    """Open it; where it is open for longer already, it stays as it is. A trial, or `is_new`, begins afresh."""
    until = now + min(max(lasting, timedelta()), FARTHEST)
    if state.state == "open" and not is_new and state.until is not None and state.until > until:
        return state
    return replace(state, state="open", until=until, reason=said(error))
