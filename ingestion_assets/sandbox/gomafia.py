"""A league as gomafia.pro shows it: the JSON API that answers posted forms, and the pages, made by Next.js.

Both tell the same. The markup has what public clients of the site have seen of it, and nothing more: classes with a hash at their end,
tables of ten rows, a pagination that names the last page, and the data of each page as JSON in a script.
"""

import html
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ingestion_assets.sandbox.league import League

PER_PAGE = 10
NBSP = "\N{NO-BREAK SPACE}"
ROLE_WORDS = {"don": "Дон", "mafia": "Маф", "sheriff": "Шер", "red": "Мир"}
ROLE_LABELS = {
    "red": "Игр за мирного",
    "don": "Игр за дона",
    "mafia": "Игр за мафию",
    "sheriff": "Игр за шерифа",
}
STATUS_WORDS = {"finished": "Завершён", "scheduled": "Запланирован", "cancelled": "Отменён"}


def league_of(today: date) -> League:
    """The league that `make run` shows: this year and the last one."""
    return League(years=(today.year - 1, today.year))


def gomafia(league: Callable[[], League]) -> Starlette:
    """Build the app; it shows the league as it is at the moment of each request."""

    def shown(
        page: Callable[[Request, League], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await page(request, league())

        return endpoint

    return Starlette(
        routes=[
            Route("/api/{entity}/{action}", shown(_api), methods=["POST"]),
            Route("/rating", shown(_rating)),
            Route("/club/{id:int}", shown(_club)),
            Route("/stats/{id:int}", shown(_player)),
            Route("/tournaments", shown(_tournaments)),
            Route("/tournament/{id:int}", shown(_tournament)),
        ]
    )


async def _api(request: Request, league: League) -> Response:
    form = dict(parse_qsl((await request.body()).decode()))
    number, year = int(form.get("id", "0")), int(form["year"]) if "year" in form else 0
    rows: Sequence[Any]
    match request.path_params["entity"], request.path_params["action"]:
        case "club", "getTop":
            rows = [_club_row(league, club, rank) for rank, club in enumerate(league.clubs, 1)]
        case "club", "getResidents":
            rows = [_user(league, p, n) for n, p in enumerate(_members(league, number), 1)]
        case "user", "getTop":
            rows = [_user(league, player, rank, year) for rank, player in enumerate(league.rating(year), 1)]
        case "tournament", "getAll":
            rows = [_tournament_row(league, one) for one in league.tournaments()]
        case "tournament", "get":
            known = number in league.tournaments()
            data = (
                {"tournament": _tournament_row(league, number), "games": _rounds(league, number)}
                if known
                else None
            )
            return _success(data)
        case "stats", "get":
            return _success(_stats(league, number, form["period"]) if number in league.players else None)
        case _:
            return JSONResponse({"result": "error"}, 404)
    offset, limit = int(form["offset"]), int(form["limit"])
    return _success([row | {"total_rows": str(len(rows))} for row in rows[offset : offset + limit]])


def _success(data: object) -> Response:
    return JSONResponse({"result": "success", "data": data})


def _members(league: League, club: int) -> list[int]:
    return league.members(club) if club in league.clubs else []


def _club_row(league: League, club: int, rank: int) -> dict[str, Any]:
    return {
        "id": str(club), "title": league.club_name(club), "city": league.city(club), "country": "Россия", "rank": str(rank),
        "club_score": str(1000 - rank), "elo_average": "1200.5", "avatar_link": None,
    }  # fmt: skip


def _user(league: League, player: int, rank: int, year: int | None = None) -> dict[str, Any]:
    club = league.club(player)
    own = league.of_year.get((year or league.years[-1], player))
    return {
        "id": str(player), "login": league.name(player), "elo": league.elo(player), "rank": str(rank),
        "title": None if club is None else league.club_name(club), "city": league.city(player), "country": "Россия",
        "tournaments_played": str(own.tournaments if own else 0), "tournaments_score": str(own.gg if own else 0),
        "avatar_link": None, "is_paid": "0",
    }  # fmt: skip


def _tournament_row(league: League, number: int) -> dict[str, Any]:
    day = league.day(number)
    return {
        "id": str(number), "title": f"Кубок «{number}»", "date_start": day.isoformat(), "date_end": day.isoformat(),
        "city_translate": league.city(number), "country_translate": "Россия", "type": "single", "type_translate": "Личный",
        "status": league.status(number), "status_translate": STATUS_WORDS[league.status(number)],
        "star": str(league.stars(number)), "elo_average": "1500", "is_fsm_rating": "1",
        "main_referee_id": str(league.players[number % len(league.players)]),
    }  # fmt: skip


def _stats(league: League, player: int, period: str) -> dict[str, Any]:
    years = league.years if period == "all" else (int(period),)
    found = [league.of_year[year, player] for year in years if (year, player) in league.of_year]
    games = {role: sum(one.games[role] for one in found) for role in ROLE_WORDS}
    wins = {role: sum(one.wins[role] for one in found) for role in ROLE_WORDS}
    total, won = sum(games.values()), sum(wins.values())
    points = sum(one.points for one in found)

    def share(of: int, whole: int) -> int:
        return round(100 * of / whole) if whole else 0

    return {
        "user": {"id": str(player), "login": league.name(player), "elo": league.elo(player), "referee_license": "0"},
        "stats": {
            "primary": games | {"total_games": total},
            "win_rate": {
                role: {"win": {"value": wins[role], "percent": share(wins[role], games[role])}, "total": {"value": games[role]}}
                for role in ROLE_WORDS
            } | {"total_games": total, "total_wins": {"value": won, "percent": share(won, total)}},
            "advanced_points": {"points_10_games": _tenth(points, total)},
        },
    }  # fmt: skip


def _tenth(points: int, games: int) -> float | int:
    """Points in ten games, as a JSON number: 2 or 1.37."""
    return round(points / 10 / games, 2) if games else 0


def _rounds(league: League, number: int) -> list[dict[str, Any]]:
    rounds: dict[int, list[dict[str, Any]]] = {}
    for game in league.games(number):
        table = [
            {
                "place": place, "id": seat.player, "login": league.name(seat.player), "role": seat.role,
                "points": seat.points / 100, "eloDelta": f"{seat.elo_change:+d}", "isPaid": "0",
            }
            for place, seat in enumerate(game.seats, 1)
        ]  # fmt: skip
        rounds.setdefault(game.round, []).append(
            {"tableNum": game.table, "win": game.winner, "referee": game.judge, "table": table}
        )
    return [{"gameNum": number, "game": tables} for number, tables in rounds.items()]


def _document(title: str, body: str, data: object) -> Response:
    made_of = json.dumps({"props": {"pageProps": {"serverData": data}}}, ensure_ascii=False).replace(
        "</", "<\\/"
    )
    return HTMLResponse(
        f'<!DOCTYPE html><html lang="ru"><head><title>{html.escape(title)}</title></head><body><div id="__next">{body}</div>'
        f'<script id="__NEXT_DATA__" type="application/json">{made_of}</script></body></html>'
    )


def _main_page() -> Response:
    return _document("GoMafia", '<div class="MainIntro_main-intro__x1Y2z">Спортивная мафия</div>', {})


def _table(rows: list[str]) -> str:
    return f'<table class="Table_table__a1B2c"><thead><tr><th>#</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _pagination(count: int, page: int) -> str:
    last = -(-count // PER_PAGE)
    if last <= 1:
        return ""
    shown = sorted({*range(1, min(last, 5) + 1), page, last})
    pages = "".join(f'<div class="Pagination_pagination__page___s0V8">{n}</div>' for n in shown)
    return f'<div class="Pagination_pagination__QwErT">{pages}</div>'


def _page_of(request: Request, name: str) -> int:
    return max(1, int(request.query_params.get(name, "1")))


def _slice(items: Sequence[int], page: int) -> list[tuple[int, int]]:
    first = (page - 1) * PER_PAGE
    return list(enumerate(items[first : first + PER_PAGE], first + 1))


async def _rating(request: Request, league: League) -> Response:
    if request.query_params.get("tab") == "clubs":
        page = _page_of(request, "pageClubs")
        rows = [
            f'<tr><td>{rank}</td><td><a class="Links_links__c3oXE" href="/club/{club}">{html.escape(league.club_name(club))}</a></td></tr>'
            for rank, club in _slice(league.clubs, page)
        ]
        return _document("Клубы", _table(rows) + _pagination(len(league.clubs), page), {})
    page = _page_of(request, "pageUsers")
    year = int(request.query_params.get("yearUsers", str(league.years[-1])))
    rating = league.rating(year)
    rows = [_player_line(league, player, rank, year) for rank, player in _slice(rating, page)]
    return _document("Рейтинг", _table(rows) + _pagination(len(rating), page), {})


def _player_line(league: League, player: int, rank: int, year: int) -> str:
    own = league.of_year.get((year, player))
    club = league.club(player)
    named = "" if club is None else f'<span class="ws-nowrap">{html.escape(league.club_name(club))}</span>'
    cells = (own.tournaments if own else 0, own.gg if own else 0, league.elo(player))
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    link = f'<a class="Links_links__c3oXE" href="/stats/{player}">{html.escape(league.name(player))}</a>'
    return f"<tr><td>{rank}</td><td>{link}{named}</td>{numbers}</tr>"


async def _club(request: Request, league: League) -> Response:
    club = request.path_params["id"]
    if club not in league.clubs:
        return _main_page()
    page, members = _page_of(request, "page"), league.members(club)
    rows = [_player_line(league, player, rank, league.years[-1]) for rank, player in _slice(members, page)]
    return _document(
        "Клуб", _table(rows) + _pagination(len(members), page), {"club": {"title": league.club_name(club)}}
    )


async def _player(request: Request, league: League) -> Response:
    player = request.path_params["id"]
    if player not in league.players:
        return _main_page()
    if request.query_params.get("tab") == "history":
        return _history(request, league, player)
    asked = request.query_params.get("period", "")
    year = int(asked) if asked.isdecimal() else league.years[-1]
    stats = _stats(league, player, str(year))["stats"]
    total = stats["primary"]["total_games"]
    circles = "".join(
        f'<div><span>{label}</span><div class="ProfileUserCircle_profile-user-circle__num__iog1A">'
        f"{stats['primary'][role]}{NBSP}({round(100 * stats['primary'][role] / total) if total else 0}%)</div></div>"
        for role, label in ROLE_LABELS.items()
    )
    body = (
        f'<div class="ProfileUserInfo_profile-user__name__iJAAE">{html.escape(league.name(player))}</div>'
        f'<span class="Select_select__selected-span__QTMy5">{year}</span>{circles}'
        f'<div class="stats_stats__stat-main-bottom-block-left-content-amount__DN0nz">{total}</div>'
    )
    return _document("Игрок", body, {"user": {"login": league.name(player)}})


def _history(request: Request, league: League, player: int) -> Response:
    page, own = _page_of(request, "page"), league.history.get(player, {})
    order = sorted(own, key=lambda number: (league.day(number), number), reverse=True)
    rows = []
    for rank, number in _slice(order, page):
        result, day = own[number], f"{league.day(number):%d.%m.%Y}"
        link = f'<a class="Links_links__c3oXE" href="/tournament/{number}">{html.escape(f"Кубок «{number}»")}</a>'
        cells = (
            rank,
            link,
            day,
            f"{result.place} место",
            result.gg,
            f"{result.elo_change:+d}",
            _roubles(result.prize),
        )
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    history = [{"id": str(number), "title": f"Кубок «{number}»"} for _, number in _slice(order, page)]
    return _document(
        "История",
        _table(rows) + _pagination(len(order), page),
        {"history": history, "historyTotal": str(len(order))},
    )


def _roubles(hundredths: int) -> str:
    if not hundredths:
        return "–"
    whole, rest = divmod(hundredths, 100)
    return f"{whole:,}".replace(",", NBSP) + (f",{rest:02d}" if rest else "") + f"{NBSP}₽"


async def _tournaments(request: Request, league: League) -> Response:
    page, order = _page_of(request, "page"), league.tournaments()
    rows = []
    for rank, number in _slice(order, page):
        day = f"{league.day(number):%d.%m.%Y}"
        link = f'<a class="Links_links__c3oXE" href="/tournament/{number}"><span>1500 {league.stars(number)} </span><b>Кубок «{number}»</b></a>'
        dates = f"<div><div>{day}</div><div>{day}</div></div>"
        cells = (rank, link, dates, "Личный", STATUS_WORDS[league.status(number)], "")
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return _document("Турниры", _table(rows) + _pagination(len(order), page), {})


async def _tournament(request: Request, league: League) -> Response:
    number = request.path_params["id"]
    if number not in league.tournaments():
        return _main_page()
    return _document(
        "Турнир",
        "<div>Итоги по играм</div>",
        {"tournament": _tournament_row(league, number), "games": _rounds(league, number)},
    )
