"""The routes of the frameworks' suite, in Litestar."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.datastructures import Cookie, UploadFile
from litestar.enums import MediaType, RequestEncodingType
from litestar.exceptions import WebSocketDisconnect
from litestar.params import Body
from litestar.response import Stream


@get("/json")
async def json_get(name: str, request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"name": name, "address": request.client and request.client.host}


@post("/json", status_code=200)
async def json_post(data: dict[str, list[int]]) -> dict[str, int]:
    return {"sum": sum(data["numbers"])}


@post("/form", status_code=200)
async def form(data: Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]) -> dict[str, str]:
    return data


@post("/upload", status_code=200)
async def upload(
    data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    file = data["file"]
    content = await file.read()
    return {"name": file.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@get("/stream")
async def stream() -> Stream:
    async def lines() -> AsyncIterator[str]:
        for number in range(100):
            yield f"line {number}\n"

    return Stream(lines(), media_type=MediaType.TEXT)


@get("/cookies")
async def cookies(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    return Response(
        dict(request.cookies),
        headers={"X-Seen": request.headers["X-Sent"]},
        cookies=[Cookie(key="first", value="1"), Cookie(key="second", value="2")],
    )


@websocket("/ws")
async def ws(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept(subprotocols="echo")
    try:
        while True:
            await socket.send_text(f"echo {await socket.receive_text()}")
    except WebSocketDisconnect:
        return


app = Litestar([json_get, json_post, form, upload, stream, cookies, ws], openapi_config=None)
