"""Which output of a process is captured, and how much of it is kept for `forkservectl logs`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from forkserve.config.model import StreamClass, StreamOptions, WatcherOptions
from forkserve.config.naming import slot_values
from forkserve.config.placeholders import expand

__all__ = ["KEPT", "bytes_kept", "captured_streams"]

KEPT = 64 * 1024
"""Bytes of the last output of a watcher that are kept by default."""


def captured_streams(
    options: WatcherOptions, wid: int = 1, *, own: Sequence[int] = ()
) -> tuple[StreamOptions | None, StreamOptions | None]:
    """Return the streams of stdout and stderr of a slot; None for the master's own, or for /dev/null.

    `own` are those of the master's, 1 and 2, that are captured on the way unless `logs_kept` is 0.
    """
    stdout, stderr = options.stdout_stream, options.stderr_stream
    if options.redirect_stderr:
        stderr = None
    if options.logs_kept:
        stdout = stdout or StreamOptions(kind=StreamClass.STDOUT)
        stderr = None if options.redirect_stderr else stderr or StreamOptions(kind=StreamClass.STDERR)
    elif options.logs_kept is None:
        stdout = stdout or (StreamOptions(kind=StreamClass.STDOUT, as_it_is=True) if 1 in own else None)
        if not options.redirect_stderr:
            stderr = stderr or (StreamOptions(kind=StreamClass.STDERR, as_it_is=True) if 2 in own else None)
    stdout, stderr = (_placed(each, options, wid) for each in (stdout, stderr))
    return (None if options.close_child_stdout else stdout, None if options.close_child_stderr else stderr)


def _placed(stream: StreamOptions | None, options: WatcherOptions, wid: int) -> StreamOptions | None:
    if stream is None or stream.filename is None:
        return stream
    return replace(stream, filename=expand(stream.filename, slot_values(options, wid)))


def bytes_kept(options: WatcherOptions) -> int:
    """Return how many bytes of captured output are kept."""
    return KEPT if options.logs_kept is None else options.logs_kept
