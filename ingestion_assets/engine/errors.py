"""What can go wrong, sorted by what the caller should do about it.

    IngestionError
      Transient            ask again, perhaps elsewhere; `retry_after` says when
        RateLimited        we were too fast
        DatabaseUnavailable
      TooMuch              the question is too large: ask for a smaller range
      Permanent            asking again changes nothing: a person must act
        Unauthorized       the key is missing, wrong or has no right to this
        Unsupported        this provider does not serve this chain, plan or question
        QuotaExhausted     the budget of the day is used up; `until` says when it is back
        Misconfigured      the question itself is wrong: address, url, chain, action
          NotFound         nothing is at this address (any more)
        Busy               another run has this to itself
        SchemaDrift        the source answers in a shape we do not know
        ProtocolError      the source breaks the rules of its own pages
        Fenced             another worker has moved the cursor of this stream

A bad *record* is not an error: it travels as `stream.Rejected` beside the good ones.
"""

from datetime import datetime


class IngestionError(Exception):
    """The root of everything this project raises on purpose."""


class Transient(IngestionError):
    """Ask again later, or ask somebody else.

    Args:
        message: what happened, free of secrets.
        retry_after: seconds that the source asked us to wait, if it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Transient):
    """The source says that we ask too fast.

    Args:
        message: what it said.
        retry_after: seconds that it asked us to wait.
        allowed: requests per window that it allows, where it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, allowed: int | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.allowed = allowed


class DatabaseUnavailable(Transient):
    """Postgres cannot be reached, or went away in the middle."""


class TooMuch(IngestionError):
    """The source refuses the size of the answer: ask for a smaller range."""


class Permanent(IngestionError):
    """Asking again changes nothing."""


class Unauthorized(Permanent):
    """The key is missing, wrong, or has no right to this."""


class Unsupported(Permanent):
    """This provider does not serve this chain, plan or question."""


class QuotaExhausted(Permanent):
    """The day's budget of requests is used up.

    Args:
        message: which budget.
        until: when it is full again (UTC).
    """

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Misconfigured(Permanent):
    """The question itself is wrong: an address, a url, a chain, an action."""


class NotFound(Misconfigured):
    """Nothing is at this address: the url is wrong, or what was there is gone."""


class Busy(Permanent):
    """Another run has this to itself, as long as it lives."""


class SchemaDrift(Permanent):
    """The source answers in a shape that we do not know."""


class ProtocolError(Permanent):
    """The source breaks the rules of its own pages: it would never end, or would leave something out."""


class Fenced(Permanent):
    """Another worker has moved the cursor of this stream: this one stops."""
