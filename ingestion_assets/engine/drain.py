"""The one verb: read streams to their end and commit each batch. There is no other loop in this project."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ingestion_assets.engine.errors import SchemaDrift
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

    A stream whose source has drifted ends where it is and does not stop the others: see `Drained.failed`.

    Raises:
        IngestionError: the first other error that a stream or the sink raised; what came before it is committed.
    """
    total = Tally()
    failed: dict[str, SchemaDrift] = {}
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
            if isinstance(batch, SchemaDrift):
                failed[stream.key] = batch
                continue
            tally = writer.commit(batch)
            total.add(tally)
            if isinstance(batch.mark, Unproved):
                unproved[stream.key] = (*unproved.get(stream.key, ()), batch.mark)
            on_commit(stream, batch, tally)
    return Drained(total, unproved, failed, stopped)


def _source(stream: Stream, sink: Sink) -> Callable[[], Iterator[tuple[Stream, Writer, Batch | SchemaDrift]]]:
    def read() -> Iterator[tuple[Stream, Writer, Batch | SchemaDrift]]:
        writer = sink.open(stream)
        try:
            for batch in stream.read(writer.done):
                yield stream, writer, batch
        except SchemaDrift as error:
            yield stream, writer, error

    return read
