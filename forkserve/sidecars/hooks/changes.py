"""What a hook assigns to its watcher: kept here while it runs, and applied by the master to what is started next.

Rules: an assignment is checked at once, so that the traceback names its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkserve.config.hooks import CHANGEABLE, MAY_CHANGE, changed_options

__all__ = ["OptionChanges"]


class OptionChanges:
    """Assignments of one watcher's hooks, from its start to its stop."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._env: dict[str, str] | None = None
        self._hook = ""

    def begin(self, hook: str) -> None:
        """Note which hook is called now; a start begins without changes."""
        self._hook, self._env = hook, None
        if hook == "before_start":
            self._made = {}

    def assign(self, name: str, value: Any) -> None:
        """Keep an assignment; raises AttributeError if it would have no effect, and ValueError."""
        if name not in CHANGEABLE or self._hook not in MAY_CHANGE:
            where = f"{' and '.join(MAY_CHANGE)} may assign {', '.join(CHANGEABLE)}"
            raise AttributeError(f"{name} cannot be assigned here ({where}): use watcher.set_opt({name!r}, ...)")
        self._made |= changed_options({name: value})
        if name == "env":
            self._env = None

    def of(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options with assignments applied; `env` is one dict, which a hook may change in place."""
        found = {**options, **self._made}
        if self._env is None:
            self._env = dict(found.get("env") or {})
        return {**found, "env": self._env}

    def end(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the current changes, after a hook; `options` are those of the watcher, if it has read them.

        Raises ValueError if it has put anything but text into `env`.
        """
        if self._hook not in MAY_CHANGE:
            return {}
        if self._env is not None and options is not None and self._env != self._made.get("env", options.get("env")):
            self._made |= changed_options({"env": dict(self._env)})
        return self._made
