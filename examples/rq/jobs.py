"""A job of the rq workers, and how to enqueue it: `python jobs.py TEXT` counts letters, in another process."""

from __future__ import annotations

import os
import sys


def count(text: str) -> int:
    """Return the number of letters in a text."""
    return len(text)


if __name__ == "__main__":
    # rq finds the function by the name of its module, which is not __main__
    from jobs import count as wanted
    from redis import Redis
    from rq import Queue

    queue = Queue("default", connection=Redis.from_url(os.environ["RQ_REDIS_URL"]))
    print(queue.enqueue(wanted, sys.argv[1]).latest_result(timeout=20).return_value, flush=True)
