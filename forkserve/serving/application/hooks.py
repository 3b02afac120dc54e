"""The user's hooks around the serving, and the options that they get.

Rules: the namespace has all options side by side, as Chaussette passes them to its hooks, with the actual values in
place of defaults. The post-hook runs once, however serving ends.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import SimpleNamespace

from forkserve.config.launch import WorkerOptions
from forkserve.config.options import options_of
from forkserve.config.serving import ServingOptions
from forkserve.serving.application.importing import run_hook
from forkserve.unix.listeners import address_of

__all__ = ["Hooks", "namespace_of"]


class Hooks:
    """The pre-hook and the post-hook of one worker."""

    def __init__(self, options: WorkerOptions, *, backend: str, listeners: Sequence[socket.socket]) -> None:
        self._application = options.application
        self._namespace = SimpleNamespace()
        if options.application.pre_hook is not None or options.application.post_hook is not None:
            self._namespace = namespace_of(options)
            _put_in_force(self._namespace, backend, listeners[0])
        self.is_after_due = False
        """Whether the post-hook is still to run."""

    def before(self) -> None:
        """Call the pre-hook; raises LoadError."""
        if self._application.pre_hook is not None:
            run_hook(self._application.pre_hook, "--pre-hook", self._namespace)
        self.is_after_due = self._application.post_hook is not None

    def after(self) -> None:
        """Call the post-hook, unless it was called or never will be; raises LoadError."""
        due, self.is_after_due = self.is_after_due, False
        if due and self._application.post_hook is not None:
            run_hook(self._application.post_hook, "--post-hook", self._namespace)


def namespace_of(options: WorkerOptions) -> SimpleNamespace:
    """Return all options side by side."""
    parts: Sequence[object] = (options.application, options.listen, options.process, options.reload)
    serving = [getattr(options.serving, name) for name in ServingOptions.__dataclass_fields__]
    return SimpleNamespace(
        **{each.name: getattr(part, each.name) for part in (*parts, *serving) for each in options_of(type(part))}
    )


def _put_in_force(namespace: SimpleNamespace, backend: str, listener: socket.socket) -> None:
    namespace.backend = backend
    namespace.address_family, namespace.socket_type = listener.family, listener.type
    if listener.family is socket.AF_UNIX:
        namespace.host = address_of(listener)
        return
    host, namespace.port = listener.getsockname()[:2]
    namespace.host = namespace.host or host
