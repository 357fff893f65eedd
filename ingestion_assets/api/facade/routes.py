"""The facade's addresses: /v2/api, and the list of chains."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ingestion_assets.api.errors import CannotServe
from ingestion_assets.api.facade.envelope import TIMEOUT, Parameters, Refused, Told
from ingestion_assets.api.facade.questions import Questions
from ingestion_assets.api.responding import respond
from ingestion_assets.api.service import Service

_PARAMETERS = {
    "chainid": "number of the chain",
    "module": "account, block, logs",
    "action": "txlist, txlistinternal, tokentx, getblocknobytime, getLogs",
    "address": "account, or contract of logs",
    "contractaddress": "token, of tokentx",
    "txhash": "transaction, of txlistinternal",
    "startblock": "first block",
    "endblock": "last block, or latest",
    "fromBlock": "first block of logs",
    "toBlock": "last block of logs, or latest",
    "topic0": "of logs, as topic1 to topic3 and topicX_Y_opr",
    "timestamp": "seconds since 1970, of getblocknobytime",
    "closest": "before or after",
    "page": "counted from 1; with offset",
    "offset": "records on a page",
    "sort": "asc or desc",
}
_DOCUMENTED: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in _PARAMETERS.items()
    ]
}


def add(app: FastAPI, service: Service, client_of: Callable[[Request], str]) -> None:
    """Add the facade to an app."""
    questions = Questions(service)

    @app.get("/v2/api", tags=["facade"], openapi_extra=_DOCUMENTED, response_model=dict[str, Any])
    async def ask(request: Request) -> Response:
        """What is stored, in the dialect of the Etherscan V2 API. Errors too are HTTP 200, with status 0."""
        try:
            told = await questions.answer(Parameters(request.query_params), client_of(request))
        except Refused as refused:
            told = Told("0", refused.message, refused.result)
        except CannotServe as error:
            if error.code == "QUERY_TIMEOUT":
                told = Told("0", TIMEOUT, None)
            else:
                told = Told("0", "NOTOK", f"Error! Service is temporarily unavailable: {error}")
        body = {"status": told.status, "message": told.message, "result": told.result}
        response = respond(request, body)
        response.headers.update(told.headers)
        return response

    @app.get("/v2/chainlist", tags=["facade"], response_model=dict[str, Any])
    async def chainlist(request: Request) -> Response:
        """The chains that are served."""
        base = str(request.base_url)
        listed = [
            {
                "chainname": chain.name,
                "chainid": str(chain.chain_id),
                "blockexplorer": base,
                "apiurl": f"{base}v2/api?chainid={chain.chain_id}",
                "status": 1,
                "comment": "",
            }
            for chain in service.config.chains
        ]
        return respond(request, {"comments": "", "totalcount": len(listed), "result": listed})
