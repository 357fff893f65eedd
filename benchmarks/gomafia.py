"""Whether an entity costs the same at the end of an import as at its beginning, and whether memory stays flat.

100,000 players are read one by one, each in a transaction of its own, as `gomafia/player_year_stats` does it; a provider in this process
answers at once, so that nothing but the stream, the marks and Postgres is measured. Their numbers have gaps (every third
number), so no two marks ever become one: the worst case, 100,000 ranges at the end. `--dense` is the usual case.

    python benchmarks/gomafia.py --entities 100000
"""

import argparse
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.gomafia.config import GomafiaConfig
from ingestion_assets.sources.gomafia.phases import YEAR_STATS
from ingestion_assets.sources.gomafia.provider import Entity, Part, Place, Record, Whole
from ingestion_assets.sources.gomafia.site import SCOPE, Site
from ingestion_assets.sources.gomafia.streams import Belongings

YEAR = datetime.now(UTC).year
WINDOW = 5_000  # entities


class Instant:
    """A provider that knows everybody, and tells it at once."""

    name = "api"

    def listed(self, place: Place) -> Part:
        """Nobody asks for a listing here."""
        raise NotImplementedError(place)

    def whole(self, entity: Entity) -> Whole:
        """One year of a player."""
        games = entity.id % 90
        fields = {"games": games, "civilian": games, "mafia": 0, "sheriff": 0, "don": 0, "elo": "1450.5"}
        return Whole((Record(b'{"stats": {"primary": {"total_games": %d}}}' % games, fields),))

    def close(self) -> None:
        """Nothing is open."""


def prepare(url: str, entities: int, stride: int) -> None:
    """A rating that names so many players, every `stride`-th number."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO raw.gomafia_ratings (year, player_id, provider, payload, digest, as_of, seen_at)"
            " SELECT %s, n * %s, 'api', '{}', '', now(), now() FROM generate_series(1, %s) AS n",
            [YEAR, stride, entities],
        )
        key = f"gomafia/players/{YEAR}"
        connection.execute("INSERT INTO ops.gomafia_sweeps VALUES (%s, now(), %s)", [key, entities])
        connection.execute("ANALYZE")


def measure(url: str) -> list[tuple[float, float, float]]:
    """Of each window: milliseconds an entity, our own CPU in milliseconds an entity, and MiB of memory."""
    process = psutil.Process()
    found: list[tuple[float, float, float]] = []
    seen = [0, time.perf_counter(), time.process_time()]

    def committed(*_: object) -> None:
        seen[0] += 1
        if seen[0] % WINDOW == 0:
            wall, own = time.perf_counter(), time.process_time()
            found.append(
                (
                    (wall - seen[1]) * 1e3 / WINDOW,
                    (own - seen[2]) * 1e3 / WINDOW,
                    process.memory_info().rss / 2**20,
                )
            )
            print(
                f"{int(seen[0]):>8,}  {found[-1][0]:6.2f} ms  {found[-1][1]:6.2f} ms of our CPU  {found[-1][2]:6.0f} MiB"
            )
            seen[1:] = [wall, own]

    with connection_pool(url) as pool:
        store = Store(pool)
        site = Site(GomafiaConfig(start_year=YEAR), store)
        site.providers = Failover(store, SCOPE, [Instant()])
        drain([Belongings(YEAR_STATS, site, year=YEAR)], store, read_ahead=0, on_commit=committed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--dense", action="store_true", help="consecutive numbers")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gomafia_"))
    try:
        url = database.embedded(folder / "postgres")
        database.migrate(url, migrations.SCRIPTS)
        prepare(url, options.entities, 1 if options.dense else 3)
        found = measure(url)
        with psycopg.connect(url) as connection:
            (marks,) = connection.execute("SELECT count(*) FROM ops.coverage").fetchone() or (0,)
        quarter = max(1, len(found) // 4)
        for number, what in enumerate(("wall", "our CPU")):
            first, last = (
                statistics.median(one[number] for one in part) for part in (found[:quarter], found[-quarter:])
            )
            print(
                f"{what}: {first:.2f} ms an entity in the first quarter, {last:.2f} in the last: {last / first:.3f}"
            )
        print(
            f"memory: {found[0][2]:.0f} MiB after the first {WINDOW:,}, {found[-1][2]:.0f} at the end; {marks:,} marks"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
