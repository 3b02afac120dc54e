"""What WINCH, TTIN and TTOU do: they apply to the watchers that use sockets, as Unicorn's apply to its workers.

Rules: the master decides whether this is the time for it.
"""

from __future__ import annotations

from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Resize, Stop
from forkserve.supervision.supervisor import Supervisor

__all__ = ["pause_web", "resize_web"]


def _web(supervisor: Supervisor) -> list[JobQueue]:
    return [queue for queue in supervisor if queue.watcher.command.all_sockets]


def pause_web(supervisor: Supervisor) -> None:
    """Stop the watchers that use sockets, until HUP starts them again; the sockets stay open."""
    for queue in _web(supervisor):
        watcher = queue.watcher
        if watcher.up or watcher.awaits_start:
            queue.submit(Stop())
            watcher.paused, watcher.resumes = True, False


def resize_web(supervisor: Supervisor, change: int) -> None:
    """Add this many processes in the first watcher that uses sockets, or in the first of all."""
    queues = _web(supervisor) or list(supervisor)
    if queues:
        # the wish counts from one on: TTOU is no way to stop a watcher
        queues[0].submit(Resize(max(1, queues[0].watcher.target + change)))
