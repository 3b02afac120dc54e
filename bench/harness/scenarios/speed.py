"""The scenarios of plain speed: hello world, frameworks, bodies, headers, waits, new connections, workers."""

from __future__ import annotations

from bench.harness.model import Settings
from bench.harness.probe import Request
from bench.harness.scenarios.groups import ASGI, CHAUSSETTES, CHOSEN, WSGI
from bench.harness.scenarios.throughput import Throughput, Work
from bench.harness.servers import Can

__all__ = [
    "BROWSER",
    "HELLO",
    "AsgiHello",
    "Bodies",
    "Both",
    "Connections",
    "Frameworks",
    "Limit",
    "Waits",
    "Workers",
    "WsgiHello",
]

BROWSER = (
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", '"Chromium";v="142", "Not_A Brand";v="99", "Google Chrome";v="142"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Referer", "http://127.0.0.1/articles/2026/11/a-page-with-a-long-name?utm_source=newsletter&page=2"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Cookie", "sessionid=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; csrftoken=" + "x" * 64),
    ("DNT", "1"),
    ("Priority", "u=0, i"),
    ("If-None-Match", 'W/"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
)  # fmt: skip

ECHO = bytes(range(32, 127)) * 108
BIG = bytes(range(256)) * 4096
HELLO = {"wsgi": "plain:hello_wsgi", "asgi": "plain:hello_asgi", "limit": ""}


class Both(Throughput):
    """Scenarios in which WSGI and ASGI servers take part side by side, each variant with its own baseline."""

    servers = (*WSGI, *ASGI)
    short_servers = CHOSEN
    baseline = "gunicorn-gthread"

    def rounds(self, settings: Settings) -> int:
        """Two at most in a full run, where there are tables by the dozen."""
        return min(2 if settings.full else self.most_rounds, settings.rounds)

    def baseline_of(self, variant: str) -> str:
        """Divide ASGI by uvicorn, WSGI by Gunicorn's threads."""
        return "uvicorn" if "asgi" in self.works[variant].apps else self.baseline


class Limit(Throughput):
    """Part of every run."""

    name = "limit"
    title = "The machine's limit"
    question = (
        "What is the limit of this machine? nginx answers `return 200` under the same load on the same cores. "
        "Differences between servers close to it mean little."
    )
    baseline = "nginx"
    servers = ("nginx",)
    in_quick = True

    def rounds(self, settings: Settings) -> int:
        """Once in the short set, whose hello worlds have nginx beside them."""
        return settings.repeats

    works = {"": Work({"limit": ""})}


class WsgiHello(Throughput):
    """Hello world, WSGI."""

    name = "wsgi-hello"
    title = "WSGI hello world"
    question = (
        "What does the server itself cost a synchronous application? One worker on one core, 64 keep-alive "
        "connections, 13 bytes."
    )
    reading = (
        "This is the server's own cost per request and nothing else; an application that needs 5 ms makes the first "
        "ten servers of this table equal. It shows how much of a core is left for the application."
    )
    baseline = "gunicorn-gthread"
    servers = ("nginx", *WSGI, *CHAUSSETTES)
    short_servers = tuple(name for name in servers if name not in ("waitress", "uwsgi-http", *CHAUSSETTES))
    in_quick = True
    works = {"": Work({key: HELLO[key] for key in ("wsgi", "limit")})}


class AsgiHello(Throughput):
    """Hello world, ASGI."""

    name = "asgi-hello"
    title = "ASGI hello world"
    question = (
        "What does the server itself cost an asynchronous application? One worker on one core, 64 keep-alive "
        "connections, 13 bytes."
    )
    baseline = "uvicorn"
    servers = ("nginx", *ASGI)
    short_servers = tuple(name for name in servers if name != "hypercorn")
    in_quick = True
    works = {"": Work({key: HELLO[key] for key in ("asgi", "limit")})}


class Frameworks(Both):
    """Flask, FastAPI, Django."""

    name = "frameworks"
    title = "Under a framework"
    question = (
        "How much of the difference is left under a framework? Flask and FastAPI answer JSON, Flask and Django render "
        "a template."
    )
    reading = (
        "Django's page has no Content-Length. If a server then ends it by closing the connection, as HTTP/1.0 did, wrk "
        "counts each answer as an error (`read`), although the answers are right."
    )
    most_rounds = 2  # the application dominates and spreads are small
    works = {
        "Flask JSON": Work(
            {"wsgi": "flask_app:app"}, Request(expect=b'{"message":"Hello, World!","numbers":[1,2,3]}\n')
        ),
        "Flask page": Work({"wsgi": "flask_app:app"}, Request(path="/page", expect=None), short=False),
        "FastAPI JSON": Work(
            {"asgi": "fastapi_json:app"}, Request(expect=b'{"message":"Hello, World!","numbers":[1,2,3]}')
        ),
        "Django page (WSGI)": Work({"wsgi": "django_page:wsgi"}, Request(expect=None), short=False),
        "Django page (ASGI)": Work({"asgi": "django_page:asgi"}, Request(expect=None), short=False),
    }


class Bodies(Both):
    """Bodies and headers."""

    name = "bodies"
    title = "Bodies and headers"
    question = "What do uploads, downloads and the long headers of a real browser cost?"
    in_short = False
    _echo = Request(method="POST", body=ECHO, expect=ECHO)
    _large = Request(expect=BIG)
    works = {
        "echo 10 kB (WSGI)": Work({"wsgi": "plain:echo_wsgi"}, _echo),
        "echo 10 kB (ASGI)": Work({"asgi": "plain:echo_asgi"}, _echo),
        "download 1 MiB (WSGI)": Work({"wsgi": "plain:big_wsgi"}, _large),
        "download 1 MiB (ASGI)": Work({"asgi": "plain:big_asgi"}, _large),
        "browser headers (WSGI)": Work({"wsgi": "plain:hello_wsgi"}, Request(headers=BROWSER)),
        "browser headers (ASGI)": Work({"asgi": "plain:hello_asgi"}, Request(headers=BROWSER)),
    }


def _waits() -> dict[str, Work]:
    works = {}
    for milliseconds, crowds in ((10, (64, 512, 2000)), (100, (64, 512, 1000, 2000))):
        for connections in crowds:
            for interface in ("wsgi", "asgi"):
                app = f"plain:wait{milliseconds}_{interface}"
                works[f"{milliseconds} ms, {connections} connections ({interface.upper()})"] = Work(
                    {interface: app}, connections=connections, threads=64, needs=frozenset({Can.WAITS})
                )
    return works


class Waits(Both):
    """An application that waits for something else."""

    name = "waits"
    title = "Waiting applications"
    question = (
        "How many requests can one worker keep waiting when each waits for a database? Servers with threads have 64."
    )
    in_short = False
    baseline = "gunicorn-gevent"
    # Whoever calls the application in its loop cannot take part.
    short_servers = (*CHOSEN, "forkserve-threads", "forkserve-gevent", "gunicorn-gevent")
    works = _waits()


class Connections(Both):
    """A new connection for each request."""

    name = "new-connections"
    title = "A new connection for each request"
    question = (
        "What does it cost to accept a connection? Health checks, HTTP/1.0 proxies and `Connection: close` look like "
        "this."
    )
    reading = (
        "Each request has `Connection: close`. If a server closes the connection without that header in its answer, "
        "wrk counts the answer as an error (`read`), although it is right. If it neither sends the header nor closes, "
        "wrk waits."
    )
    in_short = False
    works = {
        "WSGI": Work({"wsgi": "plain:hello_wsgi"}, fresh=True),
        "ASGI": Work({"asgi": "plain:hello_asgi"}, fresh=True),
    }


class Workers(Both):
    """More than one worker."""

    name = "workers"
    title = "1, 2 and 4 workers"
    question = (
        "Does the rate grow with the number of workers? It can only as far as the server has cores; the section about "
        "the machine says how many."
    )
    in_short = False
    works = {
        f"{count} workers ({interface.upper()})": Work({interface: app}, workers=count)
        for count in (1, 2, 4)
        for interface, app in (("wsgi", "plain:hello_wsgi"), ("asgi", "plain:hello_asgi"))
    }
