"""A Flask application: `forkserve -w 4 -b :8000 flask_app:app`."""

from __future__ import annotations

import os

from flask import Flask, jsonify
from flask.wrappers import Response

app = Flask(__name__)


@app.get("/")
def index() -> Response:
    """Say which process answered, as JSON."""
    return jsonify(message="Hello from Flask", pid=os.getpid())
