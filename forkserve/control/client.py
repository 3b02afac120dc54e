"""The client's end of the control interface: one request, one answer, over a Unix socket.

with Client(find("circus.ini")) as client:
    watchers = client.call("status")
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forkserve.control.printable import printable
from forkserve.errors import ControlError, ExitCode

__all__ = ["Client", "TimedOutError"]


class TimedOutError(ControlError):
    """The master did not answer in time; the command may still be carried out."""

    exit_code = ExitCode.TIMED_OUT


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        _refuse_strangers(self._path)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _refuse_stranger(self._path, "the program that listens there", struct.unpack("3i", credentials)[1])


def _refuse_strangers(path: Path) -> None:
    """Raise ControlError for a socket that another user could have placed: what answers there is no master of ours."""
    _refuse_stranger(path, "its folder", os.stat(path.parent).st_uid)
    _refuse_stranger(path, "it", os.stat(path).st_uid)


def _refuse_stranger(path: Path, what: str, uid: int) -> None:
    if uid in (0, os.geteuid()):
        return
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    raise ControlError(f"{path}: {what} belongs to {user}; run forkservectl as the user that runs forkserve")


class Client:
    """Calls verbs of one master. `timeout` in seconds bounds each answer; None waits for as long as the work takes."""

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
        """Carry out a verb and return its answer as plain data.

        Raises ControlError with the master's own words when it refuses, or when it cannot be reached; TimedOutError
        when it does not answer in time.
        """
        body = json.dumps({key: value for key, value in parameters.items() if value is not None})
        try:
            self._connection.request("POST", f"/v1/{verb}", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            answer = json.loads(response.read() or b"null")
        except TimeoutError:
            raise TimedOutError(f"no answer to {verb} within the time given; the work may still go on") from None
        except PermissionError:
            raise ControlError(f"{self._path}: permission denied; run as the user that runs forkserve") from None
        except FileNotFoundError:
            raise ControlError(f"{self._path}: no such socket; is forkserve running?") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise ControlError(f"{self._path}: {printable(str(error)) or 'the master closed the connection'}") from None
        if response.status >= 400:
            told = answer.get("error", response.reason) if isinstance(answer, dict) else response.reason
            raise ControlError(printable(str(told)))
        return answer
