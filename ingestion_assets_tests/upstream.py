"""An upstream for tests: an ASGI app on a real loopback port, its request log, and its faults.

Faults are made by a small middleware around the app, so they work with any app that answers with
JSON. `small_chain` and `Head` make an explorer whose every row a test can know beforehand.
"""

import asyncio
import json
import random
import socket
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingestion_assets.sandbox.chain import Chain

Kind = Literal[
    "status", "html", "truncate", "reset", "hang", "slow", "body",
    "rename_field", "drop_field", "null_field", "drop_rows", "duplicate_rows", "shuffle_rows",
]  # fmt: skip
Rows = list[Any]


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Head:
    """A settable head: the newest block that an explorer shows, the same for all its chains."""

    block: int

    def __call__(self, _chain: Chain) -> int:
        """Answer the explorer's question for the newest block."""
        return self.block


def small_chain(chain_id: int = 1, *, days: int = 10, quiet_day: int | None = 4) -> Chain:
    """Make a chain of 36 blocks a day from 2024-01-01, grown to its last block.

    By default that is ten days with 324 blocks: the fifth day, 2024-01-05, has none.
    """
    chain = Chain(
        chain_id,
        seed=11,
        genesis=datetime(2024, 1, 1, tzinfo=UTC),
        block_seconds=2_400,
        transactions_per_block=2.0,
        quiet_day=quiet_day,
    )
    chain.grow_to((days if quiet_day is None else days - 1) * 36 - 1)
    return chain


@dataclass
class Seen:
    """A request that arrived: monotonic seconds, path, query; no status when it got no answer."""

    arrived: float
    path: str
    query: dict[str, str]
    status: int | None = None


@dataclass
class _Fault:
    kind: Kind
    times: int
    match: dict[str, str]
    after: int
    options: dict[str, Any] = field(default_factory=dict)


class Upstream:
    """Runs an app under uvicorn in a thread: `with Upstream(app) as upstream: get(upstream.url)`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._faults: list[_Fault] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        """Scheme, host and port, without a slash at the end."""
        config = uvicorn.Config(
            self._answer, interface="asgi3", log_level="critical", access_log=False, lifespan="off", ws="none",
            proxy_headers=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)

    def __enter__(self) -> Self:
        """Start serving; the port answers when this returns."""
        self._thread.start()
        if not self._server.ready.wait(timeout=10):
            raise RuntimeError("the upstream did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Stop serving at once, also in the middle of a test; requests that hang are let go."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()

    @property
    def requests(self) -> list[Seen]:
        """A copy of the log, in the order of arrival."""
        with self._lock:
            return list(self._seen)

    def count(self, **query: str) -> int:
        """Count the requests whose query has all these parameters with these values."""
        return sum(_matches(seen.query, query) for seen in self.requests)

    def peak(self, seconds: float = 1.0) -> int:
        """Count the requests of the fullest window of `seconds`, wherever it lies."""
        arrivals = sorted(seen.arrived for seen in self.requests)
        ends = (bisect_right(arrivals, arrival + seconds) for arrival in arrivals)
        return max((end - start for start, end in enumerate(ends)), default=0)

    def fail(
        self, kind: Kind, *, times: int = 1, match: Mapping[str, str] | None = None, after: int = 0,
        **options: Any,
    ) -> None:  # fmt: skip
        """Make the next `times` requests whose query matches go wrong, but let `after` pass first.

        A request suffers one fault, the earliest one planned that applies. The kinds and their
        options: status (status=500, headers={}, body=""), html (status=200), body (body: bytes),
        truncate, reset, hang (until `release`), slow (seconds), and these, which edit the JSON
        that the app gives, with rows="all" or indexes: rename_field (field, to), drop_field (field),
        null_field (field), drop_rows, duplicate_rows; shuffle_rows (seed=0) mixes all rows.
        """
        with self._lock:
            self._faults.append(_Fault(kind, times, dict(match or {}), after, options))

    @property
    def faults_left(self) -> int:
        """How many planned faults have not happened yet."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def release(self) -> None:
        """Let the requests that hang at this moment be answered."""
        self._server.release()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        seen = Seen(time.monotonic(), scope["path"], query)
        with self._lock:
            self._seen.append(seen)
            fault = self._next_fault(query)

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        if fault is None:
            await self._app(scope, receive, noting_send)
        elif fault.kind == "reset":
            await _reset(receive, send)
        elif fault.kind in {"hang", "slow"}:
            if await self._wait(fault, receive):
                await self._app(scope, receive, noting_send)
        else:
            response = await _spoiled(fault, self._app, scope, receive)
            await response(scope, receive, noting_send)

    def _next_fault(self, query: Mapping[str, str]) -> _Fault | None:
        for fault in self._faults:
            if fault.times and _matches(query, fault.match):
                if not fault.after:
                    fault.times -= 1
                    return fault
                fault.after -= 1
        return None

    async def _wait(self, fault: _Fault, receive: Receive) -> bool:
        """Wait as the fault says; False when the client has gone away meanwhile."""
        done = asyncio.ensure_future(self._server.released.wait())
        gone = asyncio.ensure_future(_disconnected(receive))
        seconds = fault.options.get("seconds") if fault.kind == "slow" else None
        await asyncio.wait({done, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        left = gone.done()
        done.cancel()
        gone.cancel()
        return not left


class _Server(uvicorn.Server):
    """A server that another thread can wait for and end without polling."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end, self.released = asyncio.Event(), asyncio.Event()
        await self.on_tick(0)
        self.ready.set()
        await self._end.wait()
        self._release()
        self.force_exit = True

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self.released.set()
        self.released = asyncio.Event()


def _matches(query: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(query.get(name) == str(value) for name, value in wanted.items())


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(receive: Receive, send: Send) -> None:
    """Close the connection; ASGI has no word for that, uvicorn's `send` knows its transport."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    await _disconnected(receive)


async def _spoiled(fault: _Fault, app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """Make the wrong answer: out of nothing, or out of the right one."""
    options = fault.options
    if fault.kind == "status":
        return Response(options.get("body", ""), options.get("status", 500), options.get("headers"))
    if fault.kind == "html":
        text = "<html><title>Just a moment...</title><body>Checking your browser</body></html>"
        return Response(text, options.get("status", 200), media_type="text/html")
    if fault.kind == "body":
        return Response(options["body"], media_type="application/json")
    right = await _answer_of(app, scope, receive)
    if fault.kind == "truncate":
        return Response(right[: len(right) // 2], media_type="application/json")
    document = json.loads(right)
    result = document.get("result")
    rows = result if isinstance(result, list) else [result]
    rows = _EDITS[fault.kind](rows, options)
    document["result"] = rows if isinstance(result, list) else rows[0]
    return Response(json.dumps(document), media_type="application/json")


async def _answer_of(app: ASGIApp, scope: Scope, receive: Receive) -> bytes:
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        parts.append(message.get("body", b""))

    await app(scope, receive, collect)
    return b"".join(parts)


def _chosen(rows: Rows, options: Mapping[str, Any]) -> set[int]:
    wanted: Iterable[int] | str = options.get("rows", "all")
    return set(range(len(rows))) if isinstance(wanted, str) else {index % len(rows) for index in wanted}


def _each(
    change: Callable[[dict[str, Any], Mapping[str, Any]], object],
) -> Callable[[Rows, Mapping[str, Any]], Rows]:
    def edit(rows: Rows, options: Mapping[str, Any]) -> Rows:
        for index in _chosen(rows, options):
            change(rows[index], options)
        return rows

    return edit


def _kept(rows: Rows, options: Mapping[str, Any]) -> Rows:
    return [row for index, row in enumerate(rows) if index not in _chosen(rows, options)]


def _doubled(rows: Rows, options: Mapping[str, Any]) -> Rows:
    chosen = _chosen(rows, options)
    return [row for index, row in enumerate(rows) for _ in range(2 if index in chosen else 1)]


def _shuffled(rows: Rows, options: Mapping[str, Any]) -> Rows:
    mixed = random.Random(options.get("seed", 0)).sample(rows, len(rows))
    return rows[::-1] if mixed == rows else mixed


_EDITS: dict[str, Callable[[Rows, Mapping[str, Any]], Rows]] = {
    "rename_field": _each(lambda row, options: row.update({options["to"]: row.pop(options["field"])})),
    "drop_field": _each(lambda row, options: row.pop(options["field"])),
    "null_field": _each(lambda row, options: row.update({options["field"]: None})),
    "drop_rows": _kept,
    "duplicate_rows": _doubled,
    "shuffle_rows": _shuffled,
}
