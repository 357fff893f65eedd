"""One port, served by several processes. Belongs here: who gets a new client, and what becomes of a process that dies.

Processes that accept from one socket take what they can get: of ten clients one may have all, and whoever asks it waits for ten times
as long. So the process above accepts, and hands the connections out in turn; nothing of what they say passes through it.
"""

import asyncio
import multiprocessing
import signal
import socket
from collections import deque
from multiprocessing.connection import wait
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0  # seconds until a process that was told to end, and does not, is killed


def share(config: uvicorn.Config, processes: int) -> None:
    """Serve one port by several processes until SIGINT or SIGTERM. A process that dies is started again; all end with this one, however it ends.

    Args:
        config: of uvicorn: the application as a factory, which each process calls by itself, the host and the port.
        processes: how many.

    Raises:
        SystemExit: nobody can be served: the port is taken, or the application does not start.
    """
    listening = config.bind_socket()
    listening.listen(config.backlog)
    listening.setblocking(False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers: deque[_Server] = deque()
    try:
        servers.extend(_Server(config) for _ in range(processes))
        while True:
            _look(listening, servers, config)
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
        for server in servers:
            server.link.close()  # of all of them first: they end side by side
        for server in servers:
            server.end()


def _look(listening: socket.socket, servers: "deque[_Server]", config: uvicorn.Config) -> None:
    """Wait until something happens, and see to it."""
    awaited: dict[Any, _Server | None] = {server.process.sentinel: server for server in servers}
    awaited |= {server.link: server for server in servers if not server.is_ready}
    if any(server.is_ready for server in servers):
        awaited[listening] = None  # until then whoever comes waits where the kernel keeps them
    for happened in wait(list(awaited)):
        server = awaited[happened]
        if server is None:
            _hand_out(listening, servers)
        elif happened is server.link:
            server.is_ready = True  # so it says; or it is gone, and takes nothing
        else:
            server.end()
            if server.process.exitcode == STARTUP_FAILURE:
                raise SystemExit(STARTUP_FAILURE)
            servers[servers.index(server)] = _Server(config)


def _hand_out(listening: socket.socket, servers: "deque[_Server]") -> None:
    """Give a new connection to whoever's turn it is, or to the next one who can take it."""
    try:
        connection, _ = listening.accept()
    except OSError:
        return  # whoever it was has gone
    with connection:
        for _ in servers:
            servers.rotate(-1)
            if servers[0].takes(connection):
                break


class _Server:
    """A process that serves, seen from above.

    Args:
        config: of uvicorn.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        self.is_ready = False
        self.link, its = socket.socketpair()
        self.link.setblocking(False)
        with its:
            self.process = SPAWN.Process(target=_work, args=(config, its))
            self.process.start()

    def takes(self, connection: socket.socket) -> bool:
        """Hand it a connection, if it has room for one."""
        try:
            socket.send_fds(self.link, [b"+"], [connection.fileno()])
        except OSError:
            return False
        return True

    def end(self) -> None:
        """Have it finish what it was asked, and no more."""
        self.link.close()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _work(config: uvicorn.Config, link: socket.socket) -> None:
    """Serve, as a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the one above tells us
    config.configure_logging()
    server = _Handed(config, link)
    server.run()
    if not server.started:
        raise SystemExit(STARTUP_FAILURE)


class _Handed(uvicorn.Server):
    """A server that accepts nobody, and serves the connections that it is handed.

    Args:
        config: of uvicorn.
        link: to the process above.
    """

    def __init__(self, config: uvicorn.Config, link: socket.socket) -> None:
        super().__init__(config)
        self._link = link
        self._greeting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. It listens nowhere."""
        await super().startup(sockets or [])
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._take)
        self._link.send(b"+")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. What comes from now on is for others."""
        asyncio.get_running_loop().remove_reader(self._link)
        self._link.close()
        await super().shutdown(sockets)

    def _take(self) -> None:
        """Everybody who waits: the kernel gives one at a time, and a loop that is busy looks here seldom."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                message, handed, _, _ = socket.recv_fds(self._link, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                message, handed = b"", []
            if not message:  # there is nobody above any more
                loop.remove_reader(self._link)
                self.should_exit = True
                return
            for descriptor in handed:
                self._greet(socket.socket(fileno=descriptor))

    def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        greeting = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._greeting.add(greeting)
        greeting.add_done_callback(self._greeting.discard)

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        served: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return served
