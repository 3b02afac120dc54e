"""The table of servers: how the documentation of each says to start it, and what it can do.

To add one, write a function from Launch to a command and a row in SERVERS. Rules: production settings as the server's
own documentation recommends them, access log off (or at its default when that is off), nothing tuned that a user
would not find there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from bench.harness import commands as to
from bench.harness.model import BenchError
from bench.harness.supervisors import circus_argv, circus_worker_argv, supervisord_worker_argv
from bench.harness.target import Launch

__all__ = ["SERVERS", "Can", "Reload", "Server", "named"]


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

    `role`: ours, field, or (shown, not compared) limit, and same for our worker under others.
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
        "gunicorn.org, Settings: the default worker",
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
        "uwsgi-docs, Things to know; The Art of Graceful Reloading",
        _INLINE | {Can.WAITS},
        Reload.UWSGI_CHAIN,
    ),
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
        circus_argv,
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
)

SERVERS = {server.name: server for server in _ROWS}


def named(name: str) -> Server:
    """Look a server up; raises BenchError for an unknown name."""
    try:
        return SERVERS[name]
    except KeyError:
        raise BenchError(f"no server called {name!r}; --list shows them") from None
