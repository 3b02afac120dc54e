"""A shop with background work: Gunicorn serves `web`, Celery runs `add`, and a timer runs this file as a program."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

from celery import Celery

BROKER = os.environ["BROKER"]
app = Celery("shop", broker=BROKER, backend=BROKER)
app.conf.broker_connection_retry_on_startup = True


@app.task
def add(one: int, other: int) -> int:
    """Return a sum, computed in a Celery worker."""
    return one + other


def web(environ, start_response):
    """Answer /?one=1&other=2 with the sum, computed by a Celery worker."""
    query = parse_qs(environ["QUERY_STRING"])
    result = add.delay(int(query["one"][0]), int(query["other"][0])).get(timeout=20)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{result}\n".encode()]


if __name__ == "__main__":
    print("report:", add.delay(20, 22).get(timeout=20), flush=True)
