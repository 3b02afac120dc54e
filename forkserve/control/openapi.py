"""The description of the control API, made from the declarations of the verbs: OpenAPI 3.1, and a page for people.

`python -m forkserve.control.openapi` prints the page, docs/api.md.

Rules: pure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from forkserve import __version__
from forkserve.control.schema.reports import Done
from forkserve.control.verbs import VERBS, Verb

__all__ = ["document", "page"]

_REFUSALS = {
    "400": "Invalid parameters.",
    "403": "This user may not control this forkserve.",
    "404": "No such watcher, socket, process or option.",
    "405": "A verb that changes something, asked by GET.",
    "409": "Refused by the master; nothing has changed.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, as text."},
        "code": {
            "type": "string",
            "description": "The same for a program: invalid, no-such-watcher, no-such-process, no-such-option, "
            "no-such-socket, singleton, needs-reload, refused.",
        },
    },
}


def document() -> dict[str, Any]:
    """Return the document of OpenAPI 3.1."""
    types = [each for verb in VERBS.values() for each in (verb.parameters, verb.answer)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    pairs = zip(VERBS.values(), schemas[::2], schemas[1::2], strict=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "forkserve control",
            "version": __version__,
            "description": "HTTP/1.1 and JSON on the control socket. Under /v1 fields are added, never renamed.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": {f"/v1/{verb.name}": _path(verb, asked, answer) for verb, asked, answer in pairs},
        "components": {"schemas": {**components, "Error": _ERROR}},
    }


def _path(verb: Verb, asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    operation = {
        "operationId": verb.name,
        "summary": verb.summary,
        "requestBody": {"required": _needs_body(verb), "content": {"application/json": {"schema": asked}}},
        "responses": _responses(verb, answer),
    }
    path: dict[str, Any] = {"post": operation}
    if verb.reads:
        query = [_in_query(field) for field in msgspec.structs.fields(verb.parameters)]
        path["get"] = {
            "operationId": f"get_{verb.name}",
            "summary": verb.summary,
            "parameters": query,
            "responses": operation["responses"],
        }
    return path


def _needs_body(verb: Verb) -> bool:
    return any(field.required for field in msgspec.structs.fields(verb.parameters))


def _in_query(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": "query",
        "required": field.required,
        "schema": msgspec.json.schema(field.type),
    }


def _responses(verb: Verb, answer: dict[str, Any]) -> dict[str, Any]:
    kind = "text/event-stream" if verb.streams else "application/json"
    schema = {"type": "string"} if verb.streams else answer
    responses = {"200": {"description": "Done.", "content": {kind: {"schema": schema}}}}
    if any(field.name == "waiting" for field in msgspec.structs.fields(verb.parameters)):
        begun = {"schema": {"$ref": f"#/components/schemas/{Done.__name__}"}}
        responses["202"] = {"description": "Begun (waiting: false).", "content": {"application/json": begun}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {**responses, **{code: {"description": text, "content": error} for code, text in _REFUSALS.items()}}


_HEAD = """# The control API

HTTP/1.1 and JSON on the control socket, a Unix socket for forkserve's user and root
([its path](operations.md#over-http)). Verbs that only read take GET, with parameters in the query. Every verb takes
POST, with a JSON object:

```sh
curl --unix-socket /run/forkserve/circus-1c2d3e4f.sock http://localhost/v1/status?watcher=web
curl --unix-socket /run/forkserve/circus-1c2d3e4f.sock http://localhost/v1/incr -d '{"watcher": "web", "count": 2}'
```

A verb that takes time answers when it is done, or at once with status 202 if `"waiting": false`. An error is
`{"error": TEXT, "code": WORD}` with status 400 (invalid parameters), 403 (user not allowed), 404 (no such verb or
name), 405 (a change by GET) or 409 (refused; nothing has changed). `GET /v1/openapi.json` describes all of it for
programs (OpenAPI 3.1). Under `/v1` fields are added, never renamed. This page is printed by
`python -m forkserve.control.openapi`.

| verb | by | parameters | what it does |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return docs/api.md."""
    return _HEAD + "".join(f"{_row(verb)}\n" for verb in VERBS.values())


def _row(verb: Verb) -> str:
    fields = msgspec.structs.fields(verb.parameters)
    names = ", ".join(f"**{each.name}**" if each.required else each.name for each in fields)
    return f"| `{verb.name}` | {'GET, POST' if verb.reads else 'POST'} | {names} | {verb.summary} |"


if __name__ == "__main__":
    print(page(), end="")
