"""The client's end of the control interface: one request, one answer, over a Unix socket.

with Client(find("circus.ini")) as client:
    watchers = client.call("status")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forkserve.control.printable import printable
from forkserve.errors import ControlError, ExitCode
from forkserve.unix.peer import peer_of

__all__ = ["ControlClient", "TimedOutError", "refuse_strangers", "refused"]


class TimedOutError(ControlError):
    """The master did not answer in time; the command may still be carried out."""

    exit_code = ExitCode.TIMED_OUT


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self.latest: socket.socket | None = None
        """The socket, also while an answer is read after which the connection will be closed."""

    def connect(self) -> None:
        self.sock = self.latest = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
        refuse_strangers(self._path, self.sock)


def refuse_strangers(path: Path, connection: socket.socket) -> None:
    """Raise ControlError for a socket that another user could have placed: what answers there is not our master."""
    _refuse_stranger(path, "its folder", os.stat(path.parent).st_uid)
    _refuse_stranger(path, "it", os.stat(path).st_uid)
    _refuse_stranger(path, "the program that listens there", peer_of(connection).uid)


def refused(answer: Any) -> ControlError:
    """Return the error for an answer with a status of 400 or more."""
    known = answer if isinstance(answer, dict) else {}
    error = ControlError(printable(str(known.get("error", "refused"))))
    error.code = str(known.get("code", error.code))
    return error


def _refuse_stranger(path: Path, what: str, uid: int) -> None:
    if uid in (0, os.geteuid()):
        return
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    raise ControlError(f"{path}: {what} belongs to {user}; run forkservectl as the user that runs forkserve")


class ControlClient:
    """Calls verbs of one master. `timeout` in seconds limits each answer; None waits for as long as the work takes."""

    def __init__(self, path: Path, *, timeout: float | None = None) -> None:
        self._path = path
        self._connection = _UnixConnection(path, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._connection.close()

    def call(self, verb: str, **parameters: Any) -> Any:
        """Call a verb and return its answer as plain data.

        Raises ControlError with the master's own words if it refuses, or cannot be reached; TimedOutError if it does
        not answer in time.
        """
        with self._translated(verb):
            return self._answer(self._ask(verb, parameters))

    def follow(self, verb: str, **parameters: Any) -> Iterator[Any]:
        """Yield the events that a verb streams until the master ends them; raises as `call` does."""
        with self._translated(verb):
            response = self._ask(verb, parameters)
            if response.status >= 400:
                self._answer(response)
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def cut_off(self) -> None:
        """End the answer that another thread follows, with a ControlError there."""
        if self._connection.latest is not None:
            with contextlib.suppress(OSError):
                self._connection.latest.shutdown(socket.SHUT_RDWR)

    def _ask(self, verb: str, parameters: Mapping[str, Any]) -> http.client.HTTPResponse:
        body = json.dumps({key: value for key, value in parameters.items() if value is not None})
        self._connection.request("POST", f"/v1/{verb}", body, {"Content-Type": "application/json"})
        return self._connection.getresponse()

    def _answer(self, response: http.client.HTTPResponse) -> Any:
        answer = json.loads(response.read() or b"null")
        if response.status >= 400:
            raise refused(answer if isinstance(answer, dict) else {"error": response.reason})
        return answer

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        """Turn a failure to reach the master into one line."""
        try:
            yield
        except TimeoutError:
            raise TimedOutError(f"no answer to {verb} within the time given; the work may still go on") from None
        except PermissionError:
            raise ControlError(f"{self._path}: permission denied; run as the user that runs forkserve") from None
        except FileNotFoundError:
            raise ControlError(f"{self._path}: no such socket; is forkserve running?") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise ControlError(f"{self._path}: {printable(str(error)) or 'the master closed the connection'}") from None
