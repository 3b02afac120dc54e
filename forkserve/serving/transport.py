"""What a WSGI exchange needs of its connection, and what replaces it after the exchange was abandoned."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["NOBODY", "Transport"]


class Transport(Protocol):
    """What an exchange needs of its connection; `forkserve.serving.engine.connection.Connection` is one."""

    listening: Any
    remote: tuple[str, str]

    @property
    def lost(self) -> bool: ...
    def reply(self, payload: bytes, keep: bool) -> None: ...
    def write(self, data: bytes) -> bool: ...
    def write_file(self, file: Any, offset: int, count: int, head: bytes = b"") -> None: ...
    def beat(self, since: float) -> float: ...
    def done(self, keep: bool) -> None: ...
    def limit_write(self) -> None: ...
    def lift_limit(self) -> None: ...
    def park(self) -> bool: ...
    def proceed(self) -> None: ...


class _Nobody:
    """In place of the connection of an abandoned exchange."""

    listening = None
    remote = ("", "")
    lost = True

    def reply(self, payload: bytes, keep: bool) -> None:
        """Refuse."""
        raise OSError("this request was abandoned")

    def write(self, data: bytes) -> bool:
        """Refuse."""
        raise OSError("this request was abandoned")

    def write_file(self, file: Any, offset: int, count: int, head: bytes = b"") -> None:
        """Refuse."""
        raise OSError("this request was abandoned")

    def beat(self, since: float) -> float:
        """Refuse."""
        raise OSError("this request was abandoned")

    def done(self, keep: bool) -> None:
        """Do nothing: it has ended."""

    def park(self) -> bool:
        """Never wait."""
        return False

    def limit_write(self) -> None:
        """Do nothing: it does not wait."""

    def lift_limit(self) -> None:
        """Do nothing."""

    def proceed(self) -> None:
        """Refuse."""
        raise OSError("this request was abandoned")


NOBODY: Transport = _Nobody()
