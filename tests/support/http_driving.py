"""Drives `forkserve.serving.http` over bytes in pieces, as a server that answers each request at once would."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from forkserve.serving.http.body import BodyReader, body_reader
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.request import Profile, RequestReader

__all__ = ["Outcome", "Served", "bytewise", "drive", "sliced"]


@dataclass(slots=True)
class Served:
    """One request that was read to its end."""

    method: str
    target: str
    path: str
    query: str
    version: str
    host: str | None
    headers: Any
    keep_alive: bool
    expect: bool
    upgrade: str | None
    chunked: bool
    length: int | None
    body: str = ""
    trailers: list[list[str]] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What came of an input: the requests, then maybe a refusal; `waiting` if it ended inside a message."""

    served: list[Served]
    refusal: int | None
    waiting: bool
    rest: bytes


def bytewise(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def sliced(data: bytes, seed: int) -> Iterator[bytes]:
    """The data in random pieces, the same for the same seed."""
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 3, 7, 16, 64, 1000))
        yield data[at : at + size]
        at += size


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _headers(headers: Any) -> Any:
    if isinstance(headers, dict):
        return dict(headers)
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


class _Machine:
    def __init__(self, profile: Profile) -> None:
        self.reader = RequestReader(profile)
        self.limits = profile.limits
        self.body: BodyReader | None = None
        self.served: list[Served] = []
        self.current: Served | None = None
        self.over = False
        self.rest = b""

    def feed(self, data: bytes) -> None:
        while data and not self.over:
            data = self._head(data) if self.current is None else self._body(data)
        self.rest += data

    def _head(self, data: bytes) -> bytes:
        reader = self.reader
        if not reader.feed(data):
            return b""
        line, fields = reader.line, reader.fields
        self.body = body_reader(fields, self.limits)
        self.current = Served(
            method=line.method,
            target=line.target.decode("latin-1"),
            path=line.path,
            query=line.query.decode("latin-1"),
            version=line.version,
            host=_text(fields.host),
            headers=_headers(fields.headers),
            keep_alive=fields.keep_alive,
            expect=fields.expect_continue,
            upgrade=_text(fields.upgrade),
            chunked=fields.chunked,
            length=fields.content_length,
        )
        if self.body is None:
            self._end()
        return reader.take_rest()

    def _body(self, data: bytes) -> bytes:
        assert self.current is not None and self.body is not None
        self.current.body += self.body.feed(data).decode("latin-1")
        if not self.body.done:
            return b""
        rest = self.body.rest
        self.current.trailers = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in self.body.trailers]
        self._end()
        return rest

    def _end(self) -> None:
        assert self.current is not None
        self.served.append(self.current)
        self.over = not self.current.keep_alive or self.current.upgrade is not None
        self.current = None


def drive(profile: Profile, pieces: Iterable[bytes]) -> Outcome:
    """Feed the pieces; anything but a Refusal comes through."""
    machine = _Machine(profile)
    refusal: int | None = None
    for piece in pieces:
        try:
            machine.feed(piece)
        except Refusal as error:
            refusal = error.status
            break
    waiting = refusal is None and (machine.current is not None or machine.reader.partial)
    return Outcome(machine.served, refusal, waiting, machine.rest)
