"""Where on the pages of gomafia.pro things stand: all that depends on its markup, and nothing else.

When the site changes, an import says `SchemaDrift` with the name of the line here that does not fit any more; mending that line is all
there is to do. The site is built with Next.js, which adds a hash to each class (`Pagination_pagination__page___s0V8`): selectors look
for the part before it. Each page also holds the data that it was made of, as JSON in a script; where public clients have
seen what it holds, we read that.

Where each was seen: see the comment of the line.

* `mafia-insight`: k05m0navt/mafia-insight, `src/lib/gomafia/scrapers/*.ts`, and its report of a look at the live pages
* `gomafia_stats`: Luka5s5/gomafia_stats, `scraper.py`
* `pages_count`: scripts that read a history page by page, by the last number of its pagination
* `next_data`: scripts that read `script#__NEXT_DATA__` of players' and tournaments' pages
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selector:
    """One place on a page. `name` is what a SchemaDrift points at."""

    name: str
    css: str


def _of(name: str, css: str) -> Selector:
    return Selector(f"selectors.py: {name}", css)


# Every page
NEXT_DATA = _of("NEXT_DATA", "script#__NEXT_DATA__")  # next_data
SERVER_DATA = ("props", "pageProps", "serverData")  # next_data; the path in it
MAIN_PAGE = _of(
    "MAIN_PAGE", 'div[class*="MainIntro_main-intro"]'
)  # gomafia_stats: shown instead of what does not exist
PAGE_NUMBER = _of(
    "PAGE_NUMBER", 'div[class*="Pagination_pagination__page"]'
)  # pages_count; the last one is the last page
ROW = _of("ROW", "table tbody tr")  # mafia-insight, all listings
TABLE = _of("TABLE", "table tbody")  # there even where it has no rows
CELL = "td"
PER_PAGE = 10  # mafia-insight (8,900 players on 890 pages), next_data (history)

# Listings: the number of the cell, from 0
PLAYER_LINK = _of("PLAYER_LINK", 'a[href*="/stats/"]')  # mafia-insight, players-scraper.ts
PLAYER_CLUB = _of(
    "PLAYER_CLUB", "span.ws-nowrap"
)  # mafia-insight, as the players-scraper.ts is reported to do; absent without a club
PLAYER_CELLS = {"rank": 0, "tournaments": 2, "score": 3, "elo": 4}  # mafia-insight, club-detail-scraper.ts
CLUB_LINK = _of("CLUB_LINK", 'a[href*="/club/"]')  # mafia-insight, clubs-scraper.ts
CLUB_CELLS = {"rank": 0}  # the other cells differ between versions of that scraper
TOURNAMENT_LINK = _of(
    "TOURNAMENT_LINK", 'a[href*="/tournament/"]'
)  # mafia-insight, tournaments-scraper.ts, as the next four
TOURNAMENT_NAME = _of(
    "TOURNAMENT_NAME", "b"
)  # within the link; before it stand the average Elo and the stars
TOURNAMENT_DATES = 2  # cell
TOURNAMENT_DATE = "div > div"  # within that cell, if it has any
TOURNAMENT_STATUS = 4  # cell

# A player's page
SELECTED_YEAR = _of(
    "SELECTED_YEAR", 'span[class*="Select_select__selected-span"]'
)  # mafia-insight, player-stats-scraper.ts, as the next five
YEAR_PARAMETER = "period"  # of the url; NOT seen, so the page is only believed when it shows the year itself
ROLE_COUNT = _of("ROLE_COUNT", '[class*="ProfileUserCircle_profile-user-circle__num"]')
ROLE_LABELS = {
    "civilian": "за мирного",
    "don": "за дона",
    "mafia": "за мафию",
    "sheriff": "за шерифа",
}  # in the text around the count
TOTAL_GAMES = _of("TOTAL_GAMES", '[class*="stat-main-bottom-block-left-content-amount"]')
HISTORY_CELLS = {
    "place": 3,
    "gg": 4,
    "elo_change": 5,
    "prize": 6,
}  # mafia-insight, player-tournament-history-scraper.ts
HISTORY_TOTAL = "historyTotal"  # next_data

# A tournament's page: its visible tables name players without their numbers, and two people may have one name
GAMES = "games"  # next_data; as the API has them
