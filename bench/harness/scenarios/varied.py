"""What a server costs when no two requests are alike."""

from __future__ import annotations

from collections.abc import Iterable

from bench.harness.model import Settings
from bench.harness.probe import NUMBER, Request
from bench.harness.scenarios.groups import CHOSEN
from bench.harness.scenarios.speed import BROWSER, HELLO, Both
from bench.harness.scenarios.throughput import Work

__all__ = ["Varied"]

PATH = f"/articles/{NUMBER}?page={NUMBER}"
REQUEST_ID = ("X-Request-Id", f"0af7651916cd43dd8448{NUMBER}")
SESSION = f"sessionid=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c{NUMBER}; csrftoken={'x' * 64}"

_SHORT = Request(PATH, headers=(REQUEST_ID,))
_BROWSER = Request(
    PATH, headers=(*((name, SESSION if name == "Cookie" else value) for name, value in BROWSER), REQUEST_ID)
)


class Varied(Both):
    """Other bytes for each request."""

    name = "varied"
    title = "Requests that never repeat"
    question = (
        "What does a request cost when no cache of the server helps? Each request has a path, a query and an "
        "`X-Request-Id` that no other has; with a browser's head also a session cookie."
    )
    reading = (
        "The other loads of wrk repeat the same bytes, so a server that caches heads is faster there than in "
        "production. Behind a proxy that adds request ids, production is like this table. The client builds each "
        "request here, which shows in `client CPU`."
    )
    short_servers = (*CHOSEN, "gunicorn-sync", "gunicorn-gevent")
    works = {
        "short head (WSGI)": Work({"wsgi": HELLO["wsgi"]}, _SHORT),
        "short head (ASGI)": Work({"asgi": HELLO["asgi"]}, _SHORT),
        "browser's head (WSGI)": Work({"wsgi": HELLO["wsgi"]}, _BROWSER, short=False),
        "browser's head (ASGI)": Work({"asgi": HELLO["asgi"]}, _BROWSER, short=False),
    }

    def variants(self, settings: Settings) -> Iterable[str]:
        """All, where this was asked for by name."""
        return self.works if settings.scenarios else super().variants(settings)

    def rounds(self, settings: Settings) -> int:
        """One, and the short head alone, is what the ten minutes of the short set have room for."""
        return settings.rounds if settings.full or settings.scenarios else settings.repeats
