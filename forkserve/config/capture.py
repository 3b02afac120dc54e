"""Which output of a process is captured, and how much of it is kept for `forkservectl logs`. Pure."""

from __future__ import annotations

from forkserve.config.model import StreamClass, StreamOptions, WatcherOptions

__all__ = ["KEPT", "bytes_kept", "captured_streams"]

KEPT = 64 * 1024
"""Bytes of the last output of a watcher that are kept by default."""


def captured_streams(options: WatcherOptions) -> tuple[StreamOptions | None, StreamOptions | None]:
    """Return the streams of stdout and stderr; None if a process writes to the master's own, or to /dev/null."""
    stdout, stderr = options.stdout_stream, options.stderr_stream
    if options.redirect_stderr:
        stderr = None
    if options.logs_kept:
        stdout = stdout or StreamOptions(kind=StreamClass.STDOUT)
        stderr = None if options.redirect_stderr else stderr or StreamOptions(kind=StreamClass.STDERR)
    return (None if options.close_child_stdout else stdout, None if options.close_child_stderr else stderr)


def bytes_kept(options: WatcherOptions) -> int:
    """Return how many bytes of captured output are kept."""
    return KEPT if options.logs_kept is None else options.logs_kept
