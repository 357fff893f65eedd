"""A process that drains a feed and may be killed: `python -m … URL CONFIG STEP`. STEP 0: it lives.

A step is whatever could be the last thing done: a statement, the moment before a COMMIT, the moment after it.
Where it has a pipe for its input, it says `ready` and begins when a line arrives, so that two can begin together.
"""

import json
import os
import signal
import stat
import sys

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Fenced, IngestionError
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feeds import open_feed
from ingestion_assets.sources.events.streams import History
from ingestion_assets_tests.engine.things import Countdown, SteppingPool


def main(url: str, typed: str, step: str) -> int:
    """0: it is caught up. 3: another worker was faster. 4: the source could not be read."""
    countdown = Countdown(int(step), lambda: os.kill(os.getpid(), signal.SIGKILL))
    with connection_pool(url) as pool:
        store = Store(SteppingPool(pool, countdown))
        feed = open_feed("datasync", FeedConfig(**json.loads(typed)), {}, Store(pool))
        if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            print("ready", flush=True)  # noqa: T201 - the test waits for it
            sys.stdin.readline()
        try:
            drained = drain([History(feed, feed.config.pages_per_run)], store, writers=2)
        except Fenced as error:
            print(error)  # noqa: T201 - the test reads it
            return 3
        except IngestionError as error:
            print(f"{type(error).__name__}: {error}")  # noqa: T201
            return 4
        finally:
            feed.client.close()
    print(json.dumps({"inserted": drained.tally.inserted, "read_again": feed.notes.read_again}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # readers may wait for a page that nobody wants any more
