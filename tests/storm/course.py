"""The course of a storm from its start to the proof that nothing is left of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from forkserve.supervision.os.proc import children_of, relations
from tests.storm.deeds import DEEDS
from tests.storm.storm import Failure, Storm
from tests.storm.victim import LOOP_LIMIT

__all__ = ["Broken", "blow"]

BETWEEN_CALMS = 25
"""Deeds from one calm to the next."""
SPARE = 12
"""Descriptors that the master may have more after a storm than before it: control clients, retired sockets."""
END_BOUND = 30.0
"""Seconds from SIGTERM to the end of everything."""


class Broken(AssertionError):
    """What did not hold, with what was going on."""


def blow(
    folder: Path,
    seed: int,
    seconds: float = float("inf"),
    *,
    count: int | None = None,
    only: list[str] | None = None,
    echo: Callable[[str], None] = lambda _line: None,
) -> str:
    """Have a storm of so many seconds or deeds; returns what it was in a few words, raises Broken with an account."""
    with _subreaper():
        storm = Storm(folder, seed, echo)
        try:
            storm.start()
            storm.load.start()
            _blow(storm, monotonic() + seconds, count, only or list(DEEDS))
            _end(storm)
        except Failure as failure:
            raise Broken(_account(storm, failure)) from None
        finally:
            storm.victim.resume()
            storm.victim.reads.set()
            storm.victim.kill_everything()
            storm.load.stop()
            _reap()
    return _summary(storm)


def _blow(storm: Storm, end: float, count: int | None, names: list[str]) -> None:
    storm.calm()
    descriptors = storm.victim.descriptors()
    weights = [DEEDS[name][1] for name in names]
    order = [] if count is None else storm.chance.sample(names, len(names))
    done = 0
    while monotonic() < end and (count is None or done < count):
        name = order.pop() if order else storm.chance.choices(names, weights)[0]
        storm.do(name, DEEDS[name][0])
        storm.wait(storm.chance.choice((0.0, 0.05, 0.3, 1.0)))
        done += 1
        if done % BETWEEN_CALMS == 0:
            storm.calm()
    storm.calm()
    _check_descriptors(storm, descriptors)
    _check_closings(storm)
    storm.load.stop()
    storm.check()
    for name in storm.chance.choices(names, weights, k=3):  # the end comes in the middle of something
        storm.do(name, DEEDS[name][0])


def _check_descriptors(storm: Storm, before: int) -> None:
    after = storm.victim.descriptors()
    if after > before + SPARE:
        targets = sorted(_targets(storm.victim.pid))
        raise Failure(f"the master has {after} descriptors, had {before}: {targets}")


def _targets(pid: int) -> Iterator[str]:
    for each in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{each}")


def _check_closings(storm: Storm) -> None:
    """Only a process that was about to end may have closed a kept connection: none of them is here any more."""
    old = {pid for at, pid in storm.load.closed_by if monotonic() - at > 15}
    alive = old.intersection(storm.victim.descendants())
    if alive:
        raise Failure(f"processes that live on have closed kept connections: {sorted(alive)}")


def _end(storm: Storm) -> None:
    """End it by SIGTERM, and look for what is left."""
    folders = storm.victim.notify_folders()
    everyone = storm.victim.descendants()
    storm.note("TERM")
    storm.victim.send(signal.SIGTERM)
    storm.victim.resume()
    storm.victim.reads.set()
    storm.debts = [debt for debt in storm.debts if debt.what.startswith(("CONT", "descriptors"))]
    storm.pay(float("inf"))
    begun = monotonic()
    try:
        code = storm.victim.process.wait(END_BOUND)
    except subprocess.TimeoutExpired:
        raise Failure(f"still running {END_BOUND:g} s after TERM, with {storm.victim.descendants()}") from None
    if code != 0:
        raise Failure(f"exit code {code} after TERM")
    if not storm.victim.ended.wait(5):
        raise Failure(f"stderr is still open: of {everyone} there are {[pid for pid in everyone if _is_there(pid)]}")
    _look_for_leftovers(storm, folders)
    storm.check()
    storm.note(f"ended after {monotonic() - begun:.1f} s")


def _look_for_leftovers(storm: Storm, folders: set[Path]) -> None:
    deadline = monotonic() + 5
    while True:
        _reap()
        left = [f"process {each.pid} ({each.name})" for each in children_of(os.getpid())]
        if not left or monotonic() > deadline:
            break
        storm.victim.ended.wait(0.05)
    paths = [storm.victim.control, storm.victim.pidfile, *folders]
    paths += [Path(str(place)) for site in storm.stack.sites for place in site.places if isinstance(place, str)]
    left += [str(path) for path in paths if path.exists()]
    if left:
        raise Failure(f"left over: {', '.join(left)}")


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@contextlib.contextmanager
def _subreaper() -> Iterator[None]:
    """Adopt orphans (PR_SET_CHILD_SUBREAPER of prctl(2)), so that nothing escapes."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(36, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(36, 0, 0, 0, 0)


def _reap() -> None:
    for each in relations():
        if each.parent == os.getpid() and each.is_dead:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each.pid, os.WNOHANG)


def _account(storm: Storm, failure: Failure) -> str:
    parts = [f"seed {storm.seed}: {failure}", "", "the last deeds:", *storm.actions]
    parts += ["", "the log:", *list(storm.victim.lines)[-120:]]
    parts += ["", "losses:", *(f"{each.at - storm.begun:8.2f} {each.text}" for each in storm.load.losses[:20])]
    parts += [f"requests: {dict(storm.load.counts)}", f"unanswered verbs: {[each.verb for each in storm.tickets]}"]
    return "\n".join(parts)


def _summary(storm: Storm) -> str:
    requests = ", ".join(f"{count} {what}" for what, count in storm.load.counts.most_common())
    deeds, seconds = sum(storm.did.values()), monotonic() - storm.begun
    return (
        f"seed {storm.seed}: {deeds} deeds in {seconds:.0f} s, requests: {requests}; "
        f"{sum(storm.verbs.values())} verbs, the slowest answered after {storm.slowest:.1f} s; "
        f"{len(storm.victim.holds)} callbacks held the loop for longer than {LOOP_LIMIT:g} s; nothing broke"
    )
