"""Fuzzes the readers of requests in C against those in Python: the same verdict, the same fields.

Each input is read by `ReadyQueue.read`, and goes through two drivers on real sockets: whole, again (what comes again is
looked up), and in pieces. Inputs are spoilt requests of the corpus, and of the usual kind, which C reads by itself. No
coverage of C leads: an input that C takes joins the pool, so that it is spoilt further.
"""

from __future__ import annotations

import random
from time import monotonic

from forkserve.serving.http.fields import EnvironCollector, ScopeCollector
from tests.fuzz.contained import Note
from tests.fuzz.parsers import seeds
from tests.support.compiled_heads import Both
from tests.support.http_driving import sliced
from tests.support.http_mutation import mutate
from tests.support.ready_queues import BothQueues

__all__ = ["fuzz_compiled"]

POOL = 4000
"""Inputs kept; beyond that a new one takes the place of one at random."""
USUAL = [
    b"GET /articles/7?page=2 HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nCookie:  session=1; theme=dark \r\nUser-Agent: Mozilla/5.0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: example.org\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD / HTTP/1.1\r\nHost: example.org\r\nX-Request-ID: 1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"DELETE /x?%41 HTTP/1.1\r\nhost: a\r\naccept:\r\ncontent-length: 0\r\n\r\n",
]


class Readers:
    """All ways to read, for both shapes of headers."""

    def __init__(self) -> None:
        self.both = [Both(EnvironCollector), Both(ScopeCollector)]
        self.queues = [BothQueues(EnvironCollector), BothQueues(ScopeCollector)]

    def close(self) -> None:
        for each in (*self.both, *self.queues):
            each.close()

    def learn(self) -> None:
        """Have names and hosts known, without which C reads nothing."""
        for raw in USUAL:
            for _ in range(3):
                self.check(raw, 0)

    def check(self, raw: bytes, number: int) -> bool:
        """Raises AssertionError where two ways differ; returns whether C took the head by itself."""
        taken = False
        for both in self.both:
            for _ in range(2):
                taken = both.check(raw) or taken
        way = number % 8
        queues = self.queues[way % 2]
        if way < 2:
            for _ in range(3):
                queues.check([raw])
        elif way < 4:
            queues.check(list(sliced(raw, number)))
        return taken


def fuzz_compiled(seconds: float, seed: int, note: Note) -> int:
    """Fuzz for so long; 1 if an input broke something."""
    chance = random.Random(seed)
    pool, deadline, tried, taken = [*seeds(), *USUAL], monotonic() + seconds, 0, 0
    readers = Readers()
    readers.learn()
    while monotonic() < deadline:
        raw = chance.choice(USUAL if chance.random() < 0.3 else pool)
        raw = mutate(raw, chance.choice(pool), chance)
        tried += 1
        note(raw)
        try:
            took = readers.check(raw, tried)
        except Exception as error:  # noqa: BLE001  # any exception is the finding itself
            print(f"BROKEN by {raw!r}\n  {type(error).__name__}: {error}\n  seed {seed}, input {tried}", flush=True)
            return 1
        if took:
            taken += 1
            if len(pool) < POOL:
                pool.append(raw)
            else:
                pool[chance.randrange(POOL)] = raw
    readers.close()
    print(f"compiled: {tried} inputs, {taken} of them taken by C, seed {seed}: nothing broke", flush=True)
    return 0
