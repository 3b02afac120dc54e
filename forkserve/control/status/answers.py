"""The answers of the status server: health as text, metrics as OpenMetrics or in Prometheus's older format.

`/livez` is 200 as long as the master's loop runs, `/startupz` once everything that starts with forkserve has been
ready, `/readyz` while every watcher serves; else they are 503, with the reasons. The format of `/metrics` is by Accept.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

import forkserve
from forkserve.config.address import Address
from forkserve.control.connection import Respond
from forkserve.control.http import Reply, Request
from forkserve.control.status.health import not_ready, not_started
from forkserve.control.status.server import StatusServer
from forkserve.errors import BindError
from forkserve.master import Master
from forkserve.supervision.events import ConfigRead, Event, ReloadTakenBack, StatusUnchanged
from forkserve.supervision.metrics.collecting import collect
from forkserve.supervision.metrics.exposition import OPENMETRICS, PROMETHEUS, MetricFamily, openmetrics, prometheus
from forkserve.supervision.metrics.report import MasterFacts, families
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter

__all__ = ["StatusRoutes", "StatusService", "wants_openmetrics"]

log = logging.getLogger("forkserve.status")

_TEXT = "text/plain; charset=utf-8"


class StatusRoutes:
    """Handles the requests of the status server over one master."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.started_at = time.time()

    def __call__(self, request: Request, respond: Respond) -> None:
        """Answer one request, now or when the data has been collected; never raises."""
        try:
            self._answer(request, respond)
        except Exception:
            log.exception("a bug in forkserve, please report it: %s %s", request.method, request.path)
            respond(_text(HTTPStatus.INTERNAL_SERVER_ERROR, ("a bug in forkserve; its log says more",)))

    def _answer(self, request: Request, respond: Respond) -> None:
        path = request.path.rstrip("/") or "/"
        if path not in ("/livez", "/readyz", "/startupz", "/metrics"):
            respond(_text(HTTPStatus.NOT_FOUND, ("there is /livez, /readyz, /startupz and /metrics",)))
        elif request.method not in ("GET", "HEAD"):
            respond(_text(HTTPStatus.METHOD_NOT_ALLOWED, ("ask by GET or HEAD",), (("Allow", "GET, HEAD"),)))
        elif path == "/livez":
            respond(_text(HTTPStatus.OK, ("ok",)))
        elif path == "/metrics" and request.method == "HEAD":
            respond(Reply(HTTPStatus.OK, b"", media_type=_media_type(request)))
        elif path == "/metrics":
            collect(self._master.loop, self.families(), partial(_tell, _media_type(request), respond))
        else:
            reasons = not_ready(self._master) if path == "/readyz" else not_started(self._master)
            respond(_text(HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, reasons or ("ok",)))

    def families(self) -> Iterator[MetricFamily | None]:
        """Return all metrics, to be collected in steps."""
        master = self._master
        master.observatory.attend()
        facts = MasterFacts(forkserve.__version__, master.name, self.started_at, not not_ready(master))
        return families(master.supervisor, master.observatory, facts, master.loop.now())


class StatusService:
    """The status server of one master, moved to another address when the configuration changes."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._routes = StatusRoutes(master)
        self._address: Address | None = None
        self._server: StatusServer | None = None

    def open(self, address: Address | None) -> None:
        """Listen there, or with None nowhere; raises BindError, and then stays where it is."""
        if address == self._address:
            return
        if address is not None and self._server is not None:
            _refuse_taken(address)
        server = None if address is None else StatusServer(address, self._master.loop, self._routes)
        self.close()
        self._address, self._server = address, server
        if server is not None:
            self._master.observatory.begin()
            log.info("status: %s", server.address)

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return listener and clients as plain data, and since when the process runs."""
        return {
            "started_at": self._routes.started_at,
            "address": None if self._address is None else msgspec.to_builtins(self._address),
            "server": None if self._server is None else self._server.to_data(completions),
        }

    def restore(self, data: Mapping[str, Any], completions: CompletionReader) -> None:
        """Go on from the state of another one."""
        self._routes.started_at = data["started_at"]
        if data["server"] is not None:
            self._server = StatusServer.from_data(data["server"], self._master.loop, self._routes, completions)
        if self._server is not None:
            self._address = msgspec.convert(data["address"], Address)
            self._master.observatory.begin()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._server = self._address = None

    def on_event(self, event: Event) -> None:
        """Follow the configuration; subscribed to the bus."""
        if isinstance(event, (ConfigRead, ReloadTakenBack)):
            try:
                self.open(self._master.supervisor.config.master.status_bind)
            except BindError as error:
                address = "" if self._server is None else str(self._server.address)
                self._master.supervisor.emit(StatusUnchanged(reason=str(error), address=address))


def _tell(media_type: str, respond: Respond, done: list[MetricFamily]) -> None:
    text = openmetrics(done) if media_type == OPENMETRICS else prometheus(done)
    respond(Reply(HTTPStatus.OK, text, media_type=media_type))


def _refuse_taken(address: Address) -> None:
    """Raise BindError for a port in use; finding the process that uses it, as at the start, would block the loop."""
    if address.path is not None:
        return
    with socket.socket(socket.AF_INET6 if address.ipv6 else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address.host, address.port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BindError(f"cannot bind {address}: {reason}") from None


def wants_openmetrics(accept: str) -> bool:
    """Tell whether a client prefers OpenMetrics, by its Accept (RFC 9110 section 12.5.1), or takes both alike."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        weights[kind] = max(weights.get(kind, 0.0), _weight(weight))
    return _quality("application/openmetrics-text", weights) >= _quality("text/plain", weights)


def _quality(kind: str, weights: Mapping[str, float]) -> float:
    """Return the weight of the most specific range that includes it; -1 for what is refused by `q=0`."""
    ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
    return next((weights[each] or -1.0 for each in ranges if each in weights), 0.0)


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _media_type(request: Request) -> str:
    return OPENMETRICS if wants_openmetrics(request.accept) else PROMETHEUS


def _text(status: HTTPStatus, lines: tuple[str, ...], headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, ("\n".join(lines) + "\n").encode(), headers, _TEXT)
