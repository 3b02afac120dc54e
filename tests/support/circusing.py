"""Circus's own programs and clients against a real forkserve, at an ipc endpoint in the folder of the test."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from tests.support.forkserving import Forkserve, running

__all__ = ["circusctl", "circusd_like", "endpoint", "told"]

_SERVED = r"forkserve.circus: listening at {}"


def endpoint(place: Path, name: str = "circus") -> str:
    """Return an address in the folder of the test."""
    return f"ipc://{place}/{name}.sock"


@contextlib.contextmanager
def circusd_like(place: Path, watchers: str, *, circus: str = "") -> Iterator[Forkserve]:
    """Run forkserve with an endpoint, and wait until that is served."""
    config = f"[circus]\nendpoint = {endpoint(place)}\n{circus}\n{watchers}"
    with running("--control", str(place / "control"), cwd=place, config=config) as master:
        master.expect(_SERVED.format(endpoint(place)))
        yield master


def told(place: Path, command: str, **properties: Any) -> dict[str, Any]:
    """Return the answer to one request, by a client of the protocol."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVTIMEO, 15_000)
        client.connect(endpoint(place))
        client.send(json.dumps({"command": command, "properties": properties}).encode())
        answer: dict[str, Any] = json.loads(client.recv())
        return answer


def circusctl(place: Path, *argv: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run the real circusctl."""
    command = [str(Path(sys.executable).parent / "circusctl"), "--endpoint", endpoint(place), "--timeout", "15", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
