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

from ingestion_assets.api.errors import from_pydantic
from ingestion_assets.api.parameters import Question


class QuestionRoute(APIRoute):
    """A route of `endpoint(request, question: Annotated[SomeQuestion, Query()]) -> Response`; any other is FastAPI's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See https://fastapi.tiangolo.com/how-to/custom-request-and-route/."""
        asked = signature(self.endpoint).parameters.get("question")
        if asked is None:
            return super().get_route_handler()
        model: type[Question] = get_args(asked.annotation)[0]
        endpoint, known = self.endpoint, model.known()

        async def handle(request: Request) -> Response:
            try:
                question = model.model_validate(dict(request.query_params))
            except ValidationError as error:
                raise from_pydantic(error, known) from error
            answer: Response = await endpoint(request, question)
            return answer

        return handle
