"""The app: routes, and what every request passes. Belongs here: HTTP, and nothing that answers a question by itself."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Annotated

from fastapi import FastAPI, Query, Request
from msgspec.structs import replace
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response, StreamingResponse

from ingestion_assets.api import answers, export, health, lists, page, transfers
from ingestion_assets.api.access import Limited, Rates, Token
from ingestion_assets.api.chains import chosen, filtered
from ingestion_assets.api.config import ApiConfig, Explorer
from ingestion_assets.api.errors import BadQuestion, CannotServe, Refusal, refusal
from ingestion_assets.api.facade import routes as facade
from ingestion_assets.api.parameters import (
    ExportQuestion,
    ListQuestion,
    TotalsQuestion,
    TransferQuestion,
)
from ingestion_assets.api.responding import document, documented, encoded, refusals, respond
from ingestion_assets.api.routing import QuestionRoute
from ingestion_assets.api.service import Service

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
SMALLEST_PACKED = 1_000  # bytes

ANSWERS = (
    answers.Transfers, lists.Coverage, lists.Gaps, lists.DeadLetters, answers.DailyTotals, health.Health,
    health.CacheHealth,
)  # fmt: skip


def create_app(
    config: ApiConfig,
    explorers: Mapping[str, Explorer] | None = None,
    opened: AbstractContextManager[object] | None = None,
) -> FastAPI:
    """The API, not yet started: it opens the database when its lifespan begins.

    Args:
        config: what it is told.
        explorers: who is asked for chains that are served by their upstream, by the chain's name.
        opened: for it, and left when it stops.
    """
    service = Service(config, dict(explorers or {}))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with opened or nullcontext():
            await service.start()
            try:
                yield
            finally:
                await service.stop()

    limits = config.limits
    app = FastAPI(
        title="ingestion_assets",
        version=version("ingestion-assets"),
        description="Stored transfers, how fresh they are, and how much of them is known to be whole. See docs/api.md.",
        lifespan=lifespan,
        redoc_url=None,
        middleware=[
            Middleware(Limited, rates=Rates(limits.requests_per_second, limits.burst)),
            Middleware(Token, token=config.token),
            Middleware(GZipMiddleware, minimum_size=SMALLEST_PACKED, compresslevel=1),
        ],
    )
    app.router.route_class = QuestionRoute
    app.state.service = service
    _errors(app)
    _transfers(app, service, config)
    _lists(app, service)
    _health(app, service)
    facade.add(app, service, client_of)
    page.add(app, service)
    document(app, ANSWERS)
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(BadQuestion)
    async def bad(request: Request, error: BadQuestion) -> Response:
        return respond(request, refusal(error).model_dump(), status=400)

    @app.exception_handler(CannotServe)
    async def away(request: Request, error: CannotServe) -> Response:
        body = Refusal(error=error.code, message=str(error))
        response = respond(request, body.model_dump(), status=503)
        response.headers["Retry-After"] = str(error.retry_after)
        return response


def client_of(request: Request) -> str:
    """Who asks."""
    return request.client.host if request.client else ""


def _transfers(app: FastAPI, service: Service, config: ApiConfig) -> None:
    @app.get("/api/transfers", tags=["transfers"], responses=documented(answers.Transfers))
    async def read_transfers(request: Request, question: Annotated[TransferQuestion, Query()]) -> Response:
        """A page of transfers in one order over all chains, how many there are, how fresh they are, and what is known to be whole."""
        answer = await transfers.Asked(service, question, client_of(request)).answer()
        codes = [(one.scope, one.code) for one in answer.warnings]
        data = encoded(answer.data)
        says = (data, answer.meta, answer.source == "upstream", answer.stale, answer.coverage, codes)
        return respond(request, replace(answer, data=data), says)

    @app.get(
        "/api/transfers/export",
        tags=["transfers"],
        response_class=Response,
        responses={200: {"content": {CSV: {}, PARQUET: {}}}, **refusals()},
    )
    async def export_transfers(_request: Request, question: Annotated[ExportQuestion, Query()]) -> Response:
        """All transfers of a filter as a CSV or Parquet file, sent while it is read."""
        chains = chosen(config, question)
        wanted = filtered(chains, question, newest_first=question.sort == "desc")
        make = export.csv if question.format == "csv" else export.parquet
        parts = make(service.database, wanted)
        first = await anext(parts)  # what goes wrong before it can still be told by a status
        headers = {"Content-Disposition": f'attachment; filename="transfers.{question.format}"'}
        if question.format == "parquet":
            headers["Content-Encoding"] = "identity"  # it is packed already
        media = CSV if question.format == "csv" else PARQUET
        return StreamingResponse(_all(first, parts), headers=headers, media_type=media)


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The parts of a file; if the client goes away, the reading ends at once."""
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part


def _lists(app: FastAPI, service: Service) -> None:
    @app.get("/api/totals", tags=["transfers"], responses=documented(answers.DailyTotals))
    async def read_totals(request: Request, question: Annotated[TotalsQuestion, Query()]) -> Response:
        """Transfers by day, token or chain, over whole days."""
        answer = await lists.totals(service, question)
        return respond(request, answer, (answer.data, answer.transfers, answer.exact))

    @app.get("/api/coverage", tags=["evidence"], responses=documented(lists.Coverage))
    async def read_coverage(request: Request, question: Annotated[ListQuestion, Query()]) -> Response:
        """What is whole, and why we believe it."""
        answer = lists.covered(service, question)
        return respond(request, answer, (answer.data, answer.truncated))

    @app.get("/api/gaps", tags=["evidence"], responses=documented(lists.Gaps))
    async def read_gaps(request: Request, question: Annotated[ListQuestion, Query()]) -> Response:
        """What is wanted and not covered, up to the last final block that was seen."""
        answer = lists.gaps(service, question)
        return respond(request, answer, (answer.data, answer.blocks))

    @app.get("/api/dead-letters", tags=["evidence"], responses=documented(lists.DeadLetters))
    async def read_dead_letters(request: Request, question: Annotated[ListQuestion, Query()]) -> Response:
        """Records that could not be stored, the newest first."""
        answer = await lists.dead_letters(service, question)
        return respond(request, answer, (answer.data, answer.total))


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/api/health", tags=["health"], responses=documented(health.Health, errors=(401, 429)))
    async def read_health(request: Request) -> Response:
        """How every chain is. 503 only if nothing can be served."""
        answer, status = health.health(service)
        return respond(request, answer, status=status)

    @app.get(
        "/api/cache-health", tags=["health"], responses=documented(health.CacheHealth, errors=(401, 429))
    )
    async def read_cache_health(request: Request) -> Response:
        """The pages that are kept ready, and the store behind them."""
        return respond(request, health.cache_health(service))
