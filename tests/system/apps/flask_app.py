"""The routes of the frameworks' suite, in Flask."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/json")
def json_get() -> dict[str, Any]:
    return {"name": request.args["name"], "address": request.remote_addr}


@app.post("/json")
def json_post() -> dict[str, Any]:
    return {"sum": sum(request.get_json()["numbers"])}


@app.post("/form")
def form() -> dict[str, Any]:
    return dict(request.form)


@app.post("/upload")
def upload() -> dict[str, Any]:
    file = request.files["file"]
    data = file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
def stream() -> Response:
    return Response((f"line {number}\n" for number in range(100)), mimetype="text/plain")


@app.get("/cookies")
def cookies() -> Response:
    response = jsonify(dict(request.cookies))
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    response.headers["X-Seen"] = request.headers["X-Sent"]
    return response
