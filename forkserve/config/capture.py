"""Which output of a process is captured, and how much of it is kept for those who ask. Pure."""

from __future__ import annotations

from forkserve.config.model import StreamClass, StreamOptions, WatcherOptions

__all__ = ["KEPT", "bytes_kept", "captured_streams"]

KEPT = 64 * 1024
"""Bytes of the last output of a watcher that are kept unless its options say otherwise."""


def captured_streams(options: WatcherOptions) -> tuple[StreamOptions | None, StreamOptions | None]:
    """Return what becomes of stdout and of stderr; None where a process writes to the master's own, or to nowhere."""
    stdout, stderr = options.stdout_stream, options.stderr_stream
    if options.redirect_stderr:
        stderr = None
    if options.logs_kept:
        stdout = stdout or StreamOptions(kind=StreamClass.STDOUT)
        stderr = None if options.redirect_stderr else stderr or StreamOptions(kind=StreamClass.STDERR)
    return (None if options.close_child_stdout else stdout, None if options.close_child_stderr else stderr)


def bytes_kept(options: WatcherOptions) -> int:
    """Return how many bytes of what is captured are kept."""
    return KEPT if options.logs_kept is None else options.logs_kept
