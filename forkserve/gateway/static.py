"""--static /url=folder: files beside the application, by sendfile, with conditional requests and ranges.

Rules: only GET and HEAD, only regular files below the folder after every link is followed, no listing, nothing whose
name begins with a dot. What is no such file goes to the application.
"""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from forkserve.gateway.files import FileWrapper
from forkserve.http.conditional import Conditions, Selection, etag_of, select
from forkserve.http.response import date_text

__all__ = ["Static"]

Environ = dict[str, Any]
Start = Callable[..., Any]
STATUS = {200: "200 OK", 206: "206 Partial Content", 304: "304 Not Modified", 412: "412 Precondition Failed"}
UNSATISFIABLE = "416 Range Not Satisfiable"


class Static:
    """An application in front of another; serves what lies in its folders."""

    def __init__(self, app: Callable[..., Iterable[bytes]], folders: Sequence[tuple[str, str]]) -> None:
        self.app = app
        # The longest prefix first; each ends with a slash, so that /static does not hold /statics.
        self.folders = sorted(
            ((url.rstrip("/") + "/", os.path.realpath(folder)) for url, folder in folders),
            key=lambda each: -len(each[0]),
        )
        self.types = mimetypes.MimeTypes()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Serve a file, or have the application answer."""
        path = environ["PATH_INFO"]
        for url, folder in self.folders:
            if path.startswith(url) and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                fd = _open(folder, path[len(url) :])
                if fd is not None:
                    return self._serve(fd, path, environ, start)
                break
        return self.app(environ, start)

    def _serve(self, fd: int, path: str, environ: Environ, start: Start) -> Iterable[bytes]:
        file = os.fdopen(fd, "rb")
        described = os.fstat(fd)
        size, modified = described.st_size, int(described.st_mtime)
        etag = etag_of(described.st_mtime_ns, size)
        chosen = select(_conditions(environ), method=environ["REQUEST_METHOD"], etag=etag, modified=modified, size=size)
        headers = [("ETag", etag), ("Last-Modified", date_text(modified)), ("Accept-Ranges", "bytes")]
        if chosen.status in (200, 206):
            headers += self._content(path, chosen)
        where = chosen.content_range(size)
        if where is not None:
            headers.append(("Content-Range", where))
        start(STATUS.get(chosen.status, UNSATISFIABLE), headers)
        if chosen.status not in (200, 206):
            file.close()
            return []
        file.seek(chosen.start)
        return FileWrapper(file)

    def _content(self, path: str, chosen: Selection) -> list[tuple[str, str]]:
        kind, coding = self.types.guess_type(path)
        headers = [
            ("Content-Type", kind or "application/octet-stream"),
            ("Content-Length", str(chosen.stop - chosen.start)),
        ]
        return [*headers, ("Content-Encoding", coding)] if coding else headers


def _open(folder: str, name: str) -> int | None:
    """Open a regular file below the folder; None for everything else."""
    parts = name.encode("latin-1").decode("utf-8", "surrogateescape").split("/")
    if any(part.startswith(".") or "\0" in part for part in parts):
        return None
    try:
        real = os.path.realpath(os.path.join(folder, *parts), strict=True)
        if not real.startswith(folder + os.sep) and folder != os.sep:
            return None
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd


def _conditions(environ: Environ) -> Conditions:
    get = environ.get
    return Conditions(
        if_match=get("HTTP_IF_MATCH"),
        if_none_match=get("HTTP_IF_NONE_MATCH"),
        if_modified_since=get("HTTP_IF_MODIFIED_SINCE"),
        if_unmodified_since=get("HTTP_IF_UNMODIFIED_SINCE"),
        if_range=get("HTTP_IF_RANGE"),
        range=get("HTTP_RANGE"),
    )
