"""Circus's messages without a socket: frames in, a request out; an answer in, bytes out.

A request is one JSON object after the client's identity; a REQ socket puts an empty frame between them, and gets it
back. Answers carry `status`, `time` and the `id` of the request.

Rules: pure; the clock is an argument. Nothing that a client sends raises anything but MessageRefused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "CircusRequest",
    "Envelope",
    "Errno",
    "MessageRefused",
    "encoded",
    "failure",
    "id_of",
    "open_envelope",
    "parse",
]


class Errno(IntEnum):
    """Circus's error numbers."""

    INVALID_JSON = 1
    UNKNOWN_COMMAND = 2
    MESSAGE_ERROR = 3
    OS_ERROR = 4
    COMMAND_ERROR = 5
    BAD_MSG_DATA_ERROR = 6


class MessageRefused(Exception):
    """A request that cannot be carried out; `errno` is Circus's number for it."""

    def __init__(self, reason: str, errno: Errno = Errno.MESSAGE_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Envelope:
    """The sender of a request: the frames that go before the answer."""

    frames: tuple[bytes, ...]

    @property
    def client(self) -> bytes:
        """The identity of the client."""
        return self.frames[0]


@dataclass(frozen=True, slots=True)
class CircusRequest:
    """One request. A cast is never answered; `properties` are as the client sent them."""

    command: str
    id: Any = None
    cast: bool = False
    properties: Mapping[str, Any] = field(default_factory=dict)
    on_begun: Callable[[], None] = lambda: None
    """Called when its work has been requested, so that the client's next request cannot overtake it."""

    @property
    def waiting(self) -> bool:
        """Whether the answer is wanted when the work is done, and not at once."""
        return bool(self.properties.get("waiting", False))


def open_envelope(frames: Sequence[bytes]) -> tuple[Envelope, bytes] | None:
    """Return the sender and the message, or None for invalid frames."""
    if len(frames) == 2:
        return Envelope((frames[0],)), frames[1]
    if len(frames) == 3 and frames[1] == b"":
        return Envelope((frames[0], b"")), frames[2]
    return None


def parse(message: bytes) -> CircusRequest:
    """Parse a message; raises MessageRefused."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        raise MessageRefused("json invalid", Errno.INVALID_JSON) from None
    if not isinstance(data, dict):
        raise MessageRefused("message invalid: expected an object")
    command, properties = data.get("command"), data.get("properties")
    if not isinstance(command, str):
        raise MessageRefused("message invalid 'command' is missing")
    if not isinstance(properties, dict | None):
        raise MessageRefused("message invalid: 'properties' should be an object")
    return CircusRequest(command.lower(), data.get("id"), data.get("msg_type") == "cast", properties or {})


def id_of(message: bytes) -> Any:
    """Return the id of a refused message, so that its client can identify it."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return data.get("id") if isinstance(data, dict) else None


def failure(error: MessageRefused, now: float) -> dict[str, Any]:
    """Return the answer to a request that was refused."""
    return {"status": "error", "reason": error.reason, "tb": None, "time": now, "errno": int(error.errno)}


def encoded(answer: Mapping[str, Any], id: Any) -> bytes:
    """Return an answer as bytes."""
    return json.dumps({**answer, "id": id}).encode()
