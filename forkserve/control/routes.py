"""Between HTTP and the verbs: a request becomes a call, its answer a reply, and every mistake a status with one line.

200  done                      404  no such verb, or no such watcher 202  begun (waiting: false)    405  a verb that
changes something, by GET 400  parameters that do not fit    409  refused by the master
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from http import HTTPStatus
from typing import Any

import msgspec

from forkserve.control.answering import error_reply, json_reply, refusal
from forkserve.control.commands.context import Context, Later
from forkserve.control.commands.steps import take_steps
from forkserve.control.commands.table import COMMANDS
from forkserve.control.connection import Respond
from forkserve.control.http import DelegatedReply, Request, StreamReply
from forkserve.control.openapi import document
from forkserve.control.printable import printable
from forkserve.control.sampler import Sampler
from forkserve.control.schema.reports import Done
from forkserve.control.stream import EventHistory
from forkserve.control.verbs import VERBS, Verb
from forkserve.errors import ControlError, ForkserveError
from forkserve.master import Master
from forkserve.suggest import nearest
from forkserve.supervision.completion import Completion
from forkserve.supervision.os.loop import Loop

__all__ = ["Routes"]

log = logging.getLogger("forkserve.control")

_PREFIX = "/v1/"
LONGEST = 500
"""Most characters of a client's input that are repeated to it, or logged."""


class Routes:
    """Handles the requests of the control server over one master."""

    def __init__(self, master: Master, events: EventHistory) -> None:
        sampler = Sampler(master.loop)
        master.keep_running(sampler)
        self._context = Context(master, sampler, events)

    @property
    def loop(self) -> Loop:
        """The loop that the server uses."""
        return self._context.master.loop

    def __call__(self, request: Request, respond: Respond) -> None:
        """Answer one request, now or when its work is done; never raises."""
        try:
            self._answer(request, respond)
        except _Mistake as mistake:
            respond(error_reply(mistake.status, str(mistake)[:LONGEST], mistake.headers))
        except ForkserveError as error:
            respond(refusal(error))
        except Exception:
            log.exception("a bug in forkserve, please report it: %s %s", request.method, request.path)
            respond(error_reply(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug in forkserve; its log says more"))

    def _answer(self, request: Request, respond: Respond) -> None:
        if request.path == "/v1/openapi.json" and request.method in ("GET", "HEAD"):
            respond(json_reply(HTTPStatus.OK, document()))
            return
        verb = _find(request)
        parameters = _parameters(verb, request)
        answer = COMMANDS[verb.name](self._context, parameters)
        if not verb.reads:
            asked = request.body[:LONGEST].decode("utf-8", "replace").replace("\n", " ")
            log.info("control: %s %s", printable(request.path.removeprefix(_PREFIX)), printable(asked))
        if isinstance(answer, StreamReply | DelegatedReply):
            respond(answer)
        elif isinstance(answer, Generator):
            take_steps(self._context, answer, respond)
        elif isinstance(answer, Later):
            answer.begin(lambda result: respond(json_reply(HTTPStatus.OK, result)))
        elif not isinstance(answer, Completion):
            respond(json_reply(HTTPStatus.OK, answer))
        elif getattr(parameters, "waiting", True):
            respond(answer)
        elif answer.error is not None:
            raise answer.error
        else:
            respond(json_reply(HTTPStatus.ACCEPTED, Done(False, "begun")))


class _Mistake(ControlError):
    code = "invalid"

    def __init__(self, status: HTTPStatus, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def _find(request: Request) -> Verb:
    path = request.path.rstrip("/")
    name = "version" if path == "/v1" else path.removeprefix(_PREFIX)
    if (path != "/v1" and not path.startswith(_PREFIX)) or name not in VERBS:
        raise _Mistake(HTTPStatus.NOT_FOUND, f"no verb {name!r}{nearest(name, VERBS)}; GET /v1 lists them")
    verb = VERBS[name]
    if request.method == "POST" or (verb.reads and request.method in ("GET", "HEAD")):
        return verb
    allowed = "GET, HEAD, POST" if verb.reads else "POST"
    raise _Mistake(HTTPStatus.METHOD_NOT_ALLOWED, f"{name} is asked by {allowed}", (("Allow", allowed),))


def _parameters(verb: Verb, request: Request) -> Any:
    try:
        given = msgspec.json.decode(request.body) if request.body.strip() else {}
        if not isinstance(given, dict):
            raise _Mistake(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
        # A query, and forkservectl's NAME=VALUE, are text; so numbers and truth are accepted as text too.
        return msgspec.convert({**request.query, **given}, verb.parameters, strict=False)
    except RecursionError:
        raise _Mistake(HTTPStatus.BAD_REQUEST, "parameters: nested too deeply") from None
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise _Mistake(HTTPStatus.BAD_REQUEST, _worded(str(error))) from None


def _worded(text: str) -> str:
    """Return what is wrong with a parameter by its name: "count: expected int >= 1"."""
    found = re.fullmatch(r"(.+) - at `\$\.([\w.\[\]]+)`", text)
    problem, place = (found[1], found[2]) if found else (text, "parameters")
    return f"{place}: {problem[:1].lower()}{problem[1:]}".replace("`", "")
