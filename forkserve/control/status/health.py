"""Whether a master is alive, started and ready, and if not, why: for probes of Kubernetes and load balancers.

Rules: pure except for queries of the master. A watcher that a person has stopped for good does not prevent readiness,
unless it was paused.
"""

from __future__ import annotations

from forkserve.master import Master
from forkserve.supervision.lifecycle import MasterState, ProcessState
from forkserve.supervision.snapshot import WatcherState, WatcherView

__all__ = ["not_ready", "not_started"]


def not_started(master: Master) -> tuple[str, ...]:
    """Return what the first start still waits for; nothing once everything has been ready."""
    if master.is_booted:
        return ()
    return tuple(filter(None, map(_waits, master.views()))) or ("starting",)


def not_ready(master: Master) -> tuple[str, ...]:
    """Return why no traffic should be sent here; nothing if all is well."""
    if master.state is not MasterState.RUNNING:
        return ("stopping",)
    waits = [_waits(view) for view in master.views()]
    waits += [f"{each.name}: paused" for each in master.supervisor.watchers if each.paused]
    return tuple(filter(None, waits)) or (() if master.is_booted else ("starting",))


def _waits(view: WatcherView) -> str:
    """Return why a watcher does not serve, or nothing."""
    if view.state in (WatcherState.DELAYED, WatcherState.STOPPING):
        return f"{view.name}: draining"
    if view.state is WatcherState.HELD:
        return f"{view.name}: drained, accepts nothing"
    if view.state in (WatcherState.STOPPED, WatcherState.WAITING) or not view.numprocesses or view.timer is not None:
        return ""
    if any(process.state is ProcessState.READY for process in view.workers):
        return ""
    reason = next((slot.reason for slot in view.slots if slot.reason), "")
    return f"{view.name}: no process is ready" + (f" ({reason})" if reason else "")
