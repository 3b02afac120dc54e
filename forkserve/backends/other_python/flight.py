"""A WSGI application wrapped for servers that get things wrong."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Environ = dict[str, Any]
    Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

__all__ = ["Flight"]


class Result:
    """An application's result, counted as in flight until the server closes it."""

    __slots__ = ("_flight", "_result")

    def __init__(self, result: Iterable[bytes], flight: Flight) -> None:
        self._result = result
        self._flight: Flight | None = flight

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._result)

    def close(self) -> None:
        """Close the application's result, once."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.count -= 1
            close = getattr(self._result, "close", None)
            if close is not None:
                close()


class Flight:
    """A WSGI application wrapped against errors of servers: HEAD bodies, response headers, their own address.

    `count` is the number of requests in flight.
    """

    def __init__(self, app: Application, listener: socket.socket | None = None) -> None:
        self.app = app
        self.count = 0
        self.address: dict[str, str] = {}
        if listener is not None and listener.family in (socket.AF_INET, socket.AF_INET6):
            host, port = listener.getsockname()[:2]
            self.address = {"SERVER_NAME": host, "SERVER_PORT": str(port)}

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the application; see PEP 3333."""
        environ.update(self.address)
        environ.pop("wsgi.file_wrapper", None)  # meinheld's sends the whole file from 0, and spins on a short one

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(checked(status), [pair for pair in headers if sent(*pair)], *exc_info)

        self.count += 1
        result: Result | None = None
        try:
            result = Result(self.app(environ, start), self)
            if environ["REQUEST_METHOD"] != "HEAD":
                return result
            next(iter(result), None)  # a generator calls start_response at its first step only
        except BaseException:
            if result is None:
                self.count -= 1
            else:
                result.close()
            raise
        result.close()
        return ()


def checked(text: str) -> str:
    """Return `text` if it is valid in the head of a response; else raise, because some servers would crash."""
    if not isinstance(text, str):
        raise TypeError(f"expected str in a response's head, got {text!r}")
    text.encode("latin-1")
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError(f"line break in a response's head: {text!r}")
    return text


def sent(name: str, value: str) -> bool:
    """Check a header pair; False for headers that the server writes itself."""
    checked(value)
    return checked(name).lower() not in ("date", "server")
