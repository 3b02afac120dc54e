"""Fuzzes real workers over sockets: every backend of the engine, compiled, beside one without its compiled part.

What must hold: the worker lives on under its pid and logs no traceback; every connection ends in bounded time; nobody
receives what is another's; a good request is answered right all along; and what both workers were asked alike, they
answer alike. A conversation that is suspected is repeated by `--seed SEED --number NUMBER`.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.fuzz.conversations import TOKEN, Conversation, Leave, conversation
from tests.fuzz.talk import Talk
from tests.support.serving import Served, serving

__all__ = ["BACKENDS", "Wanted", "fuzz_workers"]

BACKENDS = ("sync", "threads", "gevent", "asgi")
FOLDER = Path(__file__).parent
AT_ONCE = 32
"""Conversations with a worker at one time."""
GOOD_EVERY = 100
"""Conversations between two good requests."""
LIMITS = (
    "--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1", "--write-timeout", "1", "--timeout", "8",
    "--graceful-timeout", "4",
)  # fmt: skip
SOCKETS = ("--ws-ping-interval", "1", "--ws-ping-timeout", "1", "--ws-max-size", "100000")
COMPARED = 16_384
"""Bytes of a conversation that reach both workers in one read, so that they must answer alike."""


class Broken(Exception):
    """Something does not hold; says what."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fuzzed; a `number` is the one conversation to be had, `app` another application to serve."""

    seconds: float
    seed: int
    backends: Sequence[str] = BACKENDS
    number: int | None = None
    app: str | None = None


class Watched:
    """A worker and its log, which are looked at again and again."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.pid = served.process.pid
        assert served.process.stderr is not None
        os.set_blocking(served.process.stderr.fileno(), False)

    def look(self) -> None:
        """Raises Broken if it has ended or logged a traceback."""
        status = self.served.process.poll()
        self._read_log()
        if status is not None:
            raise Broken(f"the worker has ended with status {status}\n{self._tail()}")
        if b"Traceback" in self.served.log:
            raise Broken(f"the worker has logged a traceback\n{self._tail()}")

    def stop(self) -> None:
        """End it; raises Broken if it does not end as it should."""
        self.look()
        self.served.signal(signal.SIGTERM)
        os.set_blocking(self.served.process.stderr.fileno(), True)  # type: ignore[union-attr]
        status = self.served.ended()
        if status != 0 or b"Traceback" in self.served.log:
            raise Broken(f"the worker has ended with status {status}\n{self._tail()}")

    def ask(self) -> None:
        """Make a good request; raises Broken if it is not answered right."""
        self.look()
        try:
            response, body = self.served.request("GET", "/k", headers={"X-Token": "good"})
        except OSError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Its sockets close a moment before it can be waited for.
                self.served.process.wait(1.0)
            self.look()
            raise Broken(f"a good request was not answered: {type(error).__name__}: {error}\n{self._tail()}") from None
        if response.status != 200 or b'"/k"' not in body or b"good" not in body:
            raise Broken(f"a good request was answered {response.status} {body!r}")

    def _read_log(self) -> None:
        assert self.served.process.stderr is not None
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.served.process.stderr.fileno(), 65536):
                self.served.log += part

    def _tail(self) -> str:
        return self.served.log.decode(errors="replace")[-4000:]


class Crowd:
    """The clients of one backend: the conversations that go on, with which worker, and what came of them."""

    def __init__(self, compiled: Watched, pure: Watched) -> None:
        self.workers = compiled, pure
        self.talks: set[Talk] = set()
        self.selector = selectors.DefaultSelector()
        self.ended = 0
        self.compared = 0

    def begin(self, said: Conversation, like: Talk | None = None) -> None:
        """Begin a conversation; one that is `like` another goes to the worker without its compiled part."""
        worker = self.workers[0 if like is None else 1]
        self.talks.add(Talk(said, worker.served.address, self.selector, like))

    def turn(self) -> None:
        """Go on with whatever can; raises Broken."""
        for key, events in self.selector.select(0.2):
            talk: Talk = key.data
            if talk.go_on(events):
                self._end(talk)
        self.workers[0].look()
        now = monotonic()
        for talk in self.talks:
            if talk.deadline < now:
                raise Broken(f"a connection does not end: {talk.said}\n  received {talk.received[:300]!r}")

    def _end(self, talk: Talk) -> None:
        self.talks.discard(talk)
        self.ended += 1
        said = talk.said
        strangers = {each for each in TOKEN.findall(talk.received) if each != said.token}
        if strangers:
            raise Broken(f"a client received what is another's, {strangers!r}: {said}")
        if talk.received and not talk.received.startswith(b"HTTP/1.1 "):
            raise Broken(f"this is no response: {talk.received[:300]!r} to {said}")
        if talk.like is not None:
            self._compare(talk.like, talk)
        elif _comparable(talk):
            self.begin(said, talk)
        if self.ended % GOOD_EVERY == 0:
            self.workers[0].ask()

    def _compare(self, compiled: Talk, pure: Talk) -> None:
        if pure.was_reset:
            return
        self.compared += 1
        ours, theirs = (re.sub(rb"\r\nDate: [^\r]*", b"", talk.received) for talk in (compiled, pure))
        if ours != theirs:
            same = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
            shown = slice(max(0, same - 100), same + 300)
            raise Broken(
                f"answers differ at {same} to {compiled.said}\n  C {ours[shown]!r}\n  Python {theirs[shown]!r}"
            )


def _comparable(talk: Talk) -> bool:
    said = talk.said
    return (
        said.leave is Leave.FINISHES
        and len(said.pieces) == 1
        and len(said.pieces[0]) <= COMPARED
        and not talk.was_reset
        and b" 101 " not in talk.received[:20]
    )


@contextlib.contextmanager
def watched(backend: str, wanted: Wanted, *, pure: bool) -> Iterator[Watched]:
    """A worker of a backend that is being watched; raises Broken at the end if it does not end as it should."""
    asgi = backend == "asgi"
    words = ["--backend", backend, *LIMITS, *(SOCKETS if asgi else ())]
    app = wanted.app or ("mirror:asgi" if asgi else "mirror:wsgi")
    with serving([*words, app], folder=FOLDER, environ={"FORKSERVE_PURE": "1" if pure else ""}) as served:
        worker = Watched(served)
        worker.ask()
        yield worker
        worker.stop()


def _fuzz(backend: str, wanted: Wanted, seconds: float) -> str:
    """Fuzz one backend for so long; return what was done. Raises Broken."""
    with watched(backend, wanted, pure=False) as compiled, watched(backend, wanted, pure=True) as pure:
        crowd = Crowd(compiled, pure)
        until, number = monotonic() + seconds, wanted.number or 0
        try:
            while crowd.talks or monotonic() < until:
                while len(crowd.talks) < AT_ONCE and monotonic() < until:
                    crowd.begin(conversation(wanted.seed, number, sockets=backend == "asgi"))
                    number += 1
                    if wanted.number is not None:
                        until = 0.0
                crowd.turn()
            compiled.ask()
            pure.ask()
        except Broken as broken:
            running = "".join(f" {talk.said.number}" for talk in crowd.talks if talk.like is None)
            raise Broken(f"{broken}\nUnder way at that time: numbers{running}") from None
        finally:
            for talk in crowd.talks:
                talk.close()
            crowd.selector.close()
    return f"{crowd.ended} conversations, {crowd.compared} compared"


def fuzz_workers(wanted: Wanted) -> int:
    """Fuzz the backends one after another, each for its part of the time; 1 if something broke."""
    for backend in wanted.backends:
        try:
            done = _fuzz(backend, wanted, wanted.seconds / len(wanted.backends))
        except Broken as broken:
            print(f"BROKEN: worker of {backend}, seed {wanted.seed}: {broken}", flush=True)
            return 1
        print(f"workers: {backend}: {done}, seed {wanted.seed}: nothing broke", flush=True)
    return 0
