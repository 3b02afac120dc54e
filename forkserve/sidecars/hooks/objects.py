"""The `watcher` and `arbiter` that a hook gets: what hooks of Circus use of them, over the control interface.

Rules: values are requested when a hook reads them. Verbs are begun and not waited for, as in Circus, whose own return
before the work is done: a hook that waited for its own watcher would wait for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from forkserve.sidecars.hooks.changes import OptionChanges

__all__ = ["Control", "HookArbiter", "HookProcess", "HookWatcher"]


class Control:
    """Calls of the control interface; each has a separate connection, since a hook may run threads."""

    def __init__(self, client: ControlClient | None) -> None:
        self._client = client

    def call(self, verb: str, **parameters: Any) -> Any:
        """Call a verb; raises ControlError."""
        if self._client is None:
            raise ControlError(
                "forkserve runs without a control socket, so a hook can query and change nothing (control)"
            )
        with self._client as client:
            return client.call(verb, **parameters)


class HookProcess:
    """One process of a watcher: `pid`, `wid`, `name` and `state`."""

    def __init__(self, control: Control, watcher: str, report: Mapping[str, Any]) -> None:
        self._control = control
        self._watcher = watcher
        self.pid: int = report["pid"]
        self.wid: int = report["wid"]
        self.name: str = report["name"]
        self.state: str = report["state"]

    def __repr__(self) -> str:
        return f"<process {self.name} pid {self.pid}>"

    def send_signal(self, signum: int) -> None:
        """Send it a signal."""
        self._control.call("signal", watcher=self._watcher, pid=self.pid, signal=int(signum))

    def is_alive(self) -> bool:
        """Tell whether it is alive."""
        return os.path.exists(f"/proc/{self.pid}")


class HookWatcher:
    """One watcher. Every option and free key is an attribute, with its current value."""

    def __init__(self, control: Control, name: str, changes: OptionChanges | None = None) -> None:
        """With `changes` it is the watcher whose hooks are called."""
        self._control = control
        self._changes = changes
        self._seen: dict[str, Any] | None = None
        self.name = name
        self.res_name = name.lower().replace(" ", "_")

    def __repr__(self) -> str:
        return f"<watcher {self.name}>"

    def __getattr__(self, key: str) -> Any:
        """Return an option."""
        if not key.startswith("_"):
            options = self._control.call("options", watcher=self.name)
            if self._changes is not None:
                self._seen, options = options, self._changes.of(options)
            if key in options:
                return options[key]
        raise AttributeError(f"a watcher has no {key!r} here: it is an object of forkserve's, with Circus's options")

    def __setattr__(self, key: str, value: Any) -> None:
        """Keep what the master applies, and refuse what would have no effect."""
        if key.startswith("_") or key in ("name", "res_name"):
            object.__setattr__(self, key, value)
            return
        if self._changes is not None:
            self._changes.assign(key, value)
            return
        raise AttributeError(f"{key} cannot be assigned by a hook: use watcher.set_opt({key!r}, ...)")

    def changed(self) -> dict[str, Any]:
        """Return what hooks have assigned; raises ValueError."""
        return {} if self._changes is None else self._changes.end(self._seen)

    # What it is doing.

    def status(self) -> str:
        """Return its state in a word, such as `active`."""
        return str(self._report()["state"])

    def is_stopped(self) -> bool:
        """Tell whether it is stopped."""
        return self.status() == "stopped"

    def is_active(self) -> bool:
        """Tell whether it runs."""
        return self.status() == "active"

    @property
    def processes(self) -> dict[int, HookProcess]:
        """Its processes, by pid."""
        found = (HookProcess(self._control, self.name, each) for each in self._report()["processes"])
        return {each.pid: each for each in found if each.pid}

    @property
    def pids(self) -> list[int]:
        """The pids of its processes."""
        return self.get_active_pids()

    def get_active_pids(self) -> list[int]:
        """Return the pids of its processes, with those that are about to end, as in Circus."""
        return list(self.processes)

    def get_active_processes(self) -> list[HookProcess]:
        """Return its processes."""
        return list(self.processes.values())

    def info(self, extended: bool = False) -> dict[int, Any]:
        """Return what each process uses, by pid."""
        (report,) = self._control.call("stats", watcher=self.name)
        return {each["pid"]: each.get("usage") for each in report["processes"]}

    def process_info(self, pid: int, extended: bool = False) -> Any:
        """Return what a process uses."""
        return self.info()[int(pid)]

    def options(self, *_args: Any) -> list[tuple[str, Any]]:
        """Return names and values of all options, sorted."""
        return sorted(self._control.call("options", watcher=self.name).items())

    def _report(self) -> Any:
        (report,) = self._control.call("status", watcher=self.name)
        return report

    # What it shall do.

    def start(self) -> None:
        """Begin to start it."""
        self._control.call("start", watcher=self.name, waiting=False)

    def stop(self, *_args: Any, **_more: Any) -> None:
        """Begin to stop it."""
        self._control.call("stop", watcher=self.name, waiting=False)

    def restart(self) -> None:
        """Begin to restart it."""
        self._control.call("restart", watcher=self.name, waiting=False)

    def reload(self, graceful: bool = True, sequential: bool = False) -> None:
        """Begin to replace its processes."""
        at_once = graceful and not sequential
        self._control.call("reload", watcher=self.name, terminate=not graceful, at_once=at_once, waiting=False)

    def incr(self, nb: int = 1) -> None:
        """Have more processes."""
        self._control.call("incr", watcher=self.name, count=nb, waiting=False)

    def decr(self, nb: int = 1) -> None:
        """Have fewer processes."""
        self._control.call("decr", watcher=self.name, count=nb, waiting=False)

    def spawn_process(self) -> None:
        """Have one process more."""
        self.incr()

    def set_opt(self, key: str, value: Any) -> None:
        """Change an option."""
        self._control.call("set", watcher=self.name, options={key: value}, waiting=False)

    def send_signal(self, pid: int, signum: int) -> None:
        """Send a process a signal; this calls before_signal too."""
        self._control.call("signal", watcher=self.name, pid=int(pid), signal=int(signum))

    def send_signal_child(self, pid: int, child_id: int, signum: int) -> None:
        """Send a child of a process a signal."""
        self._control.call("signal", watcher=self.name, pid=int(pid), childpid=int(child_id), signal=int(signum))

    def send_signal_children(self, pid: int, signum: int, recursive: bool = False) -> None:
        """Send the children of a process a signal."""
        self._control.call(
            "signal", watcher=self.name, pid=int(pid), children=True, recursive=recursive, signal=int(signum)
        )

    def kill_process(self, process: Any, stop_signal: int | None = None, graceful_timeout: float | None = None) -> None:
        """Start to end a process; it is replaced."""
        pid = int(getattr(process, "pid", process))
        self._control.call(
            "kill", watcher=self.name, pid=pid, signum=stop_signal, graceful_timeout=graceful_timeout, waiting=False
        )


class HookArbiter:
    """The master."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __getattr__(self, key: str) -> Any:
        """Return an option of the master."""
        if not key.startswith("_"):
            options = self._control.call("globaloptions")
            if key in options:
                return options[key]
        raise AttributeError(f"an arbiter has no {key!r} here: it is an object of forkserve's, with Circus's options")

    @property
    def watchers(self) -> list[HookWatcher]:
        """All watchers, in the order of the configuration."""
        return [HookWatcher(self._control, name) for name in self._control.call("list")]

    @property
    def sockets(self) -> dict[str, Any]:
        """The data of each socket, by name."""
        return {each["name"]: each for each in self._control.call("listsockets")}

    def iter_watchers(self, reverse: bool = True) -> Iterator[HookWatcher]:
        """Iterate over the watchers by priority."""
        return iter(sorted(self.watchers, key=lambda each: each.priority, reverse=reverse))

    def get_watcher(self, name: str) -> HookWatcher:
        """Return a watcher, by its name, case-insensitive; raises KeyError."""
        for each in self.watchers:
            if each.name.lower() == name.lower():
                return each
        raise KeyError(name)

    def numwatchers(self) -> int:
        """Return how many watchers there are."""
        return len(self.watchers)

    def numprocesses(self) -> int:
        """Return how many processes there are."""
        return int(self._control.call("numprocesses"))

    def statuses(self) -> dict[str, str]:
        """Return the state of each watcher, by name."""
        return {each["name"]: each["state"] for each in self._control.call("status")}

    def start_watcher(self, watcher: HookWatcher) -> None:
        """Begin to start a watcher."""
        watcher.start()

    def start_watchers(self) -> None:
        """Begin to start all watchers."""
        self._control.call("start", waiting=False)

    def stop_watchers(self, *_args: Any, **_more: Any) -> None:
        """Begin to stop all watchers."""
        self._control.call("stop", waiting=False)

    def rm_watcher(self, name: str, nostop: bool = False) -> None:
        """Begin to remove a watcher."""
        self._control.call("rm", watcher=name, nostop=nostop, waiting=False)

    def reload(self, *_args: Any, **_more: Any) -> None:
        """Begin to replace all processes."""
        self._control.call("reload", waiting=False)
