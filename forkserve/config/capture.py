"""Which output of a process is captured, and how much of it is kept for `forkservectl logs`. Pure."""

from __future__ import annotations

from dataclasses import replace

from forkserve.config.model import StreamClass, StreamOptions, WatcherOptions
from forkserve.config.naming import slot_values
from forkserve.config.placeholders import expand

__all__ = ["KEPT", "bytes_kept", "captured_streams"]

KEPT = 64 * 1024
"""Bytes of the last output of a watcher that are kept by default."""


def captured_streams(options: WatcherOptions, wid: int = 1) -> tuple[StreamOptions | None, StreamOptions | None]:
    """Return the streams of stdout and stderr of a slot; None for the master's own, or for /dev/null."""
    stdout, stderr = options.stdout_stream, options.stderr_stream
    if options.redirect_stderr:
        stderr = None
    if options.logs_kept:
        stdout = stdout or StreamOptions(kind=StreamClass.STDOUT)
        stderr = None if options.redirect_stderr else stderr or StreamOptions(kind=StreamClass.STDERR)
    stdout, stderr = (_placed(each, options, wid) for each in (stdout, stderr))
    return (None if options.close_child_stdout else stdout, None if options.close_child_stderr else stderr)


def _placed(stream: StreamOptions | None, options: WatcherOptions, wid: int) -> StreamOptions | None:
    if stream is None or stream.filename is None:
        return stream
    return replace(stream, filename=expand(stream.filename, slot_values(options, wid)))


def bytes_kept(options: WatcherOptions) -> int:
    """Return how many bytes of captured output are kept."""
    return KEPT if options.logs_kept is None else options.logs_kept
