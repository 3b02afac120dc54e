"""An application as big as real ones: Django, FastAPI, SQLAlchemy, Jinja2 and pandas imported, and caches that fill.

The first request fills templates, models and rows, as the first minutes of a real process do; every request makes some
garbage, and every fiftieth runs the collector, so that copy-on-write pages get written as they are in production.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import django.contrib.auth.hashers
import django.db.models
import django.forms
import django.http
import django.template
import fastapi
import jinja2
import pandas
import pydantic
import sqlalchemy.orm
from plain import Receive, Scope, Send, lifespan

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

IMPORTED = (django.http, fastapi, sqlalchemy.orm)
_state: dict[str, Any] = {"requests": 0}


def _fill() -> None:
    environment = jinja2.Environment(autoescape=True)
    _state["templates"] = [
        environment.from_string("{% for x in xs %}<p>{{ x }}{% endfor %}" + str(n)) for n in range(40)
    ]
    fields: Any = {"name": (str, ""), "price": (float, 0.0)}
    _state["models"] = [pydantic.create_model(f"Model{n}", **fields) for n in range(60)]
    _state["rows"] = [{"id": n, "name": f"row {n}", "price": n / 7} for n in range(60_000)]
    _state["frame"] = pandas.DataFrame(_state["rows"][:1000])


def _work() -> bytes:
    if "rows" not in _state:
        _fill()
    _state["requests"] += 1
    garbage: list[Any] = [{"n": n} for n in range(200)]
    garbage.append(garbage)
    _state["templates"][_state["requests"] % 40].render(xs=range(20))
    if _state["requests"] % 50 == 0:
        gc.collect()
    return b"%d" % os.getpid()


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Do one request's work and say which process did it."""
    body = _work()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Do one request's work and say which process did it."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = _work()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
