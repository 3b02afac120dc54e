"""Applications that set up logging in one of the ways that are found in the wild; LOGGING names it."""

from __future__ import annotations

import contextvars
import json
import logging
import logging.config
import os
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

log = logging.getLogger("shop")
FILE_CONFIG = """
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
level = ERROR
handlers =
"""
FOUND = {"handlers": len(logging.getLogger().handlers), "raiseExceptions": logging.raiseExceptions}


def dict_config() -> None:
    logging.config.dictConfig({"version": 1})


def file_config() -> None:
    import io

    logging.config.fileConfig(io.StringIO(FILE_CONFIG))


def disable() -> None:
    logging.disable(logging.CRITICAL)


def record_factory() -> None:
    """Make records that need a request, for which there is no default."""
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    make = logging.getLogRecordFactory()

    def factory(*args: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*args, **keywords)
        record.request = request.get()
        return record

    logging.setLogRecordFactory(factory)


def basic() -> None:
    logging.basicConfig(level=logging.INFO, format="SHOP %(levelname)s %(name)s %(message)s")
    logging.captureWarnings(True)


def nothing() -> None:
    """Leave it all as it is."""


set_up = globals()[os.environ.get("LOGGING", "nothing")]
if "LATE" not in os.environ:
    set_up()


def answer(path: str) -> bytes:
    """Do what a path says; /raises/TEXT raises a ValueError of this text."""
    if path == "/set_up":
        set_up()
    elif path == "/log":
        log.info("a line")
        logging.warning("of the root logger")
        warnings.warn("captured", stacklevel=1)
    elif path.startswith("/raises"):
        raise ValueError(path.removeprefix("/raises").lstrip("/") or "the cause")
    return json.dumps(FOUND).encode()


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    body = answer(environ["PATH_INFO"].encode("latin-1").decode("utf-8", "surrogateescape"))
    start("200 OK", [("Content-Type", "application/json")])
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    body = answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
