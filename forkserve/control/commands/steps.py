"""Takes the steps of a long answer, several at a stretch: the loop handles other events in between."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from forkserve.control.answering import error_reply, json_reply
from forkserve.control.commands.context import Context, Later, Steps
from forkserve.control.connection import Respond

__all__ = ["AT_A_TIME", "take_steps"]

log = logging.getLogger("forkserve.control")

AT_A_TIME = 0.005
"""Seconds of answering one request at a stretch."""


def take_steps(context: Context, steps: Steps, respond: Respond, figures: Any = None) -> None:
    """Take steps for a moment, then let the loop handle other events; the next step gets the `figures` that it
    requested.
    """
    loop = context.master.loop
    enough = loop.now() + AT_A_TIME
    try:
        while True:
            wanted = next(steps) if figures is None else steps.send(figures)
            figures = None
            if isinstance(wanted, Later):
                wanted.begin(lambda found: take_steps(context, steps, respond, found))
                return
            if wanted is not None:
                context.sampler.measure(wanted, lambda found: take_steps(context, steps, respond, found))
                return
            if loop.now() >= enough:  # looked at behind the step: a busy machine may take the whole moment before it
                break
    except StopIteration as end:
        respond(json_reply(HTTPStatus.OK, end.value))
        return
    except Exception:
        log.exception("a bug in forkserve, please report it")
        respond(error_reply(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug in forkserve; its log says more"))
        return
    loop.call_later(0.0, lambda: take_steps(context, steps, respond))
