"""The routes of the frameworks' suite, in Quart."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, jsonify, request, websocket

app = Quart(__name__)


@app.get("/json")
async def json_get() -> dict[str, Any]:
    return {"name": request.args["name"], "address": request.remote_addr}


@app.post("/json")
async def json_post() -> dict[str, Any]:
    return {"sum": sum((await request.get_json())["numbers"])}


@app.post("/form")
async def form() -> dict[str, Any]:
    return dict(await request.form)


@app.post("/upload")
async def upload() -> dict[str, Any]:
    file = (await request.files)["file"]
    data = file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
async def stream() -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(100):
            yield f"line {number}\n"

    return Response(lines(), mimetype="text/plain")


@app.get("/cookies")
async def cookies() -> Response:
    response = jsonify(dict(request.cookies))
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    response.headers["X-Seen"] = request.headers["X-Sent"]
    return response


@app.websocket("/ws")
async def ws() -> None:
    await websocket.accept(subprotocol="echo")
    while True:
        await websocket.send(f"echo {await websocket.receive()}")
