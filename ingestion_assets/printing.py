"""How the CLI shows its answers: tables that fit a terminal, and JSON."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ingestion_assets.report import ProviderLine, Status

console = Console()


def print_rows(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """A table, or JSON."""
    if as_json:
        typer.echo(json.dumps(rows, default=str))
        return
    if not rows:
        typer.echo("nothing")
        return
    print_table(rows)


def print_tables(*tables: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Those tables that have rows, or one list in JSON."""
    if as_json or not any(tables):
        print_rows([row for rows in tables for row in rows], as_json=as_json)
        return
    for rows in filter(None, tables):
        print_table(rows)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table whose numbers are never cut or broken."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | None) for row in rows)
        table.add_column(
            name.replace("_", " "),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text("–" if value is None else _cell(value)) for value in row.values()))
    console.print(table)


def print_status(chain: str, lines: "Sequence[Status]") -> None:
    """One chain: what is true of all its streams above, and what differs below. 80 columns are enough."""
    first = lines[0]
    looked = (
        "not looked at yet"
        if first.final is None
        else f"final block {first.final:,} at {_cell(first.checked_at)} UTC"
    )
    watched = ", ".join(
        f"{line.streams} {'tokens' if line.asset.endswith('erc20_transfers') else 'accounts'}"
        for line in {line.asset.endswith("erc20_transfers"): line for line in lines}.values()
    )
    typer.echo(f"{chain}: {watched}, {looked}")
    print_table(
        [
            {
                "covered": f"  {line.asset.rpartition('/')[2]}",
                "records": line.records,
                "from": line.covered_from,
                "to": line.covered_to,
                "lag": line.lag_blocks,
                "holes": line.holes,
                "unproved": line.unproved,
                "dead": line.dead_letters,
            }
            for line in lines
        ]
    )


def print_providers(chain: str, lines: "Sequence[ProviderLine]") -> None:
    """One chain: a table that fits into 80 columns, and below it what was said, each in a line of its own."""
    typer.echo(chain)
    print_table(
        [
            {
                "provider": f"  {line.provider}",
                "state": line.state,
                "until": line.until,
                "used today": line.used_today,
                "per day": line.per_day,
                "lies": line.lies,
            }
            for line in lines
        ]
    )
    for line in lines:
        said = (
            ("does not support", line.refuses),
            ("last failure", line.last_failure),
            ("last lie", line.last_lie),
        )
        for what, text in said:
            if text:
                typer.echo(f"  {line.provider}: {what}: {text}")


def print_ranges(found: Iterable[tuple[str, int, int, str]]) -> None:
    """Ranges below the stream that they are missing from; stream keys are never cut, so that they can be copied."""
    for stream, ranges in itertools.groupby(found, key=itemgetter(0)):
        typer.echo(stream)
        for _, lo, hi, reason in ranges:
            typer.echo(f"  {lo:,}–{hi:,}  {reason}".rstrip())


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return f"{value:,}" if isinstance(value, int) else str(value)
