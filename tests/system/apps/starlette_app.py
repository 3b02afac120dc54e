"""The routes of the frameworks' suite, in Starlette."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"begun": "yes"}


async def json_view(request: Request) -> JSONResponse:
    if request.method == "POST":
        return JSONResponse({"sum": sum((await request.json())["numbers"])})
    assert request.state.begun == "yes"
    return JSONResponse({"name": request.query_params["name"], "address": request.client and request.client.host})


async def form(request: Request) -> JSONResponse:
    return JSONResponse(dict(await request.form()))


async def upload(request: Request) -> JSONResponse:
    file = (await request.form())["file"]
    assert not isinstance(file, str)
    data = await file.read()
    return JSONResponse({"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


async def stream(request: Request) -> StreamingResponse:
    return StreamingResponse((f"line {number}\n" for number in range(100)), media_type="text/plain")


async def cookies(request: Request) -> JSONResponse:
    response = JSONResponse(request.cookies, headers={"X-Seen": request.headers["X-Sent"]})
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    return response


async def ws(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="echo")
    async for text in websocket.iter_text():
        await websocket.send_text(f"echo {text}")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/json", json_view, methods=["GET", "POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/cookies", cookies),
        WebSocketRoute("/ws", ws),
    ],
)
