"""The command `ingestion`, against the explorer and a database of the test's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ingestion_assets.cli import app
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets_tests.orchestration.world import ACCOUNTS, home, in_table, truth, world

__all__ = ["home", "world"]  # fixtures


@pytest.fixture
def cli(home):
    """Call the command in this process: its exit code, its output and what it says beside it."""
    assert home

    def call(*arguments: str):
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def answer(result):
    """The JSON that was printed, and nothing else was."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def one_line(result) -> str:
    """The complaint: exit code 1, one line, no traceback, nothing on stdout."""
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


def backfill(cli, *more: str, asset="evm/*", first="2024-01-01", last="2024-01-10"):
    """Days of one chain, here."""
    return cli("backfill", asset, "--chain", "one", "--from", first, "--to", last, "--here", *more)


def test_check_says_what_is_asked_for(cli):
    """One entry for each chain."""
    assert [found["chain"] for found in answer(cli("check", "--json"))] == ["one", "two"]
    assert "2024-01-01" in cli("check").stdout
    assert answer(cli("check", "--json"))[0]["requests_per_sync"] == 2 + 3 * len(ACCOUNTS)


def test_check_names_the_line_that_is_wrong(cli, world):
    """And what is allowed there."""
    world.settings.sources_file.write_text("chains:\n  base: {chain_idd: 1}\n")
    result = cli("check")
    assert result.exit_code == 1
    assert "sources.yaml:2: chains.base.chain_idd is not known here" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_names_the_variable_that_is_missing(cli, world):
    """The key itself is never in the file."""
    tree = yaml.safe_load(world.settings.sources_file.read_text())
    tree["chains"]["one"]["providers"][0]["key_env"] = "NO_SUCH_KEY"
    world.settings.sources_file.write_text(yaml.safe_dump(tree))
    result = cli("check")
    assert result.exit_code == 1
    assert result.stderr == "Misconfigured: one: the variable NO_SUCH_KEY is not set\n"


def test_a_backfill_here_reads_everything_and_again_nothing(cli, world, connection):
    """JSON on stdout, progress beside it, no event log in the terminal."""
    result = backfill(cli, "--json")
    (done,) = answer(result)
    expected = [truth(kind, "one") for kind in KINDS]
    assert [in_table(connection, kind) for kind in KINDS] == expected
    assert (done["status"], done["partitions"]) == ("COMPLETED_SUCCESS", 10)
    assert done["new_rows"] == sum(days.total() for days in expected)
    assert done["errors"] == []
    assert "DEBUG" not in result.stderr
    assert len(result.stderr.splitlines()) < 10
    asked = world.account_pages()
    (again,) = answer(backfill(cli, "--json"))
    assert (again["status"], again["new_rows"], world.account_pages()) == ("COMPLETED_SUCCESS", 0, asked)


def test_a_backfill_of_one_asset_reads_that_one(cli, connection):
    """The others stay empty."""
    done = backfill(cli, asset="evm/token_transfers", last="2024-01-02")
    assert done.exit_code == 0, done.output
    assert [bool(in_table(connection, kind)) for kind in KINDS] == [
        kind.name == "token_transfers" for kind in KINDS
    ]


def test_a_backfill_that_fails_says_why_in_one_line_each(cli, world):
    """With exit code 1; the tracebacks are in Dagster's storage."""
    world.upstream.fail("body", times=99, body=b'{"status":"0","message":"NOTOK","result":"Invalid API Key"}')
    result = backfill(cli, last="2024-01-01")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("one: evm__")]
    assert len(said) == 3
    assert all("Unauthorized: no provider of one answers" in line for line in said)
    assert all("127.0.0.1: Invalid API Key" in line for line in said)
    assert "COMPLETED_FAILED" in result.stdout


def test_status_fits_a_terminal_and_tells_how_far_each_stream_is(cli, monkeypatch):
    """80 columns, no number broken, no warning."""
    monkeypatch.setenv("COLUMNS", "80")
    before = cli("status")
    assert before.stdout.startswith("one: 2 accounts, not looked at yet")
    backfill(cli, first="2024-01-10")
    result = cli("status")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("one: 2 accounts, final block 323 at 20")
    row = next(line for line in lines if "internal_transactions" in line).split()
    assert row[3:] == ["323", "0", "0", "0", "0"]
    (told,) = [
        found
        for found in answer(cli("status", "--chain", "one", "--json"))
        if found["asset"] == "evm/transactions"
    ]
    assert (told["covered_to"], told["final"], told["lag_blocks"], told["holes"]) == (323, 323, 0, 0)
    assert told["records"] >= truth(KINDS[0], "one")["one|2024-01-10"]
    (store,) = [
        one
        for one in answer(cli("status", "--chain", "one", "--json"))
        if one["asset"] == "transfers/transfers"
    ]
    assert (store["transfers"], store["unmerged"] > 0) == (
        0,
        True,
    )  # nobody has brought them into the store yet


def test_gaps_are_ranges_below_their_stream(cli, monkeypatch):
    """Before anything is read, everything; afterwards the rest. Keys are whole, so that they can be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("gaps", "--chain", "one").stdout.splitlines()
    assert lines[-1] == "6 gaps, 1,944 blocks"
    assert lines[1] == "  0–323  not read yet"
    assert lines[0].startswith("evm/")
    assert len(lines[0].split("/0x")[1]) == 40
    assert {(gap["lo"], gap["hi"]) for gap in answer(cli("gaps", "--chain", "one", "--json"))} == {(0, 323)}
    backfill(cli, first="2024-01-10")
    assert cli("gaps", "--chain", "one").stdout.splitlines()[-1] == "6 gaps, 1,728 blocks"


def test_replay_reopens_what_holds_dead_letters(cli, world, connection):
    """Then a backfill reads just that."""
    world.upstream.fail("drop_field", match={"action": "txlist"}, field="value", rows=[0])
    backfill(cli, asset="evm/transactions", last="2024-01-02")
    (reopened,) = answer(cli("replay", "evm/transactions/%", "--json"))
    assert reopened["stream"].startswith("evm/transactions/one/0x")
    (done,) = answer(backfill(cli, "--json", asset="evm/transactions", last="2024-01-02"))
    assert done["new_rows"] == 1
    assert in_table(connection, KINDS[0]) == truth(KINDS[0], "one", 0, 71)
    assert answer(cli("replay", "--json")) == []
    assert cli("replay").stdout == "0 ranges will be read again by the next sync or backfill\n"


def test_a_reset_closes_breakers_of_one_chain_or_all(cli, connection):
    """After somebody has put a key right; it says how the providers stand then."""
    assert cli("providers").exit_code == 0
    connection.execute(
        "INSERT INTO ops.providers (scope, provider, state, failures, until, reason, lies, last_lie)"
        " SELECT scope, 'etherscan', 'open', 1, now() + interval '1 hour', 'Unauthorized: wrong key', 1, 'a row too many'"
        " FROM unnest(ARRAY['one', 'two']) AS scope"
        " ON CONFLICT (scope, provider) DO UPDATE SET state = excluded.state, until = excluded.until, lies = 1"
    )

    def states(*more):
        return [
            (line["chain"], line["state"], line["lies"]) for line in answer(cli("providers", "--json", *more))
        ]

    assert states() == [("one", "open", 1), ("two", "open", 1)]
    shown = cli("providers", "--chain", "one").stdout
    assert (
        "  etherscan: last failure: Unauthorized: wrong key\n  etherscan: last lie: a row too many\n" in shown
    )
    assert max(map(len, shown.splitlines())) <= 80
    assert states("--reset", "--chain", "two") == [("two", "closed", 1)]
    assert states() == [("one", "open", 1), ("two", "closed", 1)]
    assert states("--reset") == [("one", "closed", 1), ("two", "closed", 1)]


@pytest.mark.parametrize("verb", ["status", "gaps"])
def test_a_chain_that_is_not_there_is_one_line(cli, verb):
    """Which names those that are."""
    said = one_line(cli(verb, "--chain", "base"))
    assert said.startswith("Misconfigured: there is no chain 'base'")
    assert said.endswith("it has one, two")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evm/blocks", "--here"], "there is no asset 'evm/blocks'"),
        (["evm/transactions", "--here", "--from", "2024-01-03", "--to", "2024-01-02"], "no day"),
        (["evm/transactions", "--here", "--chain", "base"], "no chain 'base'"),
        (["evm/transactions", "--url", "http://127.0.0.1:1"], "does not answer"),
    ],
)
def test_a_backfill_of_nothing_is_one_line(cli, arguments, said):
    """Not a traceback, and not a run."""
    assert said in one_line(cli("backfill", *arguments))


def test_a_ui_that_is_something_else_is_one_line(cli, world):
    """Some other server on its port."""
    assert "is not the Dagster UI" in one_line(cli("backfill", "evm/*", "--url", world.upstream.url))


@pytest.mark.parametrize("verb", [["status"], ["gaps"], ["replay"], ["backfill", "evm/*", "--here"]])
def test_no_postgres_is_told_without_a_traceback(cli, monkeypatch, verb):
    """With what to do about it."""
    monkeypatch.setenv("INGESTION_DATABASE_URL", "postgresql://127.0.0.1:1/none?connect_timeout=2")
    result = cli(*verb)
    assert result.exit_code == 1
    assert result.stderr.startswith("DatabaseUnavailable: Postgres does not answer")
    assert "Traceback" not in result.output


def test_the_command_starts_quietly(project: Path):
    """Help without a warning, and without loading Dagster."""
    script = "import sys; from ingestion_assets.cli import app; app(['--help'], standalone_mode=False); print('dagster' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=30, check=True
    )
    for verb in ("up", "check", "status", "gaps", "replay", "backfill"):
        assert f" {verb} " in done.stdout
    assert done.stdout.split()[-1] == "False"
    assert done.stderr == ""


@pytest.mark.parametrize(("asset", "option", "own"), [
    ("evm/transactions", "account", "chain"), ("events/events", "account", "feed"), ("statements/lines", "account", None),
])  # fmt: skip
def test_an_option_of_another_family_is_not_passed_over(cli, asset, option, own):
    """Else a person would think that it had been heeded."""
    result = cli("backfill", asset, f"--{option}", "x", "--here")
    said = f"Misconfigured: --{option} does not belong to {asset}: --{own} does"
    assert (one_line(result) == said) is (own is not None)
