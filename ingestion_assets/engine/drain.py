"""The one verb: read streams to their end and commit each batch. There is no other loop in this project."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ingestion_assets.engine.coverage import difference
from ingestion_assets.engine.errors import SchemaDrift
from ingestion_assets.engine.prefetch import ahead
from ingestion_assets.engine.stream import (
    Batch,
    Covered,
    Cursor,
    Derived,
    Drained,
    Settled,
    Sink,
    Stream,
    Tally,
    Unproved,
    Writer,
    name_of,
)

TURN = 0.001  # seconds that a thread computes while others wait


def drain(
    streams: Sequence[Stream],
    sink: Sink,
    *,
    read_ahead: int = 1,
    readers: int = 1,
    writers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    on_commit: Callable[[Stream, Batch, Tally], None] = lambda _stream, _batch, _tally: None,
) -> Drained:
    """Read the streams one after another and commit each batch with its mark.

    Whatever happens, what is committed is whole: the next drain reads what is missing. Between reading and commit lie
    `read_ahead + readers + writers - 1` batches at most: so many a crash makes us read again, and memory holds.

    Args:
        streams: what to read.
        sink: where to.
        read_ahead: batches that may be read while the last one commits.
        readers: streams that are read side by side.
        writers: batches that are committed side by side, each in a transaction of its own. Those of one stream whose
            ranges overlap still wait for one another; those that move its cursor are prepared side by side and committed
            in turn. 1 where one batch's commit decides what the next one is.
        should_stop: asked between batches; True ends the drain at that boundary.
        on_commit: told of every committed batch, in the order in which they were read, by the caller's thread.

    A stream whose source has drifted ends where it is and does not stop the others: see `Drained.failed`.

    Raises:
        IngestionError: the first other error that a stream or the sink raised; what came before it is committed, and
            so may be up to `writers - 1` batches after it.
    """
    total = Tally()
    failed: dict[str, SchemaDrift] = {}
    unproved: dict[str, list[Unproved]] = {}
    stopped = False

    def told(stream: Stream, batch: Batch, tally: Tally) -> None:
        total.add(tally)
        for key in batch.keys or stream.keys:
            _note(unproved, key, batch)
        on_commit(stream, batch, tally)

    def stopping() -> bool:
        nonlocal stopped
        commits.look()
        stopped = stopped or should_stop()
        return stopped

    sources = [_source(stream, sink) for stream in streams]
    batches = ahead(sources, depth=read_ahead, readers=readers, should_stop=stopping)
    # Left in the opposite order: readers stop at once when a commit fails; then the commits that are under way end.
    with _turns(), ThreadPoolExecutor(writers, thread_name_prefix="commit") as pool, closing(batches):
        commits = _Commits(pool, writers, told)
        try:
            for stream, writer, batch in batches:
                if isinstance(batch, SchemaDrift):
                    failed[name_of(stream)] = batch
                else:
                    commits.begin(stream, writer, batch)
        finally:  # what a reader raised comes after the commits before it, and after their errors
            commits.end()
    return Drained(total, {key: tuple(gaps) for key, gaps in unproved.items() if gaps}, failed, stopped)


@contextmanager
def _turns() -> Iterator[None]:
    """Short turns for the threads of this process, until the drain ends.

    A commit computes for moments, many times, whenever Postgres can take more. A reader that computes without a pause keeps
    each of these moments waiting for Python's own 5 ms: together, for longer than Postgres needs.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit that is under way."""

    stream: Stream
    batch: Batch
    tally: Future[Tally]

    def turn(self, seconds: float | None = None) -> bool:
        """Of the batch behind it: see `Turn`."""
        if not wait([self.tally], seconds).done:
            return False
        self.tally.result()
        return True

    def is_before(self, stream: Stream, batch: Batch) -> bool:
        """Whether a batch may not begin until this one is committed."""
        mine, its = self.batch.mark, batch.mark
        if self.stream is not stream or self.is_followed_by(stream, batch):
            return False
        if isinstance(mine, Cursor | Settled | Derived) or isinstance(its, Cursor | Settled | Derived):
            return True
        return mine.lo <= its.hi and its.lo <= mine.hi

    def is_followed_by(self, stream: Stream, batch: Batch) -> bool:
        """Whether a batch may begin, but has to be committed after this one: both move one cursor."""
        return (
            self.stream is stream and isinstance(self.batch.mark, Cursor) and isinstance(batch.mark, Cursor)
        )


class _Commits:
    """Those that are under way, in the order of reading, fewer than `writers` of them whenever the reader is asked."""

    def __init__(
        self, pool: ThreadPoolExecutor, writers: int, told: Callable[[Stream, Batch, Tally], None]
    ) -> None:
        self._pool = pool
        self._writers = writers
        self._told = told
        self._open: deque[_Commit] = deque()

    def begin(self, stream: Stream, writer: Writer, batch: Batch) -> None:
        """Commit a batch, after those that have to be committed before."""
        while any(commit.is_before(stream, batch) for commit in self._open):
            self._finish()
        before = [commit.turn for commit in self._open if commit.is_followed_by(stream, batch)]
        self._open.append(_Commit(stream, batch, self._pool.submit(writer.commit, batch, *before[-1:])))
        if len(self._open) == self._writers:
            self._finish()

    def look(self) -> None:
        """Tell of those that are done: a source that is slow must not hide them."""
        while self._open and self._open[0].tally.done():
            self._finish()

    def end(self) -> None:
        """Wait for all."""
        while self._open:
            self._finish()

    def _finish(self) -> None:
        commit = self._open.popleft()
        try:
            self._told(commit.stream, commit.batch, commit.tally.result())
        except BaseException:
            self._open.clear()  # nobody hears of those after it
            raise


def _note(unproved: dict[str, list[Unproved]], key: str, batch: Batch) -> None:
    """What one provider could not prove, another one may have proved later in the same drain."""
    mark = batch.mark
    if isinstance(mark, Unproved):
        unproved.setdefault(key, []).append(mark)
    elif isinstance(mark, Covered) and any(_meets(gap, mark) for gap in unproved.get(key, ())):
        unproved[key] = [
            Unproved(lo, hi, gap.reason)
            for gap in unproved[key]
            for lo, hi in difference([(gap.lo, gap.hi)], [(mark.lo, mark.hi)])
        ]


def _meets(gap: Unproved, mark: Covered) -> bool:
    return gap.lo <= mark.hi and mark.lo <= gap.hi


def _source(stream: Stream, sink: Sink) -> Callable[[], Iterator[tuple[Stream, Writer, Batch | SchemaDrift]]]:
    def read() -> Iterator[tuple[Stream, Writer, Batch | SchemaDrift]]:
        stream.wanted()  # a source that has changed its mind takes back what is committed, before that is looked at
        writer = sink.open(stream)
        try:
            for batch in stream.read(writer.done):
                yield stream, writer, batch
        except SchemaDrift as error:
            yield stream, writer, error

    return read
