"""How a question comes to its endpoint: its parameters are checked by its model, and by nothing else.

FastAPI, left to itself, looks each parameter up, copies it and then has the model check it: that takes longer than the answer.
The documentation of a route is made of its signature as ever.
"""

from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, get_args

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion_assets.api.errors import from_pydantic
from ingestion_assets.api.parameters import Question


class QuestionRoute(APIRoute):
    """A route of `endpoint(request, question: Annotated[SomeQuestion, Query()]) -> Response`; any other is FastAPI's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        asked = signature(self.endpoint).parameters.get("question")
        if asked is not None:
            self.app = _answering(self.endpoint, get_args(asked.annotation)[0])


def _answering(endpoint: Callable[..., Coroutine[Any, Any, Response]], model: type[Question]) -> ASGIApp:
    """The endpoint as an application. What it raises is for the handlers of the whole app."""
    known = model.known()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            question = model.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise from_pydantic(error, known) from error
        response = await endpoint(request, question)
        await response(scope, receive, send)

    return app
