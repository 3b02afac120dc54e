"""Replies of the control interface as JSON: an answer, an error in one line, and the result of work that took time."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from forkserve.control.http import Reply
from forkserve.control.schema.reports import Done
from forkserve.errors import ConfigError, ControlError, ForkserveError, UnknownNameError
from forkserve.supervision.completion import Completion

__all__ = ["error_reply", "json_reply", "outcome_reply", "refusal"]


def json_reply(status: HTTPStatus, answer: Any) -> Reply:
    """Return a reply with the answer of a verb."""
    return Reply(status, msgspec.json.encode(answer) + b"\n")


def error_reply(
    status: HTTPStatus, text: str, headers: tuple[tuple[str, str], ...] = (), code: str = "invalid"
) -> Reply:
    """Return a reply that says what is wrong with a request."""
    return Reply(status, msgspec.json.encode({"error": text, "code": code}) + b"\n", headers)


def refusal(error: ForkserveError) -> Reply:
    """Return the error of a refusal, as text and code; an unknown name is 404, anything else 409."""
    status = HTTPStatus.NOT_FOUND if isinstance(error, UnknownNameError) else HTTPStatus.CONFLICT
    code = "invalid" if isinstance(error, ConfigError) else getattr(error, "code", ControlError.code)
    return error_reply(status, str(error), code=code)


def outcome_reply(completion: Completion) -> Reply:
    """Return the reply to completed work."""
    if completion.error is not None:
        return refusal(completion.error)
    return json_reply(HTTPStatus.OK, Done(True, completion.result or "done", completion.code))
