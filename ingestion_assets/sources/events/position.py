"""Where we are in a feed. Pure: what is known after a page follows from what was known before it, and from the page.

The feed is read in sweeps. One sweep goes from the feed's beginning to its end, page by page, and nothing that was there
when it began is left out, wherever new events appear meanwhile. What the next sweep has to read depends on the order:

* oldest first: new events appear behind the end. The next sweep goes on there, by the last token, or, where that is gone, from
  the time of the last event on.
* newest first: new events appear before the beginning, where the sweep that is under way never comes. When it has
  ended, its first event becomes the `floor`: that one and all older ones are stored. The next sweep begins at the top and
  ends at the floor. If it is interrupted, the floor stays where it is, so what lies between is read, however often that
  takes. The floor is recognised by its id. A time would do for a feed without a single wrong one.

A token that has expired takes the place with it. It is found again by the time of the last event that was read, where the
source can filter by it. Whether it can is not believed but seen: the page must show that event again. If it does not, the sweep
starts over, with the same floor.
"""

from datetime import datetime

import msgspec

from ingestion_assets.engine.stream import Cursor
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feed import Answer, Question
from ingestion_assets.sources.events.records import Anchor

ROUNDING = 1_000  # milliseconds by which a feed may round the times that it shows, downwards
SURE = 9  # pages of one direction; more make it no surer
SHORT = 3  # sweeps in a row that end with fewer events than the source says it has, before we believe that it miscounts


class Position(Cursor, frozen=True):
    """The mark of a feed.

    `token` asks for the next page, until `expires` (seconds since 1970) where the source says so. `votes` counts the pages that
    went forward in time, less those that went back. `top` and `last` are the first and the last event of this sweep.
    `seeks`: the event by which the place is being found again. `total`: events that the source says it has. `others`: events
    that were stored before this cursor counted them. `short`: sweeps in a row that did not find all of `total`.
    """

    token: str | None = None
    expires: float | None = None
    since: int | None = None
    until: int | None = None
    votes: int = 0
    top: Anchor | None = None
    last: Anchor | None = None
    floor: Anchor | None = None
    seeks: Anchor | None = None
    ended: bool = False
    total: int | None = None
    others: int = 0
    short: int = 0

    @property
    def question(self) -> Question:
        """What to ask next."""
        return Question(self.token, self.since, self.until)

    def goes_back(self, config: FeedConfig) -> bool | None:
        """Whether the feed is newest first; None: not known yet."""
        if config.order is not None:
            return config.order == "newest first"
        return None if self.votes == 0 else self.votes < 0

    def is_expired(self, now: datetime) -> bool:
        """Whether the source has said that the token is gone by now."""
        return self.token is not None and self.expires is not None and now.timestamp() >= self.expires

    def missing(self, records: int, letters: int) -> int:
        """How many events the source says it has beyond those that are stored or wait as dead letters."""
        return max(0, (self.total or 0) - records - letters - self.others)

    def next_sweep(self, config: FeedConfig) -> "Position":
        """After the end of a sweep: where the next one begins."""
        if self.goes_back(config) is False:
            if self.token is not None or self.last is None:
                return msgspec.structs.replace(self, ended=False)
            return self.at_time_of(self.last, config)
        return msgspec.structs.replace(self.from_the_beginning(), votes=self.votes)

    def from_the_beginning(self) -> "Position":
        """All of the sweep again; what is known to be stored below its floor stays so."""
        return Position(
            votes=self.votes, floor=self.floor, total=self.total, others=self.others, short=self.short
        )

    def counted_anew(self) -> "Position":
        """A sweep without a floor, because events are missing."""
        return Position(votes=self.votes, total=self.total, others=self.others, short=self.short + 1)

    def at_time_of(self, anchor: Anchor, config: FeedConfig) -> "Position":
        """The place of an event, to be proved by seeing it again. Times may be rounded, so it is looked for a little before."""
        back = self.goes_back(config)
        return msgspec.structs.replace(
            self,
            token=None,
            expires=None,
            since=None if back else anchor.time - ROUNDING,
            until=anchor.time + ROUNDING + 1 if back else None,
            seeks=anchor,
            ended=False,
        )

    def after(self, answer: Answer, config: FeedConfig, now: datetime, *, shows_floor: bool) -> "Position":
        """What is known once this page is stored.

        Args:
            answer: the page.
            config: of the feed.
            now: the time, UTC.
            shows_floor: whether the floor is among its events.
        """
        page = answer.page
        votes = max(-SURE, min(SURE, self.votes + answer.direction))
        back = msgspec.structs.replace(self, votes=votes).goes_back(config)
        top = self.top or answer.first
        ended = not page.more or (back is True and shows_floor)
        # Newest first, later pages know of events that this sweep never sees.
        is_first = self.token is None and self.since is None and self.until is None
        total = page.total if page.total is not None and (is_first or not back) else self.total
        token = None if ended and back else page.token
        return Position(
            token=token,
            expires=None if token is None or page.lives is None else now.timestamp() + page.lives,
            votes=votes,
            top=None if ended else top,
            last=self.seeks or answer.last or self.last,  # while it is sought, nothing behind it is sure
            floor=(top or self.floor) if ended and back is not False else self.floor,
            seeks=self.seeks,
            ended=ended,
            total=total,
            others=self.others,
            short=self.short,
        )


def found_again(position: Position, answer: Answer, config: FeedConfig, *, shows_it: bool) -> bool | None:
    """Whether a page proves that the place is found again; None: not yet; False: it cannot be found like this."""
    anchor = position.seeks
    if anchor is None or shows_it:
        return True
    if answer.first is None or answer.last is None or not answer.page.more:
        return False
    step = -1 if position.goes_back(config) else 1
    near = 2 * ROUNDING
    before = (
        anchor.time - answer.first.time
    ) * step > near  # it began far from there: the filter was ignored
    beyond = (answer.first.time - anchor.time) * step > near
    return False if before or beyond else None
