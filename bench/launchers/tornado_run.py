"""Start a WSGI application on Tornado as its documentation says. Arguments: application, host, port."""

from __future__ import annotations

import asyncio
import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

from tornado.httpserver import HTTPServer
from tornado.wsgi import WSGIContainer


async def main(application: str, host: str, port: int) -> None:
    """Serve until a signal, the application on four threads."""
    module, _, attribute = application.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    HTTPServer(WSGIContainer(app, ThreadPoolExecutor(4))).listen(port, host)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
