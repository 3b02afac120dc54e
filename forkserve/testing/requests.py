"""The corpus over a socket: valid requests are served as meant, invalid ones never reach the application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from forkserve.testing.client import ClientConnection, Failed, Response, expect
from forkserve.testing.corpus import Case, invalid_cases, valid_cases
from forkserve.testing.outcome import Check, Fault
from forkserve.testing.worker import WorkerUnderTest

__all__ = ["invalid_requests", "valid_requests"]

PATIENCE = 2.0
"""Seconds to wait for the answer to one case; many servers leave one unanswered, and each costs this time."""


def valid_requests() -> Iterator[Check]:
    """Yield a check for each case in which all requests are served."""
    for case in valid_cases():
        yield Check(_name(case), partial(_serves, case))


def invalid_requests() -> Iterator[Check]:
    """Yield a check for each case that ends in a refusal."""
    for case in invalid_cases():
        yield Check(_name(case), partial(_refuses, case))


def _name(case: Case) -> str:
    return f"{case.name} [{case.rfc}]"


def _serves(case: Case, worker: WorkerUnderTest) -> None:
    with worker.connect(patience=PATIENCE) as connection:
        connection.send(case.raw)
        for fact in case.served:
            _compare(connection.response(fact.get("method", _method(case))), fact)


def _refuses(case: Case, worker: WorkerUnderTest) -> None:
    with worker.connect(patience=PATIENCE) as connection:
        connection.send(case.raw)
        for fact in case.served:
            _compare(connection.response(fact.get("method", _method(case))), fact)
        answer = _answer(connection)
    if answer is not None and answer.status < 400:
        fault = Fault.SMUGGLING if case.area == "framing" else Fault.LENIENT
        raise Failed(f"served with {answer.status}", fault)


def _answer(connection: ClientConnection) -> Response | None:
    """Return the outcome of an invalid request; None if the connection ends without an answer."""
    if connection.closed():
        return None
    return connection.response("HEAD")


def _method(case: Case) -> str:
    return case.raw.lstrip(b"\r\n").partition(b" ")[0].decode("latin-1")


def _compare(response: Response, fact: dict[str, object]) -> None:
    expect(response.status < 400, f"refused with {response.status}")
    if "body" not in fact or not response.body:
        return
    seen = json.loads(response.body)
    if seen["body"] != fact["body"]:
        fault = Fault.TRUNCATION if len(seen["body"]) < len(str(fact["body"])) else Fault.LENIENT
        raise Failed(f"the application got {seen['body'][:60]!r}", fault)
