"""The same application in each framework: /hello, /stream, and /ws that echoes once. Each is imported on its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any


async def parts() -> AsyncIterator[str]:
    yield "one "
    yield "two"


async def echo_once(ws: Any) -> None:
    await ws.accept()
    await ws.send_text(await ws.receive_text())
    await ws.close()


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(parts())

    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return Starlette(
        routes=[Route("/hello", hello), Route("/stream", stream), WebSocketRoute("/ws", echo_once)],
        # It waits for the client to go beside the response: a task group and a cancelled receive().
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)],
    )


def fastapi() -> Any:
    import fastapi
    from fastapi.responses import PlainTextResponse, StreamingResponse

    app = fastapi.FastAPI()
    app.get("/hello", response_class=PlainTextResponse)(lambda: "hello")
    app.get("/stream", response_class=StreamingResponse)(lambda: StreamingResponse(parts()))

    async def echo(ws: Any) -> None:
        await echo_once(ws)

    echo.__annotations__["ws"] = fastapi.WebSocket
    app.websocket("/ws")(echo)
    return app


def quart() -> Any:
    import quart

    app = quart.Quart(__name__)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    @app.get("/stream")
    async def stream() -> Any:
        return parts(), 200

    @app.websocket("/ws")
    async def echo() -> None:
        await quart.websocket.send(await quart.websocket.receive())

    return app


def litestar() -> Any:
    import litestar

    async def hello() -> str:
        return "hello"

    async def stream() -> Any:
        return litestar.response.Stream(parts())

    async def echo(socket: Any) -> None:
        await echo_once(socket)

    hello.__annotations__["return"] = str
    stream.__annotations__["return"] = litestar.response.Stream
    echo.__annotations__ |= {"socket": litestar.WebSocket, "return": None}
    return litestar.Litestar(
        [
            litestar.get("/hello", media_type="text/plain")(hello),
            litestar.get("/stream")(stream),
            litestar.websocket("/ws")(echo),
        ]
    )
