"""A Flask route that answers a small JSON document."""

from __future__ import annotations

from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/")
def index() -> Response:
    """Answer what the harness expects."""
    return jsonify(message="Hello, World!", numbers=[1, 2, 3])
