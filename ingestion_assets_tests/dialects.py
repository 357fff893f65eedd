"""The sandbox's chains in the dialects of other explorers: the same history, other words.

`dialects` is an ASGI app for `Upstream`. It answers as Routescan (/v2/network/mainnet/evm/…), as the Cronos Explorer
(/cronos/{module}/{action}), and as an instance of Blockscout (/api, /api/eth-rpc, /api/v2/…), whose lists hold what
the real ones hold beside the rows that matter: delegate calls, calls without value, and the creation that is the
transaction itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ingestion_assets.sandbox import queries
from ingestion_assets.sandbox.chain import Chain
from ingestion_assets.sandbox.queries import Limits, RefusedError, View

Item = dict[str, Any]
Place = tuple[int, ...]  # block, transaction where there are several items in one, index

ACTIONS = {"transactions": "txlist", "internal-transactions": "txlistinternal", "token-transfers": "tokentx"}
EMPTY = {
    "txlist": "No transactions found",
    "txlistinternal": "No internal transactions found",
    "tokentx": "No token transfers found",
}
PENDING = "Some internal transactions within this block range have not yet been processed"
STEP = 10  # indexes of one row and of what is listed beside it


def dialects(
    chain: Chain,
    head: Callable[[Chain], int],
    *,
    items: int = 50,
    pending: bool = False,
    has_node: bool = True,
) -> Starlette:
    """Build the app.

    Args:
        chain: whose history it is.
        head: the newest block it shows.
        items: of one page of the keyset.
        pending: not all internal transactions are indexed yet.
        has_node: Blockscout passes questions on to its node.

    """
    asked = _Asked(chain, head, items, pending, has_node)
    return Starlette(
        routes=[
            Route("/v2/network/mainnet/evm/{chain}/etherscan/api", asked.routescan),
            Route("/cronos/{module}/{action}", asked.cronos),
            Route("/api", asked.compatible),
            Route("/api/eth-rpc", asked.node, methods=["POST"]),
            Route("/api/v2/main-page/indexing-status", asked.indexing),
            Route("/api/v2/blocks/{number}", asked.block),
            Route("/api/v2/addresses/{address}/{list}", asked.keyset),
        ]
    )


@dataclass(frozen=True)
class _Asked:
    """One method for each way of asking."""

    chain: Chain
    head: Callable[[Chain], int]
    items: int
    pending: bool
    has_node: bool

    @property
    def view(self) -> View:
        return View(self.chain, self.head(self.chain), Limits())

    async def routescan(self, request: Request) -> JSONResponse:
        if request.path_params["chain"] != str(self.chain.chain_id):
            return JSONResponse({"status": "0", "message": "NOTOK", "result": "Error! Invalid chain"})
        query = request.query_params
        if query.get("action") == "eth_blockNumber":
            return JSONResponse({"message": "Internal Server Error"}, 500)
        answer = _etherscan(self.view, query["module"], query["action"], query)
        if answer.get("result") == []:
            answer |= {"status": "1", "message": "OK"}
        return JSONResponse(answer)

    async def cronos(self, request: Request) -> JSONResponse:
        module, action = request.path_params["module"], request.path_params["action"]
        if module == "ethproxy":
            method = {"getBlockNumber": "eth_blockNumber", "getBlockByNumber": "eth_getBlockByNumber"}[action]
            found = _etherscan(self.view, "proxy", method, request.query_params)
            return JSONResponse({"status": "1", "message": "OK", "result": found["result"]})
        return JSONResponse(_etherscan(self.view, module, action, request.query_params))

    async def compatible(self, request: Request) -> JSONResponse:
        query = request.query_params
        if query["action"] == "eth_block_number":
            return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": hex(self.view.head)})
        if query["action"] == "getblocknobytime":
            return JSONResponse(_by_time(self.view, query))
        return JSONResponse(_list(self.view, query, pending=self.pending))

    async def keyset(self, request: Request) -> JSONResponse:
        action = ACTIONS[request.path_params["list"]]
        address = request.path_params["address"]
        return JSONResponse(_keyset(self.view, action, address, request.query_params, self.items))

    async def block(self, request: Request) -> JSONResponse:
        number = int(request.path_params["number"])
        if number > self.view.head:
            return JSONResponse({"message": "Not found"}, 404)
        own, parent = self.chain.hash_of(number), self.chain.hash_of(number - 1)
        time = _iso(self.chain.time_of(number))
        return JSONResponse({"height": number, "hash": own, "parent_hash": parent, "timestamp": time})

    async def indexing(self, _request: Request) -> JSONResponse:
        ratio = "0.87" if self.pending else "1.00"
        done = not self.pending
        return JSONResponse({"finished_indexing": done, "indexed_internal_transactions_ratio": ratio})

    async def node(self, request: Request) -> JSONResponse:
        asked = await request.json()
        if not self.has_node:
            error = {"code": -32601, "message": "Action not found."}
            return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "error": error})
        if asked["method"] == "eth_chainId":
            return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": hex(self.chain.chain_id)})
        return JSONResponse(queries.block_by_number(self.view, {"tag": asked["params"][0]}))


def _etherscan(view: View, module: str, action: str, query: Mapping[str, str]) -> dict[str, Any]:
    asked: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
        ("block", "getblocknobytime"): lambda: queries.block_by_time(view, query),
        ("proxy", "eth_blockNumber"): lambda: queries.block_number(view, query),
        ("proxy", "eth_getBlockByNumber"): lambda: queries.block_by_number(view, query),
    }
    try:
        return asked.get((module, action), lambda: queries.rows(view, action, query))()
    except RefusedError as refusal:
        return {"status": "0", "message": refusal.message, "result": refusal.result}


def _by_time(view: View, query: Mapping[str, str]) -> dict[str, Any]:
    found = _etherscan(view, "block", "getblocknobytime", query)
    if found["status"] == "0":
        return {"message": "Block does not exist", "result": None, "status": "0"}
    return {"message": "OK", "result": {"blockNumber": found["result"]}, "status": "1"}


def _list(view: View, query: Mapping[str, str], *, pending: bool) -> dict[str, Any]:
    """Blockscout as Etherscan: newest first by default, errors in `message`."""
    action = query["action"]
    page, offset = int(query.get("page", "1")), int(query.get("offset", "10000"))
    if page * offset > view.limits.window:
        text = "Result window is too large, PageNo x Offset size must be less than or equal to 10000"
        return {"message": text, "result": None, "status": "0"}
    lo, hi = int(query.get("startblock", "0")), int(query.get("endblock", str(view.head)))
    everything = listed_by(view.chain, view.head, action, query["address"])
    listed = [row for place, row in everything if lo <= place[0] <= hi]
    if query.get("sort", "desc") == "desc":
        listed.reverse()
    rows = listed[(page - 1) * offset : page * offset]
    if action == "txlistinternal" and pending:
        return {"message": PENDING, "result": rows, "status": "2"}
    if not rows:
        return {"message": EMPTY[action], "result": [], "status": "0"}
    return {"message": "OK", "result": rows, "status": "1"}


@cache
def listed_by(chain: Chain, head: int, action: str, address: str) -> list[tuple[Place, Item]]:
    """What Blockscout lists of an account, oldest first, each with its place."""
    found = chain.find(action, address, 0, head)
    listed: list[tuple[Place, Item]] = []
    first: dict[str, int] = {}  # of each transaction, the number of its first call
    for number, row in zip(found, chain.render(action, found, head), strict=True):
        block, index = number >> 12, number & 0xFFF
        is_first = row["hash"] not in first
        place = (block, first.setdefault(row["hash"], index), index * STEP + 5)
        listed += _RENDERED[action](row, place, is_first=is_first)
    return listed


def _transaction(row: Item, place: Place, *, is_first: bool) -> list[tuple[Place, Item]]:
    assert is_first
    left_out = ("methodId", "functionName")
    item = {name: value for name, value in row.items() if name not in left_out}
    return [((place[0], int(row["transactionIndex"])), item)]


def _internal(row: Item, place: Place, *, is_first: bool) -> list[tuple[Place, Item]]:
    block, transaction, index = place
    item: Item = {name: value for name, value in row.items() if name not in {"hash", "traceId"}}
    is_call = row["type"] == "call"
    item |= {"transactionHash": row["hash"], "callType": "call" if is_call else "", "index": str(index)}
    listed = [(place, item)]
    if is_first:  # a creation that is the transaction itself is its call 0
        root = {"type": "create", "callType": "", "to": "", "contractAddress": row["to"], "index": "0"}
        listed.insert(0, ((block, transaction, 0), item | root))
    for call, value, after in (("delegatecall", row["value"], 1), ("staticcall", "0", 2), ("call", "0", 3)):
        beside = {"type": "call", "callType": call, "value": value, "contractAddress": ""}
        beside |= {"to": row["to"] or row["contractAddress"], "index": str(index + after)}
        listed.append(((block, transaction, index + after), item | beside))
    return listed


def _transfer(row: Item, place: Place, *, is_first: bool) -> list[tuple[Place, Item]]:  # noqa: ARG001 - of all kinds
    block, _, index = place
    left_out = ("methodId", "functionName")
    item = {name: value for name, value in row.items() if name not in left_out}
    item |= {"logIndex": str(index), "input": "0x"}
    of_art = item | {"tokenID": "7", "logIndex": str(index + 1), "value": "1"}
    return [((block, index), item), ((block, index + 1), of_art)]


_RENDERED = {"txlist": _transaction, "txlistinternal": _internal, "tokentx": _transfer}


def _keyset(view: View, action: str, address: str, query: Mapping[str, str], items: int) -> dict[str, Any]:
    """Version 2: newest first, from a place downwards."""
    listed = listed_by(view.chain, view.head, action, address)
    assert all(one < other for (one, _), (other, _) in pairwise(listed))
    if "block_number" in query:
        names = ("block_number", *(("transaction_index",) if action == "txlistinternal" else ()), "index")
        place = tuple(int(query[name]) for name in names)
        listed = [one for one in listed if one[0] < place]
    shown = listed[-items:][::-1]
    following: Item | None = None
    if len(listed) > items:
        block, *within, index = shown[-1][0]
        following = {"block_number": block, "index": index, "items_count": items, "ens": None}
        if within:
            following["transaction_index"] = within[0]
    return {"items": [_item(action, place, row) for place, row in shown], "next_page_params": following}


def _item(action: str, place: Place, row: Item) -> Item:
    block, *within, index = place
    item: Item = {
        "block_number": block,
        "timestamp": _iso(int(row["timeStamp"])),
        "from": _party(row["from"]),
        "to": _party(row["to"]),
    }
    if action == "txlist":
        ok = row["isError"] == "0"
        return item | {
            "hash": row["hash"], "position": index, "value": row["value"], "gas_used": row["gasUsed"], "gas_price": row["gasPrice"],
            "nonce": int(row["nonce"]), "status": "ok" if ok else "error",
            "created_contract": _party(row["contractAddress"]),
        }  # fmt: skip
    if action == "txlistinternal":
        return item | {
            "transaction_hash": row["transactionHash"], "transaction_index": within[0], "index": index,
            "type": row["callType"] or row["type"], "value": row["value"], "success": row["isError"] == "0",
            "created_contract": _party(row["contractAddress"]),
        }  # fmt: skip
    kind = "ERC-721" if "tokenID" in row else "ERC-20"
    total = (
        {"token_id": "7"} if "tokenID" in row else {"value": row["value"], "decimals": row["tokenDecimal"]}
    )
    return item | {
        "transaction_hash": row["hash"], "log_index": index, "total": total, "token_type": kind,
        "token": {"address_hash": _party(row["contractAddress"])["hash"], "symbol": row["tokenSymbol"],
                  "decimals": row["tokenDecimal"], "name": row["tokenName"], "type": kind},
    }  # fmt: skip


def _party(address: str) -> Any:
    """With capitals, as checksums have them."""
    return {"hash": "0x" + address[2:].upper(), "name": None, "is_contract": False} if address else None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
