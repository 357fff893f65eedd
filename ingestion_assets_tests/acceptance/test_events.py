"""The events API with every trap: killed, delayed, cut, lied to, growing. What is stored equals its own truth."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import psycopg
import pytest

from ingestion_assets_tests.acceptance.events_server import serving
from ingestion_assets_tests.upstream import free_port

# Every kind of fault that the harness's README lists for answers with rows; `p` is their chance.
FAULTS = (
    {"kind": "latency", "ms": 2, "jitter_ms": 3, "p": 0.3},
    *({"kind": "status", "status": status, "p": 0.01, "id": f"s{status}"} for status in (418, 500, 502, 503, 504)),
    {"kind": "html", "status": 200, "p": 0.01},
    {"kind": "reset", "p": 0.01},
    {"kind": "close", "p": 0.01},
    {"kind": "reset_body", "at": 0.5, "p": 0.01},
    {"kind": "truncate", "at": 0.6, "p": 0.01},
    {"kind": "truncate", "at": 0.7, "clean": True, "p": 0.01, "id": "cut"},
    {"kind": "slow_body", "ms": 20, "chunks": 4, "p": 0.02},
    {"kind": "content_type", "value": "text/html", "p": 0.02},
    {"kind": "not_json", "p": 0.01},
    {"kind": "result_string", "p": 0.01},
    {"kind": "result_null", "p": 0.01},
    {"kind": "wrap_result", "p": 0.01},
    {"kind": "rename_field", "field": "id", "to": "uuid", "p": 0.01},
    {"kind": "drop_field", "field": "timestamp", "rows": [1, 5], "p": 0.02},
    {"kind": "null_field", "field": "type", "rows": [3], "p": 0.02},
    {"kind": "garbage_field", "field": "id", "rows": [2], "p": 0.02},
    {"kind": "type_change", "field": "timestamp", "p": 0.02},
    {"kind": "add_field", "field": "brand_new", "rows": [7], "p": 0.02},
    {"kind": "duplicate_rows", "n": 3, "p": 0.02},
    {"kind": "drop_rows", "n": 2, "p": 0.02},
    {"kind": "shuffle_rows", "p": 0.03},
    {"kind": "shift", "n": -3, "p": 0.05},
    {"kind": "shift", "n": 2, "p": 0.02, "id": "skipped"},
    {"kind": "empty_page", "p": 0.01},
    {"kind": "rate_limited", "retry_after": 1, "p": 0.005},
)  # fmt: skip


def is_silent(rule):
    """Whether events are missing, and nothing but their number says so."""
    return rule["kind"] == "drop_rows" or (rule["kind"] == "shift" and rule["n"] > 0)


def config(server, **others):
    """As sources.yaml would have it."""
    return {"url": server.feed, "page_size": 120, "attempts": 8, "timeout_seconds": 5, **others}


def start(url, typed, step=0, stdin=subprocess.DEVNULL):
    """A process that drains; with a pipe for its input it waits for a line."""
    command = [
        sys.executable,
        "-m",
        "ingestion_assets_tests.acceptance.mortal",
        url,
        json.dumps(typed),
        str(step),
    ]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)


def run(url, typed, step=0):
    """Its exit code, negative if it was killed, and what it said."""
    process = start(url, typed, step)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def until_caught_up(url, typed, tries=12):
    """Run again as the sensor would."""
    for _ in range(tries):
        code, said = run(url, typed)
        if code == 0 and json.loads(said)["inserted"] == 0:
            return
    pytest.fail(f"it is not caught up after {tries} runs: {said}")


def read_again_what_was_damaged(url, typed):
    """As docs/operations.md says: a record that was damaged in three readings waits as a letter, and is whole at the source."""
    with psycopg.connect(url) as connection:
        (letters,) = connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone()
        connection.execute("DELETE FROM ops.cursors")
    if letters:
        until_caught_up(url, typed)


def agrees(url, truth):
    """The set of ids, counts by type and XOR of ids."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT id, type FROM raw.events").fetchall()
    ids = [identity for identity, _ in found]
    xor = 0
    for identity in ids:
        xor ^= identity.int
    assert len(ids) == len(set(ids)) == truth["total"]
    assert dict(Counter(kind for _, kind in found)) == truth["by_type"]
    assert f"{xor:032x}" == truth["xor_ids"]


@pytest.mark.parametrize("shape", [(), ("--flat", "--mixed-time")], ids=["nested", "flat"])
def test_every_fault_and_five_deaths_leave_the_truth(upstreams, database_url, shape):
    """Killed at planned steps, before and after COMMIT among them, while all faults are on and the feed grows."""
    chance = random.Random(4)
    port = free_port()
    options = ("--cursor-ttl", "1", *shape)
    with serving(upstreams, "--total", "1800", "--grow", "8", *options, port=port) as server:
        # A flat feed does not say how much it has: of what it drops in silence nobody can know.
        server.fail(*(rule for rule in FAULTS if not shape or not is_silent(rule)), seed=11)
        for _ in range(5):
            run(database_url, config(server), chance.randint(5, 90))
        total = server.truth()["total"]
    with serving(upstreams, "--total", str(total), *options, port=port) as server:  # it grows no more
        until_caught_up(database_url, config(server))
        read_again_what_was_damaged(database_url, config(server))
        agrees(database_url, server.truth())


def test_two_runs_at_once_are_one_too_many_for_one_of_them(upstreams, database_url):
    """The one whose cursor was moved stops with a clear message, and nothing is doubled."""
    with serving(upstreams, "--total", "6000") as server:
        server.fail({"kind": "latency", "ms": 60})
        both = [start(database_url, config(server), stdin=subprocess.PIPE) for _ in range(2)]
        for process in both:
            assert process.stdout.readline() == "ready\n"
        for (
            process
        ) in both:  # they begin together, whatever their imports took: fifty pages are three seconds
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=120)[0] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes == [0, 3]
        assert any("another worker has moved the cursor of events/events/datasync" in text for text in said)
        agrees(database_url, server.truth())


def test_the_limit_is_kept_by_two_processes_together(upstreams, database_url):
    """Ten requests in two seconds, whoever asks; the feed's own limiter refuses none."""
    with serving(upstreams, "--total", "3600", "--rps", "10", "--rate-window", "1") as server:
        limited = config(server, requests_per_second=10)
        both = [start(database_url, limited) for _ in range(2)]
        for process in both:
            process.communicate(timeout=120)
        until_caught_up(database_url, limited)
        log = [entry for entry in server.log() if "/events" in entry["target"]]
        assert not [entry for entry in log if entry["status"] == 429]
        arrived = [entry["t"] for entry in log]
        assert all(later - earlier >= 0.99 for earlier, later in zip(arrived, arrived[10:], strict=False))
        agrees(database_url, server.truth())


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_for_a_long_time(upstreams, database_url, seed):
    """Twenty deaths by SIGKILL from outside, with all faults, two workers at times, and cursors that die young."""
    chance = random.Random(seed)
    port = free_port()
    options = ("--cursor-ttl", "2", "--mixed-time", "--seed", str(seed + 5))
    with serving(upstreams, "--total", "150000", "--grow", "200", *options, port=port) as server:
        server.fail(*FAULTS, seed=seed)
        typed = config(server, page_size=1000)
        for number in range(20):
            processes = [start(database_url, typed, chance.choice([0, chance.randint(5, 200)]))]
            if number % 4 == 0:
                processes.append(start(database_url, typed))
            time.sleep(chance.uniform(0.5, 4))  # the random moment
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        total = server.truth()["total"]
    with serving(upstreams, "--total", str(total), *options, port=port) as server:
        until_caught_up(database_url, typed)
        read_again_what_was_damaged(database_url, typed)
        agrees(database_url, server.truth())
