"""A stream that begins and then waits, in each framework; it says on stderr that it was cleaned up.

Each is imported on its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any


async def parts() -> AsyncIterator[str]:
    try:
        yield "begun\n"
        await asyncio.sleep(600)
    finally:
        print("cleaned up", file=sys.stderr, flush=True)


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(parts())

    return Starlette(routes=[Route("/stream", stream)])


def starlette_middleware() -> Any:
    from starlette.middleware.base import BaseHTTPMiddleware

    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = starlette()
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    return app


def sse() -> Any:
    from sse_starlette.sse import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def stream(request: Any) -> Any:
        return EventSourceResponse(parts())

    return Starlette(routes=[Route("/stream", stream)])


def fastapi() -> Any:
    import fastapi
    from fastapi.responses import StreamingResponse

    app = fastapi.FastAPI()
    app.get("/stream", response_class=StreamingResponse)(lambda: StreamingResponse(parts()))
    return app


def quart() -> Any:
    import quart

    app = quart.Quart(__name__)

    @app.get("/stream")
    async def stream() -> Any:
        response = await quart.make_response(parts())
        response.timeout = None
        return response

    return app


def litestar() -> Any:
    import litestar

    async def stream() -> Any:
        return litestar.response.Stream(parts())

    stream.__annotations__["return"] = litestar.response.Stream
    return litestar.Litestar([litestar.get("/stream")(stream)])


def django() -> Any:
    import types

    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import StreamingHttpResponse
    from django.urls import path

    async def stream(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(parts())

    urls = types.ModuleType("asgi_gone_urls")
    urls.urlpatterns = [path("stream", stream)]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    settings.configure(ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    return get_asgi_application()
