"""Tells the keeper the state after each change: that of the master, and the descriptors in it.

Theory of operation. Each event may mean a change, so a moment after one the state is serialised as for an upgrade and
sent to the keeper. Changes in the last moment before a master is killed are missing there; the next master ends what it
does not know, and starts again what it misses.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import msgspec

from forkserve.bootstrap.assembly import Assembly
from forkserve.bootstrap.statefile import encode, written
from forkserve.config.load import ConfigSource
from forkserve.config.masteroptions import MasterOptions, OnMasterDeath
from forkserve.control.place import keeper_path, left_keeper
from forkserve.errors import ForkserveError
from forkserve.supervision.events import Event, ProcessReady
from forkserve.supervision.os.loop import Timer
from forkserve.supervision.os.proc import birth_of
from forkserve.supervision.state.keptstate import to_keep
from forkserve.unix.descriptors import descriptors_in
from forkserve.unix.home import here

__all__ = ["StatePublisher", "place_of"]

SOON = 0.05
"""Seconds from an event to the writing."""

SHARE = 20
"""The share of the time that serialising takes at most: one in this many."""


class StatePublisher:
    """Keeps the keeper of one master informed; without a keeper it does nothing."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._timer: Timer | None = None
        self._not_before = 0.0
        self._started: dict[int, int | None] = {}
        assembly.base.bus.subscribe(self.on_event)

    def on_event(self, event: Event) -> None:
        """Called with every event."""
        keeper = self._assembly.base.auxiliaries.keeper
        if keeper is None:
            return
        if isinstance(event, ProcessReady):
            keeper.note_ready(event.pid)
        if self._timer is None or self._timer.callback is None:
            loop = self._assembly.base.loop
            self._timer = loop.call_at(max(loop.now() + SOON, self._not_before), self._due)

    def _due(self) -> None:
        self._timer = None
        loop = self._assembly.base.loop
        begun = loop.now()
        told = self.write()
        self._not_before = loop.now() + SHARE * (loop.now() - begun)
        if not told:
            self._timer = loop.call_at(max(loop.now() + SOON, self._not_before), self._due)

    def write(self, *, patience: float = 0.0) -> bool:
        """Send it now; False if the keeper could not be reached."""
        keeper = self._assembly.base.auxiliaries.keeper
        if keeper is None:
            return True
        state = to_keep(written(self._assembly), self._start_of)
        self._started = {int(pid): started for pid, started in state["started"].items()}
        try:
            return keeper.keep(encode(state), descriptors_in(state), patience=patience)
        except OSError:  # it has died, and another takes its place; or descriptors have run out
            return False

    def _start_of(self, pid: int) -> int | None:
        found = self._started.get(pid)
        return birth_of(pid) if found is None else found


def place_of(options: MasterOptions, source: ConfigSource) -> Path | None:
    """Return where the keeper of this configuration is asked, by the file, the pid file, the name or the line.

    Without `on_master_death = serve` there is such a place only if a keeper has been there. Raises ForkserveError if
    there is no folder for it.
    """
    key = source.path or options.pidfile or options.name
    if key is None:
        key = str(crc32(msgspec.json.encode(getattr(source, "sections", ()), enc_hook=str)))
    key = str(Path(*here() or "/", key))
    if options.on_master_death is not OnMasterDeath.SERVE:
        return left_keeper(key)
    path = keeper_path(key)
    if path is None:
        raise ForkserveError(
            "on_master_death = serve needs a private folder, such as $XDG_RUNTIME_DIR: none can be had"
        )
    return path
