"""--static for ASGI: the files found by `forkserve.serving.static`, as an application in front of another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from forkserve.serving.asgi.context import Application, Message
from forkserve.serving.static import Folders, Found

__all__ = ["AsgiStatic"]

Send = Callable[[Message], Awaitable[None]]


class AsgiStatic:
    """An application that serves the files of its folders, and leaves the rest to another."""

    def __init__(self, app: Application, folders: Sequence[tuple[str, str]]) -> None:
        self.app = app
        self.folders = Folders(folders)

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """Serve a file, or call the application."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
        else:
            await _send(found, send)

    def _find(self, scope: dict[str, Any]) -> Found | None:
        headers = scope["headers"]

        def field(name: str) -> str | None:
            key = name.encode()
            values = [value.decode("latin-1") for each, value in headers if each == key]
            return ",".join(values) if values else None

        path = scope["path"].removeprefix(scope["root_path"])
        return self.folders.find(scope["method"], path.encode().decode("latin-1"), field)


async def _send(found: Found, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.headers]
    try:
        await send({"type": "http.response.start", "status": int(found.status[:3]), "headers": headers})
        if found.file is None:
            await send({"type": "http.response.body"})
        else:
            await send(
                {
                    "type": "http.response.zerocopysend",
                    "file": found.file,
                    "offset": found.start,
                    "count": found.count,
                }
            )
    finally:
        if found.file is not None:
            found.file.close()
