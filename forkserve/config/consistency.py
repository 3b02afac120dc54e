"""Contradictions between options that are each valid alone.

Rules: pure, over built options; the system is not asked (`system.py` does that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import AddressFamily, SocketKind

from forkserve.config.document import Findings, Section, Value
from forkserve.config.model import Config, OnDependency, SocketOptions, StreamClass, StreamOptions, WatcherOptions
from forkserve.config.naming import name_fault, own_name
from forkserve.config.order import cycle
from forkserve.config.placeholders import sockets_for, sockets_in, unknown_names
from forkserve.config.portions import is_nothing
from forkserve.config.preloading import is_preloaded, preload_fault, reforks
from forkserve.config.probes import ProbeKind, probe
from forkserve.config.values import words
from forkserve.suggest import nearest

__all__ = ["check_consistency"]

_COMMAND = ("cmd", "args", "shell_args")
_OF_TIMERS = ("time_zone", "overlap", "catch_up", "schedule_jitter", "run_timeout")
_NEEDS_FILE = (StreamClass.FILE, StreamClass.WATCHED_FILE, StreamClass.TIMED_FILE)


@dataclass(frozen=True, slots=True)
class _Place:
    """One section, and the destination of its findings."""

    section: Section
    findings: Findings

    def error(self, key: str, message: str) -> None:
        self._note(self.findings.error, key, message)

    def warning(self, key: str, message: str) -> None:
        self._note(self.findings.warning, key, message)

    def _note(self, note: Callable[..., None], key: str, message: str) -> None:
        value = self.section.values.get(key) or self._alike(key)
        origin = value.origin if value else self.section.origin
        note(origin, message, label=self.section.label, key=key)

    def _alike(self, key: str) -> Value | None:
        """Return another key of the same stream, which shows the place of a missing one."""
        family, dot, _ = key.partition(".")
        same = (value for name, value in self.section.values.items() if dot and name.startswith(f"{family}."))
        return next(same, None)


def check_consistency(config: Config, sections: Mapping[str, Section], findings: Findings) -> None:
    """Report everything that does not fit together."""
    names = [each.name for each in config.sockets]
    for socket in config.sockets:
        _check_socket(socket, _Place(sections[f"socket:{socket.name}"], findings))
    _check_same_address(config.sockets, sections, findings)
    for watcher in config.watchers:
        place = _Place(sections[f"watcher:{watcher.name}"], findings)
        _check_sockets_of(watcher, names, place)
        _check_command(watcher, names, place)
        _check_process_name(watcher, config.watchers, place)
        _check_watcher(watcher, place)
        _check_supervisord(watcher, place)
        _check_timer(watcher, place)
        _check_demand(watcher, names, place)
        _check_pace(watcher, place)
        _check_probe(watcher, config.sockets, sections, place)
        _check_stream("stdout_stream", watcher.stdout_stream, place)
        _check_stream("stderr_stream", watcher.stderr_stream, place)
    _check_same_name(config.watchers, sections, findings)
    _check_order(config.watchers, sections, findings)
    _check_use_of_sockets(config, sections, findings)


def _check_socket(socket: SocketOptions, place: _Place) -> None:
    if socket.family is AddressFamily.AF_UNIX and not socket.path and socket.fd is None:
        place.error("path", "a unix socket needs a path")
    if socket.path is None:
        for key in ("mode", "owner", "group", "umask"):
            if key in place.section.values:
                place.warning(key, "only a unix socket has it, ignored")
    if socket.so_reuseport and (socket.path is not None or socket.type is not SocketKind.SOCK_STREAM):
        place.warning("so_reuseport", "only a TCP socket has a queue for each slot, ignored")


def _check_same_address(sockets: Sequence[SocketOptions], sections: Mapping[str, Section], findings: Findings) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for socket in sockets:
        address: tuple[object, ...] = (socket.host, socket.port, socket.family, socket.type)
        if socket.fd is not None or socket.path:
            address = (socket.fd, socket.path)
        elif socket.port == 0:
            continue
        section = sections[f"socket:{socket.name}"]
        if address in seen:
            findings.error(section.origin, f"the same address as [{seen[address]}]", label=section.label)
        seen.setdefault(address, section.label)


def _check_same_name(watchers: Sequence[WatcherOptions], sections: Mapping[str, Section], findings: Findings) -> None:
    seen: dict[str, str] = {}
    for watcher in watchers:
        other = seen.setdefault(watcher.name.lower(), watcher.name)
        if other != watcher.name:
            section = sections[f"watcher:{watcher.name}"]
            message = (
                f"names are case-insensitive, and [{sections[f'watcher:{other}'].label}] exists; choose another name"
            )
            findings.error(section.origin, message, label=section.label)


def _check_order(watchers: Sequence[WatcherOptions], sections: Mapping[str, Section], findings: Findings) -> None:
    """Refuse a watcher that depends on an unknown one, or on itself through others."""
    by_name = {each.name.lower(): each.name for each in watchers}
    after: dict[str, tuple[str, ...]] = {}
    for watcher in watchers:
        place = _Place(sections[f"watcher:{watcher.name}"], findings)
        for name in watcher.after:
            if name.lower() not in by_name:
                place.error("after", f"unknown watcher {name!r}{nearest(name, by_name.values())}")
        if watcher.on_dependency is not OnDependency.KEEP and not watcher.after:
            place.warning("on_dependency", "needs after, ignored")
        after[watcher.name.lower()] = tuple(name.lower() for name in watcher.after if name.lower() in by_name)
    way = cycle(after)
    if way:
        place = _Place(sections[f"watcher:{by_name[way[0]]}"], findings)
        place.error("after", f"a cycle: {' after '.join(by_name[name] for name in way)}")


def _check_use_of_sockets(config: Config, sections: Mapping[str, Section], findings: Findings) -> None:
    """Warn about a socket that nothing reads: its clients connect, and wait for ever."""
    names = [each.name for each in config.sockets]
    used = {name.lower() for each in config.watchers for name in (*sockets_for(each, names), each.stdin_socket or "")}
    for socket in config.sockets:
        if config.watchers and socket.name.lower() not in used:
            section = sections[f"socket:{socket.name}"]
            message = f"no watcher uses it: name it in a cmd, as $(circus.sockets.{socket.name}), or set use_sockets"
            findings.warning(section.origin, message, label=section.label)


def _check_sockets_of(watcher: WatcherOptions, names: Sequence[str], place: _Place) -> None:
    asked = [(key, name) for key in _COMMAND for name in sockets_in(getattr(watcher, key) or "")]
    if watcher.stdin_socket is not None:
        asked.append(("stdin_socket", watcher.stdin_socket))
    for key, name in asked:
        if name not in names:
            there = f"; there is {', '.join(names)}" if names else "; no socket is configured"
            advice = nearest(name, names) or there
            place.error(key, f"unknown socket {name!r}{advice}")


def _check_command(watcher: WatcherOptions, sockets: Sequence[str], place: _Place) -> None:
    for key in _COMMAND:
        text = getattr(watcher, key) or ""
        for name in unknown_names(text):
            own = ("wid", "numprocesses", "working_dir", "args", "uid", "gid")
            known = [f"circus.{each}" for each in (*own, *(f"sockets.{socket}" for socket in sockets))]
            place.warning(key, f"unknown placeholder circus.{name}, left as it is{nearest('circus.' + name, known)}")
        if watcher.shell and key != "args":
            continue
        try:
            if not words(text) and key == "cmd":
                place.error(key, "must not be empty")
        except ValueError as error:
            place.error(key, str(error))


def _check_process_name(watcher: WatcherOptions, watchers: Sequence[WatcherOptions], place: _Place) -> None:
    if watcher.process_name is None:
        return
    if fault := name_fault(watcher):
        place.error("process_name", fault)
        return
    others = {each.name.lower(): each.name for each in watchers if each is not watcher}
    for wid in range(1, max(watcher.numprocesses, watcher.numprocesses_max, 1) + 1):
        if other := others.get(own_name(watcher, wid).lower()):
            place.error("process_name", f"[{other}] is another watcher: choose other names")
            return


def _check_numbers(watcher: WatcherOptions, place: _Place) -> None:
    low, high = watcher.numprocesses_min, watcher.numprocesses_max
    if high and not low <= watcher.numprocesses <= high:
        allowed = f"from numprocesses_min ({low}) to numprocesses_max ({high})"
        place.error("numprocesses", f"must be {allowed}, got {watcher.numprocesses}")
    if "numprocesses_min" in place.section.values and not high:
        place.warning("numprocesses_min", "needs numprocesses_max, ignored")


def _check_watcher(watcher: WatcherOptions, place: _Place) -> None:
    if watcher.singleton and watcher.numprocesses > 1:
        place.error("numprocesses", f"a singleton has at most one process, got {watcher.numprocesses}")
    _check_numbers(watcher, place)
    if watcher.watchdog and any(word.endswith("forkserve-worker") for word in watcher.cmd.split()):
        place.error("watchdog", "forkserve-worker does not say WATCHDOG=1; its own --timeout ends what is stuck")
    if watcher.copy_path and not watcher.copy_env:
        place.warning("copy_path", "needs copy_env, ignored")
    if watcher.virtualenv_py_ver and not watcher.virtualenv:
        place.warning("virtualenv_py_ver", "needs virtualenv, ignored")
    if watcher.shell_args and not watcher.shell:
        place.warning("shell_args", "needs shell, ignored")
    if watcher.backoff > watcher.backoff_max:
        place.error("backoff", f"must not exceed backoff_max ({watcher.backoff_max}), got {watcher.backoff}")
    if is_preloaded(watcher) and (fault := preload_fault(watcher)) is not None:
        place.error("preload" if watcher.preload else "cmd", fault)
    if reforks(watcher) and not is_preloaded(watcher):
        key = "refork_after" if watcher.refork_after else "cmd"
        place.error(key, "refork_after makes a zygote of a worker, and there is none without preload: set preload")


def _check_supervisord(watcher: WatcherOptions, place: _Place) -> None:
    if watcher.redirect_stderr and watcher.stderr_stream is not None:
        place.warning("redirect_stderr", "standard error goes where standard output goes; stderr_stream is ignored")
    if watcher.exitcodes and not watcher.respawn:
        place.warning("exitcodes", "needs respawn, ignored: no process is replaced")


def _check_timer(watcher: WatcherOptions, place: _Place) -> None:
    if watcher.schedule is None:
        for key in _OF_TIMERS:
            if key in place.section.values and "schedule" not in place.section.values:
                place.warning(key, "needs schedule, ignored")
        return
    if watcher.numprocesses != 1 or watcher.numprocesses_max:
        place.error("numprocesses", "each run of a watcher with a schedule is one process")
    if is_preloaded(watcher):
        place.error("preload", "a watcher with a schedule runs its command afresh each time")


def _check_demand(watcher: WatcherOptions, names: Sequence[str], place: _Place) -> None:
    if watcher.idle_stop and not watcher.on_demand:
        place.warning("idle_stop", "needs on_demand, ignored")
    if watcher.on_demand and watcher.schedule is not None:
        place.warning("on_demand", "a watcher with a schedule is started by it, ignored")
    elif watcher.on_demand and not watcher.stdin_socket and not sockets_for(watcher, names):
        place.warning("on_demand", "no socket to wait at, the watcher starts at once: name one in cmd, or use_sockets")


def _check_pace(watcher: WatcherOptions, place: _Place) -> None:
    """Refuse a reload that could not replace anything."""
    if watcher.max_surge is not None and is_nothing(watcher.max_surge):
        if is_nothing(watcher.max_unavailable):
            place.error("max_surge", "max_surge and max_unavailable are both 0: a reload could replace nothing")
        elif not watcher.respawn:
            place.error("max_surge", "must not be 0 without respawn: a process stopped first would not be replaced")


def _check_probe(
    watcher: WatcherOptions, sockets: Sequence[SocketOptions], sections: Mapping[str, Section], place: _Place
) -> None:
    """Refuse to connect to a socket of forkserve: any process that shares it may accept."""
    if watcher.ready is None or "$(" in watcher.ready or "((" in watcher.ready:
        return
    wanted = probe(watcher.ready)
    for socket in sockets:
        is_shared = wanted.kind is ProbeKind.TCP and wanted.port == socket.port
        if is_shared or (wanted.kind is ProbeKind.UNIX and wanted.path == socket.path):
            label = sections[f"socket:{socket.name}"].label
            place.error("ready", f"[{label}] is shared, so that any process may answer: use http://, or READY=1")


def _check_stream(name: str, stream: StreamOptions | None, place: _Place) -> None:
    if stream is None:
        return
    if stream.kind in _NEEDS_FILE and not stream.filename:
        place.error(f"{name}.filename", f"a {stream.kind.value} needs a filename")
    if stream.kind is StreamClass.FOREIGN:
        return
    if stream.kind is not StreamClass.TIMED_FILE and stream.backup_count and not stream.max_bytes:
        place.warning(f"{name}.backup_count", "needs max_bytes, nothing is rotated")
