"""How answers are sent: encoded once, marked with what they say, and left out where the client has them already."""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from ingestion_assets.api.errors import Refusal

JSON = "application/json"
SCHEMAS = "#/components/schemas/"

encode = msgspec.json.Encoder(enc_hook=str).encode


def encoded(part: object) -> msgspec.Raw:
    """A part of an answer that is needed twice, in the answer and in what it says."""
    return msgspec.Raw(encode(part))


def respond(request: Request, answer: object, says: object = None, status: int = 200) -> Response:
    """An answer as JSON.

    Args:
        request: that it answers; it may name, in If-None-Match, what the client has.
        answer: what is encoded.
        says: what of it is not just the time of day; where that is what the client has, it is told so instead. None: all.
        status: of HTTP.
    """
    body = encode(answer)
    if status != HTTPStatus.OK:
        return Response(body, status, media_type=JSON)
    # weak: two answers that say the same may differ in their time
    mark = f'W/"{hashlib.blake2b(body if says is None else encode(says), digest_size=12).hexdigest()}"'
    headers = {"ETag": mark, "Cache-Control": "no-cache"}
    if _has(request.headers.get("if-none-match", ""), mark):
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    return Response(body, status, headers, media_type=JSON)


def _has(named: str, mark: str) -> bool:
    """Whether one of the marks that a client names is this one; weak or not makes no difference when it is read."""
    return named.strip() == "*" or mark.removeprefix("W/") in (
        one.strip().removeprefix("W/") for one in named.split(",")
    )


def refusals(errors: Sequence[int] = (400, 401, 429, 503)) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its documentation."""
    return {status: {"model": Refusal, "description": HTTPStatus(status).phrase} for status in errors}


def documented(
    answer: type, *, errors: Sequence[int] = (400, 401, 429, 503)
) -> dict[int | str, dict[str, Any]]:
    """The responses of a route, for its documentation."""
    content = {JSON: {"schema": {"$ref": SCHEMAS + answer.__name__}}}
    description = (answer.__doc__ or "").splitlines()[0]
    return {200: {"content": content, "description": description}, **refusals(errors)}


def document(app: FastAPI, answers: Sequence[type]) -> None:
    """Add the shapes of answers, which are no pydantic models, to the documentation of an app."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            _, components = msgspec.json.schema_components(answers, ref_template=SCHEMAS + "{name}")
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            for path in schema["paths"].values():  # bad parameters are answered with 400 here
                for operation in path.values():
                    operation["responses"].pop("422", None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
