"""The one verb: read streams to their end and commit each batch. There is no other loop in this project."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ingestion_assets.engine.prefetch import ahead
from ingestion_assets.engine.stream import Batch, Drained, Sink, Stream, Tally, Unproved, Writer


def drain(
    streams: Sequence[Stream],
    sink: Sink,
    *,
    read_ahead: int = 1,
    readers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    on_commit: Callable[[Stream, Batch, Tally], None] = lambda _stream, _batch, _tally: None,
) -> Drained:
    """Read the streams one after another and commit each batch with its mark.

    Whatever happens, what is committed is whole: the next drain begins after the last committed batch.

    Args:
        streams: what to read.
        sink: where to.
        read_ahead: batches that may be read while the last one commits; so many a crash makes us read again.
        readers: streams that are read side by side.
        should_stop: asked between batches; True ends the drain at that boundary.
        on_commit: told of every committed batch.

    Raises:
        IngestionError: the first error that a stream or the sink raised; what came before it is committed.
    """
    total = Tally()
    unproved: dict[str, tuple[Unproved, ...]] = {}
    stopped = False

    def stopping() -> bool:
        nonlocal stopped
        stopped = stopped or should_stop()
        return stopped

    sources = [_source(stream, sink) for stream in streams]
    batches = ahead(sources, depth=read_ahead, readers=readers, should_stop=stopping)
    with closing(batches):  # readers stop at once when a commit fails
        for stream, writer, batch in batches:
            tally = writer.commit(batch)
            total.add(tally)
            if isinstance(batch.mark, Unproved):
                unproved[stream.key] = (*unproved.get(stream.key, ()), batch.mark)
            on_commit(stream, batch, tally)
    return Drained(total, unproved, stopped)


def _source(stream: Stream, sink: Sink) -> Callable[[], Iterator[tuple[Stream, Writer, Batch]]]:
    def read() -> Iterator[tuple[Stream, Writer, Batch]]:
        writer = sink.open(stream)
        for batch in stream.read(writer.done):
            yield stream, writer, batch

    return read
