"""dlt, in the three ways in which `events.py` measures us beside it. Runs in an environment of its own.

    python events_peers.py '{"way": "tutorial", "feed": "http://…", "limit": 1000, "database": "postgresql://…"}'

The last line it prints is seconds and CPU seconds, imports left out. Nothing of ours is imported here. Every way keeps
events apart by their id, which dlt calls merge: through a staging table, when all has been read. dlt has no uuid, so the
id is text; unless told, it makes no index for it.

* `tutorial`: the REST API source as https://dlthub.com/docs/tutorial/rest-api sets it up. Nothing is tuned.
* `arrow`: what https://dlthub.com/docs/reference/performance and the page of the Postgres destination advise: whole
  pages, as Arrow tables, loaded from CSV with COPY.
* `tuned`: the best that was found (events.md says what else was tried): pages read by http.client and decoded by msgspec
  without dlt's help, Arrow tables, Parquet, ADBC, several loaders. Its payload is json, for ADBC cannot write jsonb.
* `keyed`: the same with a unique index on the id, which is what ours has.
"""

import contextlib
import http.client
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

JSON_COLUMNS = {"properties": {"data_type": "json"}, "session": {"data_type": "json"}}
ROWS = 10_000  # in a table; with fewer dlt itself takes longer
TEXTS = ("id", "sessionId", "userId", "type", "name", "timestamp", "properties", "session")


def tutorial(task: dict[str, Any]) -> Any:
    """Declared, not programmed."""
    from dlt.sources.rest_api import rest_api_source

    return rest_api_source(
        {
            "client": {
                "base_url": task["feed"],
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "pagination.nextCursor",
                    "cursor_param": "cursor",
                },
            },
            "resources": [
                {
                    "name": "events",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "events",
                        "params": {"limit": task["limit"]},
                        "data_selector": "data",
                    },
                }
            ],
        }
    )


def arrow(task: dict[str, Any]) -> Any:
    """The session and JSON decoder of most people; a table for each page."""
    import dlt
    import pyarrow as pa
    from dlt.common.json import json as fast_json  # orjson
    from dlt.sources.helpers import requests

    @dlt.resource(name="events", primary_key="id", write_disposition="merge", columns=JSON_COLUMNS)
    def events() -> Iterator[Any]:
        session = requests.Client().session
        asked = {"limit": task["limit"]}
        while True:
            answer = session.get(f"{task['feed']}/events", params=asked)
            page = fast_json.loadb(answer.content)
            for event in page["data"]:
                event["properties"] = fast_json.dumps(event["properties"])
                event["session"] = fast_json.dumps(event["session"])
            table = pa.Table.from_pylist(page["data"])
            yield with_time(table)
            if not page["pagination"]["hasMore"]:
                return
            asked["cursor"] = page["pagination"]["nextCursor"]

    return events


def tuned(task: dict[str, Any]) -> Any:
    """Typed decoding, columns without a dict in between, one connection kept alive."""
    import dlt
    import msgspec
    import pyarrow as pa

    event = msgspec.defstruct(
        "Event", [(name, str) for name in TEXTS[:6]] + [(name, msgspec.Raw) for name in TEXTS[6:]]
    )
    pagination = msgspec.defstruct("Pagination", [("hasMore", bool), ("nextCursor", str | None)])
    decoder = msgspec.json.Decoder(
        msgspec.defstruct("Page", [("data", list[event]), ("pagination", pagination)])
    )

    texts = {name: attrgetter(name) for name in TEXTS[:6]}
    raws = {name: attrgetter(name) for name in TEXTS[6:]}

    def table(events: list[Any]) -> Any:
        columns = {name: pa.array(list(map(get, events)), pa.string()) for name, get in texts.items()}
        for name, get in raws.items():
            columns[name] = pa.array(list(map(bytes, map(get, events))), pa.binary()).cast(pa.string())
        return with_time(pa.table(columns))

    hints: Any = JSON_COLUMNS | ({"id": {"unique": True}} if task["way"] == "keyed" else {})

    @dlt.resource(name="events", primary_key="id", write_disposition=disposition(task), columns=hints)
    def events() -> Iterator[Any]:
        url = urlsplit(task["feed"])
        connection = http.client.HTTPConnection(url.netloc)
        path = f"{url.path}/events?limit={task['limit']}"
        following, waiting = path, []
        while True:
            connection.request("GET", following)
            page = decoder.decode(connection.getresponse().read())
            waiting += page.data
            if len(waiting) >= ROWS or not page.pagination.hasMore:
                yield table(waiting)
                waiting = []
            if not page.pagination.hasMore:
                return
            following = f"{path}&cursor={page.pagination.nextCursor}"

    return events


def disposition(task: dict[str, Any]) -> Any:
    """Delete-insert, which is dlt's default and the only strategy that drops doubles inside a load as well."""
    return {"disposition": "merge", "strategy": task.get("strategy", "delete-insert")}


def with_time(table: Any) -> Any:
    """The same table with a timestamp in place of its text."""
    import pyarrow as pa

    where = table.schema.get_field_index("timestamp")
    return table.set_column(where, "timestamp", table["timestamp"].cast(pa.timestamp("us", "UTC")))


TUNING = {
    "DATA_WRITER__BUFFER_MAX_ITEMS": "50000",
    "DATA_WRITER__FILE_MAX_ITEMS": "100000",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
}
WAYS: dict[str, tuple[Callable[[dict[str, Any]], Any], str | None, dict[str, str]]] = {
    "tutorial": (tutorial, None, {}),
    "arrow": (arrow, "csv", {"NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true"}),
    "tuned": (tuned, "parquet", TUNING),
    "keyed": (tuned, "parquet", TUNING),
}


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Run one way once."""
    task = json.loads(sys.argv[1])
    make, file_format, settings = WAYS[task["way"]]
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"} | settings
    os.environ |= task.get("settings", {})
    import dlt

    with contextlib.redirect_stdout(sys.stderr):
        began, cpu = time.perf_counter(), spent()
        pipeline = dlt.pipeline(
            pipeline_name="events",
            pipelines_dir=os.getcwd(),  # noqa: PTH109 - dlt wants a str
            destination=dlt.destinations.postgres(task["database"]),
            dataset_name="feed",
        )
        done = pipeline.run(make(task), loader_file_format=task.get("format", file_format))
        done.raise_on_failed_jobs()
        figures = time.perf_counter() - began, spent() - cpu
        for step in pipeline.last_trace.steps:
            print(step.step, step.finished_at - step.started_at)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
