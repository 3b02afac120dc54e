"""What an application behind nginx sees, and what it makes of bodies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"%06d\n" % number for number in range(20_000))
    if path == "/upload":
        digest, size = hashlib.sha256(), 0
        while data := environ["wsgi.input"].read(1 << 16):
            digest.update(data)
            size += len(data)
        facts: dict[str, Any] = {"size": size, "sha256": digest.hexdigest()}
    else:
        server = ("SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "wsgi.url_scheme")
        names = ("REMOTE_ADDR", "REMOTE_PORT", "REQUEST_METHOD", *server)
        fields = sorted(name for name in environ if name.startswith("HTTP_"))
        facts = {name: environ.get(name) for name in names} | {"pid": os.getpid(), "fields": fields}
    body = json.dumps(facts).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
