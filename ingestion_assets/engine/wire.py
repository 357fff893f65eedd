"""The wire below httpx, where one deadline holds for a whole answer: name lookup aside, everything ends in time.

The timeout of httpx counts silence; a source that drips a byte now and then would hold us for ever. Here no
read, of headers or body, waits beyond the deadline of its answer.
"""

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

CONNECTIONS = 20


class Wire(httpx.HTTPTransport):
    """An HTTP transport whose answers end in time. A thread reads an answer to its end before it asks again.

    Args:
        deadline: seconds for one answer, counted from when its request is sent.
    """

    def __init__(self, deadline: float) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        self._clock = _Clock()
        self._deadline = deadline
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            keepalive_expiry=httpx.Limits().keepalive_expiry,
            network_backend=_Network(self._clock),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; from now on its time runs."""
        self._clock.ends = time.monotonic() + self._deadline
        return super().handle_request(request)


class _Clock(threading.local):
    """When the answer that this thread waits for must have ended, on the monotonic clock."""

    ends = 0.0

    def left(self, timeout: float | None) -> float:
        """Seconds that one step may take.

        Raises:
            ReadTimeout: there are none left.
        """
        left = self.ends - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline of the whole answer has passed")
        return left if timeout is None else min(left, timeout)


class _Network(httpcore.NetworkBackend):
    """Opens connections that look at the clock."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._network.connect_tcp(
            host, port, self._clock.left(timeout), local_address, socket_options
        )
        return _Stream(stream, self._clock)


class _Stream(httpcore.NetworkStream):
    """A connection that looks at the clock before it waits."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.left(timeout))
        return _Stream(stream, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
