"""Groups of servers that take part in scenarios together."""

from __future__ import annotations

__all__ = ["ASGI", "CHAUSSETTES", "CHOSEN", "OPERATED", "OURS", "PREFORK", "RIVALS", "WSGI"]

OURS = ("forkserve-sync", "forkserve-threads", "forkserve-gevent", "forkserve-asgi")
GUNICORN = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent")

WSGI = (
    *OURS[:3],
    *GUNICORN,
    "uwsgi",
    "uwsgi-http",
    "granian-wsgi",
    "waitress",
    "bjoern",
    "fastpysgi-wsgi",
    "circus-chaussette",
)
ASGI = ("forkserve-asgi", "gunicorn-asgi", "uvicorn", "granian-asgi", "hypercorn", "fastpysgi-asgi")

# Chaussette with the backends that its author compared; on its default, wsgiref, it is circus-chaussette.
CHAUSSETTES = ("chaussette-gevent", "chaussette-fastgevent", "chaussette-meinheld", "chaussette-waitress")

# All that can run several workers.
PREFORK = (
    *(*OURS, *GUNICORN, "gunicorn-asgi", "uwsgi", "granian-wsgi", "granian-asgi", "uvicorn", "hypercorn"),
    *("bjoern", "fastpysgi-wsgi", "circus-chaussette"),
)

# Those whose deploys, stops and memory are compared.
PRELOADED = ("forkserve-preload", "gunicorn-preload", "uwsgi-preload")
OPERATED = (*PREFORK, *PRELOADED, "peregrine-wsgi", "peregrine-asgi")

# One of each kind of the most used, for scenarios that take long.
RIVALS = (
    *("forkserve-sync", "forkserve-asgi", "forkserve-preload", "gunicorn-gthread", "gunicorn-preload", "gunicorn-asgi"),
    *("uvicorn", "granian-asgi", "uwsgi", "peregrine-wsgi"),
)

# The most asked for, for short runs of scenarios in which WSGI and ASGI stand side by side.
CHOSEN = ("forkserve-sync", "gunicorn-gthread", "granian-wsgi", "forkserve-asgi", "uvicorn", "granian-asgi")
