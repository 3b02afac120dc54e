"""The available backends, which of them can serve here, and what the others need.

Rules: a query imports no server library, only our own adapter. Names are written with hyphens in lower case;
underscores and capitals are accepted too. Third parties add theirs by an entry point of the group below.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forkserve.backends.base import Backend, Interface, Traits
from forkserve.errors import BackendError, UsageError
from forkserve.suggest import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "Entry", "BackendState", "choose", "entries", "find", "state_of"]

log = logging.getLogger("forkserve.backends")

ENTRY_POINTS = "forkserve.backends"

_OURS = {
    "sync": "forkserve.backends.sync:Sync",
    "threads": "forkserve.backends.threads:Threads",
    "gevent": "forkserve.backends.gevent:Gevent",
    "asgi": "forkserve.backends.asgi:Asgi",
    "wsgiref": "forkserve.backends.adapters.wsgiref:Wsgiref",
    "meinheld": "forkserve.backends.meinheld:Meinheld",
    "waitress": "forkserve.backends.adapters.waitress:Waitress",
    "cheroot": "forkserve.backends.adapters.cheroot:Cheroot",
    "bjoern": "forkserve.backends.adapters.bjoern:Bjoern",
    "tornado": "forkserve.backends.adapters.tornado:Tornado",
    "gevent-pywsgi": "forkserve.backends.adapters.gevent_pywsgi:GeventPywsgi",
    "gunicorn-sync": "forkserve.backends.adapters.gunicorn:GunicornSync",
    "gunicorn-gthread": "forkserve.backends.adapters.gunicorn:GunicornGthread",
    "gunicorn-gevent": "forkserve.backends.adapters.gunicorn:GunicornGevent",
    "gunicorn-asgi": "forkserve.backends.adapters.gunicorn:GunicornAsgi",
    "granian": "forkserve.backends.adapters.granian:Granian",
    "uvicorn": "forkserve.backends.adapters.uvicorn:Uvicorn",
    "hypercorn": "forkserve.backends.adapters.hypercorn:Hypercorn",
}

_ALIASES = {
    "gthread": "threads",
    "threaded": "threads",
    "pywsgi": "gevent-pywsgi",
    "uvicorn.workers.uvicornworker": "uvicorn",
    "uvicorn-worker.uvicornworker": "uvicorn",
    "egg:meinheld#gunicorn-worker": "meinheld",
    "meinheld.gmeinheld.meinheldworker": "meinheld",
}

_LEFT_OUT = {
    "eventlet": "eventlet is being retired by its authors; use gevent",
    "fastgevent": "gevent.wsgi is gone since gevent 1.3; use gevent",
    "geventwebsocket": "gevent-websocket is dead since 2017; use asgi for WebSockets, gevent for the rest",
    "geventws4py": "ws4py is dead; use asgi for WebSockets, gevent for the rest",
    "socketio": "gevent-socketio is dead; serve python-socketio's ASGI application with asgi",
    "daphne": "it loses requests in flight at SIGTERM; use asgi",
    "pyruvate": "it hands undecoded chunked bodies to the application; use sync or threads",
    "fastwsgi": "it cannot take an inherited socket; use sync",
    "fastpysgi": "it cannot take an inherited socket; use sync",
    "socketify": "it cannot take an inherited socket; use asgi",
    "robyn": "it cannot take an inherited socket; use asgi",
    "uwsgi": "it has its own master and loses requests in flight; use threads",
    "pyuwsgi": "it has its own master and loses requests in flight; use threads",
    "mod-wsgi": "it cannot take an inherited socket; use threads",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered backend; `source` is the module or the distribution that provides it."""

    name: str
    backend: type[Backend]
    source: str

    @property
    def traits(self) -> Traits:
        """What it can do."""
        return self.backend.traits


@dataclass(frozen=True, slots=True)
class BackendState:
    """Whether a backend can serve in this environment: `reason` says why not, `cure` is the command that fixes it."""

    usable: bool
    version: str = ""
    reason: str = ""
    cure: str = ""


def entries() -> Iterator[Entry]:
    """Yield every backend, ours first, third parties' by name."""
    for name in _OURS:
        entry = _our(name)
        if entry is not None:
            yield entry
    # imported late: it costs 30 ms and 2 MB, and a worker of a backend of ours needs none of it
    from importlib import metadata

    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
        if point.name not in _OURS:
            entry = _third_party(point)
            if entry is not None:
                yield entry


def find(name: str) -> Entry:
    """Return the backend of that name; raises UsageError that says what to use instead."""
    plain = name.strip().lower().replace("_", "-")
    plain = _ALIASES.get(plain, plain)
    if plain in _LEFT_OUT:
        raise UsageError(f"backend {name!r} is not served: {_LEFT_OUT[plain]}")
    entry = _our(plain) if plain in _OURS else next((each for each in entries() if each.name == plain), None)
    if entry is None:
        known = [each.name for each in entries()]
        raise UsageError(f"there is no backend {name!r}{nearest(plain, known) or '; there is ' + ', '.join(known)}")
    return entry


def choose(interface: Interface, *, threads: int = 1) -> Entry:
    """Return the backend for an application if none was named; raises BackendError if there is none.

    `threads` above 1 selects the backend of that name, as in Gunicorn.
    """
    order: tuple[str, ...] = ("asgi", "uvicorn", "hypercorn", "granian")
    if interface is not Interface.ASGI:
        order = ("threads", "sync", "wsgiref") if threads > 1 else ("sync", "wsgiref")
    for name in order:
        entry = _our(name)
        if entry is not None and state_of(entry.traits).usable:
            return entry
    raise BackendError("no backend here serves ASGI: pip install uvicorn")


def state_of(traits: Traits) -> BackendState:
    """Return whether a backend can serve in this environment."""
    versions = []
    for requirement in traits.requires:
        version = _version(requirement)
        if version is None:
            missing = requirement.partition("|")[0]
            cure = traits.install or f"pip install {missing}"
            return BackendState(usable=False, reason=f"{missing} is not installed", cure=cure)
        versions.append(version)
    reason = traits.probe()
    if reason:
        return BackendState(usable=False, version=" ".join(versions), reason=reason, cure=traits.install)
    return BackendState(usable=True, version=" ".join(versions))


def _version(requirement: str) -> str | None:
    """Return the version of the first installed of `a|b`."""
    from importlib import metadata

    for name in requirement.split("|"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _our(name: str) -> Entry | None:
    module, _, attribute = _OURS[name].partition(":")
    if importlib.util.find_spec(module) is None:
        return None
    backend = getattr(importlib.import_module(module), attribute, None)
    return Entry(name, backend, module) if backend is not None else None


def _third_party(point: EntryPoint) -> Entry | None:
    source = point.dist.name if point.dist is not None else point.value
    try:
        backend = point.load()
        if not isinstance(backend.traits, Traits):
            raise TypeError("its `traits` are no forkserve.backends.base.Traits")
    except Exception as error:  # noqa: BLE001 - another's package may fail in any way, and the others are still wanted
        log.warning("backend %s of %s cannot be loaded: %s: %s", point.name, source, type(error).__name__, error)
        return None
    return Entry(point.name, backend, source)
