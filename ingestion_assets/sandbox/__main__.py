"""The command `python -m ingestion_assets.sandbox`: serve the sandbox on the loopback interface."""

import argparse
import signal
import socket
import sys
from datetime import UTC, datetime
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from ingestion_assets.sandbox.explorer import explorer
from ingestion_assets.sandbox.feeds import feeds
from ingestion_assets.sandbox.gomafia import gomafia, league_of
from ingestion_assets.sandbox.world import history_start, served_chains, wall_clock_head

_HOST = "127.0.0.1"


def main() -> None:
    """Serve until SIGINT or SIGTERM, which end the process with status 0.

    Raises:
        SystemExit: with 0 when told to end, with a message when the port is taken.

    """
    parser = argparse.ArgumentParser(prog="python -m ingestion_assets.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8545, help="TCP port on 127.0.0.1 (8545)")
    parser.add_argument("--days", type=int, default=30, help="least days of history before today (30)")
    options = parser.parse_args()

    # The server puts these handlers back and repeats the signal to them once it has shut down.
    for wanted_end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted_end, _end)
    try:
        listener = socket.create_server((_HOST, options.port))
    except OSError as error:
        sys.exit(f"sandbox: cannot listen on {_HOST}:{options.port}: {error.strerror}")

    now = datetime.now(UTC)
    chains = served_chains(options.days, now)
    since = history_start(options.days, now)
    league = league_of(now.date())
    app = Starlette(
        routes=[
            Mount("/gomafia", gomafia(lambda: league)),
            Mount("/feeds", feeds(since, lambda: datetime.now(UTC))),
            Mount("/", explorer(chains, wall_clock_head)),
        ]
    )
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    port = listener.getsockname()[1]
    ids = " and ".join(map(str, chains))
    what = f"the chains {ids}, two feeds since {since.date()}, and a league"
    print(f"sandbox: http://{_HOST}:{port}/ has {what}", flush=True)  # noqa: T201
    uvicorn.Server(config).run(sockets=[listener])


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
