"""Circus's commands, each by verbs of the control interface.

Rules: a command returns the fields of its answer, or raises MessageRefused; refusals of the master become that, with
Circus's number.
"""

from __future__ import annotations

from forkserve.errors import ControlError
from forkserve.sidecars.circus import statswatcher
from forkserve.sidecars.circus.edits import EDITS
from forkserve.sidecars.circus.orders import ORDERS
from forkserve.sidecars.circus.protocol import CircusRequest, Errno, MessageRefused
from forkserve.sidecars.circus.questions import QUESTIONS
from forkserve.sidecars.circus.service import Answer, CircusService

__all__ = ["COMMANDS", "dispatch"]

COMMANDS = {**QUESTIONS, **ORDERS, **EDITS}


async def dispatch(service: CircusService, request: CircusRequest) -> Answer:
    """Carry out a request; raises MessageRefused."""
    command = COMMANDS.get(request.command)
    if command is None:
        raise MessageRefused(f"unknown command: {request.command!r}", Errno.UNKNOWN_COMMAND)
    try:
        return await command(service, request)
    except ControlError as error:
        if error.code == "no-such-watcher":
            if await statswatcher.is_meant(service, str(request.properties.get("name"))):
                raise MessageRefused(statswatcher.REFUSAL) from None
            raise MessageRefused(f"program {request.properties.get('name')} not found") from None
        errno = Errno.MESSAGE_ERROR if error.code == "invalid" else Errno.COMMAND_ERROR
        raise MessageRefused(str(error), errno) from None
