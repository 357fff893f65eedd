"""The gomafia family: what is listed, what is read entity by entity, and what is counted of it."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"

TIME = sa.DateTime(timezone=True)


def _key(name: str, comment: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False, comment=comment)


def _column(name: str, kind: Any, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True, comment=comment)


def _received() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("provider", sa.Text, nullable=False, comment="api or pages"),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received; of pages, the texts of its cells"),
    )  # fmt: skip


def _listed() -> tuple[sa.Column[Any], ...]:
    return (
        *_received(),
        sa.Column("digest", sa.Text, nullable=False, comment="hash of what both providers tell"),
        sa.Column("as_of", TIME, nullable=False, comment="when the reading began since which it reads so"),
        sa.Column("seen_at", TIME, nullable=False, comment="when the reading began that named it last"),
    )


def _read() -> tuple[sa.Column[Any], ...]:
    return (*_received(), sa.Column("read_at", TIME, nullable=False))


def upgrade() -> None:
    op.create_table(
        "gomafia_clubs",
        _key("id"),
        sa.Column("name", sa.Text, nullable=False),
        _column("region", sa.Text, "its city, by the usual name; null where only pages told"),
        _column("country", sa.Text),
        _column("rank", sa.BigInteger),
        _column("score", sa.Numeric),
        _column("elo_average", sa.Numeric),
        *_listed(),
        schema="raw", comment="Clubs of gomafia.pro.",
    )  # fmt: skip
    op.create_table(
        "gomafia_players",
        _key("id"),
        sa.Column("name", sa.Text, nullable=False, comment="the nickname; two people may have one"),
        _column("region", sa.Text, "their city, by the usual name; null where only pages told"),
        _column("country", sa.Text),
        _column("club", sa.Text, "its name"),
        _column("elo", sa.Numeric),
        sa.Column("year", sa.Integer, nullable=False, comment="of the newest rating that names them, which this row is of"),
        *_listed(),
        schema="raw", comment="Players of gomafia.pro, by the newest rating that names them.",
    )  # fmt: skip
    op.create_table(
        "gomafia_ratings",
        sa.Column("year", sa.Integer, primary_key=True, autoincrement=False),
        _key("player_id"),
        _column("rank", sa.BigInteger),
        _column("tournaments", sa.BigInteger),
        _column("score", sa.Numeric, "GG points"),
        _column("elo", sa.Numeric),
        *_listed(),
        schema="raw", comment="The rating of each year: who is named in it, and where.",
    )  # fmt: skip
    op.create_table(
        "gomafia_club_members",
        _key("club_id"),
        _key("player_id"),
        sa.Column("name", sa.Text, nullable=False),
        _column("rank", sa.BigInteger),
        _column("tournaments", sa.BigInteger),
        _column("score", sa.Numeric, "GG points"),
        _column("elo", sa.Numeric),
        *_read(),
        schema="raw", comment="Who belongs to which club.",
    )  # fmt: skip
    op.create_table(
        "gomafia_player_year_stats",
        sa.Column("year", sa.Integer, primary_key=True, autoincrement=False),
        _key("player_id"),
        sa.Column("games", sa.BigInteger, nullable=False, comment="all of the year; the four roles add up to it"),
        sa.Column("civilian", sa.BigInteger, nullable=False, comment="games in this role"),
        sa.Column("mafia", sa.BigInteger, nullable=False),
        sa.Column("sheriff", sa.BigInteger, nullable=False),
        sa.Column("don", sa.BigInteger, nullable=False),
        _column("wins", sa.BigInteger, "null where only pages told, as the next four"),
        _column("civilian_wins", sa.BigInteger),
        _column("mafia_wins", sa.BigInteger),
        _column("sheriff_wins", sa.BigInteger),
        _column("don_wins", sa.BigInteger),
        _column("elo", sa.Numeric, "at the time of reading"),
        _column("extra_points", sa.Numeric, "in ten games, on average"),
        *_read(),
        schema="raw", comment="Games of each player and year, by role.",
    )  # fmt: skip
    op.create_table(
        "gomafia_tournaments",
        _key("id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("date_start", sa.Date, nullable=False),
        _column("date_end", sa.Date),
        _column("region", sa.Text, "its city, by the usual name; null where only pages told"),
        _column("country", sa.Text),
        _column("type", sa.Text),
        _column("status", sa.Text, "SCHEDULED, IN_PROGRESS, COMPLETED, CANCELLED"),
        _column("stars", sa.BigInteger),
        _column("elo_average", sa.Numeric),
        _column("is_fsm", sa.Boolean, "counts for the rating; null where only pages told"),
        _column("chief_judge_id", sa.BigInteger, "null where only pages told"),
        *_listed(),
        sa.Index("gomafia_tournaments_by_date", "date_start"),
        schema="raw", comment="Tournaments of gomafia.pro.",
    )  # fmt: skip
    op.create_table(
        "gomafia_player_tournaments",
        _key("player_id"),
        _key("tournament_id"),
        _column("name", sa.Text, "of the tournament"),
        _column("place", sa.BigInteger),
        _column("gg", sa.Numeric, "GG points"),
        _column("elo_change", sa.Numeric),
        _column("prize", sa.Numeric, "roubles; null where there was none"),
        *_read(),
        schema="raw", comment="The tournaments in each player's history.",
    )  # fmt: skip
    op.create_table(
        "gomafia_games",
        _key("tournament_id"),
        sa.Column("round_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("table_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("played_on", sa.Date, nullable=False, comment="the first day of the tournament: games have no date of their own"),
        _column("winner", sa.Text, "BLACK, RED, DRAW; null while it is not over"),
        _column("judge", sa.Text, "by name, for the site tells no number"),
        *_read(),
        sa.Index("gomafia_games_by_day", "played_on"),
        schema="raw", comment="Games of tournaments: the tables of their rounds.",
    )  # fmt: skip
    op.create_table(
        "gomafia_participations",
        _key("tournament_id"),
        sa.Column("round_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("table_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seat", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("player_id", sa.BigInteger, nullable=False),
        sa.Column("role", sa.Text, nullable=False, comment="DON, MAFIA, SHERIFF, CIVILIAN"),
        _column("won", sa.Boolean, "null while the game is not over; nobody has won a draw"),
        _column("points", sa.Numeric),
        _column("elo_change", sa.Numeric),
        sa.Index("gomafia_participations_by_player", "player_id"),
        schema="raw", comment="Who sat where in each game, in which role.",
    )  # fmt: skip
    op.create_table(
        "gomafia_role_statistics",
        _key("player_id"),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("games", sa.BigInteger, nullable=False),
        sa.Column("wins", sa.BigInteger, nullable=False),
        sa.Column("losses", sa.BigInteger, nullable=False),
        sa.Column("draws", sa.BigInteger, nullable=False),
        sa.Column("points", sa.Numeric, nullable=False, comment="of all these games"),
        sa.Column("last_played", sa.Date, nullable=False),
        schema="core", comment="Games, wins and points of each player in each role, counted from the games that are stored.",
    )  # fmt: skip
    op.create_table(
        "gomafia_sweeps",
        sa.Column("listing", sa.Text, primary_key=True, comment="the stream"),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False, comment="entities that the site says it lists"),
        schema="ops", comment="The last reading of each listing. How far it is, ops.coverage says; position 0 stands for its end being proved.",
    )  # fmt: skip
