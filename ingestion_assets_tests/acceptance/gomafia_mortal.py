"""A process that imports the rating and may be killed: `python -m … URL CONFIG STEP`. STEP 0: it lives.

A step is whatever could be the last thing done: a statement, the moment before a COMMIT, the moment after it. Where it is not killed it
says how long its first commit took. It runs all phases, or those that CONFIG names under `phases`.
"""

import json
import os
import signal
import sys
import time

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import IngestionError
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.gomafia.config import GomafiaConfig
from ingestion_assets.sources.gomafia.phases import NAMED, PHASES
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.work import keys_of, streams_of
from ingestion_assets_tests.engine.things import Countdown, SteppingPool


def main(url: str, typed: str, step: str) -> int:
    """0: all phases are read. 4: the site could not be read. 5: something was passed over."""
    began = time.monotonic()
    config = json.loads(typed)
    phases = [NAMED[name] for name in config.pop("phases", [])] or PHASES
    first: list[float] = []
    passed_over = 0
    countdown = Countdown(int(step), lambda: os.kill(os.getpid(), signal.SIGKILL))
    with connection_pool(url) as pool:
        store = Store(SteppingPool(pool, countdown))
        site = Site(GomafiaConfig(**config), store, owner=f"process {os.getpid()}")
        try:
            for phase in phases:
                drained = drain(
                    streams_of(phase, site, keys_of(phase, site)),
                    store,
                    read_ahead=0,
                    on_commit=lambda *_: first.append(time.monotonic() - began) if not first else None,
                )
                if drained.failed:
                    print(drained.failed)  # noqa: T201 - the test reads it
                    return 4
                passed_over += sum(map(len, drained.unproved.values()))
        except IngestionError as error:
            print(f"{type(error).__name__}: {error}")  # noqa: T201
            return 4
        finally:
            site.close()
    print(json.dumps({"first": first[0] if first else None, "passed_over": passed_over}))  # noqa: T201
    return 5 if passed_over else 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
