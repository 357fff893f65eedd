"""`ingestion up`: everything that must run beside each other, started in order, kept alive, ended together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import yaml

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.orchestration.storage import storage_url
from ingestion_assets.settings import PROJECT, Settings

HOST = "127.0.0.1"
GONE = (
    ProcessLookupError,
    PermissionError,
)  # what macOS says of a group whose processes have all ended is the second
GRACE = 15.0  # seconds that a process has to end by itself
MOST_SANDBOX_DAYS = 180  # so that an installation that has grown old still starts within seconds
FEED_DAYS = 30  # of the sandbox's feeds, where no chain needs more
LONGEST_PAUSE = 30.0  # seconds between two restarts of one process

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen, all on the loopback interface."""

    ui: int = 3000
    api: int = 8000
    code: int = 4000
    sandbox: int = 8545


@dataclass(slots=True)
class Service:
    """One process, and what it is for."""

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    deaths: int = 0
    started_at: float = field(default=0.0)


class Supervisor:
    """Starts services in their own process groups, starts them again when they die, and ends all that they started.

    Args:
        environment: of the processes.
        logs: the folder that their output goes to, one file each.
        say: tells the person at the terminal.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path, say: Say) -> None:
        self._environment = dict(environment)
        self._logs = logs
        self._say = say
        self._services: list[Service] = []
        self.stop = threading.Event()

    def start(self, name: str, *command: str) -> Service:
        """Start a service and keep it running."""
        service = Service(name, command)
        self._services.append(service)
        self._launch(service)
        return service

    def _launch(self, service: Service) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{service.name}.log").open("ab") as output:
            service.process = subprocess.Popen(  # noqa: S603 - the commands are ours
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=PROJECT,
                start_new_session=True,
            )
        service.started_at = time.monotonic()

    def watch(self, tend: Callable[[], object]) -> None:
        """Until `stop` is set: start again what has died, at growing intervals; `tend` looks after the rest."""
        while not self.stop.wait(0.5):
            self._tend(tend)
            for service in self._services:
                if service.process is None or service.process.poll() is None:
                    continue
                pause = min(LONGEST_PAUSE, 2.0**service.deaths)
                if time.monotonic() - service.started_at < pause:
                    continue
                service.deaths += 1
                self._say(
                    f"{service.name} ended with {service.process.returncode}; starting it again, see {self._logs / service.name}.log"
                )
                self._launch(service)

    def _tend(self, tend: Callable[[], object]) -> None:
        try:
            tend()
        except Exception as error:  # noqa: BLE001 - whatever it is, the services go on, and it is tried again
            self._say(f"{type(error).__name__}: {error}")
            self.stop.wait(LONGEST_PAUSE)

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout: float = 120.0) -> None:
        """Wait until a service answers.

        Raises:
            TimeoutError: it does not, or died meanwhile.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            dead = next(
                (s for s in self._services if s.process is not None and s.process.poll() is not None), None
            )
            if dead is not None or time.monotonic() > deadline:
                name = dead.name if dead else what
                raise TimeoutError(f"{name} does not come up; the end of its log:\n{self._tail(name)}")
            if self.stop.wait(0.2):
                return

    def _tail(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-20:]) if path.exists() else "(empty)"

    def end(self) -> None:
        """End everything, one after another and last started first: so the daemon does not see the rest go.

        Runs stop between two batches, and nothing is left behind.
        """
        for service in reversed(self._services):
            self._signal(service, signal.SIGINT)
            deadline = time.monotonic() + GRACE
            while self._is_alive(service) and time.monotonic() < deadline:
                time.sleep(0.05)
            self._signal(service, signal.SIGKILL)
            if service.process is not None:
                service.process.wait()

    def _signal(self, service: Service, number: signal.Signals) -> None:
        if self._is_alive(service) and service.process is not None:
            with suppress(*GONE):
                os.killpg(service.process.pid, number)

    def _is_alive(self, service: Service) -> bool:
        """Whether anything of its process group is left, runs of a dead code server included."""
        if service.process is None:
            return False
        service.process.poll()  # reaps it, so that it no longer counts
        try:
            os.killpg(service.process.pid, 0)
        except GONE:
            return False
        return True


def up(settings: Settings, ports: Ports, say: Say) -> None:
    """Run the UI, the daemon, the code location, the API and, if sources.yaml asks it, the sandbox, until a signal comes.

    Raises:
        Misconfigured: sources.yaml is wrong, or a port is taken.
        DatabaseUnavailable: there is no Postgres where INGESTION_DATABASE_URL points.
        TimeoutError: a service does not come up.
    """
    sandbox_days = _sandbox_days(settings, ports)
    listening = {"UI": ports.ui, "API": ports.api, "code server": ports.code}
    if sandbox_days is not None:
        listening["sandbox"] = ports.sandbox
    for name, port in listening.items():
        _check_port(name, port)
    say(
        "Postgres: "
        + (
            "embedded, " + str(settings.home / "data" / "postgres")
            if settings.database is None
            else "INGESTION_DATABASE_URL"
        )
    )
    url = settings.database_url()
    database.migrate(url, migrations.SCRIPTS)
    storage_url(url)  # makes Dagster's schema before several processes want it

    data = settings.home / "data"
    data.mkdir(parents=True, exist_ok=True)
    workspace = data / "workspace.yaml"
    location = {"host": HOST, "port": ports.code, "location_name": "ingestion_assets"}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(settings.home),
        "INGESTION_DATABASE_URL": url,
        "INGESTION_SOURCES": str(settings.sources_file),
    }
    if sandbox_days is not None:
        environment.setdefault("INGESTION_AUTOMATE", "1")
    supervisor = Supervisor(environment, data / "logs", say)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stop.set())
    try:
        _start(supervisor, ports, workspace, say, sandbox_days=sandbox_days)
        if not supervisor.stop.is_set():
            say("Ctrl-C stops all of it.")
            supervisor.watch(settings.database_url)  # an embedded Postgres that died is started again
    finally:
        say("stopping: runs end between two batches, and go on from there next time …")
        supervisor.end()


def _sandbox_days(settings: Settings, ports: Ports) -> int | None:
    """How many days of history the sandbox must have for sources.yaml; None where nothing is read from it."""
    sources = settings.sources()
    starts = [
        chain.start
        for chain in sources.chains.values()
        if any(
            (provider.url.host, provider.url.port) == (HOST, ports.sandbox) for provider in chain.providers
        )
    ]
    feeds = [
        feed for feed in sources.events.values() if (feed.url.host, feed.url.port) == (HOST, ports.sandbox)
    ]
    rating = sources.gomafia is not None and (sources.gomafia.url.host, sources.gomafia.url.port) == (
        HOST,
        ports.sandbox,
    )
    if not starts:
        return FEED_DAYS if feeds or rating else None
    return min((datetime.now(UTC).date() - min(starts)).days, MOST_SANDBOX_DAYS)


def _start(
    supervisor: Supervisor, ports: Ports, workspace: Path, say: Say, *, sandbox_days: int | None
) -> None:
    python = (sys.executable, "-m")
    if sandbox_days is not None:
        options = ("--port", str(ports.sandbox), "--days", str(sandbox_days))
        supervisor.start("sandbox", *python, "ingestion_assets.sandbox", *options)
        supervisor.wait_until(lambda: _answers(f"http://{HOST}:{ports.sandbox}/v2/chainlist"), "sandbox")
        say(f"sandbox:  http://{HOST}:{ports.sandbox}")
    module = ("--module-name", "ingestion_assets.definitions", "--location-name", "ingestion_assets")
    supervisor.start(
        "code-server", *python, "dagster", "api", "grpc", *module, "--host", HOST, "--port", str(ports.code)
    )
    supervisor.wait_until(lambda: _listens(ports.code), "code-server")
    supervisor.start(
        "webserver", *python, "dagster_webserver", "-h", HOST, "-p", str(ports.ui), "-w", str(workspace)
    )
    supervisor.start("daemon", *python, "dagster._daemon", "run", "-w", str(workspace))
    supervisor.wait_until(lambda: _answers(f"http://{HOST}:{ports.ui}/server_info"), "webserver")
    say(f"UI:       http://{HOST}:{ports.ui}")
    supervisor.start("api", *python, "ingestion_assets", "api", "--host", HOST, "--port", str(ports.api))
    supervisor.wait_until(lambda: _listens(ports.api), "api")
    say(f"API:      http://{HOST}:{ports.api}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _check_port(name: str, port: int) -> None:
    if _listens(port):
        raise Misconfigured(
            f"port {port} of the {name} is taken: is it running already? `ingestion up --help` shows how to choose others"
        )
