"""The rating, with five answers in a hundred spoiled and a SIGKILL in every phase: what is stored is what is true of the league."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from ingestion_assets.engine.store import Store
from ingestion_assets.sandbox.faults import Faults
from ingestion_assets.sandbox.gomafia import gomafia
from ingestion_assets.sandbox.league import League
from ingestion_assets.sources.gomafia.integrity import CHECKED, findings
from ingestion_assets.sources.gomafia.phases import PHASES
from ingestion_assets_tests.sources.gomafia.tiny import SMALL, agrees
from ingestion_assets_tests.upstream import Upstream

YEAR = datetime.now(UTC).year


@contextmanager
def served(league, *, share, silence, seed=3):
    """A server with faults."""
    faults = Faults(gomafia(lambda: league), share=share, seed=seed, silence=silence)
    with Upstream(faults) as upstream:
        yield faults, upstream.url


def start(url, typed, step):
    """A process that imports, and kills itself at a step if there is one."""
    command = [
        sys.executable,
        "-m",
        "ingestion_assets_tests.acceptance.gomafia_mortal",
        url,
        json.dumps(typed),
        str(step),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(url, typed, step=0, seconds=600):
    """Its exit code, negative if it was killed, and what it said."""
    said, _ = (process := start(url, typed, step)).communicate(timeout=seconds)
    return process.returncode, said


def until_whole(url, typed, tries=10):
    """Run again as the sensor would, until nothing is left that was passed over."""
    for _ in range(tries):
        code, said = run(url, typed, seconds=3000)
        if code == 0:
            return json.loads(said)
    pytest.fail(f"it is not whole after {tries} runs: {said}")


def step_of_death(phase, chance, most):
    """A step that the phase has: what is read or counted in a few pages is over sooner than what is read one by one."""
    return chance.randint(*((15, most) if phase.subject is not None else (5, 15)))


def twice(faults):
    """How often each question was answered well, beyond once."""
    good = Counter((one.path, one.values) for one in faults.asked if one.fault is None)
    return {question: times - 1 for question, times in good.items() if times > 1}


def test_faults_and_a_death_in_every_phase_leave_the_truth(database_url, store: Store, connection):
    """Nothing is stored twice, and what was answered well is asked for again at most by the one that was on its way."""
    league = League(years=(YEAR - 1, YEAR), tournaments=2, **SMALL)
    chance = random.Random(5)
    deaths = 0
    with served(league, share=0.05, silence=2.5) as (faults, url):
        typed = {
            "url": url,
            "requests_per_second": 1000,
            "start_year": YEAR - 1,
            "timeout_seconds": 2.0,
            "ways": ["api", "pages"],
        }
        for phase in PHASES:
            code, _ = run(database_url, {**typed, "phases": [phase.name]}, step_of_death(phase, chance, 40))
            deaths += code == -signal.SIGKILL
            code, said = run(database_url, {**typed, "phases": [phase.name]})
            assert code in (0, 5), said
            first = json.loads(said)["first"]
            assert first is None or first < 10
        until_whole(database_url, typed)
        agrees(connection, league)
        # An entity of several pages that failed on its last one is read anew; a listing that a death has cut too.
        assert sum(twice(faults).values()) <= deaths + sum(one.fault is not None for one in faults.asked)
    assert deaths == len(PHASES)
    broken = {one.rule.what for phase in CHECKED for one in findings(store, phase) if one.count}
    assert broken <= {"members of clubs whom no rating names"}


@pytest.mark.drill
def test_the_whole_league_of_seven_thousand_players(database_url, store: Store, connection):
    """7,000 players × 2 years, 160,000 games; five answers in a hundred spoiled; a death in every phase."""
    league = League(years=(YEAR - 1, YEAR), players=7_000, clubs=300, tournaments=1_000, tables=8, rounds=10)
    assert sum(league.rounds * league.tables for _ in league.played()) >= 159_000
    chance = random.Random(7)
    deaths = 0
    with served(league, share=0.05, silence=1.5) as (faults, url):
        typed = {
            "url": url,
            "requests_per_second": 1000,
            "start_year": YEAR - 1,
            "timeout_seconds": 1.0,
            "page_size": 100,
        }
        for phase in PHASES:
            step = step_of_death(phase, chance, 2_000)
            code, _ = run(database_url, {**typed, "phases": [phase.name]}, step, seconds=3_000)
            deaths += code == -signal.SIGKILL
            code, said = run(database_url, {**typed, "phases": [phase.name]}, seconds=10_000)
            assert code in (0, 5), said
            first = json.loads(said)["first"]
            assert first is None or first < 10
        until_whole(database_url, typed)
        agrees(connection, league)
        assert sum(twice(faults).values()) <= deaths + sum(one.fault is not None for one in faults.asked)
    assert deaths == len(PHASES)
    assert not [one for phase in CHECKED for one in findings(store, phase) if one.count and one.rule.severe]
