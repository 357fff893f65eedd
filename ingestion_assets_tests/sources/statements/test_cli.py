"""The command `ingestion` on statement files, on a database of the test's own."""

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from ingestion_assets.cli import app
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.settings import read_sources
from ingestion_assets_tests.sources.statements.tiny import fill, history, raws, same


@pytest.fixture
def cli(inbox, database_url, tmp_path, project, monkeypatch):
    """Call the command in this process, with an inbox and nothing else in sources.yaml."""
    inbox.now -= 10**7
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(project / "dagster_home" / "dagster.yaml", home)
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"statements": {"inbox": "inbox"}}))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("INGESTION_DATABASE_URL", database_url)
    monkeypatch.setenv("INGESTION_SOURCES", str(tmp_path / "sources.yaml"))

    def call(*arguments: str):
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_a_backfill_here_looks_reads_and_tells(cli, inbox, connection):
    """What is good is stored, what is not is told; then the status says so, and nothing is missing."""
    inbox.put("savings/a.csv", history(fill(9), fill(8), fill(8)))
    inbox.put("margin/a.csv", history(fill(7, day=27)))
    inbox.put("odd.csv", "who,knows\n")
    result = cli("backfill", "statements/*", "--account", "savings", "--here", "--json")
    assert result.exit_code == 0, result.stderr
    assert "odd.csv: its format is not known" in result.stderr
    (done,) = json.loads(result.stdout)
    assert (done["status"], done["partitions"], done["new_rows"]) == ("COMPLETED_SUCCESS", 1, 3 + 3 + 2)
    assert raws(connection) == same([fill(9), fill(8), fill(8)])

    told = json.loads(cli("status", "--json").stdout)
    status = {line["account"]: line for line in told if line["asset"] == "statements/lines"}
    derived = {line["account"]: line for line in told if line["asset"] == "statements/movements"}
    assert status["savings"] | {"asset": ""} == {
        "asset": "", "account": "savings", "files": 1, "unfinished": 0, "records": 3, "lines": 3, "missing": 0, "dead_letters": 0,
    }  # fmt: skip
    assert derived["savings"] == {
        "asset": "statements/movements", "account": "savings", "movements": 3, "lines_behind": 0, "superseded": 0, "snapshots_to": "2025-03-03",
        "dead_letters": 0,
    }  # fmt: skip
    assert status["margin"]["unfinished"] == 1
    (gap,) = json.loads(cli("gaps", "--json").stdout)
    assert (gap["lo"], gap["hi"], gap["reason"]) == (1, 2, "margin/a.csv: not read yet")
    assert "1 gaps, 2 lines of statement files" in cli("gaps").stdout
    assert "savings" in cli("status").stdout
    proved = cli("prove", "--all").stdout
    assert "savings/a.csv: 1 of 1 sums agree" in proved
    assert "Value + Commissions + Fees, USD: -300.24" in proved


def test_nothing_to_read_is_told(cli, inbox):
    """With what was rejected."""
    assert "no file that is registered" in cli("backfill", "statements/*", "--here").stderr
    inbox.put("odd.csv", "who,knows\n")
    assert "odd.csv: its format is not known" in cli("backfill", "statements/*", "--here").stderr


def test_check_names_the_inbox(cli, tmp_path):
    """Where the file says it is."""
    (told,) = json.loads(cli("check", "--json").stdout)
    assert told == {"statements": str(tmp_path / "inbox"), "state": "there"}
    assert cli("check").stdout.startswith("statements")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{}", ":1: statements.inbox is missing"),
        ("{inbox: x, settle: 3}", ":1: statements.settle is not known here; allowed: inbox, settle_seconds, start, sync_seconds"),
        ("{inbox: x, settle_seconds: soon}", ":1: statements.settle_seconds: a whole number is wanted (found 'soon')"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_section_is_told_with_its_line(tmp_path, section, message):
    """As in every other one."""
    path = tmp_path / "sources.yaml"
    path.write_text(f"statements: {section}\n")
    with pytest.raises(Misconfigured) as caught:
        read_sources(path)
    assert str(caught.value) == f"{path}{message}"
