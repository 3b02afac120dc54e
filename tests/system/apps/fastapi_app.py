"""The routes of the frameworks' suite, in FastAPI."""

import hashlib
from typing import Any

from fastapi import Cookie, FastAPI, Form, Header, Request, Response, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Numbers(BaseModel):
    numbers: list[int]


@app.get("/json")
def json_get(name: str, request: Request) -> dict[str, Any]:
    """A plain function, so it runs in the framework's own thread pool."""
    return {"name": name, "address": request.client and request.client.host}


@app.post("/json")
async def json_post(numbers: Numbers) -> dict[str, int]:
    return {"sum": sum(numbers.numbers)}


@app.post("/form")
async def form(name: str = Form(), text: str = Form()) -> dict[str, str]:
    return {"name": name, "text": text}


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    data = await file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse((f"line {number}\n" for number in range(100)), media_type="text/plain")


@app.get("/cookies")
async def cookies(response: Response, a: str = Cookie(), b: str = Cookie(), x_sent: str = Header()) -> dict[str, str]:
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    response.headers["X-Seen"] = x_sent
    return {"a": a, "b": b}


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="echo")
    async for text in websocket.iter_text():
        await websocket.send_text(f"echo {text}")
