"""One application in each framework: /hello, /stream, /ws that echoes; and a middleware that waits for disconnects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import fastapi
import litestar
import quart
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute


async def parts() -> AsyncIterator[str]:
    yield "one "
    yield "two"


async def starlette_hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def starlette_stream(request: Any) -> StreamingResponse:
    return StreamingResponse(parts())


async def starlette_echo(ws: Any) -> None:
    await ws.accept()
    await ws.send_text(await ws.receive_text())
    await ws.close()


async def through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


starlette = Starlette(
    routes=[
        Route("/hello", starlette_hello),
        Route("/stream", starlette_stream),
        WebSocketRoute("/ws", starlette_echo),
    ],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)],
)

fast = fastapi.FastAPI()


@fast.get("/hello", response_class=fastapi.responses.PlainTextResponse)
async def fast_hello() -> str:
    return "hello"


@fast.get("/stream")
def fast_stream() -> Any:
    return fastapi.responses.StreamingResponse(parts())


@fast.websocket("/ws")
async def fast_echo(ws: fastapi.WebSocket) -> None:
    await starlette_echo(ws)


quarts = quart.Quart(__name__)


@quarts.get("/hello")
async def quart_hello() -> str:
    return "hello"


@quarts.get("/stream")
async def quart_stream() -> Any:
    return parts(), 200


@quarts.websocket("/ws")
async def quart_echo() -> None:
    await quart.websocket.send(await quart.websocket.receive())


@litestar.get("/hello", media_type="text/plain")
async def star_hello() -> str:
    return "hello"


@litestar.get("/stream")
async def star_stream() -> litestar.response.Stream:
    return litestar.response.Stream(parts())


@litestar.websocket("/ws")
async def star_echo(socket: litestar.WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


star = litestar.Litestar([star_hello, star_stream, star_echo])
