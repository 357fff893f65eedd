"""The explorer as an ASGI app: addresses, the envelope, and a page for people.

The dialect is that of a well-known block explorer's second version: one address for all chains,
HTTP 200 for nearly everything, and errors as a status "0" in the body.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from ingestion_assets.sandbox import queries
from ingestion_assets.sandbox.chain import ACTIONS, Chain
from ingestion_assets.sandbox.queries import Limits, RefusedError, View

Answer = Callable[[View, Mapping[str, str]], dict[str, object]]

_UNSUPPORTED = (
    "Missing or unsupported chainid parameter (required for v2 api), please see "
    "https://api.etherscan.io/v2/chainlist for the list of supported chainids"
)

_QUESTIONS: dict[str, dict[str, Answer]] = {
    "account": {
        action: partial(lambda action, view, query: queries.rows(view, action, query), action)
        for action in ACTIONS
    },
    "block": {"getblocknobytime": queries.block_by_time},
    "proxy": {
        "eth_blockNumber": queries.block_number,
        "eth_getBlockByNumber": queries.block_by_number,
    },
}

_PAGE = """<!doctype html>
<meta charset="utf-8"><title>A sandbox explorer</title>
<style>body{{font:16px/1.5 system-ui;max-width:46rem;margin:3rem auto;padding:0 1rem}}</style>
<h1>A sandbox explorer</h1>
<p>This is a made-up block explorer. It answers like the real one, needs no key, and its chains
grow with the clock. Nothing here is worth anything.</p>
<h2>Chains</h2><ul>{chains}</ul>
<h2>Watched addresses</h2><p>The same on every chain.</p><ul>{addresses}</ul>
<h2>Try</h2><ul>{links}</ul>
"""


def explorer(
    chains: Mapping[int, Chain],
    head: Callable[[Chain], int],
    *,
    window: int = 10_000,
    max_records: int = 1_000,
    finality_depth: int = 2,
) -> Starlette:
    """Build the app that answers for `chains`.

    Args:
        chains: by chain id.
        head: the newest block of a chain, asked anew for every request; the chain is grown to it
            and nothing newer is ever shown. Below 0 there is no block yet.
        window: the largest page x offset that is answered.
        max_records: the most rows of one answer.
        finality_depth: blocks between the head and the finalized block.

    """
    limits = Limits(window, max_records, finality_depth)

    def view_of(query: Mapping[str, str]) -> View:
        chain_id = query.get("chainid", "")
        chain = chains.get(int(chain_id)) if chain_id.isdecimal() else None
        if chain is None:
            raise RefusedError(_UNSUPPORTED)
        newest = head(chain)
        chain.grow_to(newest)
        return View(chain, newest, limits)

    async def api(request: Request) -> JSONResponse:
        query = request.query_params
        try:
            return JSONResponse(_question(query)(view_of(query), query))
        except RefusedError as refusal:
            return JSONResponse({"status": "0", "message": refusal.message, "result": refusal.result})

    async def chainlist(request: Request) -> JSONResponse:
        listed = [_listed(chain_id, str(request.base_url)) for chain_id in chains]
        return JSONResponse({"comments": "", "totalcount": len(listed), "result": listed})

    async def page(_request: Request) -> HTMLResponse:
        return HTMLResponse(_page(chains, head))

    return Starlette(routes=[Route("/v2/api", api), Route("/v2/chainlist", chainlist), Route("/", page)])


def _question(query: Mapping[str, str]) -> Answer:
    """Find what answers this module and action; names other than the known ones are refused."""
    answers = _QUESTIONS.get(query.get("module", ""))
    if answers is None:
        raise RefusedError("Error! Missing Or invalid Module name")
    answer = answers.get(query.get("action", ""))
    if answer is None:
        raise RefusedError("Error! Missing Or invalid Action name")
    return answer


def _listed(chain_id: int, base: str) -> dict[str, object]:
    """Describe a chain in the words of the chain list; status 1 is "up"."""
    return {
        "chainname": f"Sandbox {chain_id}",
        "chainid": str(chain_id),
        "blockexplorer": base,
        "apiurl": f"{base}v2/api?chainid={chain_id}",
        "status": 1,
        "comment": "",
    }


def _page(chains: Mapping[int, Chain], head: Callable[[Chain], int]) -> str:
    """Write the page for people: what this is, who is watched, and two questions to click."""

    def items(lines: list[str]) -> str:
        return "".join(f"<li>{line}</li>" for line in lines)

    def described(chain: Chain) -> str:
        newest = head(chain)
        moment = datetime.fromtimestamp(chain.time_of(newest), UTC)
        return f"{chain.chain_id}: block {newest:,} of {moment:%Y-%m-%d %H:%M:%S} UTC"

    first = next(iter(chains.values()))
    base = f"/v2/api?chainid={first.chain_id}"
    hrefs = [
        f"{base}&module=account&action=txlist&address={first.addresses[0]}&page=1&offset=5&sort=desc",
        f"{base}&module=proxy&action=eth_blockNumber",
    ]
    return _PAGE.format(
        chains=items([described(chain) for chain in chains.values()]),
        addresses=items([f"<code>{address}</code>" for address in first.addresses]),
        links=items([f'<a href="{escape(href)}">{escape(href)}</a>' for href in hrefs]),
    )
