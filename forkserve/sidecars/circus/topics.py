"""The counterpart of an event in Circus's event stream: a topic `watcher.NAME.ACTION` and a payload.

Rules: pure. Fields are added to Circus's, never renamed: `id` is the number of our event, which shows gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["published", "resource_name"]

Fact = Mapping[str, Any]


def published(event: Fact) -> tuple[str, dict[str, Any]] | None:
    """Return topic and payload of an event, or None if Circus has no such event."""
    found = _ACTIONS.get(str(event.get("kind")))
    if found is None:
        return None
    action, fields_of = found
    fields = fields_of(event)
    if fields is None:
        return None
    topic = f"watcher.{resource_name(event['watcher'])}.{action}"
    return topic, {**fields, "time": event["time"], "id": event["id"]}


def resource_name(watcher: str) -> str:
    """Return a watcher's name as used in topics."""
    return watcher.lower().replace(" ", "_")


def _nothing(_event: Fact) -> dict[str, Any]:
    return {}


def _process(event: Fact) -> dict[str, Any]:
    return {"process_pid": event["pid"], "wid": event["wid"]}


def _reaped(event: Fact) -> dict[str, Any]:
    code = event["code"] if event["signum"] is None else -event["signum"]
    return {**_process(event), "exit_code": code}


def _once_done(event: Fact) -> dict[str, Any] | None:
    return {} if event["done"] else None


_ACTIONS: Mapping[str, tuple[str, Callable[[Fact], dict[str, Any] | None]]] = {
    "process.started": ("spawn", _process),
    "process.stopping": ("kill", _process),
    "process.late": ("kill", _process),
    "process.exited": ("reap", _reaped),
    "watcher.started": ("start", _nothing),
    "watcher.stopped": ("stop", _once_done),
    "watcher.resized": ("updated", _nothing),
    "watcher.updated": ("updated", _nothing),
    "watcher.added": ("add", _nothing),
    "watcher.removed": ("remove", _nothing),
    "reload.done": ("reload", _nothing),
    "hook.succeeded": ("hook_success", lambda event: {"name": event["name"]}),
    "hook.failed": ("hook_failure", lambda event: {"name": event["name"], "error": event["error"]}),
}
"""By the kind of our event."""
