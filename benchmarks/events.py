"""A cursor-paginated feed, from the first question to the last committed row, beside dlt and beside the bare limits.

Everybody reads the same pages of the same server (events_api.py: encoded beforehand, kept in memory, so that it is not
what is measured), one program at a time in a process of its own, each round beginning with another one. Rows go into
an empty database of one Postgres server, and every run must end with the same set of ids: their number, and their XOR
as 128-bit numbers. Ratios only, for times are the machine's.

dlt needs an environment of its own:

    python3.11 -m venv dlt && dlt/bin/pip install "dlt[postgres]" pyarrow adbc-driver-postgresql msgspec
    python benchmarks/events.py --dlt dlt --total 100000 --repeats 1 --page-size 1000 --latency 0    # minutes
    python benchmarks/events.py --dlt dlt --repeats 3                                                # hours

Without --dlt only ours and the limits are measured. --skip takes the first words of names: `--skip "dlt, tutorial"`.
--tutorial-total has the slowest reader read a shorter feed; what is compared is then its time a row. The last table
is a provider that limits requests: which share of what it allows is used. events.md has the figures, and what was tried.
"""

import argparse
import atexit
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from events_api import Upstream, served
from logs import Databases, cpu_of

SAMPLE = 0.02  # seconds between two looks at a program's memory
LIMITS: tuple[tuple[int, int, dict[str, Any]], ...] = (  # requests, seconds, and how sources.yaml says it
    (20, 1, {"requests_per_second": 20}),
    (10, 2, {"requests_per_second": 5}),
)
LARGEST = 5_000  # events that a page may have
GROUP = 8_000  # rows that a staging table holds at a time
FEED = "datasync"
COLUMNS = "id, feed, type, event_time, payload"
LAST = re.compile(rb'"hasMore":true,"nextCursor":"([^"]+)"')
IDS = """
    SELECT count(*), count(DISTINCT id), to_hex(bit_xor(('x' || left(h, 16))::bit(64)::bigint)),
           to_hex(bit_xor(('x' || right(h, 16))::bit(64)::bigint))
    FROM (SELECT id, replace(id::text, '-', '') AS h FROM {table}) AS ids"""


@dataclass(frozen=True)
class Measured:
    """One run: seconds, CPU seconds of the program and of Postgres, MB at most, rows."""

    wall: float
    cpu: float
    postgres: float
    peak: float
    rows: int


@dataclass(frozen=True)
class Setting:
    """What is the same for all programs of a round."""

    upstream: Upstream
    databases: Databases
    total: int
    limit: int  # events a page
    latency: int  # milliseconds a page

    def task(self, **more: object) -> dict[str, Any]:
        """What a process is told."""
        feed = self.upstream.feed(self.latency)
        return {"feed": feed, "limit": self.limit, "total": self.total, **more}


@contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[list[float]]:
    """MB that a process and its children hold, looked at again and again."""
    seen: list[float] = [0.0]
    over = threading.Event()
    root = psutil.Process(process.pid)

    def look() -> None:
        while not over.wait(SAMPLE):
            try:
                family = [root, *root.children(recursive=True)]
                seen.append(sum(one.memory_info().rss for one in family) / 2**20)
            except psutil.NoSuchProcess:
                continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run(databases: Databases, command: Sequence[str], folder: Path) -> tuple[float, float, float, float]:
    """Run a program whose last line is its seconds and CPU seconds: these, Postgres' CPU seconds, and MB at most."""
    before = cpu_of(databases.postmaster)
    with (
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        watched(process) as seen,
    ):
        printed, complaints = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed:\n{complaints[-4000:]}")
    wall, cpu = json.loads(printed.rstrip().rpartition("\n")[2])
    return wall, cpu, cpu_of(databases.postmaster) - before, max(seen)


def check(url: str, table: str, truth: dict[str, Any]) -> int:
    """Every event is there once; how many."""
    with psycopg.connect(url) as connection:
        found = connection.execute(IDS.format(table=table)).fetchone()
    assert found is not None
    rows, distinct, high, low = found
    assert (rows, distinct) == (truth["total"], truth["total"]), (
        f"{table}: {rows} rows, {distinct} ids, not {truth['total']}"
    )
    assert f"{high:0>16}{low:0>16}" == truth["xor"], f"{table}: other ids than the feed's"
    return rows


def dlt(setting: Setting, folder: Path, venv: Path, way: str) -> Measured:
    """One of its ways; its table has no key, but doubles would show."""
    with setting.databases.empty() as url:
        # it insists on a host and a password, though libpq is told where the socket is and asks for none
        database = url.replace("postgres:@/", "postgres:none@localhost/")
        task = json.dumps(setting.task(way=way, database=database))
        peers = Path(__file__).with_name("events_peers.py")
        figures = run(setting.databases, [str(venv / "bin/python"), str(peers), task], folder)
        rows = check(url, "feed.events", setting.upstream.control("truth"))
    return Measured(*figures, rows=rows)


def own(setting: Setting, folder: Path, what: str) -> Measured:
    """Ourselves or a bare limit: one of `TASKS`."""
    with setting.databases.empty() as url:
        task = json.dumps(setting.task(what=what, database=url))
        figures = run(
            setting.databases, [sys.executable, str(Path(__file__).resolve()), "--task", task], folder
        )
        truth = setting.upstream.control("truth")
        rows = setting.total if what == "fetch" else check(url, "raw.events", truth)
    return Measured(*figures, rows=rows)


def measured(work: Callable[[], object]) -> None:
    """Print what some work took."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime]))


def ours(task: dict[str, Any]) -> None:
    """As a run of the asset reads a feed, without Dagster: everything from sources.yaml's words on."""
    from ingestion_assets.engine.drain import drain
    from ingestion_assets.engine.store import Store, connection_pool
    from ingestion_assets.sources.events.config import FeedConfig
    from ingestion_assets.sources.events.feeds import Feeds
    from ingestion_assets.sources.events.streams import WRITERS

    def work() -> None:
        typed = {"url": f"{task['feed']}/events", "page_size": task["limit"], **task.get("config", {})}
        pool = connection_pool(task["database"])
        store = Store(pool)
        feeds = Feeds({FEED: FeedConfig.model_validate(typed)}, {}, store)
        drain([feeds.history(FEED)], store, writers=WRITERS)
        feeds.close()
        pool.close()

    measured(work)


def fetch(task: dict[str, Any]) -> None:
    """The same pages with our HTTP client, one after the other, and nothing done with them."""
    import httpx

    def work() -> None:
        asked = {"limit": str(task["limit"])}
        with httpx.Client() as client:
            while True:
                page = client.get(f"{task['feed']}/events", params=asked).content
                following = LAST.search(page, len(page) - 400)
                if following is None:
                    return
                asked["cursor"] = following[1].decode()

    measured(work)


def blocks(task: dict[str, Any]) -> list[bytes]:
    """All rows as COPY text, a block for each page: what ours writes into `raw.events`, made beforehand."""
    import httpx
    import msgspec

    event = msgspec.defstruct("Event", [("id", str), ("type", str), ("timestamp", str)])
    page = msgspec.defstruct("Page", [("data", list[msgspec.Raw])])
    decode_page, decode = msgspec.json.Decoder(page).decode, msgspec.json.Decoder(event).decode
    found, asked = [], {"limit": str(task["limit"])}
    with httpx.Client() as client:
        while True:
            answer = client.get(f"{task['feed'].rpartition('/')[0]}/0/events", params=asked).content
            lines = []
            for raw in decode_page(answer).data:
                one, text = decode(raw), bytes(raw)
                lines.append(
                    b"\t".join(
                        (one.id.encode(), FEED.encode(), one.type.encode(), one.timestamp.encode(), text)
                    )
                )
            found.append(b"\n".join(lines) + b"\n")
            following = LAST.search(answer, len(answer) - 400)
            if following is None:
                return found
            asked["cursor"] = following[1].decode()


def copy(task: dict[str, Any]) -> None:
    """All rows from memory into the keyed table: one COPY, one transaction, nothing else."""
    rows = blocks(task)

    def work() -> None:
        with (
            psycopg.connect(task["database"]) as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY raw.events ({COLUMNS}) FROM STDIN") as into,
        ):
            for block in rows:
                into.write(block)

    measured(work)


def copy_in_turn(task: dict[str, Any]) -> None:
    """The same by two writers: into staging tables side by side, and from there in turn, as many rows a transaction as ours."""
    rows = blocks(task)
    pages = max(1, GROUP // task["limit"])
    groups = iter([rows[at : at + pages] for at in range(0, len(rows), pages)])
    taking, inserting = threading.Lock(), threading.Lock()

    def write() -> None:
        with psycopg.connect(task["database"]) as connection:
            connection.execute("SET temp_buffers = '64MB'")
            connection.execute("CREATE TEMP TABLE stage (LIKE raw.events) ON COMMIT DELETE ROWS")
            connection.commit()
            while True:
                with taking:
                    group = next(groups, None)
                if group is None:
                    return
                with connection.cursor() as cursor, cursor.copy(f"COPY stage ({COLUMNS}) FROM STDIN") as into:
                    for block in group:
                        into.write(block)
                with inserting:
                    connection.execute(
                        f"INSERT INTO raw.events ({COLUMNS}) SELECT {COLUMNS} FROM stage ON CONFLICT DO NOTHING"
                    )
                    connection.commit()

    def work() -> None:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(write), pool.submit(write)]:
                done.result()

    measured(work)


TASKS = {"ours": ours, "fetch": fetch, "copy": copy, "copy in turn": copy_in_turn}


def programs(options: argparse.Namespace) -> dict[str, Callable[[Setting, Path], Measured]]:
    """Who is measured, by name."""
    found: dict[str, Callable[[Setting, Path], Measured]] = {
        "ours": lambda setting, at: own(setting, at, "ours"),
        "fetch, nothing else": lambda setting, at: own(setting, at, "fetch"),
        "COPY from memory, one writer": lambda setting, at: own(setting, at, "copy"),
        "COPY from memory, two in turn": lambda setting, at: own(setting, at, "copy in turn"),
    }
    if options.dlt:
        found["dlt, tutorial"] = lambda setting, at: dlt(setting, at, options.dlt, "tutorial")
        found["dlt, Arrow and CSV"] = lambda setting, at: dlt(setting, at, options.dlt, "arrow")
        found["dlt, tuned"] = lambda setting, at: dlt(setting, at, options.dlt, "tuned")
        found["dlt, tuned, with a key"] = lambda setting, at: dlt(setting, at, options.dlt, "keyed")
    return {name: one for name, one in found.items() if not any(name.startswith(s) for s in options.skip)}


def rounds(
    options: argparse.Namespace, folder: Path, settings: dict[str, Setting]
) -> dict[str, list[Measured]]:
    """All programs, `repeats` times, each time beginning with another one. `settings` by name; "" is everybody's."""
    one_of = programs(options)
    found: dict[str, list[Measured]] = {name: [] for name in one_of}
    names = list(one_of)
    for repeat in range(options.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            setting = settings.get(name, settings[""])
            at = Path(tempfile.mkdtemp(dir=folder))
            one = one_of[name](setting, at)
            found[name].append(one)
            shutil.rmtree(at)
            print(
                f"{setting.limit} a page, {setting.latency} ms, {repeat + 1}/{options.repeats} {name}: {one.wall:.2f} s,"
                f" CPU {one.cpu:.2f} and {one.postgres:.2f} s, {one.peak:.0f} MB",
                file=sys.stderr,
            )
    return found


def limited(options: argparse.Namespace, upstream: Upstream, databases: Databases, folder: Path) -> str:
    """How long ours takes where a provider allows so many requests in so many seconds, against the least there is.

    The first window's requests may come at once, and so may those of each window after it: N + 1 windows' worth of
    requests, the last of them counted, take N windows at least.
    """
    lines = ["| a limit | requests | refused | used of what it allows |", "| --- | --: | --: | --: |"]
    for requests, seconds, config in LIMITS:
        windows = max(round(options.seconds / seconds), -(-options.total // (LARGEST * requests)))
        limit = -(
            -options.total // (windows * requests + 1)
        )  # so that the last page is the first of a window
        pages = -(-options.total // limit)
        upstream.control("limit", requests=requests, seconds=seconds)
        setting = Setting(upstream, databases, options.total, limit, 0)
        with databases.empty() as url:
            task = json.dumps(setting.task(what="ours", database=url, config=config))
            run(databases, [sys.executable, str(Path(__file__).resolve()), "--task", task], folder)
            check(url, "raw.events", upstream.control("truth"))
        seen = upstream.control("stats")
        least = (pages - 1) // requests * seconds
        lines.append(
            f"| {requests} requests in {seconds} s | {seen['answered']} | {seen['refused']} | {least / seen['seconds']:.1%} |"
        )
    upstream.control("limit", requests=0)
    return "\n".join(lines)


def table(title: str, found: dict[str, list[Measured]], base: str) -> str:
    """Medians over the repeats; time a row as a multiple of `base` in the same repeat."""
    lines = [
        f"| {title} | time (least … most) | CPU µs a row | Postgres' | both | MB | rows |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, runs in found.items():
        pairs = list(zip(runs, found[base], strict=True))
        times = [(run.wall / run.rows) / (ours.wall / ours.rows) for run, ours in pairs]
        both = statistics.median(
            ((run.cpu + run.postgres) / run.rows) / ((ours.cpu + ours.postgres) / ours.rows)
            for run, ours in pairs
        )
        spread = "" if name == base else f" ({min(times):.2f} … {max(times):.2f})"
        cpu, postgres = (
            statistics.median(getattr(run, what) / run.rows * 1e6 for run in runs)
            for what in ("cpu", "postgres")
        )
        peak = statistics.median(run.peak for run in runs)
        lines.append(
            f"| {name} | {statistics.median(times):.2f} ×{spread} | {cpu:.1f} | {postgres:.1f} | {both:.2f} × "
            f"| {peak:.0f} | {runs[0].rows:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table for each page size and latency."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--total", type=int, default=1_000_000, help="events in the feed")
    parser.add_argument("--tutorial-total", type=int, help="events in the feed that dlt's tutorial reads")
    parser.add_argument("--page-size", type=int, nargs="*", default=[1000, 5000], help="events a page")
    parser.add_argument("--latency", type=int, nargs="*", default=[0, 20, 50], help="milliseconds a page")
    parser.add_argument("--dlt", type=Path, help="virtual environment of dlt")
    parser.add_argument(
        "--skip", nargs="*", default=[], help="programs to leave out, by the first words of their names"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=30, help="length of the runs with a limit; 0: none")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task = json.loads(options.task)
        TASKS[task["what"]](task)
        return
    if options.dlt:
        options.dlt = options.dlt.absolute()
    folder = Path(tempfile.mkdtemp())
    atexit.register(
        shutil.rmtree, folder, ignore_errors=True
    )  # first registered, runs after the server's end
    databases = Databases(folder / "postgres")
    with ExitStack() as stack:
        whole = stack.enter_context(served(options.total))
        short = whole
        if options.tutorial_total and options.dlt:
            short = stack.enter_context(served(options.tutorial_total))
        for limit in options.page_size:
            for latency in options.latency:
                settings = {
                    "": Setting(whole, databases, options.total, limit, latency),
                    "dlt, tutorial": Setting(
                        short, databases, options.tutorial_total or options.total, limit, latency
                    ),
                }
                found = rounds(options, folder, settings)
                base = "ours" if "ours" in found else next(iter(found))
                print(table(f"{limit:,} a page, {latency} ms", found, base), end="\n\n", flush=True)
        if options.seconds and "ours" not in options.skip:
            print(limited(options, whole, databases, folder))


if __name__ == "__main__":
    main()
