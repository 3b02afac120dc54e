"""What a scenario works with: it starts servers, verifies them and sends them load, all on the right cores."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import wrk
from bench.harness.clients import Crowd, Plan, errors_of, run_for
from bench.harness.guard import Guard
from bench.harness.model import BenchError, Settings
from bench.harness.pinning import Pins
from bench.harness.probe import Outcome, Request
from bench.harness.running import Running
from bench.harness.servers import named
from bench.harness.target import Launch, free_port
from forkserve.unix.prctl import become_subreaper

__all__ = ["Bench", "Checked"]


class Checked:
    """What verification found: failures by kind, and how few and how many bytes a right answer has on the wire.

    A server may say `Connection: close` in some answers and not in others.
    """

    def __init__(self, crowd: Crowd) -> None:
        """Sum up a crowd that has run."""
        self.errors = errors_of(crowd.outcomes.items())
        self.least = min(crowd.sizes, default=0)
        self.most = max(crowd.sizes, default=0)


class Bench:
    """One run of the harness. Close it: it then ends every process that was started."""

    def __init__(self, settings: Settings, pins: Pins) -> None:
        """Make the scratch folder and start the guard."""
        become_subreaper()
        self.settings = settings
        self.pins = pins
        self._scratch = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.guard = Guard(uuid.uuid4().hex, self._scratch.name)
        self._numbers = itertools.count()

    def close(self) -> None:
        """End what is left and remove the scratch folder; orphans are adopted no longer."""
        self.guard.close()
        become_subreaper(wanted=False)
        self._scratch.cleanup()

    def launch(self, app: str, *, unix: bool = False, **sizes: int) -> Launch:
        """Choose a folder and an address for one start; `sizes` are fields of Launch."""
        folder = Path(self._scratch.name) / str(next(self._numbers))
        folder.mkdir()
        address = {"unix": str(folder / "web.sock")} if unix else {"port": free_port()}
        return Launch(app=app, folder=folder, **address, **sizes)  # type: ignore[arg-type]

    @contextmanager
    def started(self, server: str, launch: Launch, **env: str) -> Iterator[Running]:
        """Start a server on the server cores, and stop it at the end."""
        prefix = self.pins.server_prefix(launch.workers) if launch.pinned else []
        with Running(named(server), launch, prefix=prefix, guard=self.guard, env=env) as running:
            yield running

    @contextmanager
    def ready(self, server: str, launch: Launch, request: Request, **env: str) -> Iterator[Running]:
        """Start a server and wait until it answers; raises BenchError when the answer is not the right one.

        Of several workers all have started then: connections taken by the first alone would say nothing of the others.
        """
        with self.started(server, launch, **env) as running:
            _, answer = running.wait_ready(request, timeout=30.0 + 2 * launch.workers)
            if answer.outcome is not Outcome.OK:
                raise BenchError(f"{answer.outcome}: {answer.body[:60]!r} instead of {(request.expect or b'')[:60]!r}")
            if launch.workers > 1:
                running.settle()
            yield running

    def verify(self, launch: Launch, plan: Plan, seconds: float = 0.0) -> Checked:
        """Load the server with clients that compare every byte; this is the warm-up as well."""
        crowd = Crowd(launch, plan)
        run_for(seconds or (0.3 if self.settings.quick else 0.5 * self.settings.duration / 2), crowd)
        if not crowd.outcomes[Outcome.OK]:
            raise BenchError(f"no right answer under load: {errors_of(crowd.outcomes.items())}")
        return Checked(crowd)

    def wrk_load(self, port: int, request: Request, *, connections: int, fresh: bool = False) -> wrk.Load:
        """Say what wrk is to do in this run."""
        threads = max(1, min(len(self.pins.client), connections))
        return wrk.Load(port, request, connections, self.settings.duration, threads, fresh)

    def load(self, launch: Launch, request: Request, *, connections: int = 64) -> wrk.Result:
        """Time the server with wrk."""
        return wrk.run(self.wrk_load(launch.port, request, connections=connections), self.pins.client_prefix())
