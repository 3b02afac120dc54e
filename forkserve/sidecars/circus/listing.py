"""Which processes of a watcher are listed: one for each of its places, as with circusd outside a reload.

Theory of operation. A successor by `max_age` or a reload starts beside its predecessor, where circusd ends an aged
process first. Until it is ready the predecessor does the work and is listed; then that is told to end, and is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["listed"]


def listed(view: Mapping[str, Any]) -> list[int]:
    """Return the pids in the report of a watcher, in order of their places."""
    found: dict[int, Mapping[str, Any]] = {}
    for each in view["processes"]:  # in order of age for each place
        if each["pid"] and each["state"] in ("spawning", "ready") and not each.get("zygote"):
            before = found.get(each["wid"])
            if before is None or each["state"] == "ready" or before["state"] == "spawning":
                found[each["wid"]] = each
    return [each["pid"] for each in found.values()]
