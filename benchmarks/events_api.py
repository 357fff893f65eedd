"""The events API that `events.py` has everybody read: a cursor-paginated feed in the shape of DataSync, from memory.

All events are encoded before the first question, so that the programs are measured and not the server: a page of
5,000 costs it one slice and one send. A cursor is the number of the next event; nothing else about it is a shortcut.

    GET /{latency}/events?limit=1000&cursor=…     {latency} in milliseconds, from the question to the answer
    GET /_control/truth                           how many events, and the XOR of their ids as 128-bit numbers
    GET /_control/limit?requests=20&seconds=1     from now on; 0 requests: no limit. Forgets what was counted
    GET /_control/stats                           answered, refused with 429, and seconds from first to last answer

Over the limit, which is a sliding window, a question gets 429 with Retry-After in whole seconds, as from most APIs.
"""

import json
import multiprocessing
import socket
import socketserver
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

START = 1_766_880_000_000  # 2025-12-28 in epoch milliseconds
STEP = 2592  # milliseconds between two events: a million in 30 days
TYPES = ("page_view", "click", "api_call", "form_submit", "scroll", "purchase", "error", "video_play")
DEVICES = ("mobile", "desktop", "tablet")
BROWSERS = ("Chrome", "Safari", "Firefox", "Edge")
WORD = 2**64 - 1

EVENT = (
    '{"id":"%s","sessionId":"%s","userId":"user_%d","type":"%s","name":"%s.%s","properties":{"page":"/products/%d",'
    '"referrer":"https://example.com/search?q=%x","duration":%d,"value":%d.%02d,"currency":"USD","sampled":%s},'
    '"timestamp":"%s.%03dZ","session":{"id":"%s","deviceType":"%s","browser":"%s"}}'
)


def mix(number: int) -> int:
    """64 bits that look random (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & WORD
    return number ^ (number >> 31)


def identity(high: int, low: int) -> int:
    """A version 4 UUID as a number."""
    return ((high & ~0xF000) | 0x4000) << 64 | (low & 0x3FFF_FFFF_FFFF_FFFF) | 1 << 63


def text(number: int) -> str:
    """A UUID as people write it."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Feed:
    """`total` events, each a function of its number, the oldest first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.xor = 0
        encoded = []
        seconds: dict[int, str] = {}
        for number in range(total):
            event, id_ = self._event(number, seconds)
            self.xor ^= id_
            encoded.append(event)
        self._ends = array("Q")  # where each event's comma is
        end = -1
        for event in encoded:
            end += len(event) + 1
            self._ends.append(end)
        self._all = memoryview(b",".join(encoded))

    @staticmethod
    def _event(number: int, seconds: dict[int, str]) -> tuple[bytes, int]:
        bits, more = mix(number), mix(~number & WORD)
        id_ = identity(bits, more ^ number)
        session = text(identity(mix(bits % 60_000), 0))
        kind = TYPES[bits % 8]
        moment = START + number * STEP
        at = seconds.get(moment // 1000)
        if at is None:
            seconds.clear()
            at = seconds[moment // 1000] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 1000))
        event = EVENT % (
            text(id_),
            session,
            bits % 3000,
            kind,
            kind,
            DEVICES[more % 3],
            more % 977,
            more >> 32,
            more % 60_000,
            bits % 1000,
            more % 100,
            "true" if more & 1 else "false",
            at,
            moment % 1000,
            session,
            DEVICES[bits % 3],
            BROWSERS[bits % 4],
        )
        return event.encode(), id_

    def page(self, asked: dict[str, str]) -> bytes:
        """The answer's body."""
        limit = min(5000, int(asked.get("limit", 100)))
        first = self._number(asked.get("since"))
        end = min(self.total, self._number(asked.get("until"), self.total))
        first = int(asked["cursor"]) if "cursor" in asked else first
        last = max(first, min(first + limit, end))
        lo = self._ends[first - 1] + 1 if first else 0
        data = self._all[lo : self._ends[last - 1]] if last > first else b""
        more = last < end
        tail = (
            f'],"pagination":{{"limit":{limit},"hasMore":{json.dumps(more)},"nextCursor":{json.dumps(str(last) if more else None)},'
            f'"cursorExpiresIn":120}},"meta":{{"total":{self.total},"returned":{last - first},"requestId":"req_{first:x}"}}}}'
        )
        return b"".join((b'{"data":[', data, tail.encode()))

    @staticmethod
    def _number(moment: str | None, default: int = 0) -> int:
        """The first event at or after a moment in epoch milliseconds."""
        return default if moment is None else max(0, -(-(int(moment) - START) // STEP))


class Limit:
    """So many requests in any so many seconds, and how many there were."""

    def __init__(self, requests: int = 0, seconds: float = 1.0) -> None:
        self._requests = requests
        self._seconds = seconds
        self._granted: deque[float] = deque()
        self._lock = threading.Lock()
        self._first = self._last = 0.0
        self.answered = self.refused = 0

    def wait(self) -> float:
        """0 where the request may pass, else seconds until one may."""
        with self._lock:
            now = time.monotonic()
            while self._granted and self._granted[0] <= now - self._seconds:
                self._granted.popleft()
            if self._requests and len(self._granted) >= self._requests:
                self.refused += 1
                return self._granted[0] + self._seconds - now
            self._granted.append(now)
            self._first = self._first or now
            self._last = now
            self.answered += 1
            return 0.0

    def stats(self) -> dict[str, float]:
        """As `/_control/stats` tells them."""
        return {"answered": self.answered, "refused": self.refused, "seconds": self._last - self._first}


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, total: int) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.feed = Feed(total)
        self.limit = Limit()

    def answer(self, target: str) -> tuple[str, bytes]:
        """Status with further headers, and body."""
        url = urlsplit(target)
        asked = dict(parse_qsl(url.query))
        match url.path.strip("/").split("/"):
            case [latency, *_, "events"]:
                wait = self.limit.wait()
                if wait:
                    error = {"error": "Too Many Requests", "code": "RATE_LIMIT_EXCEEDED"}
                    return f"429 Too Many Requests\r\nRetry-After: {-(-wait // 1):.0f}", json.dumps(
                        error
                    ).encode()
                time.sleep(int(latency) / 1000)
                return "200 OK", self.feed.page(asked)
            case ["_control", "truth"]:
                return "200 OK", json.dumps(
                    {"total": self.feed.total, "xor": f"{self.feed.xor:032x}"}
                ).encode()
            case ["_control", "limit"]:
                self.limit = Limit(int(asked["requests"]), float(asked.get("seconds", 1)))
                return "200 OK", b"{}"
            case ["_control", "stats"]:
                return "200 OK", json.dumps(self.limit.stats()).encode()
        return "404 Not Found", b"{}"


class Conversation(socketserver.StreamRequestHandler):
    """GET after GET on one connection."""

    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        """Until the other side hangs up."""
        while question := self.rfile.readline():
            while self.rfile.readline() not in {b"\r\n", b""}:
                pass
            status, body = self.server.answer(question.split()[1].decode())
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            try:
                self.request.sendall(b"".join((head.encode(), body)))
            except OSError:
                return  # whoever asked has gone


def serve(total: int, tell: Connection) -> None:
    """Until killed."""
    server = Server(total)
    tell.send(server.server_address[1])
    server.serve_forever()


class Upstream:
    """The server from outside."""

    def __init__(self, port: int, process: int | None) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.process = process

    def feed(self, latency: int) -> str:
        """Where events are read that take so many milliseconds a page; `/events` comes behind it."""
        return f"{self.root}/{latency}"

    def control(self, what: str, **asked: float) -> dict[str, Any]:
        """Ask or order."""
        answer: dict[str, Any] = (
            httpx.get(f"{self.root}/_control/{what}", params=asked).raise_for_status().json()
        )
        return answer


@contextmanager
def served(total: int) -> Iterator[Upstream]:
    """A server of so many events in a process of its own."""
    listen, tell = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(total, tell), daemon=True)
    process.start()
    tell.close()
    port = listen.recv()
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        yield Upstream(port, process.pid)
    finally:
        process.kill()
        process.join()
