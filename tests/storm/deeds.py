"""The deeds of a storm: each does one thing to the master or its processes, and says what it was."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.storm.stack import Site, spoilt
from tests.storm.storm import READING, Storm
from tests.storm.victim import connections_of, halted

__all__ = ["DEEDS"]

SIZES = (1, 2, 3, 4)

CHANGING = (
    "start",
    "stop",
    "restart",
    "reload",
    "reload",
    "incr",
    "decr",
    "set",
    "signal",
    "reloadconfig",
    "reopenlogs",
)
VERBS = (*CHANGING, *READING)

Deed = Callable[[Storm], str]


def _watcher(storm: Storm) -> str:
    names = [site.watcher for site in storm.stack.sites] + list(storm.stack.watchers)
    return storm.chance.choice(names)


def _moving(storm: Storm) -> Site:
    return storm.chance.choice([site for site in storm.stack.sites if not site.is_fixed])


def _reload(storm: Storm) -> str:
    """Have the file read, in one of the two ways."""
    if storm.chance.random() < 0.5:
        storm.hang_up()
        return "HUP"
    storm.ask("reloadconfig")
    return "reloadconfig"


# Signals to the master.


def hang_up(storm: Storm) -> str:
    storm.hang_up()
    return "HUP"


def hang_up_often(storm: Storm) -> str:
    count = storm.chance.randint(5, 30)
    for _ in range(count):
        storm.hang_up()
    return f"HUP {count} times"


def other_signals(storm: Storm) -> str:
    chosen = storm.chance.sample((signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGCONT), 2)
    for signum in chosen:
        storm.victim.send(signum)
    return " and ".join(each.name for each in chosen)


def pause(storm: Storm) -> str:
    storm.victim.send(signal.SIGWINCH)
    storm.doom.stop("")
    storm.owe(storm.chance.uniform(0.2, 1.0), "HUP after WINCH", storm.hang_up)
    storm.owe(2.0, "start after WINCH", lambda: _start(storm))
    return "WINCH"


def halt_master(storm: Storm) -> str:
    if any(each.what == "CONT of the master" for each in storm.debts):
        return "(the master is stopped already)"
    storm.victim.halt()
    storm.owe(storm.chance.uniform(0.1, 1.5), "CONT of the master", storm.victim.resume)
    return "STOP of the master"


# Verbs.


def _start(storm: Storm) -> None:
    storm.ask("start")


def _one_verb(storm: Storm) -> str:
    verb = storm.chance.choice(VERBS)
    parameters: dict[str, object] = {}
    if verb in ("start", "stop", "restart", "reload"):
        name = storm.chance.choice((_watcher(storm), _watcher(storm), None))
        parameters = {"waiting": storm.chance.random() < 0.7} | ({"watcher": name} if name else {})
    elif verb in ("incr", "decr"):
        parameters = {"watcher": _watcher(storm)}
    elif verb == "set":
        parameters = {"watcher": _watcher(storm), "options": {"numprocesses": storm.chance.choice(SIZES)}}
    elif verb == "signal":
        parameters = {"watcher": storm.chance.choice(("web", "side", "local")), "signal": "USR1"}
    elif verb in ("status", "stats") and storm.chance.random() < 0.5:
        parameters = {"watcher": _watcher(storm)}
    storm.ask(verb, **parameters)
    if verb == "stop":
        storm.doom.stop(str(parameters.get("watcher", "")))
    if verb in ("stop", "restart", "decr", "set"):
        storm.owe(storm.chance.uniform(0.3, 2.0), "start", lambda: _start(storm))
    if verb == "decr":  # perhaps to none, which nobody but an operator puts right
        storm.owe(storm.chance.uniform(0.3, 2.0), "sizes", storm.put_sizes_right)
    return f"{verb} {parameters or ''}".rstrip()


def verb(storm: Storm) -> str:
    return _one_verb(storm)


def verbs(storm: Storm) -> str:
    return "at once: " + "; ".join(_one_verb(storm) for _ in range(storm.chance.randint(3, 8)))


def drain(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    storm.ask("drain", watcher=site.watcher)
    storm.owe(storm.chance.uniform(0.2, 1.5), "undrain", lambda: _accept_again(storm, "undrain", site))
    return f"drain {site.watcher}"


def hold_back(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    storm.ask("pause", watcher=site.watcher, max=storm.chance.choice((0.3, 1.0, 5.0)), then="resume")
    storm.owe(storm.chance.uniform(0.1, 2.0), "resume", lambda: _accept_again(storm, "resume", site))
    return f"pause {site.watcher}"


def _accept_again(storm: Storm, verb: str, site: Site) -> None:
    storm.ask(verb, watcher=site.watcher)


def canary(storm: Storm) -> str:
    """One new process is compared with the others for a moment; perhaps its application is a broken one."""
    site = storm.chance.choice(storm.stack.sites)
    is_bad = storm.chance.random() < 0.3
    if is_bad:
        storm.stack.spoil(storm.chance.choice(spoilt()))
        storm.owe(storm.chance.uniform(0.5, 2.0), "the application is mended", storm.stack.mend)
    storm.ask("reload", watcher=site.watcher, canary=1, watch=storm.chance.choice((0.2, 1.0)))
    return f"reload {site.watcher} with a canary{' of a broken application' if is_bad else ''}"


def roll_back(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    storm.ask("rollback", watcher=site.watcher)
    storm.owe(storm.chance.uniform(0.5, 2.0), "HUP after rollback", storm.hang_up)
    return f"rollback {site.watcher}"


def upgrade(storm: Storm) -> str:
    if storm.chance.random() < 0.5:
        storm.victim.send(signal.SIGUSR2)
        return "USR2"
    storm.ask("upgrade")
    return "upgrade"


# Deaths.


def _kill(storm: Storm, watcher: str, pids: list[int]) -> None:
    """Kill processes at one instant, once it is noted which connections are in them."""
    with ExitStack() as stopped:
        held = [(pid, stopped.enter_context(halted(pid))) for pid in pids]
        for pid, _ in held:
            storm.doom.add(pid, connections_of(pid), watcher)
        for _, pidfd in held:
            if pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _workers(storm: Storm, site: Site) -> list[int]:
    """Return the processes of a site: those that have just begun, and those that have given themselves a title."""
    return storm.victim.children(site.options, f"forkserve: worker {site.watcher}[")


def kill_workers(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    found = _workers(storm, site)
    count = storm.chance.choice((1, 1, 2, len(found)))
    chosen = storm.chance.sample(found, min(count, len(found)))
    _kill(storm, site.watcher, chosen)
    return f"KILL of {len(chosen)} of the {len(found)} processes of {site.watcher}: {chosen}"


def kill_helper(storm: Storm) -> str:
    name = storm.chance.choice(("ticker", "stubborn", "flaky", "family"))
    found = storm.victim.children(f"{name}.")
    _kill(storm, name, found)
    return f"KILL of all {len(found)} processes of {name}"


def kill_companion(storm: Storm) -> str:
    found = storm.victim.companions()
    if not found:
        return "(no companion)"
    pid = storm.chance.choice(found)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"KILL of the companion {pid}"


def halt_worker(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    found = _workers(storm, site)
    if not found:
        return f"(no process of {site.watcher})"
    pid = storm.chance.choice(found)
    keeps = ExitStack()
    keeps.enter_context(halted(pid))
    storm.owe(storm.chance.uniform(0.1, 1.0), f"CONT of {pid}", keeps.close)
    return f"STOP of {pid} of {site.watcher}"


# What runs short.


def fill_pipe(storm: Storm) -> str:
    storm.victim.reads.clear()
    storm.owe(storm.chance.uniform(0.5, 2.0), "stderr is read again", storm.victim.reads.set)
    return "stderr is not read"


def starve(storm: Storm) -> str:
    used = storm.victim.descriptors()
    limit = storm.chance.choice((3, used, used + 1, used + 3))
    storm.victim.limit_descriptors(limit)
    storm.owe(storm.chance.uniform(0.3, 1.5), "descriptors again", lambda: storm.victim.limit_descriptors(None))
    return f"the master may have {limit} descriptors, has {used}"


# Changes of the file.


def resize(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    site.numprocesses = storm.chance.choice(SIZES)
    storm.stack.write()
    return f"{_reload(storm)} with {site.numprocesses} processes of {site.watcher}"


def rename(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    site.name = (site.name + 1) % len(site.names)
    storm.stack.write()
    return f"{_reload(storm)} with the socket of {site.watcher} renamed to {site.names[site.name]}"


def move(storm: Storm) -> str:
    site = _moving(storm)
    site.at = storm.chance.randrange(len(site.places))
    storm.stack.write()
    return f"{_reload(storm)} with {site.watcher} at {site.address}"


def rebind(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites[:2])
    if storm.chance.random() < 0.6:
        site.reuseport = not site.reuseport
    else:
        site.backlog = storm.chance.choice((512, 1024, 2048))
    storm.stack.write()
    return f"{_reload(storm)} with so_reuseport = {site.reuseport}, backlog = {site.backlog} for {site.watcher}"


def remove(storm: Storm) -> str:
    site = _moving(storm)
    if storm.chance.random() < 0.5:
        site.has_socket = False
        storm.doom.remove(site.watcher)
    else:
        site.has_watcher = False
    storm.stack.write()

    def put_back() -> None:
        site.has_socket = site.has_watcher = True
        storm.stack.write()
        _reload(storm)

    storm.owe(storm.chance.uniform(0.05, 2.0), f"{site.watcher} put back", put_back)
    return f"{_reload(storm)} without {site.watcher}{'' if site.has_socket else ' and its socket'}"


def remove_readers(storm: Storm) -> str:
    """The socket that is there all along loses its watcher for a moment: it queues."""
    site = storm.stack.sites[0]
    site.has_watcher = False
    storm.stack.write()

    def put_back() -> None:
        site.has_watcher = True
        storm.stack.write()
        _reload(storm)

    storm.owe(storm.chance.uniform(0.05, 1.0), f"{site.watcher} put back", put_back)
    return f"{_reload(storm)} without the watcher {site.watcher}"


def remove_helper(storm: Storm) -> str:
    if len(storm.stack.watchers) < 3:
        return "(enough are removed)"
    name = storm.chance.choice(sorted(storm.stack.watchers))
    taken = storm.stack.watchers.pop(name)
    storm.stack.write()

    def put_back() -> None:
        storm.stack.watchers[name] = taken
        storm.stack.write()
        _reload(storm)

    storm.owe(storm.chance.uniform(0.05, 2.0), f"{name} put back", put_back)
    return f"{_reload(storm)} without {name}"


def sweep(storm: Storm) -> str:
    """A cleaner of old files removes the file of a Unix socket."""
    site = storm.stack.sites[2]
    Path(str(site.address)).unlink(missing_ok=True)
    storm.hang_up()
    return f"HUP with {site.address} removed"


# Bad reloads.


def bad_application(storm: Storm) -> str:
    kind = storm.chance.choice(spoilt())
    storm.stack.spoil(kind)

    def mend() -> None:
        storm.stack.mend()
        _reload(storm)

    storm.owe(storm.chance.uniform(0.3, 3.0), "the application is mended", mend)
    if storm.chance.random() < 0.5:
        storm.ask("reload")
        return f"reload with an application that is spoilt: {kind}"
    return f"{_reload(storm)} with an application that is spoilt: {kind}"


def bad_command(storm: Storm) -> str:
    site = storm.chance.choice(storm.stack.sites)
    text = storm.stack.text().replace(f"{site.options} {site.module}", f"{site.options} no_module_{site.watcher}:app")
    if storm.chance.random() < 0.5:
        text = text.replace("forkserve-worker", "forkserve-worker-that-is-not-there", 1)
    return _bad_file(storm, text, f"a bad command for {site.watcher}")


def bad_file(storm: Storm) -> str:
    good = storm.stack.text()
    kind = storm.chance.choice(("empty", "half", "no watcher", "nonsense", "bad value", "gone"))
    text = {
        "empty": "",
        "half": good[: good.rindex("cmd = ")],
        "no watcher": good[: good.index("[watcher:")],
        "nonsense": "\0\xff[[[",
        "bad value": good.replace("numprocesses = ", "numprocesses = x", 1),
        "gone": good,
    }[kind]
    return _bad_file(storm, text, f"a file that is {kind}", gone=kind == "gone")


def _bad_file(storm: Storm, text: str, what: str, *, gone: bool = False) -> str:
    storm.stack.write(text)
    if gone:
        storm.stack.file.unlink()

    def put_back() -> None:
        storm.stack.write()
        _reload(storm)

    storm.owe(storm.chance.uniform(0.3, 2.0), "the file is good again", put_back)
    return f"{_reload(storm)} with {what}"


DEEDS: dict[str, tuple[Deed, int]] = {
    each.__name__: (each, weight)
    for each, weight in (
        (hang_up, 3),
        (hang_up_often, 1),
        (other_signals, 2),
        (pause, 1),
        (halt_master, 2),
        (verb, 10),
        (verbs, 4),
        (drain, 2),
        (hold_back, 2),
        (canary, 2),
        (roll_back, 1),
        (upgrade, 2),
        (kill_workers, 6),
        (kill_helper, 2),
        (kill_companion, 1),
        (halt_worker, 3),
        (fill_pipe, 2),
        (starve, 2),
        (resize, 3),
        (rename, 3),
        (move, 3),
        (rebind, 3),
        (remove, 3),
        (remove_readers, 1),
        (remove_helper, 2),
        (sweep, 1),
        (bad_application, 3),
        (bad_command, 2),
        (bad_file, 2),
    )
}
"""Each deed with how often it comes, relative to the others."""
