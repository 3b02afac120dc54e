"""The routes of the frameworks' suite, in Bottle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bottle import Bottle, request, response

app = Bottle()


@app.get("/json")
def json_get() -> dict[str, Any]:
    return {"name": request.query.getunicode("name"), "address": request.remote_addr}


@app.post("/json")
def json_post() -> dict[str, Any]:
    return {"sum": sum(request.json["numbers"])}


@app.post("/form")
def form() -> dict[str, Any]:
    return {name: request.forms.getunicode(name) for name in request.forms}


@app.post("/upload")
def upload() -> dict[str, Any]:
    file = request.files.get("file")
    data = file.file.read()
    return {"name": file.raw_filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
def stream() -> Iterator[bytes]:
    response.content_type = "text/plain"
    return (b"line %d\n" % number for number in range(100))


@app.get("/cookies")
def cookies() -> dict[str, Any]:
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    response.set_header("X-Seen", request.get_header("X-Sent", ""))
    return dict(request.cookies)
