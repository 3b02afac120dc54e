"""Start meinheld as its README says. Arguments: application, host, port."""

from __future__ import annotations

import importlib
import sys

from meinheld import server


def main(application: str, host: str, port: int) -> None:
    """Serve until a signal, with kept connections and without an access log."""
    module, _, attribute = application.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    server.set_access_logger(None)
    server.set_keepalive(10)
    server.listen((host, port))
    server.run(app)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
