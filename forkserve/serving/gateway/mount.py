"""The path under which a proxy serves an application: SCRIPT_NAME, and PATH_INFO after it (PEP 3333).

Rules: a proxy that passes the whole path on, and one that strips the root path, look the same to the application. A
path that does not begin with the root path is assumed to be stripped, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["mounted", "script_name"]

App = Callable[..., Iterable[bytes]]


def script_name(root_path: str) -> str:
    """Return the root path as a WSGI string, its bytes as latin-1, without a trailing slash."""
    return root_path.rstrip("/").encode("utf-8", "surrogateescape").decode("latin-1")


def mounted(app: App, root: str) -> App:
    """Return the application for a SCRIPT_NAME of `root`, which is not empty."""
    below, size = root + "/", len(root)

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == root or path.startswith(below):
            environ["PATH_INFO"] = path[size:]
        return app(environ, start_response)

    return call
