"""--static /url=folder: files beside the application, by sendfile, with conditional requests and ranges.

Rules: only GET and HEAD, only regular files below the folder after every link is followed, no listing, and no dotfiles,
even through a link with another name. Anything else goes to the application.
"""

from __future__ import annotations

import errno
import mimetypes
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from forkserve.errors import UsageError
from forkserve.serving.files import FileWrapper
from forkserve.serving.http.conditional import Conditions, Selection, etag_of, select
from forkserve.serving.http.dates import date_text
from forkserve.unix.beneath import open_beneath

__all__ = ["Folders", "Found", "WsgiStatic"]

Environ = dict[str, Any]
Start = Callable[..., Any]
HIDDEN = re.compile(r"\.(?!\.)").match
"""A dotfile. Names that begin with two dots are no secret: Kubernetes keeps what it mounts in `..data`, and has
links to it.
"""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
STATUS = {200: "200 OK", 206: "206 Partial Content", 304: "304 Not Modified", 412: "412 Precondition Failed"}
UNSATISFIABLE = "416 Range Not Satisfiable"


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be served: `start` is where its bytes begin, `count` how many are sent; no file if there are none."""

    status: str
    headers: list[tuple[str, str]]
    file: BinaryIO | None
    start: int
    count: int


class Folders:
    """Folders by URL; finds the files in them."""

    def __init__(self, folders: Sequence[tuple[str, str]]) -> None:
        """Take `(url, folder)` pairs; raises UsageError if a folder does not exist."""
        for url, folder in folders:
            if not os.path.isdir(folder):
                raise UsageError(f"--static {url}={folder}: no such directory")
        # The longest prefix first; each ends with a slash, so that /static does not hold /statics.
        self.folders = sorted(
            ((url.rstrip("/") + "/", os.path.realpath(folder)) for url, folder in folders),
            key=lambda each: -len(each[0]),
        )
        self.types = mimetypes.MimeTypes()

    def find(self, method: str, path: str, field: Callable[[str], str | None]) -> Found | None:
        """Return the file for a request, if there is one.

        `path` is unquoted, its bytes as latin-1; `field` returns a header field by its name in lower case.
        """
        if method not in ("GET", "HEAD"):
            return None
        for url, folder in self.folders:
            if path.startswith(url):
                fd = _open(folder, path[len(url) :])
                return None if fd is None else self._found(os.fdopen(fd, "rb"), method, path, field)
        return None

    def _found(self, file: BinaryIO, method: str, path: str, field: Callable[[str], str | None]) -> Found:
        described = os.fstat(file.fileno())
        size, modified = described.st_size, int(described.st_mtime)
        etag = etag_of(described.st_mtime_ns, size)
        chosen = select(_conditions(field), method=method, etag=etag, modified=modified, size=size)
        headers = [("ETag", etag), ("Last-Modified", date_text(modified)), ("Accept-Ranges", "bytes")]
        whole = chosen.status in (200, 206)
        if whole:
            headers += self._content(path, chosen)
        else:
            file.close()
        where = chosen.content_range(size)
        if where is not None:
            headers.append(("Content-Range", where))
        status = STATUS.get(chosen.status, UNSATISFIABLE)
        return Found(status, headers, file if whole else None, chosen.start, chosen.stop - chosen.start)

    def _content(self, path: str, chosen: Selection) -> list[tuple[str, str]]:
        kind, coding = self.types.guess_type(path)
        headers = [
            ("Content-Type", kind or "application/octet-stream"),
            ("Content-Length", str(chosen.stop - chosen.start)),
        ]
        return [*headers, ("Content-Encoding", coding)] if coding else headers


class WsgiStatic:
    """A WSGI application in front of another; serves the files of its folders."""

    def __init__(self, app: Callable[..., Iterable[bytes]], folders: Sequence[tuple[str, str]]) -> None:
        self.app = app
        self.folders = Folders(folders)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Serve a file, or call the application."""

        def field(name: str) -> str | None:
            value: str | None = environ.get("HTTP_" + name.upper().replace("-", "_"))
            return value

        found = self.folders.find(environ["REQUEST_METHOD"], environ["PATH_INFO"], field)
        if found is None:
            return self.app(environ, start)
        start(found.status, found.headers)
        if found.file is None:
            return []
        found.file.seek(found.start)
        return FileWrapper(found.file)


def _open(folder: str, name: str) -> int | None:
    """Open a regular file below the folder; None for everything else. Raises OSError if descriptors have run out."""
    parts = name.encode("latin-1").decode("utf-8", "surrogateescape").split("/")
    # A slash at the end names a folder, which is nothing to be served.
    if not parts[-1] or any(part.startswith(".") or "\0" in part for part in parts):
        return None
    try:
        fd = _open_real(folder, os.path.realpath(os.path.join(folder, *parts), strict=True))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            # It may well be there, so the application, and a 404, would be wrong.
            raise
        return None
    if fd is not None and not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd


def _open_real(folder: str, real: str) -> int | None:
    """Open the target of a path, if it lies below the folder and is not a dotfile. Raises OSError."""
    below = real.removeprefix(folder.rstrip("/") + "/")
    if below == real or any(HIDDEN(part) for part in below.split("/")):
        return None
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A link in it by now was put there after it was looked at. O_NONBLOCK: a FIFO must not wait for its writer.
        return open_beneath(at, below, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(at)


def _conditions(field: Callable[[str], str | None]) -> Conditions:
    return Conditions(
        if_match=field("if-match"),
        if_none_match=field("if-none-match"),
        if_modified_since=field("if-modified-since"),
        if_unmodified_since=field("if-unmodified-since"),
        if_range=field("if-range"),
        range=field("range"),
    )
