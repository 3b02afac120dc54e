"""What the environ of all requests of one listener has in common, created once and copied for each."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from forkserve.serving.files import FileWrapper
from forkserve.serving.gateway.body import EMPTY

__all__ = ["environ_template"]

_OF_A_REQUEST = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REQUEST_URI",
    "SERVER_PROTOCOL",
    "HTTP_HOST",
    "REMOTE_ADDR",
    "REMOTE_PORT",
)
"""Set for each request; here only for their places in the table of the dict."""

ROOM = 24
"""A dict that has held this many keys keeps its bigger table when copied, so that adding headers does not resize it."""


def environ_template(
    listener: socket.socket,
    *,
    script_name: str,
    multithread: bool,
    tls: bool,
    server: str,
    draining: Callable[[], bool],
) -> dict[str, Any]:
    """Return the template; `draining` tells the application that the worker is about to end, so that a stream can end
    whole.

    SERVER_NAME and SERVER_PORT are the listener's; for a unix socket they are "localhost" and the port of the scheme,
    since neither may be empty (PEP 3333).
    """
    name = listener.getsockname()
    unix = listener.family == socket.AF_UNIX
    template: dict[str, Any] = {
        **dict.fromkeys(_OF_A_REQUEST, ""),
        "SCRIPT_NAME": script_name,
        "SERVER_NAME": "localhost" if unix else name[0],
        "SERVER_PORT": ("443" if tls else "80") if unix else str(name[1]),
        "SERVER_SOFTWARE": server,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if tls else "http",
        "wsgi.input": EMPTY,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "forkserve.draining": draining,
    }
    if tls:
        template["HTTPS"] = "on"
    return _roomy(template)


def _roomy(template: dict[str, Any]) -> dict[str, Any]:
    del template["HTTP_HOST"]
    size = len(template)
    for number in range(size, ROOM):
        template[f"room{number}"] = None
    while len(template) > size:
        template.popitem()
    return template
