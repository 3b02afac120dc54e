"""The verb that shows the output of processes: the log writer answers, over the client's connection."""

from __future__ import annotations

from forkserve.config.naming import identity_of
from forkserve.control.commands.context import Context
from forkserve.control.http import DelegatedReply
from forkserve.control.schema.requests import LogsOf
from forkserve.errors import ControlError

__all__ = ["logs"]


def logs(context: Context, asked: LogsOf) -> DelegatedReply:
    """Show the last lines of watchers, or of one process; refused if nothing is captured."""
    supervisor = context.master.supervisor
    queue, wid = (None, None) if asked.target is None else supervisor.place(asked.target)
    meant = supervisor.watchers if queue is None else (queue.watcher,)
    captured = [each.name for each in meant if context.master.keeps_logs_of(each.options)]
    if not captured:
        raise _nothing_kept(asked.target)
    if not context.master.can_tell_logs:
        raise ControlError("the log writer does not answer; nothing was captured yet, or it is being replaced")
    facts = {
        "watchers": captured,
        "name": None if queue is None or wid is None else str(identity_of(queue.watcher.options, wid)),
        "last": asked.last,
        "follow": asked.follow,
    }

    def take(connection: int, head: bytes) -> None:
        context.master.tell_logs(connection, {**facts, "head": head.decode("latin-1")})

    return DelegatedReply(take)


def _nothing_kept(target: str | None) -> ControlError:
    what = "no watcher" if target is None else f"{target}: nothing"
    return ControlError(
        f"{what} is captured: output goes straight to where forkserve's own goes; `capture = on` in the section of "
        "forkserve, or `forkserve --capture on`, keeps it for all, `logs_kept = 64K` for one watcher"
    )
