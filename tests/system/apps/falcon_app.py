"""The routes of the frameworks' suite, in Falcon."""

from __future__ import annotations

import hashlib
from typing import Any

import falcon


class Json:
    def on_get(self, req: Any, resp: Any) -> None:
        resp.media = {"name": req.get_param("name"), "address": req.remote_addr}

    def on_post(self, req: Any, resp: Any) -> None:
        resp.media = {"sum": sum(req.get_media()["numbers"])}


class Form:
    def on_post(self, req: Any, resp: Any) -> None:
        resp.media = req.get_media()


class Upload:
    def on_post(self, req: Any, resp: Any) -> None:
        for part in req.get_media():
            data = part.stream.read()
            resp.media = {"name": part.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Stream:
    def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = (b"line %d\n" % number for number in range(100))


class Cookies:
    def on_get(self, req: Any, resp: Any) -> None:
        resp.set_cookie("first", "1")
        resp.set_cookie("second", "2")
        resp.set_header("X-Seen", req.get_header("X-Sent"))
        resp.media = req.cookies


app = falcon.App()
for path, resource in (
    ("/json", Json()),
    ("/form", Form()),
    ("/upload", Upload()),
    ("/stream", Stream()),
    ("/cookies", Cookies()),
):
    app.add_route(path, resource)
