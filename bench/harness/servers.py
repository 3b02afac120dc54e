"""The table of servers: how the documentation of each says to start it, and what it can do.

To add one, write a function from Launch to a command and a row in SERVERS. Rules: production settings as the server's
own documentation recommends them, access log off (or at its default when that is off), nothing tuned that a user
would not find there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from bench.harness import commands as to
from bench.harness.model import BenchError
from bench.harness.supervisors import circus_argv, circus_worker_argv, supervisord_worker_argv
from bench.harness.target import Launch

__all__ = ["ADAPTED", "LOGGED", "SERVERS", "Can", "Reload", "Server", "named"]


class Can(Enum):
    """What a server can take part in."""

    UNIX = auto()
    WORKERS = auto()
    WEBSOCKET = auto()
    WAITS = auto()  # many waiting requests at once in one worker


class Reload(Enum):
    """How new code is brought in.

    RESTART: there is no way but to stop it and start it again, as its supervisor would.
    """

    HUP = "kill -HUP of the master"
    UWSGI_CHAIN = "echo c > the master FIFO"
    CIRCUSCTL = "circusctl reload web"
    RESTART = "TERM, then start again"


@dataclass(frozen=True, slots=True)
class Server:
    """One way to run one server.

    `role`: ours, field, or (shown, not compared) limit, and same for what the table has twice: our worker under other
    masters, other servers under ours, and servers with an access log.
    """

    name: str
    interface: str
    distribution: str
    argv: Callable[[Launch], list[str]]
    advice: str
    can: frozenset[Can] = frozenset()
    reload: Reload = Reload.RESTART
    role: str = "field"


_ALL = frozenset(Can)
_MANY = frozenset({Can.WORKERS})
_THREADED = frozenset({Can.UNIX, Can.WORKERS, Can.WAITS})
_INLINE = frozenset({Can.UNIX, Can.WORKERS})

_ROWS = (
    Server("nginx", "limit", "nginx", to.nginx, "return 200: what this machine can do at all", role="limit"),
    Server(
        "forkserve-sync", "wsgi", "forkserve", to.forkserve("sync"), "docs: the default", _INLINE, Reload.HUP, "ours"
    ),
    Server(
        "forkserve-threads",
        "wsgi",
        "forkserve",
        to.forkserve("threads"),
        "docs: blocking applications",
        _THREADED,
        Reload.HUP,
        "ours",
    ),
    Server(
        "forkserve-gevent",
        "wsgi",
        "forkserve",
        to.forkserve("gevent"),
        "docs: many waiting requests",
        _THREADED,
        Reload.HUP,
        "ours",
    ),
    Server(
        "gunicorn-sync",
        "wsgi",
        "gunicorn",
        to.gunicorn("sync"),
        "gunicorn.org, Settings: the default worker, which keeps no connections",
        _INLINE,
        Reload.HUP,
    ),
    Server(
        "gunicorn-gthread",
        "wsgi",
        "gunicorn",
        to.gunicorn("gthread"),
        "gunicorn.org, Design: threads",
        _THREADED,
        Reload.HUP,
    ),
    Server(
        "gunicorn-preload",
        "wsgi",
        "gunicorn",
        to.gunicorn_preload,
        "gunicorn.org, Settings: preload_app (HUP then loads no new code)",
        _THREADED,
        Reload.HUP,
    ),
    Server(
        "gunicorn-gevent",
        "wsgi",
        "gunicorn",
        to.gunicorn("gevent"),
        "gunicorn.org, Design: async workers",
        _THREADED,
        Reload.HUP,
    ),
    Server(
        "uwsgi",
        "wsgi",
        "uWSGI",
        to.uwsgi,
        "uwsgi-docs, Native HTTP: http-socket, behind a proxy, which keeps no connections",
        _INLINE | {Can.WAITS},
        Reload.UWSGI_CHAIN,
    ),
    Server("uwsgi-http", "wsgi", "uWSGI", to.uwsgi_http, "uwsgi-docs, Native HTTP: http, alone, by its router", _MANY),
    Server("granian-wsgi", "wsgi", "granian", to.granian("wsgi"), "README: --interface wsgi", _THREADED, Reload.HUP),
    Server(
        "waitress",
        "wsgi",
        "waitress",
        to.waitress,
        "docs.pylonsproject.org: waitress-serve",
        frozenset({Can.UNIX, Can.WAITS}),
    ),
    Server("bjoern", "wsgi", "bjoern-binary", to.bjoern, "README: listen, fork, run", _INLINE),
    Server(
        "fastpysgi-wsgi",
        "wsgi",
        "fastpysgi",
        to.fastpysgi,
        "README: fastpysgi.run(app, host, port, workers)",
        frozenset({Can.WORKERS}),
    ),
    Server(
        "circus-chaussette",
        "wsgi",
        "chaussette",
        circus_argv("wsgiref"),
        "circus docs, Why: chaussette --fd",
        frozenset({Can.WORKERS}),
        Reload.CIRCUSCTL,
    ),
    Server(
        "forkserve-asgi",
        "asgi",
        "forkserve",
        to.forkserve("asgi"),
        "docs: chosen for an ASGI application",
        _ALL,
        Reload.HUP,
        "ours",
    ),
    Server(
        "gunicorn-asgi",
        "asgi",
        "gunicorn",
        to.gunicorn("asgi"),
        "gunicorn.org, ASGI: uvloop and the C parser",
        _ALL,
        Reload.HUP,
    ),
    Server("uvicorn", "asgi", "uvicorn", to.uvicorn, "uvicorn docs, Deployment: uvloop, httptools", _ALL, Reload.HUP),
    Server("granian-asgi", "asgi", "granian", to.granian("asgi"), "README: --interface asgi", _ALL, Reload.HUP),
    Server("hypercorn", "asgi", "Hypercorn", to.hypercorn, "hypercorn docs: -k uvloop", _ALL, Reload.HUP),
    Server(
        "fastpysgi-asgi",
        "asgi",
        "fastpysgi",
        to.fastpysgi,
        "README: an ASGI application in fastpysgi.run",
        frozenset({Can.WORKERS, Can.WAITS}),
    ),
    Server("nginx-proxy", "proxy", "nginx", to.nginx_proxy, "nginx docs, upstream: keepalive", role="limit"),
    Server("worker-bare", "supervised", "forkserve", to.worker_bare, "forkserve-worker by itself", role="same"),
    Server("worker-forkserve", "supervised", "forkserve", to.worker_forkserve, "forkserve --fd-socket", role="ours"),
    Server(
        "worker-circusd", "supervised", "circus", circus_worker_argv, "circus docs, Sockets: use_sockets", role="same"
    ),
    Server(
        "worker-supervisord",
        "supervised",
        "supervisor",
        supervisord_worker_argv,
        "supervisord docs: fcgi-program, fd 0",
        role="same",
    ),
    Server("honest", "self-test", "forkserve", to.self_test("honest"), "answers as it should"),
    Server("slow", "self-test", "forkserve", to.self_test("slow"), "takes 20 ms for each answer"),
    Server("lossy", "self-test", "forkserve", to.self_test("lossy"), "drops one request in fifty, without an answer"),
    Server("mute", "self-test", "forkserve", to.self_test("mute"), "never answers one request in fifty"),
    Server(
        "wrong",
        "self-test",
        "forkserve",
        to.self_test("wrong"),
        "answers one request in fifty with a wrong body of the right length",
    ),
    Server("erring", "self-test", "forkserve", to.self_test("erring"), "answers one request in fifty with status 500"),
    *(
        Server(manner, "self-test", "forkserve", to.operated(manner), what, _MANY, Reload.HUP)
        for manner, what in (("good", "reloads and ends in order"), ("bad", "ends at once when told anything"))
    ),
)

# Servers that stand in a few special tables only.
_ALONE = (
    Server(
        "forkserve-preload",
        "wsgi",
        "forkserve",
        to.forkserve("sync", "--preload"),
        "docs/preload.md: --preload",
        _INLINE,
        Reload.HUP,
        "ours",
    ),
    Server(
        "forkserve-refork",
        "wsgi",
        "forkserve",
        to.forkserve("sync", "--preload", "--refork-after", "100"),
        "docs/preload.md: --preload --refork-after",
        _INLINE,
        Reload.HUP,
        "ours",
    ),
    Server(
        "uwsgi-preload",
        "wsgi",
        "uWSGI",
        to.uwsgi_preload,
        "uwsgi-docs: loaded in the master, forked (its default)",
        _INLINE,
        Reload.HUP,
    ),
    *(
        Server(
            f"peregrine-{protocol}",
            protocol,
            "peregrine-server",
            to.peregrine(protocol),
            f"README: --protocol {protocol}",
            frozenset({Can.UNIX, Can.WORKERS}),
            Reload.HUP,
        )
        for protocol in ("wsgi", "asgi")
    ),
    Server("cheroot", "wsgi", "cheroot", to.cheroot, "cheroot docs: its command"),
    Server("tornado", "wsgi", "tornado", to.launcher("tornado"), "tornado docs, WSGIContainer with an executor"),
    Server("meinheld", "wsgi", "meinheld", to.launcher("meinheld"), "README: server.listen, server.run"),
    *(
        Server(
            f"chaussette-{backend}",
            "wsgi",
            "chaussette",
            circus_argv(backend),
            f"circus docs, Benches: {backend}",
            _MANY,
        )
        for backend in ("gevent", "fastgevent", "meinheld", "waitress")
    ),
)

_LOG = ("--access-log", "access.log")


def _logged() -> Iterable[tuple[str, Server]]:
    """Servers that write an access log, in their own format, into a file; uvicorn logs to where its output goes."""
    rows = {row.name: row for row in _ROWS}
    options = {
        "forkserve-sync": _LOG,
        "forkserve-asgi": _LOG,
        "gunicorn-gthread": ("--access-logfile", "access.log"),
        "gunicorn-asgi": ("--access-logfile", "access.log"),
        "granian-wsgi": ("--access-log", "--log-level", "info"),
        "granian-asgi": ("--access-log", "--log-level", "info"),
        "uvicorn": ("--log-level", "info"),
    }
    for name, extra in options.items():
        argv = to.logged(rows[name].argv, *extra)
        yield name, replace(rows[name], name=f"{name}+log", argv=argv, advice="with an access log", role="same")


def _adapted() -> Iterable[tuple[str, Server]]:
    """Other servers as backends of forkserve, by the name of the row that runs them by their own command."""
    backends = {
        **{name: name for name in ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "waitress", "bjoern")},
        **{name: name for name in ("cheroot", "tornado", "meinheld", "gunicorn-asgi", "uvicorn", "hypercorn")},
        "granian-wsgi": "granian",
        "granian-asgi": "granian",
    }
    rows = {row.name: row for row in (*_ROWS, *_ALONE)}
    for name, backend in backends.items():
        own = rows[name]
        argv, advice = to.forkserve(backend), f"docs: --backend {backend}"
        yield name, Server(f"forkserve-{name}", own.interface, "forkserve", argv, advice, _INLINE, Reload.HUP, "same")


_ADAPTED, _LOGGED = tuple(_adapted()), tuple(_logged())
ADAPTED = {server.name: own for own, server in _ADAPTED}
"""Which row each adapter is to be compared with."""
LOGGED = {server.name: own for own, server in _LOGGED}
"""Which row each server with an access log is to be compared with."""

SERVERS = {server.name: server for server in (*_ROWS, *_ALONE, *(row for _, row in (*_ADAPTED, *_LOGGED)))}


def named(name: str) -> Server:
    """Look a server up; raises BenchError for an unknown name."""
    try:
        return SERVERS[name]
    except KeyError:
        raise BenchError(f"no server called {name!r}; --list shows them") from None
