"""What the long scenarios share: servers of several workers, each measured for so long that few rounds do."""

from __future__ import annotations

from bench.harness.context import Bench
from bench.harness.model import Settings
from bench.harness.probe import Request
from bench.harness.scenarios.base import Scenario
from bench.harness.scenarios.groups import PREFORK
from bench.harness.servers import named
from bench.harness.target import Launch

__all__ = ["ANY", "Prefork"]

ANY = Request(expect=None)
"""A request whose answer differs from worker to worker: only its status is judged."""


class Prefork(Scenario):
    """Counts and outcomes, which hardly vary, of all servers that can have more than one worker."""

    baseline = "gunicorn-gthread"
    servers = PREFORK
    short_servers = ("forkserve-sync", "forkserve-asgi", "gunicorn-gthread", "uwsgi", "granian-wsgi", "uvicorn")

    def rounds(self, settings: Settings) -> int:
        """Once in the short set."""
        return min(self.most_rounds, settings.repeats)

    @staticmethod
    def launch(bench: Bench, server: str, application: str, **sizes: int) -> Launch:
        """Prepare workers under their process manager; `application` has {} for its interface: plain:pid_{}."""
        return bench.launch(application.format(named(server).interface), supervised=True, **sizes)
