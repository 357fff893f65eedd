"""Read ahead: sources are read in threads while the consumer still works on the item before.

The number of items read but not yet finished by the consumer is bounded exactly, because that is how
many pages a crash can make us fetch again.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


def ahead(
    sources: Iterable[Callable[[], Iterable[T]]],
    *,
    depth: int,
    readers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    poll: float = 0.1,
) -> Generator[T, None, None]:
    """Yield the items of all sources; the items of one source stay in order.

    Args:
        sources: each is opened, read to its end and closed in one reader thread.
        depth: items that may lie ready, or be on the wire, beyond the one each reader is working for.
            0: the next item is asked for only when the consumer comes back.
        readers: sources that are read side by side.
        should_stop: asked every `poll` seconds while waiting, and after each item; True ends the iteration.
        poll: seconds.

    Raises:
        BaseException: whatever a source raised, after the items that were read before it.
    """
    todo = iter(sources)
    taking = threading.Lock()
    permits = threading.Semaphore(depth + readers)  # one permit per item between "asked for" and "finished"
    closed = threading.Event()
    arrived: queue.SimpleQueue[_Item[T] | _Failed | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            while not closed.is_set():
                with taking:
                    source = next(todo, None)
                if source is None:
                    break
                _read_one(source, permits, closed, arrived.put)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer
            arrived.put(_Failed(error))
        arrived.put(None)

    for number in range(readers):
        threading.Thread(target=read, name=f"read-ahead-{number}", daemon=True).start()
    reading = readers
    try:
        while reading and not should_stop():
            try:
                item = arrived.get(timeout=poll)
            except queue.Empty:
                continue
            if item is None:
                reading -= 1
            elif isinstance(item, _Failed):
                raise item.error
            else:
                yield item.value
                permits.release()
    finally:
        closed.set()
        permits.release(readers)  # wakes readers that wait for a permit, so that they see `closed`


def gathered(
    source: Callable[[], Iterable[T]], *, depth: int, is_full: Callable[[list[T]], bool]
) -> Generator[list[T], None, None]:
    """Yield the items of one source in groups: all that has arrived while the consumer worked, and never waiting for more.

    A slow source gives groups of one; a fast one as many as the consumer can take.

    Args:
        source: opened, read to its end and closed in a thread of its own.
        depth: items that may lie ready, or be on the wire, beyond the group that the consumer has.
        is_full: whether nothing more may be added to a group.

    Raises:
        BaseException: whatever the source raised, after the items that were read before it.
    """
    permits = threading.Semaphore(depth + 1)
    closed = threading.Event()
    arrived: queue.SimpleQueue[_Item[T] | _Failed | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            _read_one(source, permits, closed, arrived.put)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer
            arrived.put(_Failed(error))
        arrived.put(None)

    threading.Thread(target=read, name="gathering", daemon=True).start()
    try:
        end: _Item[T] | _Failed | None = _NOT_YET
        while end is _NOT_YET:
            group, end = _group(arrived, is_full)
            if group:
                size = len(group)
                yield group
                del group  # it may be large, and now it is the consumer's
                permits.release(size)
        if isinstance(end, _Failed):
            raise end.error
    finally:
        closed.set()
        permits.release()


_NOT_YET: _Item[Any] = _Item(None)


def _group(
    arrived: "queue.SimpleQueue[_Item[T] | _Failed | None]", is_full: Callable[[list[T]], bool]
) -> "tuple[list[T], _Item[T] | _Failed | None]":
    """What has arrived, at least one item, and what ended it if the source has."""
    group: list[T] = []
    item = arrived.get()
    while isinstance(item, _Item):
        group.append(item.value)
        if is_full(group):
            return group, _NOT_YET
        try:
            item = arrived.get_nowait()
        except queue.Empty:
            return group, _NOT_YET
    return group, item


def _read_one(
    source: Callable[[], Iterable[T]],
    permits: threading.Semaphore,
    closed: threading.Event,
    put: Callable[[_Item[T]], None],
) -> None:
    permits.acquire()
    items = iter(source()) if not closed.is_set() else iter(())
    try:
        while not closed.is_set():
            try:
                value = next(items)
            except StopIteration:
                permits.release()
                return
            put(_Item(value))
            del value  # it may be large, and now it is the consumer's
            permits.acquire()
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
